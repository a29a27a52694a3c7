// Which ground-truth box belongs to a box: the best by IoU, and whose maximum it shares. No pairwise matrix.
#pragma once

#include <cstdint>

#include "custom_ops/kernels/parallel.h"

namespace tfdet {

// Inputs and outputs of one call. Boxes are [x1, y1, x2, y2]; all arrays are dense, row-major and not null where they
// have elements. B images, N boxes, G ground-truth slots.
//
// A box or a ground-truth box with a coordinate that is not finite takes no part, as if it were not valid. A ratio
// that is not a number (areas beyond the largest float) counts as 0, and so does one that is subnormal.
struct MatchBoxesArgs {
  int64_t images;       // B
  int64_t num_boxes;    // N
  int64_t num_gts;      // G
  int64_t box_images;   // B, or 1: the boxes are shared by all images
  int64_t mask_images;  // B, or 1: box_valid is shared by all images
  float extra;          // 1 where x2, y2 name the last pixel, 0 where they are edges
  bool ties;            // whether nearest_index and gt_iou are wanted; false saves half of the work

  const float* boxes;      // [box_images, N, 4]
  const bool* box_valid;   // [mask_images, N]
  const float* gt_boxes;   // [B, G, 4]
  const bool* gt_valid;    // [B, G]
  const bool* gt_crowd;    // [B, G]; such boxes take part in crowd_overlap alone

  float* iou;              // [B, N]: largest IoU; 0 where there is no ground truth, and where the box is not valid
  int32_t* index;          // [B, N]: its ground-truth box, the first of equals; -1 where there is none
  int32_t* nearest_index;  // [B, N]: the last ground-truth box whose largest IoU is this box's with it; -1: none
  float* gt_iou;           // [B, G]: largest IoU with a valid box; 0 where there is none
  float* crowd_overlap;    // [B, N]: largest intersection with a crowd box, over the box's own area
};

// Bytes of host memory that MatchBoxesCpu needs, aligned to 4.
int64_t MatchBoxesCpuWorkspace(int64_t images, int64_t num_gts);

// The result is the same, bit for bit, however `parallel_for` splits its ranges.
void MatchBoxesCpu(const MatchBoxesArgs& args, void* workspace, const ParallelFor& parallel_for);

// Pointers are to device memory; no workspace, no host synchronisation. Returns a cudaError_t.
int MatchBoxesGpu(const MatchBoxesArgs& args, GpuStream stream);

}  // namespace tfdet
