#include "custom_ops/kernels/nms.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "custom_ops/kernels/box_overlap.h"
#include "custom_ops/kernels/score_sort.h"
#include "custom_ops/kernels/simd.h"

namespace tfdet {
namespace {

constexpr int64_t kChunk = 64;   // kept boxes that are tested without a branch between them
constexpr int64_t kBlock = 512;  // candidates that are tested at once against the boxes kept so far
constexpr float kNoValue = -std::numeric_limits<float>::infinity();

// Boxes as structure of arrays. Chunks are always whole: padding overlaps nothing.
struct BoxArrays {
  std::vector<float> x1, y1, x2, y2, area;
  int64_t size = 0;

  void Reserve(int64_t n) {
    const int64_t padded = (n + kChunk - 1) / kChunk * kChunk;
    for (auto* v : {&x1, &y1, &x2, &y2, &area}) v->reserve(padded);
  }
  void Add(const Edges& e) {
    if (size % kChunk == 0)
      for (auto* v : {&x1, &y1, &x2, &y2, &area}) v->resize(size + kChunk, 0.0f);
    x1[size] = e.x1, y1[size] = e.y1, x2[size] = e.x2, y2[size] = e.y2, area[size] = e.area;
    ++size;
  }
  Edges At(int64_t i) const { return {x1[i], y1[i], x2[i], y2[i], area[i]}; }
};

// Whether a chunk holds a box whose overlap with `box` may be above the threshold that `low` is just below of.
TFDET_INLINE bool MayOverlap(const Edges& box, const float* x1, const float* y1, const float* x2, const float* y2,
                             const float* area, float low) {
  int32_t found = 0;
  for (int64_t i = 0; i < kChunk; ++i) {
    const float width = Smaller(box.x2, x2[i]) - Larger(box.x1, x1[i]);
    const float height = Smaller(box.y2, y2[i]) - Larger(box.y1, y1[i]);
    const float intersection = Larger(width, 0.0f) * Larger(height, 0.0f);
    found |= intersection > low * (box.area + area[i] - intersection) ? 1 : 0;
  }
  return found != 0;
}

// Whether `box` overlaps one of the boxes [begin, end) by more than the threshold; begin is at a chunk's start.
// The division that settles it exactly is done only in chunks that hold a likely one.
TFDET_SIMD bool OverlapsAny(const Edges& box, const BoxArrays& boxes, int64_t begin, int64_t end, float threshold) {
  const float low = threshold * (1.0f - 1e-6f);
  for (int64_t i = begin; i < end; i += kChunk) {
    if (!MayOverlap(box, &boxes.x1[i], &boxes.y1[i], &boxes.x2[i], &boxes.y2[i], &boxes.area[i], low)) continue;
    for (int64_t j = i; j < std::min(end, i + kChunk); ++j)
      if (Overlap(box, boxes.At(j)) > threshold) return true;
  }
  return false;
}

// Takes the box with the highest score out of the arrays' `scores` (first on ties): its position, or -1 where no score
// is above the threshold.
TFDET_SIMD int64_t TakeBest(float* scores, int64_t padded, float score_threshold) {
  float best[16];
  for (int j = 0; j < 16; ++j) best[j] = kNoValue;
  for (int64_t i = 0; i < padded; i += 16)
    for (int j = 0; j < 16; ++j) best[j] = scores[i + j] > best[j] ? scores[i + j] : best[j];
  const float highest = *std::max_element(best, best + 16);
  if (!(highest > score_threshold)) return -1;
  return std::find(scores, scores + padded, highest) - scores;
}

TFDET_SIMD void Decay(const Edges& box, const BoxArrays& boxes, NmsMethod method, float threshold, float sigma,
                      float* scores) {
  const float *x1 = boxes.x1.data(), *y1 = boxes.y1.data(), *x2 = boxes.x2.data(), *y2 = boxes.y2.data(),
              *area = boxes.area.data();
  const int64_t padded = boxes.x1.size();
  for (int64_t i = 0; i < padded; ++i) {
    const Edges other = {x1[i], y1[i], x2[i], y2[i], area[i]};
    const float iou = Overlap(box, other);
    float weight;
    if (method == NmsMethod::kLinear)
      weight = iou > threshold ? 1.0f - iou : 1.0f;
    else
      weight = iou > 0.0f ? Exp(-(iou * iou) / sigma) : 1.0f;
    const float decayed = scores[i] * weight;
    scores[i] = decayed == decayed ? decayed : kNoValue;
  }
}

struct Problem {  // one class of one image
  std::vector<int32_t> indices;
  std::vector<float> scores;
};

void SolveHard(const float* boxes, int64_t stride, const std::vector<uint64_t>& order, const NmsOptions& options,
               int64_t max_keep, Problem* result, const ParallelFor& parallel_for) {
  const int64_t n = order.size();
  std::vector<float> sorted(4 * n);
  for (int64_t i = 0; i < n; ++i) std::copy_n(boxes + IndexOf(order[i]) * stride, 4, &sorted[4 * i]);
  std::vector<int32_t> kept(std::min(max_keep, n));
  const float threshold = StrictThreshold(options.iou_threshold, options.inclusive);
  kept.resize(SuppressInOrder(sorted.data(), n, options.extra_pixel, threshold, kept.size(), kept.data(), parallel_for));
  for (int32_t position : kept) {
    result->indices.push_back(IndexOf(order[position]));
    result->scores.push_back(ScoreOf(order[position]));
  }
}

void SolveSoft(const float* boxes, int64_t stride, const std::vector<uint64_t>& candidates, const NmsOptions& options,
               int64_t max_keep, Problem* result) {
  BoxArrays arrays;
  arrays.Reserve(candidates.size());
  std::vector<float> scores;
  for (uint64_t item : candidates) {
    arrays.Add(EdgesOf(boxes + IndexOf(item) * stride, options.extra_pixel));
    scores.push_back(ScoreOf(item));
  }
  scores.resize(arrays.x1.size(), kNoValue);
  const float threshold = StrictThreshold(options.iou_threshold, options.inclusive);
  while (static_cast<int64_t>(result->indices.size()) < max_keep) {
    const int64_t best = TakeBest(scores.data(), scores.size(), options.score_threshold);
    if (best < 0) break;
    result->indices.push_back(IndexOf(candidates[best]));
    result->scores.push_back(scores[best]);
    scores[best] = kNoValue;
    Decay(arrays.At(best), arrays, options.method, threshold, options.sigma, scores.data());
  }
}

void Solve(const NmsSizes& sizes, const NmsOptions& options, const float* boxes, const float* scores, int64_t problem,
           Problem* result, const ParallelFor& parallel_for) {
  const int64_t image = problem / sizes.classes, c = problem % sizes.classes, stride = 4 * sizes.box_sets;
  boxes += image * sizes.boxes * stride + (sizes.box_sets > 1 ? 4 * c : 0);
  scores += image * sizes.boxes * sizes.classes + c;
  std::vector<uint64_t> candidates;
  for (int64_t i = 0; i < sizes.boxes; ++i) {
    const float score = scores[i * sizes.classes];
    if (score > options.score_threshold && IsNumber(boxes + i * stride, options.extra_pixel))
      candidates.push_back(SortItem(score, i));
  }
  if (candidates.empty()) return;
  if (options.method == NmsMethod::kHard) {
    SortItems(&candidates);
    SolveHard(boxes, stride, candidates, options, options.max_detections, result, parallel_for);
  } else {
    SolveSoft(boxes, stride, candidates, options, options.max_detections, result);
  }
}

// The best detections of an image over all its classes.
void Merge(const NmsSizes& sizes, const NmsOptions& options, const float* boxes, int64_t image,
           const std::vector<Problem>& problems, const NmsOutputs& outputs) {
  const int64_t rows = options.max_detections;
  std::vector<uint64_t> order;
  std::vector<std::pair<int32_t, int32_t>> origins;  // class and index of every kept box
  for (int64_t c = 0; c < sizes.classes; ++c) {
    const Problem& problem = problems[image * sizes.classes + c];
    for (size_t i = 0; i < problem.indices.size(); ++i) {
      order.push_back(SortItem(problem.scores[i], origins.size()));
      origins.push_back({c, problem.indices[i]});
    }
  }
  // One class is in order already, but for soft suppression of scores below 0, which it raises.
  if (sizes.classes > 1 || options.method != NmsMethod::kHard) SortItems(&order);
  const int64_t count = std::min<int64_t>(rows, order.size());
  outputs.num_valid[image] = count;
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t row = image * rows + i;
    if (i < count) {
      const auto [c, index] = origins[IndexOf(order[i])];
      const int64_t set = sizes.box_sets > 1 ? c : 0;
      std::copy_n(boxes + 4 * ((image * sizes.boxes + index) * sizes.box_sets + set), 4, outputs.boxes + 4 * row);
      outputs.scores[row] = ScoreOf(order[i]);
      outputs.classes[row] = c;
      outputs.indices[row] = index;
    } else {
      std::fill_n(outputs.boxes + 4 * row, 4, 0.0f);
      outputs.scores[row] = 0.0f;
      outputs.classes[row] = outputs.indices[row] = -1;
    }
  }
}

}  // namespace

