#include "custom_ops/kernels/proposals.h"

#include <algorithm>

#include "custom_ops/kernels/gpu_launch.h"
#include "custom_ops/kernels/gpu_lists.h"
#include "custom_ops/kernels/nms.h"
#include "custom_ops/kernels/proposal_decode.h"

namespace tfdet {
namespace {

// One list a level of an image, list = image * num_levels + level. All kernels see all lists.
struct Problem {
  ProposalLevel levels[kMaxLevels];
  int64_t offsets[kMaxLevels + 1];  // of the levels among an image's anchors
  const float* image_info;
  const float* area_range;
  int64_t batch, num_levels, pre, post;
  int64_t anchors;   // of an image
  int64_t capacity;  // candidates of the longest list
  int64_t keep;      // of a list
  float min_size;
  bool from_logits;

  __host__ __device__ int64_t lists() const { return batch * num_levels; }
};

struct Buffers {
  uint64_t *keys, *sorted_keys;        // [batch, anchors]
  uint32_t *indices, *sorted_indices;  // [batch, anchors], of the anchor in its level
  float *boxes, *scores;               // [lists, capacity, 4], [lists, capacity]: sorted candidates
  int32_t* counts;                     // [lists]
  int32_t *kept, *kept_counts;         // [lists, keep], [lists]
  uint64_t *row_keys, *sorted_row_keys;  // [batch, num_levels * post], with several levels
  uint32_t *rows, *sorted_rows;
  void* sort;
  size_t sort_bytes;
  void* suppress;
};

Problem Describe(const ProposalLevel* levels, const ProposalOptions& options, const float* image_info,
                 const float* area_range) {
  Problem p;
  p.image_info = image_info, p.area_range = area_range;
  p.batch = options.batch, p.num_levels = options.num_levels;
  p.pre = options.pre_nms_top_n, p.post = options.post_nms_top_n;
  p.min_size = options.min_size, p.from_logits = options.from_logits;
  p.anchors = p.capacity = 0;
  for (int i = 0; i < options.num_levels; ++i) {
    p.levels[i] = levels[i];
    p.offsets[i] = p.anchors;
    p.anchors += levels[i].size();
    p.capacity = std::max(p.capacity, std::min(p.pre, levels[i].size()));
  }
  p.offsets[options.num_levels] = p.anchors;
  p.keep = std::min(p.post, p.capacity);
  return p;
}

int Carve(const Problem& p, void* workspace, Buffers* b, size_t* bytes) {
  const int64_t items = p.batch * p.anchors, lists = p.lists();
  const int64_t rows = p.num_levels > 1 ? lists * p.post : 0;
  size_t by_list, by_image;
  TFDET_GPU_CHECK(SortListsGpuWorkspace(items, lists, &by_list));
  TFDET_GPU_CHECK(SortListsGpuWorkspace(rows, p.batch, &by_image));
  b->sort_bytes = std::max(by_list, by_image);
  WorkspaceParts parts(workspace);
  b->keys = parts.Take<uint64_t>(items);
  b->sorted_keys = parts.Take<uint64_t>(items);
  b->indices = parts.Take<uint32_t>(items);
  b->sorted_indices = parts.Take<uint32_t>(items);
  b->boxes = parts.Take<float>(4 * lists * p.capacity);
  b->scores = parts.Take<float>(lists * p.capacity);
  b->counts = parts.Take<int32_t>(lists);
  b->kept = parts.Take<int32_t>(lists * p.keep);
  b->kept_counts = parts.Take<int32_t>(lists);
  b->row_keys = parts.Take<uint64_t>(rows);
  b->sorted_row_keys = parts.Take<uint64_t>(rows);
  b->rows = parts.Take<uint32_t>(rows);
  b->sorted_rows = parts.Take<uint32_t>(rows);
  b->sort = parts.Take<char>(b->sort_bytes);
  b->suppress = parts.Take<char>(SuppressListsGpuWorkspace(lists, p.capacity));
  *bytes = parts.bytes();
  return 0;
}

__device__ float ProbabilityOf(const Problem& p, const ProposalLevel& level, int64_t image, int64_t index) {
  if (!p.from_logits) return level.scores[image * level.size() + index];
  const int64_t cell = index / level.anchors, anchor = index % level.anchors;
  const float* logits = level.scores + 2 * (image * level.size() + cell * level.anchors);
  return ForegroundProbability(logits[anchor], logits[level.anchors + anchor]);
}

__device__ Candidate Decode(const Problem& p, const ProposalLevel& level, int64_t image, int64_t index, float score) {
  return CandidateOf(level, ImageOf(p.image_info, p.area_range, image, p.min_size), index,
                     level.deltas + 4 * (image * level.size() + index), score);
}

__global__ void KeyKernel(const __grid_constant__ Problem p, Buffers b) {
  for (TFDET_GPU_RANGE(i, p.batch * p.anchors)) {
    const int64_t image = i / p.anchors, place = i % p.anchors;
    int l = 0;
    while (place >= p.offsets[l + 1]) ++l;
    const ProposalLevel& level = p.levels[l];
    const int64_t index = place - p.offsets[l];
    const Candidate candidate = Decode(p, level, image, index, ProbabilityOf(p, level, image, index));
    b.keys[i] = static_cast<uint64_t>(image * p.num_levels + l) << 32 | DescendingKey(candidate.score);
    b.indices[i] = static_cast<uint32_t>(index);
  }
}

// The best of each list, decoded again, and where they end. counts start at 0.
__global__ void CandidateKernel(const __grid_constant__ Problem p, Buffers b) {
  for (TFDET_GPU_RANGE(i, p.lists() * p.capacity)) {
    const int64_t list = i / p.capacity, position = i % p.capacity;
    const int64_t image = list / p.num_levels, l = list % p.num_levels;
    const ProposalLevel& level = p.levels[l];
    const int64_t length = level.size() < p.pre ? level.size() : p.pre;
    if (position >= length) continue;
    const int64_t item = image * p.anchors + p.offsets[l] + position;
    const uint32_t key = static_cast<uint32_t>(b.sorted_keys[item]);
    if (!MayPropose(level, key)) continue;
    Candidate candidate = Decode(p, level, image, b.sorted_indices[item], ScoreOfKey(key));
    candidate.score = ScoreOfKey(key);
    FilterSorted(level, ImageOf(p.image_info, p.area_range, image, p.min_size), &candidate);
    for (int k = 0; k < 4; ++k) b.boxes[4 * i + k] = candidate.box[k];
    b.scores[i] = candidate.score;
    if (position + 1 == length || !MayPropose(level, static_cast<uint32_t>(b.sorted_keys[item + 1])))
      b.counts[list] = static_cast<int32_t>(position + 1);
  }
}

// The scores of all levels' rows of an image, missing ones among them.
__global__ void RowKernel(const __grid_constant__ Problem p, Buffers b) {
  const int64_t available = p.num_levels * p.post;
  for (TFDET_GPU_RANGE(i, p.batch * available)) {
    const int64_t list = i / p.post, row = i % p.post;
    const bool present = row < b.kept_counts[list];
    const float score = present ? b.scores[list * p.capacity + b.kept[list * p.keep + row]]
                                : MissingValue(p.levels[list % p.num_levels]);
    b.row_keys[i] = static_cast<uint64_t>(i / available) << 32 | DescendingKey(score);
    b.rows[i] = static_cast<uint32_t>(i % available);
  }
}

__global__ void OutputKernel(const __grid_constant__ Problem p, Buffers b, float* out_boxes, float* out_scores) {
  for (TFDET_GPU_RANGE(i, p.batch * p.post)) {
    const int64_t image = i / p.post;
    const int64_t from = p.num_levels > 1 ? b.sorted_rows[image * p.num_levels * p.post + i % p.post] : i % p.post;
    const int64_t list = image * p.num_levels + from / p.post, row = from % p.post;
    if (row < b.kept_counts[list]) {
      const int64_t candidate = list * p.capacity + b.kept[list * p.keep + row];
      for (int k = 0; k < 4; ++k) out_boxes[4 * i + k] = b.boxes[4 * candidate + k];
      out_scores[i] = b.scores[candidate];
    } else {
      const float missing = MissingValue(p.levels[from / p.post]);
      for (int k = 0; k < 4; ++k) out_boxes[4 * i + k] = missing;
      out_scores[i] = missing;
    }
  }
}

}  // namespace

int GenerateProposalsGpuWorkspace(const ProposalLevel* levels, const ProposalOptions& options, size_t* bytes) {
  Buffers buffers;
  return Carve(Describe(levels, options, nullptr, nullptr), nullptr, &buffers, bytes);
}

int GenerateProposalsGpu(const ProposalLevel* levels, const ProposalOptions& options, const float* image_info,
                         const float* area_range, float* out_boxes, float* out_scores, void* workspace,
                         GpuStream stream) {
  const Problem p = Describe(levels, options, image_info, area_range);
  if (p.batch == 0 || p.post == 0) return 0;
  Buffers b;
  size_t bytes;
  TFDET_GPU_CHECK(Carve(p, workspace, &b, &bytes));
  const int64_t items = p.batch * p.anchors, candidates = p.lists() * p.capacity;
  TFDET_GPU_CHECK(cudaMemsetAsync(b.counts, 0, 4 * p.lists(), stream));
  if (candidates > 0) {
    KeyKernel<<<BlocksFor(items), kThreads, 0, stream>>>(p, b);
    TFDET_GPU_CHECK(cudaGetLastError());
    TFDET_GPU_CHECK(SortListsGpu(b.keys, b.sorted_keys, b.indices, b.sorted_indices, items, p.lists(), b.sort,
                                 b.sort_bytes, stream));
    CandidateKernel<<<BlocksFor(candidates), kThreads, 0, stream>>>(p, b);
    TFDET_GPU_CHECK(cudaGetLastError());
  }
  SuppressionRules rules;
  rules.period = options.num_levels;
  for (int i = 0; i < options.num_levels; ++i) {
    const ProposalVariant variant = levels[i].variant;
    rules.extra_pixel[i] = variant == ProposalVariant::kSymbolic ? 0.0f : 1.0f;
    rules.strict_threshold[i] = StrictThreshold(options.iou_threshold, variant == ProposalVariant::kV3);
  }
  TFDET_GPU_CHECK(SuppressListsGpu(b.boxes, b.counts, p.lists(), p.capacity, rules, p.keep, b.kept, b.kept_counts,
                                   b.suppress, stream));
  if (p.num_levels > 1) {
    const int64_t rows = p.lists() * p.post;
    RowKernel<<<BlocksFor(rows), kThreads, 0, stream>>>(p, b);
    TFDET_GPU_CHECK(cudaGetLastError());
    TFDET_GPU_CHECK(
        SortListsGpu(b.row_keys, b.sorted_row_keys, b.rows, b.sorted_rows, rows, p.batch, b.sort, b.sort_bytes, stream));
  }
  OutputKernel<<<BlocksFor(p.batch * p.post), kThreads, 0, stream>>>(p, b, out_boxes, out_scores);
  return cudaGetLastError();
}

}  // namespace tfdet
