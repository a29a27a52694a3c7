// Several channels at a time on a GPU: loads and stores, types, sums, the rounding of sums.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace tfdet {
namespace {

// Consecutive channels in one load or store.
template <typename T, int N>
struct alignas(sizeof(T) * N) Pack {
  T value[N];
};

__device__ inline float Widen(float v) { return v; }
__device__ inline float Widen(__half v) { return __half2float(v); }
__device__ inline float Widen(__nv_bfloat16 v) { return __bfloat162float(v); }
__device__ inline void Narrow(float v, float* out) { *out = v; }
__device__ inline void Narrow(float v, __half* out) { *out = __float2half_rn(v); }
__device__ inline void Narrow(float v, __nv_bfloat16* out) { *out = __float2bfloat16_rn(v); }

// Adds to N neighbouring sums: four in one operation where the architecture has it.
template <int N>
__device__ inline void Add(float* sums, const float* values, float weight) {
#if __CUDA_ARCH__ >= 900
  if constexpr (N == 4) {
    atomicAdd(reinterpret_cast<float4*>(sums),
              make_float4(weight * values[0], weight * values[1], weight * values[2], weight * values[3]));
    return;
  } else
#endif
  {
#pragma unroll
    for (int n = 0; n < N; ++n) atomicAdd(sums + n, weight * values[n]);
  }
}

template <typename T>
__global__ void RoundKernel(const float* __restrict__ sums, int64_t count, T* __restrict__ out) {
  for (int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; i < count; i += int64_t(blockDim.x) * gridDim.x)
    Narrow(sums[i], out + i);
}

// Rounds sums to the type of a gradient.
template <typename T>
int Round(const float* sums, int64_t count, T* out, cudaStream_t stream) {
  if (count == 0) return 0;
  const int64_t blocks = (count + 255) / 256;
  RoundKernel<T><<<unsigned(blocks < 65536 ? blocks : 65536), 256, 0, stream>>>(sums, count, out);
  return int(cudaGetLastError());
}

inline bool Aligned(const void* pointer, size_t bytes) { return reinterpret_cast<uintptr_t>(pointer) % bytes == 0; }

// Whether the GPU at hand adds four at a time.
inline bool AddsFour() {
  int device = 0, major = 0;
  return cudaGetDevice(&device) == cudaSuccess &&
         cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess && major >= 9;
}

}  // namespace
}  // namespace tfdet
