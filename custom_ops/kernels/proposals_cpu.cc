#include "custom_ops/kernels/proposals.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "custom_ops/kernels/nms.h"
#include "custom_ops/kernels/proposal_decode.h"
#include "custom_ops/kernels/score_sort.h"
#include "custom_ops/kernels/simd.h"

namespace tfdet {
namespace {

constexpr int64_t kCells = 512;  // a part of a map for one thread

// Sorting by scores alone is enough where every box is a number and none is filtered before it. Almost always.
enum class Scores { kAlone, kWithBoxes };

struct Context {
  const ProposalLevel* levels;
  const ProposalOptions& options;
  const float* image_info;
  const float* area_range;
};

TFDET_SIMD void Softmax(const float* background, const float* foreground, int64_t n, float* probability) {
  for (int64_t i = 0; i < n; ++i) probability[i] = ForegroundProbability(background[i], foreground[i]);
}

Scores Needs(const ProposalLevel& level, const ProposalOptions& options) {
  const bool filters = (level.variant == ProposalVariant::kV1 && options.min_size > 0.0f) ||
                       level.variant == ProposalVariant::kV2;
  return filters ? Scores::kWithBoxes : Scores::kAlone;
}

// Scores to sort by, of the cells [begin, end) of one image.
void ScoreCells(const Context& context, const ProposalLevel& level, int64_t image_index, int64_t begin, int64_t end,
                Scores needs, float* scores) {
  const int64_t anchors = level.anchors, first = begin * anchors, count = (end - begin) * anchors;
  const int64_t offset = image_index * level.size();
  const ProposalImage image =
      ImageOf(context.image_info, context.area_range, image_index, context.options.min_size);
  if (context.options.from_logits) {
    std::vector<float> logits(2 * count);
    float *background = logits.data(), *foreground = logits.data() + count;
    const float* in = level.scores + 2 * (offset + first);
    for (int64_t cell = 0; cell < end - begin; ++cell, in += 2 * anchors) {
      std::copy_n(in, anchors, background + cell * anchors);
      std::copy_n(in + anchors, anchors, foreground + cell * anchors);
    }
    Softmax(background, foreground, count, scores + first);
  } else {
    std::copy_n(level.scores + offset + first, count, scores + first);
  }
  if (needs == Scores::kAlone) {
    for (int64_t cell = begin; cell < end; ++cell)
      if (!IsLive(level, image, cell / level.width, cell % level.width))
        std::fill_n(scores + cell * anchors, anchors, -1.0f);
  } else {
    for (int64_t i = first; i < first + count; ++i)
      scores[i] = CandidateOf(level, image, i, level.deltas + 4 * (offset + i), scores[i]).score;
  }
}

// The sorted boxes of one level of one image that take part in suppression.
struct Sorted {
  std::vector<float> boxes, scores;
};

// False where a box is not a number: then the scores alone do not give the order.
bool DecodeBest(const Context& context, const ProposalLevel& level, int64_t image_index,
                const std::vector<uint64_t>& best, Sorted* sorted) {
  const ProposalImage image =
      ImageOf(context.image_info, context.area_range, image_index, context.options.min_size);
  const int64_t offset = image_index * level.size();
  sorted->boxes.clear();
  sorted->scores.clear();
  for (uint64_t item : best) {
    const int64_t index = IndexOf(item);
    Candidate c = CandidateOf(level, image, index, level.deltas + 4 * (offset + index), ScoreOf(item));
    if (c.score != c.score) return false;
    c.score = ScoreOf(item);  // a score of -1 for what was filtered stays
    FilterSorted(level, image, &c);
    if (!MayPropose(level, static_cast<uint32_t>(item >> 32))) break;
    sorted->boxes.insert(sorted->boxes.end(), c.box, c.box + 4);
    sorted->scores.push_back(c.score);
  }
  return true;
}

void Sort(const Context& context, const ProposalLevel& level, int64_t image, float* scores, Sorted* sorted) {
  std::vector<uint64_t> best;
  BestItems(scores, level.size(), context.options.pre_nms_top_n, &best);
  if (DecodeBest(context, level, image, best, sorted)) return;
  ScoreCells(context, level, image, 0, level.height * level.width, Scores::kWithBoxes, scores);
  BestItems(scores, level.size(), context.options.pre_nms_top_n, &best);
  DecodeBest(context, level, image, best, sorted);
}

void Suppress(const Context& context, const ProposalLevel& level, const Sorted& sorted, float* out_boxes,
              float* out_scores, const ParallelFor& parallel_for) {
  const int64_t rows = context.options.post_nms_top_n;
  std::vector<int32_t> kept(std::min<int64_t>(rows, sorted.scores.size()));
  const float extra = level.variant == ProposalVariant::kSymbolic ? 0.0f : 1.0f;
  const float threshold =
      StrictThreshold(context.options.iou_threshold, level.variant == ProposalVariant::kV3);
  const int64_t count = SuppressInOrder(sorted.boxes.data(), sorted.scores.size(), extra, threshold, kept.size(),
                                        kept.data(), parallel_for);
  for (int64_t i = 0; i < count; ++i) {
    std::copy_n(&sorted.boxes[4 * kept[i]], 4, out_boxes + 4 * i);
    out_scores[i] = sorted.scores[kept[i]];
  }
  std::fill_n(out_boxes + 4 * count, 4 * (rows - count), MissingValue(level));
  std::fill_n(out_scores + count, rows - count, MissingValue(level));
}

}  // namespace

void GenerateProposalsCpu(const ProposalLevel* levels, const ProposalOptions& options, const float* image_info,
                          const float* area_range, float* out_boxes, float* out_scores,
                          const ParallelFor& parallel_for) {
  const Context context = {levels, options, image_info, area_range};
  const int64_t num_levels = options.num_levels, problems = options.batch * num_levels, rows = options.post_nms_top_n;
  if (problems == 0 || rows == 0) return;

  struct Part {
    int64_t problem, begin, end;
  };
  std::vector<Part> parts;
  std::vector<std::vector<float>> scores(problems);
  for (int64_t p = 0; p < problems; ++p) {
    const ProposalLevel& level = levels[p % num_levels];
    scores[p].resize(level.size());
    const int64_t cells = level.anchors > 0 ? level.height * level.width : 0;
    for (int64_t i = 0; i < cells; i += kCells) parts.push_back({p, i, std::min(cells, i + kCells)});
  }
  parallel_for(parts.size(), 20000, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const Part& part = parts[i];
      const ProposalLevel& level = levels[part.problem % num_levels];
      ScoreCells(context, level, part.problem / num_levels, part.begin, part.end, Needs(level, options),
                 scores[part.problem].data());
    }
  });

  // With one level the result is that level's; otherwise the best of all levels' rows.
  std::vector<float> level_boxes, level_scores;
  if (num_levels > 1) level_boxes.resize(4 * problems * rows), level_scores.resize(problems * rows);
  float* boxes = num_levels > 1 ? level_boxes.data() : out_boxes;
  float* row_scores = num_levels > 1 ? level_scores.data() : out_scores;
  std::vector<Sorted> sorted(problems);
  const auto suppress = [&](int64_t p, const ParallelFor& threads) {
    Suppress(context, levels[p % num_levels], sorted[p], boxes + 4 * p * rows, row_scores + p * rows, threads);
  };
  parallel_for(problems, 1000000, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      Sort(context, levels[p % num_levels], p / num_levels, scores[p].data(), &sorted[p]);
      if (static_cast<int64_t>(sorted[p].scores.size()) < kManyBoxes) suppress(p, RunSerially);
    }
  });
  for (int64_t p = 0; p < problems; ++p)
    if (static_cast<int64_t>(sorted[p].scores.size()) >= kManyBoxes) suppress(p, parallel_for);

  if (num_levels == 1) return;
  parallel_for(options.batch, 100000, [&](int64_t begin, int64_t end) {
    std::vector<uint64_t> best;
    for (int64_t image = begin; image < end; ++image) {
      const float* all = row_scores + image * num_levels * rows;
      BestItems(all, num_levels * rows, rows, &best);  // never fewer: a level's rows are numbers
      for (int64_t i = 0; i < static_cast<int64_t>(best.size()); ++i) {
        const int64_t row = image * num_levels * rows + IndexOf(best[i]);
        std::copy_n(boxes + 4 * row, 4, out_boxes + 4 * (image * rows + i));
        out_scores[image * rows + i] = row_scores[row];
      }
    }
  });
}

}  // namespace tfdet
