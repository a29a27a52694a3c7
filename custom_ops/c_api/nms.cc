// Suppression for programs without TensorFlow. Returns 0, or a cudaError_t; -1 for sizes that cannot be.
#include "custom_ops/kernels/nms.h"

#include <cstddef>
#include <cstdint>

#include "custom_ops/c_api/threads.h"

namespace {

struct Call {
  tfdet::NmsSizes sizes;
  tfdet::NmsOptions options;
  bool valid;
};

Call Read(int64_t batch, int64_t boxes, int64_t classes, int64_t box_sets, float iou_threshold, int inclusive,
          float score_threshold, float extra_pixel, int method, float sigma, int64_t max_detections) {
  Call call;
  call.sizes = {batch, boxes, classes, box_sets};
  call.options = {iou_threshold,   inclusive != 0, score_threshold, extra_pixel, static_cast<tfdet::NmsMethod>(method),
                  sigma, max_detections};
  call.valid = batch >= 0 && boxes >= 0 && classes >= 0 && max_detections >= 0 && method >= 0 && method <= 2 &&
               (box_sets == 1 || box_sets == classes);
  return call;
}

}  // namespace

#define TFDET_NMS_ARGUMENTS                                                                                           \
  int64_t batch, int64_t num_boxes, int64_t classes, int64_t box_sets, float iou_threshold, int inclusive,            \
      float score_threshold, float extra_pixel, int method, float sigma, int64_t max_detections
#define TFDET_NMS_CALL                                                                                                \
  Read(batch, num_boxes, classes, box_sets, iou_threshold, inclusive, score_threshold, extra_pixel, method, sigma, \
       max_detections)

extern "C" {

// boxes [batch, num_boxes, box_sets, 4], scores [batch, num_boxes, classes]. method: 0 hard, 1 linear, 2 Gaussian.
int tfdet_batched_nms_cpu(TFDET_NMS_ARGUMENTS, const float* boxes, const float* scores, float* out_boxes,
                          float* out_scores, int32_t* out_classes, int32_t* out_indices, int32_t* num_valid,
                          int num_threads) {
  const Call call = TFDET_NMS_CALL;
  if (!call.valid) return -1;
  tfdet::BatchedNmsCpu(call.sizes, call.options, boxes, scores,
                       {out_boxes, out_scores, out_classes, out_indices, num_valid}, tfdet::Threads(num_threads));
  return 0;
}

#if TFDET_CUDA
int tfdet_batched_nms_gpu_workspace(TFDET_NMS_ARGUMENTS, size_t* bytes) {
  const Call call = TFDET_NMS_CALL;
  return call.valid ? tfdet::BatchedNmsGpuWorkspace(call.sizes, call.options, bytes) : -1;
}

// All pointers are the device's.
int tfdet_batched_nms_gpu(TFDET_NMS_ARGUMENTS, const float* boxes, const float* scores, float* out_boxes,
                          float* out_scores, int32_t* out_classes, int32_t* out_indices, int32_t* num_valid,
                          void* workspace, void* stream) {
  const Call call = TFDET_NMS_CALL;
  if (!call.valid) return -1;
  return tfdet::BatchedNmsGpu(call.sizes, call.options, boxes, scores,
                              {out_boxes, out_scores, out_classes, out_indices, num_valid}, workspace,
                              static_cast<tfdet::GpuStream>(stream));
}
#endif

}  // extern "C"
