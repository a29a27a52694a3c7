// The columns of a deformable convolution and their gradients in CUDA. Compile with -fmad=false: the interpolation then
// has the bits of the CPU code.
#include <cuda_runtime.h>

#include "custom_ops/kernels/deform_columns.h"
#include "custom_ops/kernels/deform_geometry.h"
#include "custom_ops/kernels/gpu_channels.h"

namespace tfdet {
namespace {

constexpr int kThreads = 256, kWarp = 32;
constexpr int64_t kMostBlocks = 1 << 20;

// Where the channels of (image, output pixel, tap) from `channel` on are in the columns.
__device__ inline int64_t ColumnAt(const DeformShape& shape, int64_t image, int64_t pixel, int tap, int channel) {
  const int width = shape.channels / shape.groups, group = channel / width;
  return (((image * shape.groups + group) * shape.pixels() + pixel) * shape.taps() + tap) * width + channel -
         group * width;
}

// A block takes an output pixel; its threads run over taps and packs of N channels, neighbouring threads on neighbouring
// channels.
template <typename T, int N>
__global__ void __launch_bounds__(kThreads)
    ColumnsKernel(const __grid_constant__ DeformShape shape, const T* __restrict__ inputs,
                  const float* __restrict__ offsets, const float* __restrict__ mask, T* __restrict__ columns) {
  const int64_t pixels = shape.pixels(), total = shape.batch * pixels;
  const int packs = shape.channels / N, own = shape.channels / shape.offset_groups;
  const int64_t items = int64_t(shape.taps()) * packs;
  for (int64_t index = blockIdx.x; index < total; index += gridDim.x) {
    const int64_t image = index / pixels, pixel = index - image * pixels;
    const int out_y = int(pixel / shape.out_x), out_x = int(pixel - int64_t(out_y) * shape.out_x);
    const T* map = inputs + image * shape.height * shape.width * int64_t(shape.channels);
    for (int64_t item = threadIdx.x; item < items; item += blockDim.x) {
      const int tap = int(item / packs), channel = int(item - int64_t(tap) * packs) * N;
      const int64_t at = (index * shape.offset_groups + channel / own) * shape.taps() + tap;
      const DeformSample sample = DeformSampleAt(shape, out_y, out_x, tap, offsets + 2 * at);
      const float factor = mask == nullptr ? 1.0f : mask[at];
      Pack<T, N> pixel_of[4] = {};
      float weight[4];
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        weight[k] = factor * sample.Weight(k);
        if (sample.exists[k])
          pixel_of[k] = *reinterpret_cast<const Pack<T, N>*>(
              map + sample.Pixel(k, shape.width) * shape.channels + channel);
      }
      const bool any = sample.Any();
      Pack<T, N> rounded;
#pragma unroll
      for (int n = 0; n < N; ++n) {
        const float value = weight[0] * Widen(pixel_of[0].value[n]) + weight[1] * Widen(pixel_of[1].value[n]) +
                            weight[2] * Widen(pixel_of[2].value[n]) + weight[3] * Widen(pixel_of[3].value[n]);
        Narrow(any ? value : factor * 0.0f, &rounded.value[n]);
      }
      *reinterpret_cast<Pack<T, N>*>(columns + ColumnAt(shape, image, pixel, tap, channel)) = rounded;
    }
  }
}

// `lanes` neighbouring threads, a power of two up to a warp, take a sample: each a part of its channels. The gradients of
// offset and mask are sums over the channels, made across the lanes in one order.
template <typename T, int N>
__global__ void __launch_bounds__(kThreads)
    GradKernel(const __grid_constant__ DeformShape shape, int lanes, const T* __restrict__ upstream,
               const T* __restrict__ inputs, const float* __restrict__ offsets, const float* __restrict__ mask,
               float* __restrict__ sums, float* __restrict__ for_offsets, float* __restrict__ for_mask) {
  const int64_t total = shape.samples(), pixels = shape.pixels();
  const int own = shape.channels / shape.offset_groups, packs = own / N;
  const int per_warp = kWarp / lanes, lane = threadIdx.x & (lanes - 1), part = (threadIdx.x & (kWarp - 1)) / lanes;
  const int64_t warp = (blockIdx.x * int64_t(blockDim.x) + threadIdx.x) / kWarp;
  const int64_t warps = gridDim.x * int64_t(blockDim.x) / kWarp;
  // The same number of rounds for a whole warp, which shuffles together.
  for (int64_t first = warp * per_warp; first < total; first += warps * per_warp) {
    const int64_t at = first + part;
    const bool active = at < total;
    float product[4] = {}, factor = 0;
    DeformSample sample = {};
    if (active) {
      const int64_t group_at = at / shape.taps(), index = group_at / shape.offset_groups;
      const int tap = int(at - group_at * shape.taps()), group = int(group_at - index * shape.offset_groups);
      const int64_t image = index / pixels, pixel = index - image * pixels;
      const int out_y = int(pixel / shape.out_x), out_x = int(pixel - int64_t(out_y) * shape.out_x);
      sample = DeformSampleAt(shape, out_y, out_x, tap, offsets + 2 * at);
      factor = mask == nullptr ? 1.0f : mask[at];
      const int64_t map = image * shape.height * shape.width * int64_t(shape.channels);
      if (sample.Any())
        for (int pack = lane; pack < packs; pack += lanes) {
          const int channel = group * own + pack * N;
          const Pack<T, N> given =
              *reinterpret_cast<const Pack<T, N>*>(upstream + ColumnAt(shape, image, pixel, tap, channel));
          float values[N];
#pragma unroll
          for (int n = 0; n < N; ++n) values[n] = Widen(given.value[n]);
#pragma unroll
          for (int k = 0; k < 4; ++k) {
            if (!sample.exists[k]) continue;
            const int64_t place = map + sample.Pixel(k, shape.width) * shape.channels + channel;
            const Pack<T, N> pixel_of = *reinterpret_cast<const Pack<T, N>*>(inputs + place);
#pragma unroll
            for (int n = 0; n < N; ++n) product[k] += values[n] * Widen(pixel_of.value[n]);
            Add<N>(sums + place, values, factor * sample.Weight(k));
          }
        }
    }
    for (int step = lanes / 2; step > 0; step /= 2)
#pragma unroll
      for (int k = 0; k < 4; ++k) product[k] += __shfl_down_sync(0xffffffffu, product[k], step, lanes);
    if (!active || lane != 0) continue;
    for_offsets[2 * at] = factor * sample.SlopeY(product);
    for_offsets[2 * at + 1] = factor * sample.SlopeX(product);
    if (for_mask == nullptr) continue;
    float value = 0;
    for (int k = 0; k < 4; ++k) value += sample.Weight(k) * product[k];
    for_mask[at] = value;
  }
}

unsigned Blocks(int64_t wanted) { return unsigned(wanted < kMostBlocks ? wanted : kMostBlocks); }

// Whether packs of `count` channels lie within one group and one offset group.
bool Fits(const DeformShape& shape, int count) {
  return (shape.channels / shape.groups) % count == 0 && (shape.channels / shape.offset_groups) % count == 0;
}

template <typename T>
int Columns(const DeformShape& shape, const void* inputs, const float* offsets, const float* mask, void* columns,
            cudaStream_t stream) {
  constexpr int kWide = 16 / sizeof(T);
  const T* map = static_cast<const T*>(inputs);
  T* out = static_cast<T*>(columns);
  const unsigned blocks = Blocks(shape.batch * shape.pixels());
  if (Fits(shape, kWide) && Aligned(inputs, 16) && Aligned(columns, 16))
    ColumnsKernel<T, kWide><<<blocks, kThreads, 0, stream>>>(shape, map, offsets, mask, out);
  else
    ColumnsKernel<T, 1><<<blocks, kThreads, 0, stream>>>(shape, map, offsets, mask, out);
  return int(cudaGetLastError());
}

template <typename T>
int Gradients(const DeformShape& shape, const void* upstream, const void* inputs, const float* offsets,
              const float* mask, void* for_inputs, float* for_offsets, float* for_mask, float* workspace,
              cudaStream_t stream) {
  constexpr bool kInPlace = sizeof(T) == sizeof(float);
  float* sums = kInPlace ? static_cast<float*>(for_inputs) : workspace;
  if (shape.inputs() > 0) {
    const cudaError_t error = cudaMemsetAsync(sums, 0, size_t(shape.inputs()) * sizeof(float), stream);
    if (error != cudaSuccess) return int(error);
  }
  if (shape.samples() > 0) {
    const T *given = static_cast<const T*>(upstream), *map = static_cast<const T*>(inputs);
    const bool four = Fits(shape, 4) && Aligned(upstream, 4 * sizeof(T)) && Aligned(inputs, 4 * sizeof(T)) &&
                      Aligned(sums, 16);
    const int packs = shape.channels / shape.offset_groups / (four ? 4 : 1);
    int lanes = kWarp;
    while (lanes > 1 && lanes / 2 >= packs) lanes /= 2;
    const unsigned blocks = Blocks((shape.samples() * lanes + kThreads - 1) / kThreads);
    if (four)
      GradKernel<T, 4><<<blocks, kThreads, 0, stream>>>(shape, lanes, given, map, offsets, mask, sums, for_offsets,
                                                        for_mask);
    else
      GradKernel<T, 1><<<blocks, kThreads, 0, stream>>>(shape, lanes, given, map, offsets, mask, sums, for_offsets,
                                                        for_mask);
    const cudaError_t error = cudaGetLastError();
    if (error != cudaSuccess) return int(error);
  }
  if constexpr (kInPlace) return 0;
  else return Round(sums, shape.inputs(), static_cast<T*>(for_inputs), stream);
}

}  // namespace

