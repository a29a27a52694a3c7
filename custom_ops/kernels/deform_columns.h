// The columns of a deformable convolution (its input at every sampling point, as the matrix product with the kernel
// wants it) and their gradients: what the CPU and the CUDA code take. Plain C++: no TensorFlow, no Eigen, no CUDA header.
//
// Inputs are NHWC [batch, height, width, channels]. Offsets are float [batch, out_y, out_x, offset_groups, taps, 2], y
// then x, in input pixels; the mask, where there is one, float [batch, out_y, out_x, offset_groups, taps]. Columns are
// [batch, groups, out_y * out_x, taps, channels / groups] in the inputs' type. Offset group g moves channels
// g * channels / offset_groups and on. Interpolation is in float, rounded at the end.
//
// A pixel outside the map counts as 0. Samples further than a pixel outside, and those whose position is no finite
// number, give zeros and no gradient. At a whole position the offset's gradient is the slope towards larger coordinates.
//
// Source: Dai et al., Deformable Convolutional Networks, ICCV 2017; Zhu et al., Deformable ConvNets v2, CVPR 2019;
// torchvision.ops.deform_conv2d, whose values and gradients these are.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "custom_ops/kernels/half.h"
#include "custom_ops/kernels/host_device.h"
#include "custom_ops/kernels/parallel.h"

namespace tfdet {

constexpr int kDeformSide = 1 << 24;  // largest side of a map (exact in float), and most channels
constexpr int kDeformStep = 1 << 16;  // largest stride, padding, dilation and side of a kernel
constexpr int64_t kDeformMostValues = (int64_t(1) << 31) - 1;  // of inputs, and of offsets

struct DeformShape {
  int64_t batch = 0;
  int32_t height = 0, width = 0, channels = 0;
  int32_t kernel_y = 1, kernel_x = 1, stride_y = 1, stride_x = 1;
  int32_t padding_y = 0, padding_x = 0, dilation_y = 1, dilation_x = 1;
  int32_t groups = 1, offset_groups = 1;
  int32_t out_y = 0, out_x = 0;  // SetDeformOutput

  TFDET_HOST_DEVICE int32_t taps() const { return kernel_y * kernel_x; }
  TFDET_HOST_DEVICE int64_t pixels() const { return int64_t(out_y) * out_x; }  // of one image's output
  TFDET_HOST_DEVICE int64_t inputs() const { return batch * height * width * channels; }
  TFDET_HOST_DEVICE int64_t columns() const { return batch * pixels() * taps() * channels; }
  TFDET_HOST_DEVICE int64_t samples() const { return batch * pixels() * offset_groups * taps(); }
};

// What is wrong with the options, as a text with static storage; null when nothing is.
inline const char* DeformOptionsError(const DeformShape& s) {
  const auto within = [](int32_t low, int32_t a, int32_t b) {
    return a >= low && b >= low && a <= kDeformStep && b <= kDeformStep;
  };
  if (!within(1, s.kernel_y, s.kernel_x)) return "expected a kernel of 1 to 65536 taps a side";
  if (int64_t(s.kernel_y) * s.kernel_x > kDeformStep) return "expected at most 65536 taps";
  if (!within(1, s.stride_y, s.stride_x)) return "expected strides of 1 to 65536";
  if (!within(0, s.padding_y, s.padding_x)) return "expected a padding of 0 to 65536";
  if (!within(1, s.dilation_y, s.dilation_x)) return "expected a dilation of 1 to 65536";
  if (!within(1, s.groups, s.offset_groups)) return "expected 1 to 65536 groups";
  return nullptr;
}

inline int32_t DeformOutputSide(int64_t size, int64_t kernel, int64_t stride, int64_t padding, int64_t dilation) {
  const int64_t room = size + 2 * padding - dilation * (kernel - 1) - 1;
  return room < 0 ? 0 : int32_t(room / stride + 1);
}

// Sets the output's size. The options must have no error and the sizes be at most kDeformSide.
inline void SetDeformOutput(DeformShape* s) {
  s->out_y = DeformOutputSide(s->height, s->kernel_y, s->stride_y, s->padding_y, s->dilation_y);
  s->out_x = DeformOutputSide(s->width, s->kernel_x, s->stride_x, s->padding_x, s->dilation_x);
}

// What is wrong with a whole shape.
inline const char* DeformError(const DeformShape& s) {
  if (const char* error = DeformOptionsError(s)) return error;
  if (s.batch < 0 || s.height < 0 || s.width < 0 || s.channels < 0) return "negative sizes";
  if (s.height > kDeformSide || s.width > kDeformSide || s.channels > kDeformSide)
    return "expected sizes of at most 16777216";
  if (s.channels % s.groups != 0) return "expected a multiple of groups as channels";
  if (s.channels % s.offset_groups != 0) return "expected a multiple of offset_groups as channels";
  if (s.out_y != DeformOutputSide(s.height, s.kernel_y, s.stride_y, s.padding_y, s.dilation_y) ||
      s.out_x != DeformOutputSide(s.width, s.kernel_x, s.stride_x, s.padding_x, s.dilation_x))
    return "the output's size does not follow from the input's";
  // A size of 0 counts as 1: kernels loop over the others.
  const auto fits = [](std::initializer_list<int64_t> sizes) {
    int64_t product = 1;
    for (const int64_t size : sizes)
      if (__builtin_mul_overflow(product, size > 0 ? size : 1, &product) || product > kDeformMostValues) return false;
    return true;
  };
  if (!fits({s.batch, s.height, s.width, s.channels})) return "expected at most 2147483647 input values";
  if (!fits({s.batch, s.out_y, s.out_x, s.offset_groups, s.taps(), 2})) return "expected at most 2147483647 offsets";
  return nullptr;
}

// CPU. T: float, Half16, BFloat16. The same bits for any number of threads. `mask` may be null. The shape must have no
// DeformError.
template <typename T>
void DeformColumnsCpu(const DeformShape& shape, const T* inputs, const float* offsets, const float* mask, T* columns,
                      const ParallelFor& parallel_for);

// Gradients, every value written; `for_mask` is null where `mask` is. Sums are in float, in a fixed order.
template <typename T>
void DeformColumnsGradCpu(const DeformShape& shape, const T* upstream, const T* inputs, const float* offsets,
                          const float* mask, T* for_inputs, float* for_offsets, float* for_mask,
                          const ParallelFor& parallel_for);

// GPU; pointers are of device memory. type: 0 float, 1 half, 2 bfloat16. Return a cudaError; nothing waits.
int DeformColumnsGpu(int type, const DeformShape& shape, const void* inputs, const float* offsets, const float* mask,
                     void* columns, GpuStream stream);

// Bytes of workspace that DeformColumnsGradGpu needs.
inline int64_t DeformColumnsGradWorkspace(int type, const DeformShape& shape) {
  return type == 0 ? 0 : shape.inputs() * int64_t(sizeof(float));
}

// The inputs' gradient is summed with atomic additions in float: their order, and so the last bits, differ from run to
// run. Those of offsets and mask have one order.
int DeformColumnsGradGpu(int type, const DeformShape& shape, const void* upstream, const void* inputs,
                         const float* offsets, const float* mask, void* for_inputs, float* for_offsets,
                         float* for_mask, float* workspace, GpuStream stream);

}  // namespace tfdet
