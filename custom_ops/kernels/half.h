// Storage types of half and bfloat16 on the host, with the bits of Eigen::half and Eigen::bfloat16.
#pragma once

#include <cstdint>
#include <cstring>

namespace tfdet {

struct Half16 { uint16_t x; };
struct BFloat16 { uint16_t x; };
inline float ToFloat(float v) { return v; }
inline float ToFloat(BFloat16 v) { uint32_t u = uint32_t(v.x) << 16; float f; std::memcpy(&f, &u, 4); return f; }
inline float ToFloat(Half16 h) {
  uint32_t s = uint32_t(h.x & 0x8000) << 16, e = (h.x >> 10) & 31, m = h.x & 1023, u; float f;
  if (e == 31) u = s | 0x7f800000u | (m << 13);
  else if (e) u = s | ((e + 112) << 23) | (m << 13);
  else { f = m * 5.9604644775390625e-8f; std::memcpy(&u, &f, 4); u |= s; }
  std::memcpy(&f, &u, 4); return f;
}
template <typename T> inline T FromFloat(float f);
template <> inline float FromFloat<float>(float f) { return f; }
template <> inline BFloat16 FromFloat<BFloat16>(float f) {
  uint32_t u; std::memcpy(&u, &f, 4);
  if ((u & 0x7fffffffu) > 0x7f800000u) return BFloat16{uint16_t((u >> 16) | 64)};
  u += 0x7fff + ((u >> 16) & 1); return BFloat16{uint16_t(u >> 16)};
}
template <> inline Half16 FromFloat<Half16>(float f) {
  uint32_t u; std::memcpy(&u, &f, 4); uint32_t s = (u >> 16) & 0x8000; u &= 0x7fffffffu;
  if (u > 0x7f800000u) return Half16{uint16_t(s | 0x7e00)};
  if (u >= 0x477ff000u) return Half16{uint16_t(s | 0x7c00)};
  if (u < 0x38800000u) { float a; std::memcpy(&a, &u, 4); a += 0.5f; std::memcpy(&u, &a, 4); return Half16{uint16_t(s | (u - 0x3f000000u))}; }
  u += 0xc8000fffu + ((u >> 13) & 1); return Half16{uint16_t(s | (u >> 13))};
}
}  // namespace tfdet
