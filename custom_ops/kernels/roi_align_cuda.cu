// RoIAlign and its gradient in CUDA. A block takes one row of bins of one RoI: it computes where the row samples once, in
// shared memory, and its threads then run over bins and channels, neighbouring threads on neighbouring channels.
// Compile with -fmad=false: sums then have the bits of the CPU code.
#include <cuda_runtime.h>

#include "custom_ops/kernels/gpu_channels.h"
#include "custom_ops/kernels/roi_align.h"
#include "custom_ops/kernels/roi_align_geometry.h"

namespace tfdet {
namespace {

constexpr int kThreads = 128;
constexpr int kEntriesY = 2 * kRoiAlignRatio;
constexpr int kEntriesX = 512;  // at least the taps of one bin: 2 * kRoiAlignRatio
constexpr int kChunk = 64;      // most bins whose samples are held at a time
constexpr int64_t kMostBlocks = 1 << 30;

static_assert(kEntriesX >= 2 * kRoiAlignRatio, "a bin's taps must fit");
static_assert(sizeof(AxisSample) == 12 && sizeof(AxisTap) == 8, "sizes of the shared arrays");

template <typename T>
struct Levels {
  T* map[kRoiAlignLevels];
};

// What a block shares about its row of bins. In maximum mode an entry of an axis is an AxisSample, else an AxisTap.
template <bool kMaximum>
struct RowGeometry;
template <>
struct RowGeometry<true> {
  AxisSample y[3], x[3 * kChunk];
  int count_y, count_x[kChunk];
};
template <>
struct RowGeometry<false> {
  AxisTap y[kEntriesY], x[kEntriesX];
  int count_y, count_x[kChunk];
};

// The RoI of a row of bins; the same in all threads of a block.
struct Row {
  int64_t roi, image;
  int bin_y, level;
  bool sampled;  // else every bin of the RoI is empty
  AxisRange range_y, range_x;
  int samples_y, samples_x;  // of a bin; average mode
  int chunk;                 // bins whose samples are held at a time
};

__device__ inline Row RowOf(const RoiAlignShape& shape, const float* boxes, const int32_t* levels, int64_t index) {
  Row row;
  row.roi = index / shape.bins_y;
  row.bin_y = int(index - row.roi * shape.bins_y);
  row.image = row.roi / shape.rois;
  row.level = levels[row.roi];
  row.sampled = row.level >= 0 && row.level < shape.num_levels;
  row.samples_y = row.samples_x = 0;
  row.chunk = kChunk;
  if (!row.sampled) {
    row.level = 0;
    return row;
  }
  const float* box = boxes + 4 * row.roi;
  const float scale = shape.scale[row.level];
  row.sampled = RangeOf(shape, box[1], box[3], scale, &row.range_y) && RangeOf(shape, box[0], box[2], scale, &row.range_x);
  if (row.sampled && !shape.maximum) {
    row.samples_y = SamplesPerBin(shape, row.range_y, shape.bins_y);
    row.samples_x = SamplesPerBin(shape, row.range_x, shape.bins_x);
    row.sampled = row.samples_y > 0 && row.samples_x > 0;
    if (row.sampled) {
      const int fit = kEntriesX / (2 * row.samples_x);
      row.chunk = fit < kChunk ? fit : kChunk;
    }
  }
  return row;
}

// Fills `shared` for the bins from `first` on, all threads of the block together. y only where `with_y`.
__device__ inline void Fill(const RoiAlignShape& shape, const Row& row, int first, bool with_y,
                            RowGeometry<true>* shared) {
  for (int i = threadIdx.x; i < row.chunk && first + i < shape.bins_x; i += blockDim.x)
    shared->count_x[i] =
        MaximumSamples(row.range_x, shape.width[row.level], shape.bins_x, first + i, shared->x + 3 * i);
  if (with_y && threadIdx.x == blockDim.x - 1)
    shared->count_y = MaximumSamples(row.range_y, shape.height[row.level], shape.bins_y, row.bin_y, shared->y);
}

__device__ inline void Fill(const RoiAlignShape& shape, const Row& row, int first, bool with_y,
                            RowGeometry<false>* shared) {
  for (int i = threadIdx.x; i < row.chunk && first + i < shape.bins_x; i += blockDim.x)
    shared->count_x[i] = AverageTaps(row.range_x, shape.width[row.level], shape.bins_x, first + i, row.samples_x, 1.0f,
                                     shared->x + 2 * row.samples_x * i);
  if (with_y && threadIdx.x == blockDim.x - 1)
    shared->count_y = AverageTaps(row.range_y, shape.height[row.level], shape.bins_y, row.bin_y, row.samples_y,
                                  1.0f / float(row.samples_y * row.samples_x), shared->y);
}

// The four pixels of a sample and their weights: top left, bottom left, top right, bottom right.
struct Corners {
  int64_t pixel[4];
  float weight[4];
  __device__ Corners(const AxisSample& v, const AxisSample& h, int64_t width)
      : pixel{v.low * width + h.low, v.high * width + h.low, v.low * width + h.high, v.high * width + h.high},
        weight{(1 - v.weight) * (1 - h.weight), v.weight * (1 - h.weight), (1 - v.weight) * h.weight,
               v.weight * h.weight} {}
};

// N channels of one bin. `map`: the image's first pixel, at the first of the channels.
template <typename T, int N>
__device__ inline void Sample(const RowGeometry<true>& shared, const Row&, int bin, const T* map, int64_t width,
                              int64_t channels, float* out, uint8_t* won) {
  const bool empty = shared.count_y == 0 || shared.count_x[bin] == 0;
  for (int n = 0; n < N; ++n) {
    out[n] = empty ? 0.0f : -FLT_MAX;
    won[n] = kRoiAlignNoWinner;
  }
  for (int a = 0; a < shared.count_y; ++a)
    for (int b = 0; b < shared.count_x[bin]; ++b) {
      const Corners corners(shared.y[a], shared.x[3 * bin + b], width);
      Pack<T, N> pixel[4];
#pragma unroll
      for (int k = 0; k < 4; ++k)
        pixel[k] = *reinterpret_cast<const Pack<T, N>*>(map + corners.pixel[k] * channels);
#pragma unroll
      for (int n = 0; n < N; ++n) {
        const float value = corners.weight[0] * Widen(pixel[0].value[n]) + corners.weight[1] * Widen(pixel[1].value[n]) +
                            corners.weight[2] * Widen(pixel[2].value[n]) + corners.weight[3] * Widen(pixel[3].value[n]);
        if (value > out[n]) {
          out[n] = value;
          won[n] = uint8_t(3 * a + b);
        }
      }
    }
}

template <typename T, int N>
__device__ inline void Sample(const RowGeometry<false>& shared, const Row& row, int bin, const T* map, int64_t width,
                              int64_t channels, float* out, uint8_t*) {
  for (int n = 0; n < N; ++n) out[n] = 0.0f;
  const AxisTap* taps = shared.x + 2 * row.samples_x * bin;
  const int count = shared.count_x[bin];
  for (int a = 0; a < shared.count_y; ++a) {
    const T* line = map + shared.y[a].index * width * channels;
    const float share = shared.y[a].weight;
#pragma unroll 4
    for (int b = 0; b < count; ++b) {
      const Pack<T, N> pixel = *reinterpret_cast<const Pack<T, N>*>(line + taps[b].index * channels);
      const float weight = share * taps[b].weight;
#pragma unroll
      for (int n = 0; n < N; ++n) out[n] += weight * Widen(pixel.value[n]);
    }
  }
}

template <typename T, int N, bool kMaximum>
__global__ void __launch_bounds__(kThreads)
    PoolKernel(const __grid_constant__ RoiAlignShape shape, const __grid_constant__ Levels<const T> features,
               const float* __restrict__ boxes, const int32_t* __restrict__ levels, T* __restrict__ pooled, uint8_t* __restrict__ winner) {
  __shared__ RowGeometry<kMaximum> shared;
  const int64_t rows = shape.batch * shape.rois * shape.bins_y, channels = shape.channels;
  const int packs = shape.channels / N;
  for (int64_t index = blockIdx.x; index < rows; index += gridDim.x) {
    const Row row = RowOf(shape, boxes, levels, index);
    const int64_t width = shape.width[row.level];
    const T* map = features.map[row.level] + row.image * shape.height[row.level] * width * channels;
    for (int first = 0; first < shape.bins_x; first += row.chunk) {
      __syncthreads();  // the bins before are done with `shared`
      if (row.sampled) Fill(shape, row, first, first == 0, &shared);
      __syncthreads();
      const int bins = shape.bins_x - first < row.chunk ? shape.bins_x - first : row.chunk;
      const int items = bins * packs;  // below 2^31: kChunk * kRoiAlignSide
      for (int item = threadIdx.x; item < items; item += blockDim.x) {
        const int bin = item / packs, channel = (item - bin * packs) * N;
        float out[N];
        Pack<uint8_t, N> won;
        if (row.sampled) {
          Sample<T, N>(shared, row, bin, map + channel, width, channels, out, won.value);
        } else {
          for (int n = 0; n < N; ++n) {
            out[n] = 0.0f;
            won.value[n] = kRoiAlignNoWinner;
          }
        }
        Pack<T, N> rounded;
#pragma unroll
        for (int n = 0; n < N; ++n) Narrow(out[n], &rounded.value[n]);
        const int64_t at = (index * shape.bins_x + first + bin) * channels + channel;
        *reinterpret_cast<Pack<T, N>*>(pooled + at) = rounded;
        if (kMaximum) *reinterpret_cast<Pack<uint8_t, N>*>(winner + at) = won;
      }
    }
  }
}

template <int N>
__device__ inline void Scatter(const RowGeometry<true>& shared, const Row&, int bin, float* map, int64_t width,
                               int64_t channels, const float* upstream, int won) {
  const int a = won / 3, b = won - 3 * a;
  if (a >= shared.count_y || b >= shared.count_x[bin]) return;  // no winner
  const Corners corners(shared.y[a], shared.x[3 * bin + b], width);
#pragma unroll
  for (int k = 0; k < 4; ++k) Add<N>(map + corners.pixel[k] * channels, upstream, corners.weight[k]);
}

template <int N>
__device__ inline void Scatter(const RowGeometry<false>& shared, const Row& row, int bin, float* map, int64_t width,
                               int64_t channels, const float* upstream, int) {
  const AxisTap* taps = shared.x + 2 * row.samples_x * bin;
  for (int a = 0; a < shared.count_y; ++a) {
    float* line = map + shared.y[a].index * width * channels;
    for (int b = 0; b < shared.count_x[bin]; ++b)
      Add<N>(line + taps[b].index * channels, upstream, shared.y[a].weight * taps[b].weight);
  }
}

// N: channels a thread; 4 for the average where the architecture adds four at a time, else 1. Every channel has a winner
// of its own in maximum mode.
template <typename T, int N, bool kMaximum>
__global__ void __launch_bounds__(kThreads)
    ScatterKernel(const __grid_constant__ RoiAlignShape shape, const T* __restrict__ upstream,
                  const uint8_t* __restrict__ winner, const float* __restrict__ boxes,
                  const int32_t* __restrict__ levels, const __grid_constant__ Levels<float> sums) {
  __shared__ RowGeometry<kMaximum> shared;
  const int64_t rows = shape.batch * shape.rois * shape.bins_y, channels = shape.channels;
  const int packs = shape.channels / N;
  for (int64_t index = blockIdx.x; index < rows; index += gridDim.x) {
    const Row row = RowOf(shape, boxes, levels, index);
    if (!row.sampled) continue;  // the whole block
    const int64_t width = shape.width[row.level];
    float* map = sums.map[row.level] + row.image * shape.height[row.level] * width * channels;
    for (int first = 0; first < shape.bins_x; first += row.chunk) {
      __syncthreads();
      Fill(shape, row, first, first == 0, &shared);
      __syncthreads();
      const int bins = shape.bins_x - first < row.chunk ? shape.bins_x - first : row.chunk;
      const int items = bins * packs;  // below 2^31: kChunk * kRoiAlignSide
      for (int item = threadIdx.x; item < items; item += blockDim.x) {
        const int bin = item / packs, channel = (item - bin * packs) * N;
        const int64_t at = (index * shape.bins_x + first + bin) * channels + channel;
        const Pack<T, N> given = *reinterpret_cast<const Pack<T, N>*>(upstream + at);
        float values[N];
#pragma unroll
        for (int n = 0; n < N; ++n) values[n] = Widen(given.value[n]);
        Scatter<N>(shared, row, bin, map + channel, width, channels, values, kMaximum ? int(winner[at]) : 0);
      }
    }
  }
}

unsigned Blocks(int64_t wanted) { return unsigned(wanted < kMostBlocks ? wanted : kMostBlocks); }

template <typename T, int N>
int Pool(const RoiAlignShape& shape, const Levels<const T>& features, const float* boxes, const int32_t* levels,
         T* pooled, uint8_t* winner, cudaStream_t stream) {
  const unsigned blocks = Blocks(shape.batch * shape.rois * shape.bins_y);
  if (shape.maximum)
    PoolKernel<T, N, true><<<blocks, kThreads, 0, stream>>>(shape, features, boxes, levels, pooled, winner);
  else
    PoolKernel<T, N, false><<<blocks, kThreads, 0, stream>>>(shape, features, boxes, levels, pooled, winner);
  return int(cudaGetLastError());
}

template <typename T>
int Pool(const RoiAlignShape& shape, const void* const* features, const float* boxes, const int32_t* levels,
         void* pooled, uint8_t* winner, cudaStream_t stream) {
  constexpr int kWide = 16 / sizeof(T);
  Levels<const T> maps = {};
  bool wide = shape.channels % kWide == 0 && Aligned(pooled, 16) && (!shape.maximum || Aligned(winner, kWide));
  for (int l = 0; l < shape.num_levels; ++l) {
    maps.map[l] = static_cast<const T*>(features[l]);
    wide = wide && Aligned(features[l], 16);
  }
  T* out = static_cast<T*>(pooled);
  return wide ? Pool<T, kWide>(shape, maps, boxes, levels, out, winner, stream)
              : Pool<T, 1>(shape, maps, boxes, levels, out, winner, stream);
}

template <typename T>
int PoolGradient(const RoiAlignShape& shape, const void* upstream, const uint8_t* winner, const float* boxes,
                 const int32_t* levels, void* const* gradients, float* workspace, cudaStream_t stream) {
  constexpr bool kInPlace = sizeof(T) == sizeof(float);
  Levels<float> sums = {};
  bool four = !shape.maximum && shape.channels % 4 == 0 && Aligned(upstream, 4 * sizeof(T));
  float* next = workspace;
  for (int l = 0; l < shape.num_levels; ++l) {
    const int64_t values = shape.map_values(l);
    sums.map[l] = kInPlace ? static_cast<float*>(gradients[l]) : next;
    if (!kInPlace) next += values;
    four = four && Aligned(sums.map[l], 16);
    if (values == 0) continue;
    const cudaError_t error = cudaMemsetAsync(sums.map[l], 0, size_t(values) * sizeof(float), stream);
    if (error != cudaSuccess) return int(error);
  }
  if (shape.values() > 0) {
    const unsigned blocks = Blocks(shape.batch * shape.rois * shape.bins_y);
    const T* given = static_cast<const T*>(upstream);
    if (shape.maximum)
      ScatterKernel<T, 1, true><<<blocks, kThreads, 0, stream>>>(shape, given, winner, boxes, levels, sums);
    else if (four && AddsFour())
      ScatterKernel<T, 4, false><<<blocks, kThreads, 0, stream>>>(shape, given, winner, boxes, levels, sums);
    else
      ScatterKernel<T, 1, false><<<blocks, kThreads, 0, stream>>>(shape, given, winner, boxes, levels, sums);
    const cudaError_t error = cudaGetLastError();
    if (error != cudaSuccess) return int(error);
  }
  if constexpr (!kInPlace) {
    for (int l = 0; l < shape.num_levels; ++l) {
      const int error = Round(sums.map[l], shape.map_values(l), static_cast<T*>(gradients[l]), stream);
      if (error != 0) return error;
    }
  }
  return 0;
}

}  // namespace

int RoiAlignGpu(int type, const RoiAlignShape& shape, const void* const* features, const float* boxes,
                const int32_t* levels, void* pooled, uint8_t* winner, GpuStream stream) {
  if (RoiAlignError(shape) != nullptr) return int(cudaErrorInvalidValue);
  if (shape.values() == 0) return 0;
  switch (type) {
    case 0: return Pool<float>(shape, features, boxes, levels, pooled, winner, stream);
    case 1: return Pool<__half>(shape, features, boxes, levels, pooled, winner, stream);
    case 2: return Pool<__nv_bfloat16>(shape, features, boxes, levels, pooled, winner, stream);
    default: return int(cudaErrorInvalidValue);
  }
}

int RoiAlignGradGpu(int type, const RoiAlignShape& shape, const void* upstream, const uint8_t* winner,
                    const float* boxes, const int32_t* levels, void* const* gradients, float* workspace,
                    GpuStream stream) {
  if (RoiAlignError(shape) != nullptr) return int(cudaErrorInvalidValue);
  switch (type) {
    case 0: return PoolGradient<float>(shape, upstream, winner, boxes, levels, gradients, workspace, stream);
    case 1: return PoolGradient<__half>(shape, upstream, winner, boxes, levels, gradients, workspace, stream);
    case 2: return PoolGradient<__nv_bfloat16>(shape, upstream, winner, boxes, levels, gradients, workspace, stream);
    default: return int(cudaErrorInvalidValue);
  }
}

}  // namespace tfdet