float StrictThreshold(float iou_threshold, bool inclusive) {
  return inclusive ? std::nextafter(iou_threshold, -1.0f) : iou_threshold;
}

int64_t SuppressInOrder(const float* boxes, int64_t n, float extra_pixel, float strict_threshold, int64_t max_keep,
                        int32_t* kept, const ParallelFor& parallel_for) {
  BoxArrays arrays;
  arrays.Reserve(std::min(n, max_keep));
  uint8_t dropped[kBlock];
  for (int64_t begin = 0; begin < n && arrays.size < max_keep; begin += kBlock) {
    const int64_t end = std::min(n, begin + kBlock), known = arrays.size;
    // Against what was kept of earlier blocks all candidates can be tested at once, ...
    parallel_for(end - begin, 200 + known, [&](int64_t from, int64_t to) {
      for (int64_t i = from; i < to; ++i)
        dropped[i] = OverlapsAny(EdgesOf(boxes + 4 * (begin + i), extra_pixel), arrays, 0, known, strict_threshold);
    });
    // ... against each other only in order.
    for (int64_t i = begin; i < end && arrays.size < max_keep; ++i) {
      if (dropped[i - begin]) continue;
      const Edges edges = EdgesOf(boxes + 4 * i, extra_pixel);
      if (OverlapsAny(edges, arrays, known / kChunk * kChunk, arrays.size, strict_threshold)) continue;
      kept[arrays.size] = i;
      arrays.Add(edges);
    }
  }
  return arrays.size;
}

void BatchedNmsCpu(const NmsSizes& sizes, const NmsOptions& options, const float* boxes, const float* scores,
                   const NmsOutputs& outputs, const ParallelFor& parallel_for) {
  std::vector<Problem> problems(sizes.batch * sizes.classes);
  const int64_t count = problems.size();
  if (options.max_detections > 0 && sizes.boxes >= kManyBoxes && count <= 8) {
    for (int64_t i = 0; i < count; ++i) Solve(sizes, options, boxes, scores, i, &problems[i], parallel_for);
  } else if (options.max_detections > 0) {
    parallel_for(count, 1000 + 40 * sizes.boxes, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) Solve(sizes, options, boxes, scores, i, &problems[i], RunSerially);
    });
  }
  parallel_for(sizes.batch, 1000 + 50 * options.max_detections, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) Merge(sizes, options, boxes, i, problems, outputs);
  });
}

}  // namespace tfdet
