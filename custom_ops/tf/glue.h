// What the op files share: TensorFlow's thread pool and stream as the kernels take them, its types as the kernels'.
#pragma once

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
