#include "custom_ops/kernels/nms.h"

#include <algorithm>

#include "custom_ops/kernels/box_overlap.h"
#include "custom_ops/kernels/gpu_launch.h"
#include "custom_ops/kernels/gpu_lists.h"

namespace tfdet {
namespace {

// One list a class of an image. Lists are sorted by score, what is not a candidate last, at kNoScore.
struct Buffers {
  uint64_t *keys, *sorted_keys;       // [lists, boxes]
  uint32_t *indices, *sorted_indices;  // [lists, boxes], of the box
  float* boxes;                        // [lists, boxes, 4], sorted
  float* soft_scores;                  // [lists, boxes], only of the soft methods
  int32_t* counts;                     // [lists], candidates
  int32_t *kept, *kept_counts;         // [lists, keep] positions in the sorted list, [lists]
  float* kept_scores;                  // [lists, keep]
  uint64_t* best_keys;                 // [lists, keep], of an image over its classes
  uint32_t* best;                      // [lists, keep], class * keep + row
  void* sort;
  size_t sort_bytes;
  void* suppress;
};

int64_t Lists(const NmsSizes& sizes) { return sizes.batch * sizes.classes; }
int64_t Keep(const NmsSizes& sizes, const NmsOptions& options) { return std::min(options.max_detections, sizes.boxes); }

int Carve(const NmsSizes& sizes, const NmsOptions& options, void* workspace, Buffers* b, size_t* bytes) {
  const int64_t lists = Lists(sizes), items = lists * sizes.boxes, kept = lists * Keep(sizes, options);
  size_t by_list, by_image;
  TFDET_GPU_CHECK(SortListsGpuWorkspace(items, lists, &by_list));
  TFDET_GPU_CHECK(SortListsGpuWorkspace(kept, sizes.batch, &by_image));
  b->sort_bytes = std::max(by_list, by_image);
  const bool hard = options.method == NmsMethod::kHard;
  WorkspaceParts parts(workspace);
  b->keys = parts.Take<uint64_t>(items);
  b->sorted_keys = parts.Take<uint64_t>(items);
  b->indices = parts.Take<uint32_t>(items);
  b->sorted_indices = parts.Take<uint32_t>(items);
  b->boxes = parts.Take<float>(4 * items);
  b->soft_scores = parts.Take<float>(hard ? 0 : items);
  b->counts = parts.Take<int32_t>(lists);
  b->kept = parts.Take<int32_t>(kept);
  b->kept_counts = parts.Take<int32_t>(lists);
  b->kept_scores = parts.Take<float>(kept);
  b->best_keys = parts.Take<uint64_t>(kept);
  b->best = parts.Take<uint32_t>(kept);
  b->sort = parts.Take<char>(b->sort_bytes);
  b->suppress = parts.Take<char>(hard ? SuppressListsGpuWorkspace(lists, sizes.boxes) : 0);
  *bytes = parts.bytes();
  return 0;
}

__device__ const float* BoxOf(const NmsSizes& sizes, const float* boxes, int64_t image, int64_t index, int64_t c) {
  const int64_t set = sizes.box_sets > 1 ? c : 0;
  return boxes + 4 * ((image * sizes.boxes + index) * sizes.box_sets + set);
}

__global__ void KeyKernel(NmsSizes sizes, NmsOptions options, const float* boxes, const float* scores, Buffers b) {
  for (TFDET_GPU_RANGE(i, sizes.batch * sizes.boxes * sizes.classes)) {
    const int64_t c = i % sizes.classes, index = i / sizes.classes % sizes.boxes;
    const int64_t image = i / sizes.classes / sizes.boxes, list = image * sizes.classes + c;
    const float score = scores[i];
    const bool candidate =
        score > options.score_threshold && IsNumber(BoxOf(sizes, boxes, image, index, c), options.extra_pixel);
    const uint32_t key = candidate ? DescendingKey(score) : kNoScore;
    b.keys[list * sizes.boxes + index] = static_cast<uint64_t>(list) << 32 | key;
    b.indices[list * sizes.boxes + index] = static_cast<uint32_t>(index);
  }
}

__device__ uint32_t LowKey(uint64_t key) { return static_cast<uint32_t>(key); }

// Boxes in sorted order, and where each list ends. counts start at 0.
__global__ void GatherKernel(NmsSizes sizes, const float* boxes, Buffers b) {
  for (TFDET_GPU_RANGE(i, sizes.batch * sizes.boxes * sizes.classes)) {
    if (LowKey(b.sorted_keys[i]) == kNoScore) continue;
    const int64_t list = i / sizes.boxes, position = i % sizes.boxes;
    const float* box = BoxOf(sizes, boxes, list / sizes.classes, b.sorted_indices[i], list % sizes.classes);
    for (int k = 0; k < 4; ++k) b.boxes[4 * i + k] = box[k];
    if (position + 1 == sizes.boxes || LowKey(b.sorted_keys[i + 1]) == kNoScore)
      b.counts[list] = static_cast<int32_t>(position + 1);
  }
}

__global__ void HardScoresKernel(NmsSizes sizes, int64_t keep, Buffers b) {
  for (TFDET_GPU_RANGE(i, sizes.batch * sizes.classes * keep)) {
    const int64_t list = i / keep;
    if (i % keep < b.kept_counts[list])
      b.kept_scores[i] = ScoreOfKey(LowKey(b.sorted_keys[list * sizes.boxes + b.kept[i]]));
  }
}

// Soft suppression. One block a list: take the best, lower the scores of the rest.
__global__ void SoftKernel(NmsSizes sizes, NmsOptions options, float strict_threshold, int64_t keep, Buffers b) {
  __shared__ uint64_t best_keys[kThreads];  // key of the score above the box's index
  __shared__ int32_t best_positions[kThreads];
  const int64_t list = blockIdx.x, first = list * sizes.boxes;
  const int32_t count = b.counts[list];
  float* scores = b.soft_scores + first;
  const float* boxes = b.boxes + 4 * first;
  for (int32_t i = threadIdx.x; i < count; i += blockDim.x) scores[i] = ScoreOfKey(LowKey(b.sorted_keys[first + i]));
  int64_t row = 0;
  for (; row < keep; ++row) {
    uint64_t key = ~uint64_t{0};
    int32_t position = -1;
    for (int32_t i = threadIdx.x; i < count; i += blockDim.x) {  // a thread reads only what it wrote
      if (!(scores[i] > options.score_threshold)) continue;
      const uint64_t own = static_cast<uint64_t>(DescendingKey(scores[i])) << 32 | b.sorted_indices[first + i];
      if (own < key) key = own, position = i;
    }
    best_keys[threadIdx.x] = key;
    best_positions[threadIdx.x] = position;
    __syncthreads();
    for (int half = kThreads / 2; half > 0; half /= 2) {
      if (threadIdx.x < half && best_keys[threadIdx.x + half] < best_keys[threadIdx.x]) {
        best_keys[threadIdx.x] = best_keys[threadIdx.x + half];
        best_positions[threadIdx.x] = best_positions[threadIdx.x + half];
      }
      __syncthreads();
    }
    const int32_t best = best_positions[0];
    if (best < 0) break;
    if (threadIdx.x == 0) {
      b.kept[list * keep + row] = best;
      b.kept_scores[list * keep + row] = ScoreOfKey(static_cast<uint32_t>(best_keys[0] >> 32));
    }
    const Edges taken = EdgesOf(boxes + 4 * best, options.extra_pixel);
    for (int32_t i = threadIdx.x; i < count; i += blockDim.x) {
      const float iou = Overlap(taken, EdgesOf(boxes + 4 * i, options.extra_pixel));
      float weight;
      if (options.method == NmsMethod::kLinear)
        weight = iou > strict_threshold ? 1.0f - iou : 1.0f;
      else
        weight = iou > 0.0f ? Exp(-(iou * iou) / options.sigma) : 1.0f;
      const float decayed = scores[i] * weight;
      scores[i] = i != best && decayed == decayed ? decayed : -INFINITY;
    }
    __syncthreads();
  }
  if (threadIdx.x == 0) b.kept_counts[list] = static_cast<int32_t>(row);
}

// Keys to sort an image's kept boxes of all classes; into the buffers that the first sort no longer needs.
__global__ void MergeKernel(NmsSizes sizes, int64_t keep, Buffers b) {
  for (TFDET_GPU_RANGE(i, sizes.batch * sizes.classes * keep)) {
    const int64_t list = i / keep, row = i % keep;
    const uint32_t key = row < b.kept_counts[list] ? DescendingKey(b.kept_scores[i]) : kNoScore;
    b.keys[i] = static_cast<uint64_t>(list / sizes.classes) << 32 | key;
    b.indices[i] = static_cast<uint32_t>(list % sizes.classes * keep + row);
  }
}

// num_valid starts at 0.
__global__ void OutputKernel(NmsSizes sizes, int64_t rows, int64_t keep, const float* boxes, Buffers b,
                             NmsOutputs outputs) {
  const int64_t available = sizes.classes * keep;
  for (TFDET_GPU_RANGE(i, sizes.batch * rows)) {
    const int64_t image = i / rows, row = i % rows, item = image * available + row;
    if (row < available && LowKey(b.best_keys[item]) != kNoScore) {
      const int64_t c = b.best[item] / keep, list = image * sizes.classes + c;
      const int32_t position = b.kept[list * keep + b.best[item] % keep];
      const uint32_t index = b.sorted_indices[list * sizes.boxes + position];
      const float* box = BoxOf(sizes, boxes, image, index, c);
      for (int k = 0; k < 4; ++k) outputs.boxes[4 * i + k] = box[k];
      outputs.scores[i] = ScoreOfKey(LowKey(b.best_keys[item]));
      outputs.classes[i] = static_cast<int32_t>(c);
      outputs.indices[i] = static_cast<int32_t>(index);
      if (row + 1 == rows || row + 1 == available || LowKey(b.best_keys[item + 1]) == kNoScore)
        outputs.num_valid[image] = static_cast<int32_t>(row + 1);
    } else {
      for (int k = 0; k < 4; ++k) outputs.boxes[4 * i + k] = 0.0f;
      outputs.scores[i] = 0.0f;
      outputs.classes[i] = outputs.indices[i] = -1;
    }
  }
}

}  // namespace

int BatchedNmsGpuWorkspace(const NmsSizes& sizes, const NmsOptions& options, size_t* bytes) {
  Buffers buffers;
  return Carve(sizes, options, nullptr, &buffers, bytes);
}

int BatchedNmsGpu(const NmsSizes& sizes, const NmsOptions& options, const float* boxes, const float* scores,
                  const NmsOutputs& outputs, void* workspace, GpuStream stream) {
  if (sizes.batch == 0) return 0;
  TFDET_GPU_CHECK(cudaMemsetAsync(outputs.num_valid, 0, 4 * sizes.batch, stream));
  const int64_t rows = options.max_detections;
  if (rows == 0) return 0;
  Buffers b;
  size_t bytes;
  TFDET_GPU_CHECK(Carve(sizes, options, workspace, &b, &bytes));
  const int64_t lists = Lists(sizes), items = lists * sizes.boxes, keep = Keep(sizes, options), kept = lists * keep;
  if (items > 0) {
    const float threshold = StrictThreshold(options.iou_threshold, options.inclusive);
    KeyKernel<<<BlocksFor(items), kThreads, 0, stream>>>(sizes, options, boxes, scores, b);
    TFDET_GPU_CHECK(cudaGetLastError());
    TFDET_GPU_CHECK(SortListsGpu(b.keys, b.sorted_keys, b.indices, b.sorted_indices, items, lists, b.sort,
                                 b.sort_bytes, stream));
    TFDET_GPU_CHECK(cudaMemsetAsync(b.counts, 0, 4 * lists, stream));
    GatherKernel<<<BlocksFor(items), kThreads, 0, stream>>>(sizes, boxes, b);
    TFDET_GPU_CHECK(cudaGetLastError());
    if (options.method == NmsMethod::kHard) {
      SuppressionRules rules;
      rules.period = 1, rules.extra_pixel[0] = options.extra_pixel, rules.strict_threshold[0] = threshold;
      TFDET_GPU_CHECK(SuppressListsGpu(b.boxes, b.counts, lists, sizes.boxes, rules, keep, b.kept, b.kept_counts,
                                       b.suppress, stream));
      HardScoresKernel<<<BlocksFor(kept), kThreads, 0, stream>>>(sizes, keep, b);
    } else {
      SoftKernel<<<static_cast<unsigned>(lists), kThreads, 0, stream>>>(sizes, options, threshold, keep, b);
    }
    TFDET_GPU_CHECK(cudaGetLastError());
    MergeKernel<<<BlocksFor(kept), kThreads, 0, stream>>>(sizes, keep, b);
    TFDET_GPU_CHECK(cudaGetLastError());
    TFDET_GPU_CHECK(
        SortListsGpu(b.keys, b.best_keys, b.indices, b.best, kept, sizes.batch, b.sort, b.sort_bytes, stream));
  }
  OutputKernel<<<BlocksFor(sizes.batch * rows), kThreads, 0, stream>>>(sizes, rows, keep, boxes, b, outputs);
  return cudaGetLastError();
}

}  // namespace tfdet
