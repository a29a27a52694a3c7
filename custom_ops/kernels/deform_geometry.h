// Where a tap of a deformable convolution reads.
#pragma once

#include <cmath>
#include <cstdint>

#include "custom_ops/kernels/deform_columns.h"
#include "custom_ops/kernels/host_device.h"

namespace tfdet {

// A sampling point: the pixel above and left of it, how far it lies below and right of that pixel, and which of the four
// pixels around it exist, in the order top left, bottom left, top right, bottom right.
struct DeformSample {
  int32_t low_y, low_x;
  float y, x;
  bool exists[4];

  TFDET_HOST_DEVICE bool Any() const { return exists[0] || exists[1] || exists[2] || exists[3]; }
  TFDET_HOST_DEVICE int64_t Pixel(int corner, int64_t width) const {
    return (low_y + (corner & 1)) * width + low_x + (corner >> 1);
  }
  TFDET_HOST_DEVICE float Weight(int corner) const {
    return (corner & 1 ? y : 1 - y) * (corner & 2 ? x : 1 - x);
  }
  // The slopes along y and x of an interpolation between four values.
  TFDET_HOST_DEVICE float SlopeY(const float* v) const { return (1 - x) * (v[1] - v[0]) + x * (v[3] - v[2]); }
  TFDET_HOST_DEVICE float SlopeX(const float* v) const { return (1 - y) * (v[2] - v[0]) + y * (v[3] - v[1]); }
};

// Output pixel (out_y, out_x), tap `tap`; `offset`: its y and x.
TFDET_HOST_DEVICE DeformSample DeformSampleAt(const DeformShape& shape, int32_t out_y, int32_t out_x, int32_t tap,
                                              const float* offset) {
  const int32_t tap_y = tap / shape.kernel_x, tap_x = tap - tap_y * shape.kernel_x;
  const float y = float(out_y * shape.stride_y - shape.padding_y + tap_y * shape.dilation_y) + offset[0];
  const float x = float(out_x * shape.stride_x - shape.padding_x + tap_x * shape.dilation_x) + offset[1];
  DeformSample sample = {};
  // False for a NaN too.
  if (!(y >= -1.0f && y < float(shape.height) && x >= -1.0f && x < float(shape.width))) return sample;
  const float floor_y = floorf(y), floor_x = floorf(x);
  sample.low_y = int32_t(floor_y);
  sample.low_x = int32_t(floor_x);
  sample.y = y - floor_y;
  sample.x = x - floor_x;
  const bool top = sample.low_y >= 0, bottom = sample.low_y + 1 < shape.height;
  const bool left = sample.low_x >= 0, right = sample.low_x + 1 < shape.width;
  sample.exists[0] = top && left;
  sample.exists[1] = bottom && left;
  sample.exists[2] = top && right;
  sample.exists[3] = bottom && right;
  return sample;
}

}  // namespace tfdet
