// The hot loops of RoIAlign and deformable convolution on the CPU: over the channels of a few pixels at a time.
#pragma once

#include <cstdint>

#include "custom_ops/kernels/half.h"

namespace tfdet {

constexpr int kRowGroup = 16;  // pixels that are summed in one go

// out[c] = (add ? out[c] : 0) + weights[0] * rows[0][c] + weights[1] * rows[1][c] + ...
void WeightedSum(const float* const* rows, const float* weights, int count, bool add, int64_t channels, float* out);

// The largest of the samples' values per channel, the first where they tie, and its id. Sample s is the sum of
// weights[4 * s + k] * rows[4 * s + k][c] over k. -FLT_MAX and kRoiAlignNoWinner where none is larger than -FLT_MAX.
void LargestSample(const float* const* rows, const float* weights, const uint8_t* ids, int samples, int64_t channels,
                   float* out, uint8_t* winner);

// rows[k][c] += weights[k] * upstream[c], in this order.
void AddToRows(float* const* rows, const float* weights, int count, int64_t channels, const float* upstream);

// products[k] = sum over c of upstream[c] * rows[k][c], for four rows; eight partial sums whatever the instruction set.
void FourProducts(const float* upstream, const float* const* rows, int64_t channels, float* products);

// The same as AddToRows where winner[c] == id.
void AddToRowsOfWinner(float* const* rows, const float* weights, int count, uint8_t id, int64_t channels,
                       const float* upstream, const uint8_t* winner);

// Conversions of a row. They are exact, or round to the nearest (ties to even), denormal values included.
void RowToFloat(const Half16* row, int64_t count, float* out);
void RowToFloat(const BFloat16* row, int64_t count, float* out);
void RowFromFloat(const float* row, int64_t count, Half16* out);
void RowFromFloat(const float* row, int64_t count, BFloat16* out);

}  // namespace tfdet