int DeformColumnsGpu(int type, const DeformShape& shape, const void* inputs, const float* offsets, const float* mask,
                     void* columns, GpuStream stream) {
  if (DeformError(shape) != nullptr) return int(cudaErrorInvalidValue);
  if (shape.columns() == 0) return 0;
  switch (type) {
    case 0: return Columns<float>(shape, inputs, offsets, mask, columns, stream);
    case 1: return Columns<__half>(shape, inputs, offsets, mask, columns, stream);
    case 2: return Columns<__nv_bfloat16>(shape, inputs, offsets, mask, columns, stream);
    default: return int(cudaErrorInvalidValue);
  }
}

int DeformColumnsGradGpu(int type, const DeformShape& shape, const void* upstream, const void* inputs,
                         const float* offsets, const float* mask, void* for_inputs, float* for_offsets,
                         float* for_mask, float* workspace, GpuStream stream) {
  if (DeformError(shape) != nullptr) return int(cudaErrorInvalidValue);
  switch (type) {
    case 0:
      return Gradients<float>(shape, upstream, inputs, offsets, mask, for_inputs, for_offsets, for_mask, workspace,
                              stream);
    case 1:
      return Gradients<__half>(shape, upstream, inputs, offsets, mask, for_inputs, for_offsets, for_mask, workspace,
                               stream);
    case 2:
      return Gradients<__nv_bfloat16>(shape, upstream, inputs, offsets, mask, for_inputs, for_offsets, for_mask,
                                      workspace, stream);
    default: return int(cudaErrorInvalidValue);
  }
}

}  // namespace tfdet
