// The hot loops of FitImage on the CPU: one row of pixels at a time, along it and between rows.
#pragma once

#include <cstdint>
#include <vector>

namespace tfdet {

constexpr int64_t kRowPadding = 8;  // values behind a row of float32 that may be overwritten

// The two source pixels of every output pixel of a row, and the weight of the second.
struct LinearTaps {
  std::vector<int32_t> first, second;
  std::vector<float> weight;
};

// Source pixels begin, begin + 1, ... of every output pixel, `taps` of them, with weights of 22 bits after the point.
// Those too many weigh nothing; none lies outside of the source.
struct WeightedTaps {
  int taps = 0;
  std::vector<int32_t> begin, weight;  // [pixels], [pixels * taps]
};

// How a row of three channels is read where eight values of the result need no more than 16 bytes of the source: from
// `start` on, first the values of the first tap, then those of the second.
struct LinearBlock {
  float weight[8];
  uint8_t pick[16];
  int32_t start;
};
struct WeightedBlock {
  int32_t weight[2][8];
  uint8_t pick[16];
  int32_t start;
};

// Resizes rows of `width` pixels of `channels` values.
class LinearColumns {
 public:
  LinearColumns(LinearTaps taps, int64_t width, int64_t channels);
  // Writes pixels * channels values, and up to kRowPadding behind them.
  void Resize(const uint8_t* row, float* out) const;

 private:
  LinearTaps taps_;
  int64_t width_, channels_;
  std::vector<LinearBlock> blocks_;  // empty: pixel by pixel
};

class WeightedColumns {
 public:
  WeightedColumns(WeightedTaps taps, int64_t width, int64_t channels);
  void Resize(const uint8_t* row, uint8_t* out) const;

 private:
  WeightedTaps taps_;
  int64_t width_, channels_;
  std::vector<WeightedBlock> blocks_;
};

// top + (bottom - top) * weight, rounded half to even.
void Between(const float* top, const float* bottom, float weight, int64_t count, uint8_t* out);
void Between(const float* top, const float* bottom, float weight, int64_t count, float* out);

// The sum of weights[k] * rows[k][i] over k, rounded from 22 bits after the point.
void WeightedRows(const uint8_t* const* rows, const int32_t* weights, int count, int64_t length, uint8_t* out);

}  // namespace tfdet
