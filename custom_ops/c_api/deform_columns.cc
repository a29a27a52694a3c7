// The columns of deformable convolution for programs without TensorFlow, such as Python's ctypes. Arrays as in
// kernels/deform_columns.h. type: 0 float, 1 half, 2 bfloat16. options: kernel, stride, padding and dilation, each y and
// x; groups; offset groups. Returns 0, -1 for bad arguments, or a cudaError.
#include "custom_ops/kernels/deform_columns.h"

#include "custom_ops/c_api/threads.h"

namespace tfdet {
namespace {

bool SetShape(int64_t batch, int32_t height, int32_t width, int32_t channels, const int32_t* options,
              DeformShape* shape) {
  shape->batch = batch;
  shape->height = height;
  shape->width = width;
  shape->channels = channels;
  int32_t* const own[] = {&shape->kernel_y,  &shape->kernel_x,  &shape->stride_y,   &shape->stride_x, &shape->padding_y,
                          &shape->padding_x, &shape->dilation_y, &shape->dilation_x, &shape->groups,   &shape->offset_groups};
  for (int32_t* option : own) *option = *options++;
  if (DeformOptionsError(*shape) != nullptr || height > kDeformSide || width > kDeformSide) return false;
  SetDeformOutput(shape);
  return DeformError(*shape) == nullptr;
}

template <typename T>
void Forward(const DeformShape& shape, const void* inputs, const float* offsets, const float* mask, void* columns,
             int threads) {
  DeformColumnsCpu<T>(shape, static_cast<const T*>(inputs), offsets, mask, static_cast<T*>(columns), Threads(threads));
}

template <typename T>
void Backward(const DeformShape& shape, const void* upstream, const void* inputs, const float* offsets,
              const float* mask, void* for_inputs, float* for_offsets, float* for_mask, int threads) {
  DeformColumnsGradCpu<T>(shape, static_cast<const T*>(upstream), static_cast<const T*>(inputs), offsets, mask,
                          static_cast<T*>(for_inputs), for_offsets, for_mask, Threads(threads));
}

}  // namespace
}  // namespace tfdet

#define TFDET_SHAPE_ARGUMENTS int64_t batch, int32_t height, int32_t width, int32_t channels, const int32_t *options
#define TFDET_SET_SHAPE(shape) \
  tfdet::DeformShape shape;    \
  if (!tfdet::SetShape(batch, height, width, channels, options, &shape)) return -1

TFDET_EXPORT int tfdet_deform_columns_cpu(int type, TFDET_SHAPE_ARGUMENTS, const void* inputs, const float* offsets,
                                          const float* mask, void* columns, int threads) {
  TFDET_SET_SHAPE(shape);
  if (type == 0) tfdet::Forward<float>(shape, inputs, offsets, mask, columns, threads);
  else if (type == 1) tfdet::Forward<tfdet::Half16>(shape, inputs, offsets, mask, columns, threads);
  else if (type == 2) tfdet::Forward<tfdet::BFloat16>(shape, inputs, offsets, mask, columns, threads);
  else return -1;
  return 0;
}

TFDET_EXPORT int tfdet_deform_columns_grad_cpu(int type, TFDET_SHAPE_ARGUMENTS, const void* upstream,
                                               const void* inputs, const float* offsets, const float* mask,
                                               void* for_inputs, float* for_offsets, float* for_mask, int threads) {
  TFDET_SET_SHAPE(shape);
  if (type == 0)
    tfdet::Backward<float>(shape, upstream, inputs, offsets, mask, for_inputs, for_offsets, for_mask, threads);
  else if (type == 1)
    tfdet::Backward<tfdet::Half16>(shape, upstream, inputs, offsets, mask, for_inputs, for_offsets, for_mask, threads);
  else if (type == 2)
    tfdet::Backward<tfdet::BFloat16>(shape, upstream, inputs, offsets, mask, for_inputs, for_offsets, for_mask, threads);
  else
    return -1;
  return 0;
}

#if TFDET_CUDA
TFDET_EXPORT int tfdet_deform_columns_gpu(int type, TFDET_SHAPE_ARGUMENTS, const void* inputs, const float* offsets,
                                          const float* mask, void* columns, void* stream) {
  TFDET_SET_SHAPE(shape);
  return tfdet::DeformColumnsGpu(type, shape, inputs, offsets, mask, columns, static_cast<tfdet::GpuStream>(stream));
}

// Bytes of device memory for tfdet_deform_columns_grad_gpu; -1 for bad arguments.
TFDET_EXPORT int64_t tfdet_deform_columns_grad_gpu_workspace(int type, TFDET_SHAPE_ARGUMENTS) {
  TFDET_SET_SHAPE(shape);
  return tfdet::DeformColumnsGradWorkspace(type, shape);
}

TFDET_EXPORT int tfdet_deform_columns_grad_gpu(int type, TFDET_SHAPE_ARGUMENTS, const void* upstream,
                                               const void* inputs, const float* offsets, const float* mask,
                                               void* for_inputs, float* for_offsets, float* for_mask, void* workspace,
                                               void* stream) {
  TFDET_SET_SHAPE(shape);
  return tfdet::DeformColumnsGradGpu(type, shape, upstream, inputs, offsets, mask, for_inputs, for_offsets, for_mask,
                                     static_cast<float*>(workspace), static_cast<tfdet::GpuStream>(stream));
}
#endif
