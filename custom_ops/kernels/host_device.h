// Functions that the CPU code and the CUDA code share.
#pragma once

#ifdef __CUDACC__
#define TFDET_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define TFDET_HOST_DEVICE inline __attribute__((always_inline))
#endif
