#include <cuda_runtime.h>

#include "custom_ops/kernels/gpu_runtime.h"

namespace tfdet {

const char* GpuErrorText(int error) {
  switch (static_cast<cudaError_t>(error)) {
    case cudaErrorInsufficientDriver:
      return "the GPU driver is older than the CUDA toolkit that built the custom ops. Build them with an older "
             "toolkit (make ops CUDA=1 CUDA_HOME=...), or set TFDET_OPS=python";
    case cudaErrorNoKernelImageForDevice:
      return "the custom ops hold no code for this GPU. Build them for it (make ops CUDA=1 TFDET_CUDA_ARCHS=...), or set "
             "TFDET_OPS=python";
    default:
      return cudaGetErrorString(static_cast<cudaError_t>(error));
  }
}

}  // namespace tfdet
