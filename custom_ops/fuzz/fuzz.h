// Random calls of the CPU kernels, to run under AddressSanitizer: see main.cc. Each op has a file here with a function
// that makes one call of random shape and values, and a FuzzCase that names it.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

namespace tfdet {
namespace fuzz {

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}

  int64_t Integer(int64_t first, int64_t last) { return std::uniform_int_distribution<int64_t>(first, last)(engine_); }
  double Uniform(double low, double high) { return std::uniform_real_distribution<double>(low, high)(engine_); }
  bool Chance(double share) { return Uniform(0, 1) < share; }

  template <typename T>
  T OneOf(std::initializer_list<T> values) {
    return values.begin()[Integer(0, static_cast<int64_t>(values.size()) - 1)];
  }

  // Mostly a pixel's coordinate, now and then something no image has.
  float Coordinate(double scale, double odd_share) {
    if (!Chance(odd_share)) return static_cast<float>(Uniform(-0.1 * scale, scale));
    typedef std::numeric_limits<float> Limits;
    return OneOf({Limits::quiet_NaN(), Limits::infinity(), -Limits::infinity(), Limits::max(), -Limits::max(),
                  Limits::min(), Limits::denorm_min(), 0.0f, -0.0f, 1e9f, -1e9f, 2147483648.0f, 16777216.0f});
  }

  // [x1, y1, x2, y2] each: of some size, of none, or inverted.
  std::vector<float> Boxes(int64_t count) {
    const double scale = OneOf({1.0, 30.0, 1000.0, 1e30}), odd = OneOf({0.0, 0.01, 0.5});
    const bool whole = Chance(0.5);
    std::vector<float> boxes(4 * count);
    for (float& v : boxes) {
      v = Coordinate(scale, odd);
      if (whole && v > -1e6f && v < 1e6f) v = static_cast<float>(static_cast<int64_t>(v));
    }
    return boxes;
  }

 private:
  std::mt19937_64 engine_;
};

// Ends the program with the place where an expectation failed.
#define FUZZ_CHECK(condition)                                                        \
  do {                                                                               \
    if (!(condition)) {                                                              \
      std::fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                  \
    }                                                                                \
  } while (0)

template <typename T>
bool SameBits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

// A static object of this type adds a function to those that main calls.
struct FuzzCase {
  FuzzCase(const char* name, void (*run)(Random&)) : name(name), run(run) { All().push_back(*this); }
  const char* name;
  void (*run)(Random&);
  static std::vector<FuzzCase>& All() {
    static std::vector<FuzzCase> cases;
    return cases;
  }
};

}  // namespace fuzz
}  // namespace tfdet
