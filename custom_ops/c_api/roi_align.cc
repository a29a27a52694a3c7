// RoIAlign for programs without TensorFlow, such as Python's ctypes. Arrays as in kernels/roi_align.h.
// type: 0 float, 1 half, 2 bfloat16. mode: 0 maximum, 1 average. Returns 0, -1 for bad arguments, or a cudaError.
#include "custom_ops/kernels/roi_align.h"

#include "custom_ops/c_api/threads.h"

namespace tfdet {
namespace {

bool SetShape(int num_levels, const int32_t* heights, const int32_t* widths, const float* scales, int64_t batch,
              int64_t rois, int32_t channels, int32_t bins_y, int32_t bins_x, int mode, int sampling_ratio,
              int aligned, RoiAlignShape* shape) {
  if (num_levels < 1 || num_levels > kRoiAlignLevels || mode < 0 || mode > 1) return false;
  shape->batch = batch;
  shape->rois = rois;
  shape->channels = channels;
  shape->num_levels = num_levels;
  shape->bins_y = bins_y;
  shape->bins_x = bins_x;
  shape->maximum = mode == 0;
  shape->sampling_ratio = sampling_ratio;
  shape->aligned = aligned != 0;
  for (int l = 0; l < num_levels; ++l) {
    shape->height[l] = heights[l];
    shape->width[l] = widths[l];
    shape->scale[l] = scales[l];
  }
  return RoiAlignError(*shape) == nullptr;
}

bool LevelsExist(const RoiAlignShape& shape, const int32_t* levels) {
  for (int64_t i = 0; i < shape.batch * shape.rois; ++i)
    if (levels[i] < 0 || levels[i] >= shape.num_levels) return false;
  return true;
}

template <typename T>
void Forward(const RoiAlignShape& shape, const void* const* features, const float* boxes, const int32_t* levels,
             void* pooled, uint8_t* winner, int threads) {
  RoiAlignCpu<T>(shape, reinterpret_cast<const T* const*>(features), boxes, levels, static_cast<T*>(pooled), winner,
                 Threads(threads));
}

template <typename T>
void Backward(const RoiAlignShape& shape, const void* upstream, const uint8_t* winner, const float* boxes,
              const int32_t* levels, void* const* gradients, int threads) {
  RoiAlignGradCpu<T>(shape, static_cast<const T*>(upstream), winner, boxes, levels,
                     reinterpret_cast<T* const*>(gradients), Threads(threads));
}

}  // namespace
}  // namespace tfdet

#define TFDET_SHAPE_ARGUMENTS                                                                                       \
  int num_levels, const int32_t *heights, const int32_t *widths, const float *scales, int64_t batch, int64_t rois,  \
      int32_t channels, int32_t bins_y, int32_t bins_x, int mode, int sampling_ratio, int aligned
#define TFDET_SET_SHAPE(shape)                                                                                      \
  tfdet::RoiAlignShape shape;                                                                                       \
  if (!tfdet::SetShape(num_levels, heights, widths, scales, batch, rois, channels, bins_y, bins_x, mode,            \
                       sampling_ratio, aligned, &shape))                                                            \
  return -1

TFDET_EXPORT int tfdet_roi_align_cpu(int type, TFDET_SHAPE_ARGUMENTS, const void* const* features,
                                     const float* boxes, const int32_t* levels, void* pooled, uint8_t* winner,
                                     int threads) {
  TFDET_SET_SHAPE(shape);
  if (!tfdet::LevelsExist(shape, levels)) return -1;
  if (type == 0) tfdet::Forward<float>(shape, features, boxes, levels, pooled, winner, threads);
  else if (type == 1) tfdet::Forward<tfdet::Half16>(shape, features, boxes, levels, pooled, winner, threads);
  else if (type == 2) tfdet::Forward<tfdet::BFloat16>(shape, features, boxes, levels, pooled, winner, threads);
  else return -1;
  return 0;
}

TFDET_EXPORT int tfdet_roi_align_grad_cpu(int type, TFDET_SHAPE_ARGUMENTS, const void* upstream,
                                          const uint8_t* winner, const float* boxes, const int32_t* levels,
                                          void* const* gradients, int threads) {
  TFDET_SET_SHAPE(shape);
  if (!tfdet::LevelsExist(shape, levels)) return -1;
  if (type == 0) tfdet::Backward<float>(shape, upstream, winner, boxes, levels, gradients, threads);
  else if (type == 1) tfdet::Backward<tfdet::Half16>(shape, upstream, winner, boxes, levels, gradients, threads);
  else if (type == 2) tfdet::Backward<tfdet::BFloat16>(shape, upstream, winner, boxes, levels, gradients, threads);
  else return -1;
  return 0;
}

#if TFDET_CUDA
TFDET_EXPORT int tfdet_roi_align_gpu(int type, TFDET_SHAPE_ARGUMENTS, const void* const* features,
                                     const float* boxes, const int32_t* levels, void* pooled, uint8_t* winner,
                                     void* stream) {
  TFDET_SET_SHAPE(shape);
  return tfdet::RoiAlignGpu(type, shape, features, boxes, levels, pooled, winner,
                            static_cast<tfdet::GpuStream>(stream));
}

// Bytes of device memory for tfdet_roi_align_grad_gpu; -1 for bad arguments.
TFDET_EXPORT int64_t tfdet_roi_align_grad_gpu_workspace(int type, TFDET_SHAPE_ARGUMENTS) {
  TFDET_SET_SHAPE(shape);
  return tfdet::RoiAlignGradWorkspace(type, shape);
}

TFDET_EXPORT int tfdet_roi_align_grad_gpu(int type, TFDET_SHAPE_ARGUMENTS, const void* upstream,
                                          const uint8_t* winner, const float* boxes, const int32_t* levels,
                                          void* const* gradients, void* workspace, void* stream) {
  TFDET_SET_SHAPE(shape);
  return tfdet::RoiAlignGradGpu(type, shape, upstream, winner, boxes, levels, gradients,
                                static_cast<float*>(workspace), static_cast<tfdet::GpuStream>(stream));
}
#endif
