// Launching a kernel over a range.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

namespace tfdet {

constexpr int kThreads = 256;

inline unsigned BlocksFor(int64_t n) {
  return static_cast<unsigned>(std::min<int64_t>((n + kThreads - 1) / kThreads, 1 << 20));
}

// for (TFDET_GPU_RANGE(i, n)): the part of [0, n) of one thread.
#define TFDET_GPU_RANGE(i, n)                                                                      \
  int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x, i##_end = (n); i < i##_end; \
  i += static_cast<int64_t>(gridDim.x) * blockDim.x

// Returns from the calling function where a call failed.
#define TFDET_GPU_CHECK(call)                        \
  do {                                               \
    const int error_ = static_cast<int>(call);       \
    if (error_ != 0) return error_;                  \
  } while (false)

}  // namespace tfdet
