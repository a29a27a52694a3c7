#include "custom_ops/kernels/gpu_lists.h"

#include <cub/device/device_radix_sort.cuh>

#include "custom_ops/kernels/box_overlap.h"
#include "custom_ops/kernels/gpu_launch.h"

namespace tfdet {
namespace {

constexpr int kTile = 64;                   // boxes of a mask word
constexpr size_t kMaskBytes = 64u << 20;    // of the masks alive at once, unless one list alone needs more
constexpr int64_t kMaxWords = 5000;         // of one row: the removed boxes of a list stay in shared memory

int EndBit(int64_t lists) {
  int bits = 32;
  while (bits < 64 && (lists - 1) >> (bits - 32) != 0) ++bits;
  return bits;
}

int64_t Words(int64_t capacity) { return (capacity + kTile - 1) / kTile; }

int64_t ListsAtOnce(int64_t lists, int64_t capacity) {
  const int64_t bytes = std::max<int64_t>(1, capacity * Words(capacity) * 8);
  return std::max<int64_t>(1, std::min<int64_t>({lists, static_cast<int64_t>(kMaskBytes) / bytes, 65535}));
}

// Bit j of word w of row i: box i of the list suppresses box 64 w + j, which stands behind it. Words left of the row's
// own tile are not written. One block a tile of 64 x 64 pairs.
__global__ void MaskKernel(const float* boxes, const int32_t* counts, int64_t first_list, int64_t capacity,
                           int64_t words, SuppressionRules rules, uint64_t* mask) {
  const int64_t list = first_list + blockIdx.z, count = counts[list];
  const int64_t row_begin = static_cast<int64_t>(blockIdx.y) * kTile, column_begin = static_cast<int64_t>(blockIdx.x) * kTile;
  if (blockIdx.x < blockIdx.y || row_begin >= count || column_begin >= count) return;
  const float extra = rules.extra_pixel[list % rules.period], threshold = rules.strict_threshold[list % rules.period];
  const int columns = static_cast<int>(count - column_begin < kTile ? count - column_begin : kTile);
  __shared__ Edges column[kTile];
  const float* own = boxes + 4 * list * capacity;
  if (threadIdx.x < columns) column[threadIdx.x] = EdgesOf(own + 4 * (column_begin + threadIdx.x), extra);
  __syncthreads();
  const int64_t row = row_begin + threadIdx.x;
  if (row >= count) return;
  const Edges edges = EdgesOf(own + 4 * row, extra);
  uint64_t word = 0;
  for (int j = blockIdx.x == blockIdx.y ? threadIdx.x + 1 : 0; j < columns; ++j)
    if (Overlap(edges, column[j]) > threshold) word |= uint64_t{1} << j;
  mask[(static_cast<int64_t>(blockIdx.z) * capacity + row) * words + blockIdx.x] = word;
}

// Walks down the rows of a list's mask. One block a list.
__global__ void WalkKernel(const uint64_t* mask, const int32_t* counts, int64_t first_list, int64_t capacity,
                           int64_t words, int64_t max_keep, int32_t* kept, int32_t* kept_counts) {
  extern __shared__ uint64_t removed[];  // [words]
  __shared__ uint64_t diagonal[kTile];
  __shared__ uint64_t kept_here;
  __shared__ int64_t total;
  const int64_t list = first_list + blockIdx.x, count = counts[list], used_words = (count + kTile - 1) / kTile;
  mask += blockIdx.x * capacity * words;
  kept += list * max_keep;
  for (int64_t w = threadIdx.x; w < used_words; w += blockDim.x) removed[w] = 0;
  if (threadIdx.x == 0) total = 0;
  for (int64_t tile = 0; tile < used_words; ++tile) {
    const int rows = static_cast<int>(count - tile * kTile < kTile ? count - tile * kTile : kTile);
    if (threadIdx.x < rows) diagonal[threadIdx.x] = mask[(tile * kTile + threadIdx.x) * words + tile];
    __syncthreads();
    if (threadIdx.x == 0) {
      uint64_t gone = removed[tile], bits = 0;
      int64_t n = total;
      for (int i = 0; i < rows && n < max_keep; ++i) {
        if (gone >> i & 1) continue;
        bits |= uint64_t{1} << i;
        kept[n++] = static_cast<int32_t>(tile * kTile + i);
        gone |= diagonal[i];
      }
      total = n;
      kept_here = bits;
    }
    __syncthreads();
    if (total >= max_keep) break;
    for (int64_t w = tile + 1 + threadIdx.x; w < used_words; w += blockDim.x) {
      uint64_t gone = removed[w];
      for (uint64_t bits = kept_here; bits != 0; bits &= bits - 1)
        gone |= mask[(tile * kTile + __ffsll(static_cast<long long>(bits)) - 1) * words + w];
      removed[w] = gone;
    }
    __syncthreads();
  }
  __syncthreads();
  if (threadIdx.x == 0) kept_counts[list] = static_cast<int32_t>(total);
}

}  // namespace

int SortListsGpuWorkspace(int64_t n, int64_t lists, size_t* bytes) {
  *bytes = 0;
  if (n == 0) return 0;
  if (n > INT32_MAX) return cudaErrorInvalidValue;
  const uint64_t* keys = nullptr;
  const uint32_t* values = nullptr;
  return cub::DeviceRadixSort::SortPairs(nullptr, *bytes, keys, static_cast<uint64_t*>(nullptr), values,
                                         static_cast<uint32_t*>(nullptr), static_cast<int>(n), 0, EndBit(lists));
}

int SortListsGpu(const uint64_t* keys, uint64_t* sorted_keys, const uint32_t* values, uint32_t* sorted_values, int64_t n,
                 int64_t lists, void* workspace, size_t workspace_bytes, GpuStream stream) {
  if (n == 0) return 0;
  return cub::DeviceRadixSort::SortPairs(workspace, workspace_bytes, keys, sorted_keys, values, sorted_values,
                                         static_cast<int>(n), 0, EndBit(lists), stream);
}

size_t SuppressListsGpuWorkspace(int64_t lists, int64_t capacity) {
  return static_cast<size_t>(ListsAtOnce(lists, capacity)) * capacity * Words(capacity) * 8;
}

int SuppressListsGpu(const float* boxes, const int32_t* counts, int64_t lists, int64_t capacity,
                     const SuppressionRules& rules, int64_t max_keep, int32_t* kept, int32_t* kept_counts,
                     void* workspace, GpuStream stream) {
  if (lists == 0) return 0;
  if (capacity == 0 || max_keep == 0) return cudaMemsetAsync(kept_counts, 0, 4 * lists, stream);
  const int64_t words = Words(capacity), at_once = ListsAtOnce(lists, capacity);
  if (words > kMaxWords) return cudaErrorInvalidValue;
  uint64_t* mask = static_cast<uint64_t*>(workspace);
  for (int64_t first = 0; first < lists; first += at_once) {
    const unsigned count = static_cast<unsigned>(std::min(at_once, lists - first)), side = static_cast<unsigned>(words);
    MaskKernel<<<dim3(side, side, count), kTile, 0, stream>>>(boxes, counts, first, capacity, words, rules, mask);
    TFDET_GPU_CHECK(cudaGetLastError());
    WalkKernel<<<count, kThreads, 8 * words, stream>>>(mask, counts, first, capacity, words, max_keep, kept,
                                                       kept_counts);
    TFDET_GPU_CHECK(cudaGetLastError());
  }
  return 0;
}

}  // namespace tfdet
