// What every kernel is given besides raw pointers: a parallel-for on the CPU, a stream on the GPU.
// Plain C++: no TensorFlow, no Eigen, no CUDA header.
#pragma once

#include <cstdint>
#include <functional>

// The opaque type behind cudaStream_t, declared as cuda_runtime_api.h declares it.
struct CUstream_st;

namespace tfdet {

typedef CUstream_st* GpuStream;

// work(begin, end) on a part of a range; called from several threads at once, on parts that do not overlap.
typedef std::function<void(int64_t begin, int64_t end)> RangeWork;

// Runs `work` over [0, total). `cost` is a rough number of CPU cycles per unit: it decides how finely to split.
// Kernels must give the same result however the range is split.
typedef std::function<void(int64_t total, int64_t cost, const RangeWork& work)> ParallelFor;

inline void RunSerially(int64_t total, int64_t, const RangeWork& work) {
  if (total > 0) work(0, total);
}

}  // namespace tfdet
