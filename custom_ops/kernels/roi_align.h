// RoIAlign over the levels of a feature pyramid, and its gradient: what the CPU and the CUDA code take.
// Plain C++: no TensorFlow, no Eigen, no CUDA header.
//
// Features are NHWC, one map [batch, height_l, width_l, channels] a level. Boxes are float [batch, rois, 4] (x1, y1, x2,
// y2 in pixels of the network input), levels int32 [batch, rois]. The result is [batch, rois, bins_y, bins_x, channels]
// in the features' type; interpolation is in float, rounded at the end.
//
// Maximum mode (SimpleDet's ROIAlign_v2, operator_cxx/contrib/roi_align_v2-inl.h) also gives a byte per value, the
// sample that won: 3 * (its number along y) + (its number along x), or 255 where there is none. Its gradient goes to
// that sample's four pixels. Average mode is the RoIAlign of Detectron.
//
// Values of odd inputs: a RoI whose width or height in feature pixels is no finite number, one on a map without pixels,
// and one wholly outside its map gives zeros and no gradient.
#pragma once

#include <cstdint>

#include "custom_ops/kernels/half.h"
#include "custom_ops/kernels/parallel.h"

namespace tfdet {

constexpr int kRoiAlignLevels = 16;         // most levels of a call
constexpr int kRoiAlignBins = 1024;         // most bins a side
constexpr int kRoiAlignRatio = 128;         // most samples a side of a bin; an adaptive ratio stops here
constexpr int kRoiAlignSide = 1 << 24;      // largest side of a map (exact in float), and most channels
constexpr uint8_t kRoiAlignNoWinner = 255;

struct RoiAlignShape {
  int64_t batch = 0, rois = 0;
  int32_t channels = 0;
  int32_t num_levels = 0;
  int32_t bins_y = 0, bins_x = 0;
  bool maximum = true;         // else average
  int32_t sampling_ratio = 2;  // samples a side of a bin, 0: as many as the bin has feature pixels; average only
  bool aligned = false;        // half-pixel shift and no smallest RoI; average only
  int32_t height[kRoiAlignLevels] = {}, width[kRoiAlignLevels] = {};
  float scale[kRoiAlignLevels] = {};  // feature pixels per network pixel

  int64_t values() const { return batch * rois * bins_y * bins_x * channels; }  // of the result
  int64_t map_values(int level) const { return batch * height[level] * width[level] * channels; }
};

// What is wrong with a shape, as a text with static storage; null when nothing is.
inline const char* RoiAlignError(const RoiAlignShape& shape) {
  if (shape.num_levels < 1 || shape.num_levels > kRoiAlignLevels) return "expected 1 to 16 feature maps";
  if (shape.batch < 0 || shape.rois < 0 || shape.channels < 0) return "negative sizes";
  if (shape.bins_y < 1 || shape.bins_x < 1 || shape.bins_y > kRoiAlignBins || shape.bins_x > kRoiAlignBins)
    return "expected 1 to 1024 bins a side";
  if (!shape.maximum && (shape.sampling_ratio < 0 || shape.sampling_ratio > kRoiAlignRatio))
    return "expected a sampling ratio of 0 (adaptive) to 128";
  if (shape.channels > kRoiAlignSide) return "expected at most 16777216 channels";
  for (int l = 0; l < shape.num_levels; ++l) {
    if (shape.height[l] < 0 || shape.width[l] < 0) return "negative sizes";
    if (shape.height[l] > kRoiAlignSide || shape.width[l] > kRoiAlignSide)
      return "expected feature maps of at most 16777216 pixels a side";
    // Also false for a NaN.
    if (!(shape.scale[l] > 0 && shape.scale[l] < 3e38f)) return "expected positive, finite strides";
  }
  return nullptr;
}

// CPU. T: float, Half16, BFloat16. The same bits for any number of threads. Levels must lie within the maps given.
// `winner` is written in maximum mode only. The shape must have no RoiAlignError.
template <typename T>
void RoiAlignCpu(const RoiAlignShape& shape, const T* const* features, const float* boxes, const int32_t* levels,
                 T* pooled, uint8_t* winner, const ParallelFor& parallel_for);

// Gradient of the features, every value of every level written. Sums are in float, in the order of the RoIs.
template <typename T>
void RoiAlignGradCpu(const RoiAlignShape& shape, const T* upstream, const uint8_t* winner, const float* boxes,
                     const int32_t* levels, T* const* gradients, const ParallelFor& parallel_for);

// GPU; pointers are of device memory, `features` and `gradients` themselves host arrays. type: 0 float, 1 half,
// 2 bfloat16. A RoI on a level that does not exist gives zeros and no gradient. Return a cudaError; nothing waits.
int RoiAlignGpu(int type, const RoiAlignShape& shape, const void* const* features, const float* boxes,
                const int32_t* levels, void* pooled, uint8_t* winner, GpuStream stream);

// Bytes of workspace that RoiAlignGradGpu needs.
inline int64_t RoiAlignGradWorkspace(int type, const RoiAlignShape& shape) {
  int64_t values = 0;
  if (type != 0)
    for (int l = 0; l < shape.num_levels; ++l) values += shape.map_values(l);
  return values * int64_t(sizeof(float));
}

// Sums with atomic additions in float: their order, and so the last bits, differ from run to run.
int RoiAlignGradGpu(int type, const RoiAlignShape& shape, const void* upstream, const uint8_t* winner,
                    const float* boxes, const int32_t* levels, void* const* gradients, float* workspace,
                    GpuStream stream);

}  // namespace tfdet
