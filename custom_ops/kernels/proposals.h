// Region proposals out of the RPN's maps of one or many levels. Plain C++: no TensorFlow, no CUDA header.
#pragma once

#include <cstddef>
#include <cstdint>

#include "custom_ops/kernels/box_overlap.h"
#include "custom_ops/kernels/parallel.h"

namespace tfdet {

// SimpleDet's operators: proposal.cu, proposal_v2.cu, proposal_v3.cu, mxnext tvm/proposal.py. tfdet/ops/proposals.py
// says how they differ.
enum class ProposalVariant { kV1 = 0, kV2 = 1, kV3 = 2, kSymbolic = 3 };

constexpr int kMaxLevels = 16;

struct ProposalLevel {
  // [batch, height, width, anchors] probabilities, or [batch, height, width, 2 * anchors] logits: backgrounds of all
  // anchors of a cell, then their foregrounds.
  const float* scores;
  const float* deltas;        // [batch, height, width, 4 * anchors], channel 4 * a + k
  const float* cell_anchors;  // [anchors, 4]
  int64_t height, width, anchors;
  float stride;
  ProposalVariant variant;

  TFDET_HOST_DEVICE int64_t size() const { return height * width * anchors; }
};

struct ProposalOptions {
  int64_t batch = 0;
  int num_levels = 0;  // 1 to kMaxLevels
  bool from_logits = false;
  int64_t pre_nms_top_n = 0, post_nms_top_n = 0;  // candidates of a level; rows of a level, and of the result
  float iou_threshold = 0.7f;
  float min_size = 0.0f;
};

// image_info [batch, 3]: height and width of the content, scale. area_range [batch, 2], sides of kV2; null for none.
// out_boxes [batch, post_nms_top_n, 4], out_scores [batch, post_nms_top_n]. A level's size below 2^31.
void GenerateProposalsCpu(const ProposalLevel* levels, const ProposalOptions& options, const float* image_info,
                          const float* area_range, float* out_boxes, float* out_scores,
                          const ParallelFor& parallel_for);

// On the GPU. Functions return a cudaError_t as int. Workspaces: at least so many bytes, aligned to 256. batch times the
// sum of the levels' sizes below 2^31, and so batch * num_levels * post_nms_top_n.
int GenerateProposalsGpuWorkspace(const ProposalLevel* levels, const ProposalOptions& options, size_t* bytes);
int GenerateProposalsGpu(const ProposalLevel* levels, const ProposalOptions& options, const float* image_info,
                         const float* area_range, float* out_boxes, float* out_scores, void* workspace,
                         GpuStream stream);

}  // namespace tfdet
