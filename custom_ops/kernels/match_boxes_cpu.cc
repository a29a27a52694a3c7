// Two passes over the boxes: the largest IoU of every ground-truth box, then every box against those. The second
// computes each IoU anew, by the same operations, so that equality holds to the bit.
//
// Boxes go through the level 1 cache in blocks, one array per coordinate. Neighbouring anchors lie close together, so a
// ground-truth box that misses the hull of a group of them has IoU 0 with each, and is left out: rounding is monotone,
// so a width that is not positive for the hull is not positive for any box in it.
#include "custom_ops/kernels/match_boxes.h"

#include <algorithm>
#include <cfloat>
#include <cstring>

#include "custom_ops/kernels/flush_subnormals.h"
#include "custom_ops/kernels/simd.h"

namespace tfdet {
namespace {

constexpr int kGroup = 64;   // boxes that share a hull
constexpr int kGroups = 8;   // of a block
constexpr int kBlock = kGroup * kGroups;

struct Hull {
  float x1, y1, x2, y2;
};

// A block of boxes. Rows that are not valid hold a box that meets nothing.
struct Block {
  alignas(64) float x1[kBlock], y1[kBlock], x2[kBlock], y2[kBlock], area[kBlock];
  bool valid[kBlock];
  Hull hull[kGroups];
  Hull whole;
  int groups;
};

struct Gt {
  float x1, y1, x2, y2, area;
  int32_t slot;
};

// Ground truth of one image, without what takes no part: first the boxes to match, then the crowds.
struct GtList {
  const Gt* gts;
  int64_t count, crowds;
};

bool Finite(const float* box) {
  // A difference with itself is NaN for NaN and the infinities, else 0.
  float sum = 0;
  for (int i = 0; i < 4; ++i) sum += box[i] - box[i];
  return sum == 0;
}

TFDET_INLINE float Positive(float v) { return v > 0 ? v : 0; }
TFDET_INLINE float Smaller(float a, float b) { return a < b ? a : b; }
TFDET_INLINE float Larger(float a, float b) { return a > b ? a : b; }

TFDET_INLINE float Area(const float* box, float extra) {
  return Positive(box[2] - box[0] + extra) * Positive(box[3] - box[1] + extra);
}

TFDET_INLINE float Intersection(const Block& b, int i, const Gt& gt, float extra) {
  const float width = Smaller(b.x2[i], gt.x2) - Larger(b.x1[i], gt.x1) + extra;
  const float height = Smaller(b.y2[i], gt.y2) - Larger(b.y1[i], gt.y1) + extra;
  return Positive(width) * Positive(height);
}

// A ratio as it counts: 0 where it is not a number, which it is without area too, and where it is subnormal.
TFDET_INLINE float Counted(float ratio) { return ratio >= FLT_MIN ? ratio : 0; }

// The order of operations is that of tfdet/ops/iou.py.
TFDET_INLINE float Iou(const Block& b, int i, const Gt& gt, float extra) {
  const float intersection = Intersection(b, i, gt, extra);
  return Counted(intersection / (b.area[i] + gt.area - intersection));
}

TFDET_INLINE bool Meets(const Hull& hull, const Gt& gt, float extra) {
  return Smaller(hull.x2, gt.x2) - Larger(hull.x1, gt.x1) + extra > 0 &&
         Smaller(hull.y2, gt.y2) - Larger(hull.y1, gt.y1) + extra > 0;
}

TFDET_INLINE int32_t Bits(float v) {
  int32_t bits;
  std::memcpy(&bits, &v, sizeof bits);
  return bits;
}

void Grow(Hull* hull, const float* box) {
  hull->x1 = std::min(hull->x1, box[0]);
  hull->y1 = std::min(hull->y1, box[1]);
  hull->x2 = std::max(hull->x2, box[2]);
  hull->y2 = std::max(hull->y2, box[3]);
}

// Floats that are not negative are ordered as their bits.
void RaiseTo(float* target, int32_t bits) {
  int32_t* place = reinterpret_cast<int32_t*>(target);
  int32_t current = __atomic_load_n(place, __ATOMIC_RELAXED);
  while (bits > current &&
         !__atomic_compare_exchange_n(place, &current, bits, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
}

void Load(const float* boxes, const bool* valid, int count, float extra, Block* block) {
  const float kFar = 3e38f;
  const Hull nothing = {kFar, kFar, -kFar, -kFar};
  static const float kNowhere[4] = {1, 1, -1, -1};  // overlaps by -1 at most
  block->groups = (count + kGroup - 1) / kGroup;
  block->whole = nothing;
  for (int group = 0; group < block->groups; ++group) {
    Hull hull = nothing;
    for (int i = group * kGroup; i < (group + 1) * kGroup; ++i) {
      const bool takes_part = i < count && valid[i] && Finite(boxes + 4 * i);
      const float* box = takes_part ? boxes + 4 * i : kNowhere;
      block->x1[i] = box[0];
      block->y1[i] = box[1];
      block->x2[i] = box[2];
      block->y2[i] = box[3];
      block->area[i] = takes_part ? Area(box, extra) : 0;
      block->valid[i] = takes_part;
      if (takes_part) Grow(&hull, box);
    }
    block->hull[group] = hull;
    const float corners[4] = {hull.x1, hull.y1, hull.x2, hull.y2};
    Grow(&block->whole, corners);
  }
}

void Compact(const MatchBoxesArgs& args, int64_t image, Gt* gts, GtList* list) {
  const int64_t first = image * args.num_gts;
  Gt* next = gts;
  for (int crowd = 0; crowd < 2; ++crowd) {
    for (int64_t g = 0; g < args.num_gts; ++g) {
      const float* box = args.gt_boxes + 4 * (first + g);
      if (!args.gt_valid[first + g] || args.gt_crowd[first + g] != (crowd == 1) || !Finite(box)) continue;
      *next++ = Gt{box[0], box[1], box[2], box[3], Area(box, args.extra), static_cast<int32_t>(g)};
    }
    if (crowd == 0) list->count = next - gts;
  }
  list->gts = gts;
  list->crowds = next - gts - list->count;
}

}  // namespace

// Not in the unnamed namespace: compiled several times (TFDET_SIMD) and chosen by the loader.

TFDET_SIMD void MatchBoxesGtMaxima(const Block& block, const GtList& list, float extra, float* maxima) {
  for (int64_t g = 0; g < list.count; ++g) {
    const Gt gt = list.gts[g];
    if (!Meets(block.whole, gt, extra)) continue;
    int32_t top = 0;
    for (int group = 0; group < block.groups; ++group) {
      if (!Meets(block.hull[group], gt, extra)) continue;
      const int begin = group * kGroup;
      for (int i = begin; i < begin + kGroup; ++i) {
        const int32_t bits = Bits(Iou(block, i, gt, extra));
        top = bits > top ? bits : top;
      }
    }
    if (top > 0) RaiseTo(maxima + gt.slot, top);
  }
}

// `maxima` is null where ties are not wanted. A maximum of 0 is left to the caller: every box shares it.
TFDET_SIMD void MatchBoxesBest(const Block& block, const GtList& list, float extra, const float* maxima, float* best,
                               int32_t* index, int32_t* nearest) {
  for (int64_t g = 0; g < list.count; ++g) {
    const Gt gt = list.gts[g];
    if (!Meets(block.whole, gt, extra)) continue;
    // No IoU is above 1, so this equals none.
    const float maximum = maxima && maxima[gt.slot] > 0 ? maxima[gt.slot] : 2;
    for (int group = 0; group < block.groups; ++group) {
      if (!Meets(block.hull[group], gt, extra)) continue;
      const int begin = group * kGroup;
      for (int i = begin; i < begin + kGroup; ++i) {
        const float iou = Iou(block, i, gt, extra);
        index[i] = iou > best[i] ? gt.slot : index[i];
        best[i] = iou > best[i] ? iou : best[i];
        nearest[i] = iou == maximum ? gt.slot : nearest[i];
      }
    }
  }
}

TFDET_SIMD void MatchBoxesCrowd(const Block& block, const GtList& list, float extra, float* overlap) {
  for (int64_t g = list.count; g < list.count + list.crowds; ++g) {
    const Gt gt = list.gts[g];
    if (!Meets(block.whole, gt, extra)) continue;
    for (int group = 0; group < block.groups; ++group) {
      if (!Meets(block.hull[group], gt, extra)) continue;
      const int begin = group * kGroup;
      for (int i = begin; i < begin + kGroup; ++i) {
        const float share = Counted(Intersection(block, i, gt, extra) / block.area[i]);
        overlap[i] = share > overlap[i] ? share : overlap[i];
      }
    }
  }
}

int64_t MatchBoxesCpuWorkspace(int64_t images, int64_t num_gts) {
  return images * num_gts * static_cast<int64_t>(sizeof(Gt));
}

void MatchBoxesCpu(const MatchBoxesArgs& args, void* workspace, const ParallelFor& parallel_for) {
  const int64_t blocks = (args.num_boxes + kBlock - 1) / kBlock;
  if (args.ties) std::fill(args.gt_iou, args.gt_iou + args.images * args.num_gts, 0.0f);

  for (int64_t image = 0; image < args.images; ++image) {
    GtList list;
    {
      const FlushSubnormals flush;
      Compact(args, image, static_cast<Gt*>(workspace) + image * args.num_gts, &list);
    }
    const float* boxes = args.boxes + (args.box_images == 1 ? 0 : image) * args.num_boxes * 4;
    const bool* valid = args.box_valid + (args.mask_images == 1 ? 0 : image) * args.num_boxes;
    float* maxima = args.ties ? args.gt_iou + image * args.num_gts : nullptr;
    const auto load = [&](int64_t index, Block* block) {
      const int64_t first = index * kBlock;
      const int count = static_cast<int>(std::min<int64_t>(kBlock, args.num_boxes - first));
      Load(boxes + 4 * first, valid + first, count, args.extra, block);
      return count;
    };

    // Cycles per block: copying, and 2 per pair at 8 pairs at once.
    const int64_t cost = kBlock * (8 + 2 * (list.count + list.crowds));
    if (args.ties) {
      parallel_for(blocks, cost, [&](int64_t begin, int64_t end) {
        const FlushSubnormals flush;
        Block block;
        for (int64_t index = begin; index < end; ++index) {
          load(index, &block);
          MatchBoxesGtMaxima(block, list, args.extra, maxima);
        }
      });
    }

    // The answers of a box that overlaps nothing: every IoU is 0.
    const int32_t first_gt = list.count > 0 ? list.gts[0].slot : -1;
    int32_t unmet = -1;  // the last ground-truth box that no box overlaps
    for (int64_t g = 0; args.ties && g < list.count; ++g)
      if (!(maxima[list.gts[g].slot] > 0)) unmet = list.gts[g].slot;

    parallel_for(blocks, cost, [&](int64_t begin, int64_t end) {
      const FlushSubnormals flush;
      Block block;
      alignas(64) float best[kBlock], overlap[kBlock];
      alignas(64) int32_t found[kBlock], nearest[kBlock];
      for (int64_t index = begin; index < end; ++index) {
        const int count = load(index, &block);
        for (int i = 0; i < kBlock; ++i) {
          best[i] = overlap[i] = 0;
          found[i] = first_gt;
          nearest[i] = -1;
        }
        MatchBoxesBest(block, list, args.extra, maxima, best, found, nearest);
        MatchBoxesCrowd(block, list, args.extra, overlap);
        const int64_t row = image * args.num_boxes + index * kBlock;
        for (int i = 0; i < count; ++i) {
          args.iou[row + i] = best[i];
          args.index[row + i] = block.valid[i] ? found[i] : -1;
          if (args.ties) args.nearest_index[row + i] = block.valid[i] ? std::max(nearest[i], unmet) : -1;
          args.crowd_overlap[row + i] = overlap[i];
        }
      }
    });
  }
}

}  // namespace tfdet
