// MatchBoxes for programs without TensorFlow, through ctypes: see custom_ops/kernels/match_boxes.h for the arrays.
#include "custom_ops/kernels/match_boxes.h"

#include <vector>

#include "custom_ops/c_api/threads.h"

namespace {

tfdet::MatchBoxesArgs Args(int64_t images, int64_t num_boxes, int64_t num_gts, int64_t box_images, int64_t mask_images,
                           float extra, int ties, const float* boxes, const bool* box_valid, const float* gt_boxes,
                           const bool* gt_valid, const bool* gt_crowd, float* iou, int32_t* index,
                           int32_t* nearest_index, float* gt_iou, float* crowd_overlap) {
  tfdet::MatchBoxesArgs args;
  args.images = images;
  args.num_boxes = num_boxes;
  args.num_gts = num_gts;
  args.box_images = box_images;
  args.mask_images = mask_images;
  args.extra = extra;
  args.ties = ties != 0;
  args.boxes = boxes;
  args.box_valid = box_valid;
  args.gt_boxes = gt_boxes;
  args.gt_valid = gt_valid;
  args.gt_crowd = gt_crowd;
  args.iou = iou;
  args.index = index;
  args.nearest_index = nearest_index;
  args.gt_iou = gt_iou;
  args.crowd_overlap = crowd_overlap;
  return args;
}

}  // namespace

// Arrays in host memory; masks are one byte each, 0 or 1. `threads` threads at most.
TFDET_EXPORT void tfdet_match_boxes_cpu(int64_t images, int64_t num_boxes, int64_t num_gts, int64_t box_images,
                                        int64_t mask_images, float extra, int ties, const float* boxes,
                                        const bool* box_valid, const float* gt_boxes, const bool* gt_valid,
                                        const bool* gt_crowd, float* iou, int32_t* index, int32_t* nearest_index,
                                        float* gt_iou, float* crowd_overlap, int threads) {
  std::vector<char> workspace(tfdet::MatchBoxesCpuWorkspace(images, num_gts));
  tfdet::MatchBoxesCpu(Args(images, num_boxes, num_gts, box_images, mask_images, extra, ties, boxes, box_valid,
                            gt_boxes, gt_valid, gt_crowd, iou, index, nearest_index, gt_iou, crowd_overlap),
                       workspace.data(), tfdet::Threads(threads));
}

#if TFDET_CUDA
// Arrays in device memory; `stream` is a cudaStream_t. Returns a cudaError_t.
TFDET_EXPORT int tfdet_match_boxes_gpu(int64_t images, int64_t num_boxes, int64_t num_gts, int64_t box_images,
                                       int64_t mask_images, float extra, int ties, const float* boxes,
                                       const bool* box_valid, const float* gt_boxes, const bool* gt_valid,
                                       const bool* gt_crowd, float* iou, int32_t* index, int32_t* nearest_index,
                                       float* gt_iou, float* crowd_overlap, void* stream) {
  return tfdet::MatchBoxesGpu(Args(images, num_boxes, num_gts, box_images, mask_images, extra, ties, boxes, box_valid,
                                   gt_boxes, gt_valid, gt_crowd, iou, index, nearest_index, gt_iou, crowd_overlap),
                              static_cast<tfdet::GpuStream>(stream));
}
#endif
