// Proposals for programs without TensorFlow. Returns 0, or a cudaError_t; -1 for sizes that cannot be.
#include "custom_ops/kernels/proposals.h"

#include <cstddef>
#include <cstdint>

#include "custom_ops/c_api/threads.h"

namespace {

struct Call {
  tfdet::ProposalLevel levels[tfdet::kMaxLevels];
  tfdet::ProposalOptions options;
  bool valid;
};

Call Read(int64_t batch, int num_levels, const float* const* scores, const float* const* deltas,
          const float* const* cell_anchors, const int64_t* sizes, const float* strides, const int* variants,
          int from_logits, int64_t pre_nms_top_n, int64_t post_nms_top_n, float iou_threshold, float min_size) {
  Call call;
  call.valid = batch >= 0 && num_levels >= 1 && num_levels <= tfdet::kMaxLevels && pre_nms_top_n >= 0 &&
               post_nms_top_n >= 0;
  if (!call.valid) return call;
  for (int i = 0; i < num_levels; ++i) {
    const int64_t* size = sizes + 3 * i;
    call.valid &= size[0] >= 0 && size[1] >= 0 && size[2] >= 0 && variants[i] >= 0 && variants[i] <= 3;
    call.levels[i] = {scores ? scores[i] : nullptr,
                      deltas ? deltas[i] : nullptr,
                      cell_anchors ? cell_anchors[i] : nullptr,
                      size[0],
                      size[1],
                      size[2],
                      strides[i],
                      static_cast<tfdet::ProposalVariant>(variants[i])};
  }
  call.options = {batch, num_levels, from_logits != 0, pre_nms_top_n, post_nms_top_n, iou_threshold, min_size};
  return call;
}

}  // namespace

// Arrays of one entry a level: pointers to the maps; (height, width, anchors); stride; variant (0 v1, 1 v2, 2 v3,
// 3 symbolic). kernels/proposals.h gives the maps' shapes. area_range may be null.
#define TFDET_PROPOSAL_LEVELS                                                                                        \
  int64_t batch, int num_levels, const float *const *scores, const float *const *deltas,                             \
      const float *const *cell_anchors, const int64_t *sizes, const float *strides, const int *variants,             \
      int from_logits, int64_t pre_nms_top_n, int64_t post_nms_top_n, float iou_threshold, float min_size
#define TFDET_PROPOSAL_CALL                                                                                          \
  Read(batch, num_levels, scores, deltas, cell_anchors, sizes, strides, variants, from_logits, pre_nms_top_n,        \
       post_nms_top_n, iou_threshold, min_size)

extern "C" {

int tfdet_generate_proposals_cpu(TFDET_PROPOSAL_LEVELS, const float* image_info, const float* area_range,
                                 float* out_boxes, float* out_scores, int num_threads) {
  const Call call = TFDET_PROPOSAL_CALL;
  if (!call.valid) return -1;
  tfdet::GenerateProposalsCpu(call.levels, call.options, image_info, area_range, out_boxes, out_scores,
                              tfdet::Threads(num_threads));
  return 0;
}

#if TFDET_CUDA
// The maps' pointers are not read here and may be null.
int tfdet_generate_proposals_gpu_workspace(TFDET_PROPOSAL_LEVELS, size_t* bytes) {
  const Call call = TFDET_PROPOSAL_CALL;
  return call.valid ? tfdet::GenerateProposalsGpuWorkspace(call.levels, call.options, bytes) : -1;
}

// The maps, image_info, area_range, results and workspace are the device's; the arrays of them are the host's.
int tfdet_generate_proposals_gpu(TFDET_PROPOSAL_LEVELS, const float* image_info, const float* area_range,
                                 float* out_boxes, float* out_scores, void* workspace, void* stream) {
  const Call call = TFDET_PROPOSAL_CALL;
  if (!call.valid) return -1;
  return tfdet::GenerateProposalsGpu(call.levels, call.options, image_info, area_range, out_boxes, out_scores,
                                     workspace, static_cast<tfdet::GpuStream>(stream));
}
#endif

}  // extern "C"
