// What the op files share: TensorFlow's thread pool and stream as the kernels take them, its types as the kernels'.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <limits>
#include <string>

#include "custom_ops/kernels/half.h"
#include "custom_ops/kernels/parallel.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "tensorflow/core/util/work_sharder.h"
#if GOOGLE_CUDA
#include "custom_ops/kernels/gpu_runtime.h"
#include "xla/stream_executor/stream.h"
#endif

namespace tfdet {

// The kernels' storage type of a TensorFlow type, and the number that names it to the GPU launchers.
template <typename T>
struct Storage;
template <>
struct Storage<float> {
  typedef float type;
  static constexpr int id = 0;
};
template <>
struct Storage<Eigen::half> {
  typedef Half16 type;
  static constexpr int id = 1;
};
template <>
struct Storage<Eigen::bfloat16> {
  typedef BFloat16 type;
  static constexpr int id = 2;
};

// Most elements that the kernels count, where they count in 32 bits.
constexpr int64_t kMaxElements = std::numeric_limits<int32_t>::max();

// Refuses sizes of more elements than `limit`. A size of 0 counts as 1: an empty tensor can have any other sizes without
// taking memory, and kernels loop over those and multiply them.
inline absl::Status CheckSizes(const char* what, std::initializer_list<int64_t> sizes, int64_t limit = kMaxElements) {
  int64_t product = 1;
  std::string listed;
  bool fits = true;
  for (const int64_t size : sizes) {
    absl::StrAppend(&listed, listed.empty() ? "" : ",", size);
    fits = fits && size >= 0 && !__builtin_mul_overflow(product, size > 0 ? size : 1, &product) && product <= limit;
  }
  if (fits) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(what, ": expected sizes of 0 to ", limit, " elements in all. Received: [", listed, "]"));
}

// An output of a shape that is made of sizes: checked, where TensorShape's constructor ends the process.
inline absl::Status AllocateOutput(tensorflow::OpKernelContext* context, int index, std::initializer_list<int64_t> sizes,
                                   tensorflow::Tensor** output) {
  tensorflow::TensorShape shape;
  TF_RETURN_IF_ERROR(tensorflow::TensorShape::BuildTensorShape(sizes, &shape));
  return context->allocate_output(index, shape, output);
}

// Bytes of workspace for a kernel.
inline absl::Status AllocateWorkspace(tensorflow::OpKernelContext* context, int64_t bytes, tensorflow::Tensor* workspace) {
  tensorflow::TensorShape shape;
  TF_RETURN_IF_ERROR(tensorflow::TensorShape::BuildTensorShape({bytes}, &shape));
  return context->allocate_temp(tensorflow::DT_UINT8, shape, workspace);
}

inline ParallelFor PoolOf(tensorflow::OpKernelContext* context) {
  auto* threads = context->device()->tensorflow_cpu_worker_threads();
  return [threads](int64_t total, int64_t cost, const RangeWork& work) {
    tensorflow::Shard(threads->num_threads, threads->workers, total, cost, work);
  };
}

#if GOOGLE_CUDA
inline GpuStream StreamOf(tensorflow::OpKernelContext* context) {
  return reinterpret_cast<GpuStream>(
      context->op_device_context()->stream()->platform_specific_handle().stream);
}

// A launcher's return value as a status.
inline absl::Status GpuStatus(const char* op, int error) {
  if (error == 0) return absl::OkStatus();
  return absl::InternalError(std::string(op) + ": " + GpuErrorText(error));
}
#endif

}  // namespace tfdet
