// TfdetGenerateProposals: region proposals of one or many levels of a batch.
#include <cmath>
#include <vector>

#include "custom_ops/kernels/proposals.h"
#include "custom_ops/tf/glue.h"

namespace tfdet {

using tensorflow::errors::InvalidArgument;
using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

REGISTER_OP("TfdetGenerateProposals")
    .Input("scores: num_levels * float")
    .Input("deltas: num_levels * float")
    .Input("cell_anchors: num_levels * float")
    .Input("image_info: float")
    .Input("area_range: float")  // [B, 2], or [0, 2] for none
    .Output("boxes: float")
    .Output("box_scores: float")
    .Attr("num_levels: int >= 1")
    .Attr("strides: list(int)")
    .Attr("variants: list(string)")
    .Attr("pre_nms_top_n: int >= 0")
    .Attr("post_nms_top_n: int >= 0")
    .Attr("iou_threshold: float = 0.7")
    .Attr("min_size: float = 0.0")
    .Attr("from_logits: bool = false")
    .SetShapeFn([](InferenceContext* c) {
      int64_t rows;
      int num_levels;
      TF_RETURN_IF_ERROR(c->GetAttr("post_nms_top_n", &rows));
      TF_RETURN_IF_ERROR(c->GetAttr("num_levels", &num_levels));
      ShapeHandle shape;
      DimensionHandle batch, unused;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(3 * num_levels), 2, &shape));
      TF_RETURN_IF_ERROR(c->WithValue(c->Dim(shape, 1), 3, &unused));
      batch = c->Dim(shape, 0);
      for (int i = 0; i < 2 * num_levels; ++i) {
        TF_RETURN_IF_ERROR(c->WithRank(c->input(i), 4, &shape));
        TF_RETURN_IF_ERROR(c->Merge(batch, c->Dim(shape, 0), &batch));
      }
      for (int i = 2 * num_levels; i < 3 * num_levels; ++i) {
        TF_RETURN_IF_ERROR(c->WithRank(c->input(i), 2, &shape));
        TF_RETURN_IF_ERROR(c->WithValue(c->Dim(shape, 1), 4, &unused));
      }
      TF_RETURN_IF_ERROR(c->WithRank(c->input(3 * num_levels + 1), 2, &shape));
      TF_RETURN_IF_ERROR(c->WithValue(c->Dim(shape, 1), 2, &unused));
      c->set_output(0, c->MakeShape({batch, c->MakeDim(rows), c->MakeDim(4)}));
      c->set_output(1, c->Matrix(batch, rows));
      return absl::OkStatus();
    });

namespace {

bool VariantOf(const std::string& name, ProposalVariant* variant) {
  const char* const names[] = {"v1", "v2", "v3", "symbolic"};
  for (int i = 0; i < 4; ++i)
    if (name == names[i]) {
      *variant = static_cast<ProposalVariant>(i);
      return true;
    }
  return false;
}

}  // namespace

class GenerateProposalsOp : public tensorflow::OpKernel {
 public:
  explicit GenerateProposalsOp(tensorflow::OpKernelConstruction* context) : OpKernel(context) {
    std::vector<std::string> variants;
    OP_REQUIRES_OK(context, context->GetAttr("num_levels", &options_.num_levels));
    OP_REQUIRES_OK(context, context->GetAttr("strides", &strides_));
    OP_REQUIRES_OK(context, context->GetAttr("variants", &variants));
    OP_REQUIRES_OK(context, context->GetAttr("pre_nms_top_n", &options_.pre_nms_top_n));
    OP_REQUIRES_OK(context, context->GetAttr("post_nms_top_n", &options_.post_nms_top_n));
    OP_REQUIRES_OK(context, context->GetAttr("iou_threshold", &options_.iou_threshold));
    OP_REQUIRES_OK(context, context->GetAttr("min_size", &options_.min_size));
    OP_REQUIRES_OK(context, context->GetAttr("from_logits", &options_.from_logits));
    const int num_levels = options_.num_levels;
    OP_REQUIRES(context, num_levels <= kMaxLevels,
                InvalidArgument("num_levels must be at most ", kMaxLevels, ". Received: ", num_levels));
    OP_REQUIRES(context, static_cast<int>(strides_.size()) == num_levels,
                InvalidArgument("strides must name ", num_levels, " levels. Received: ", strides_.size()));
    OP_REQUIRES(context, static_cast<int>(variants.size()) == num_levels,
                InvalidArgument("variants must name ", num_levels, " levels. Received: ", variants.size()));
    variants_.resize(num_levels);
    bool any_v3 = false;
    for (int i = 0; i < num_levels; ++i) {
      OP_REQUIRES(context, strides_[i] >= 1, InvalidArgument("strides must be positive. Received: ", strides_[i]));
      OP_REQUIRES(context, VariantOf(variants[i], &variants_[i]),
                  InvalidArgument("variants must be v1, v2, v3 or symbolic. Received: ", variants[i]));
      any_v3 |= variants_[i] == ProposalVariant::kV3;
    }
    const float threshold = options_.iou_threshold;
    OP_REQUIRES(context, threshold >= 0.0f && threshold <= 1.0f && !(any_v3 && threshold == 0.0f),
                InvalidArgument("iou_threshold must be in [0, 1], above 0 for v3. Received: ", threshold));
    OP_REQUIRES(context, std::isfinite(options_.min_size),
                InvalidArgument("min_size must be a number. Received: ", options_.min_size));
    OP_REQUIRES(context, options_.post_nms_top_n <= kMaxElements,
                InvalidArgument("post_nms_top_n is too large: ", options_.post_nms_top_n));
  }

  void Compute(tensorflow::OpKernelContext* context) override {
    const int num_levels = options_.num_levels;
    ProposalOptions options = options_;
    const tensorflow::Tensor& image_info = context->input(3 * num_levels);
    const tensorflow::Tensor& area_range = context->input(3 * num_levels + 1);
    OP_REQUIRES(context, image_info.dims() == 2 && image_info.dim_size(1) == 3,
                InvalidArgument("image_info must be [B, 3]. Received: ", image_info.shape().DebugString()));
    options.batch = image_info.dim_size(0);
    const bool has_range = area_range.dims() == 2 && area_range.dim_size(0) > 0;
    OP_REQUIRES(context,
                area_range.dims() == 2 && area_range.dim_size(1) == 2 &&
                    (!has_range || area_range.dim_size(0) == options.batch),
                InvalidArgument("area_range must be [B, 2] or [0, 2]. Received: ", area_range.shape().DebugString()));

    ProposalLevel levels[kMaxLevels];
    int64_t total = 0;
    for (int i = 0; i < num_levels; ++i) {
      const tensorflow::Tensor &scores = context->input(i), &deltas = context->input(num_levels + i),
                               &cell = context->input(2 * num_levels + i);
      OP_REQUIRES(context, cell.dims() == 2 && cell.dim_size(1) == 4,
                  InvalidArgument("cell_anchors[", i, "] must be [A, 4]. Received: ", cell.shape().DebugString()));
      const int64_t anchors = cell.dim_size(0);
      OP_REQUIRES(context,
                  scores.dims() == 4 && scores.dim_size(0) == options.batch &&
                      scores.dim_size(3) == (options.from_logits ? 2 * anchors : anchors),
                  InvalidArgument("scores[", i, "] must be [", options.batch, ", H, W, ",
                                  options.from_logits ? 2 * anchors : anchors,
                                  "]. Received: ", scores.shape().DebugString()));
      OP_REQUIRES(context,
                  deltas.dims() == 4 && deltas.dim_size(0) == options.batch &&
                      deltas.dim_size(1) == scores.dim_size(1) && deltas.dim_size(2) == scores.dim_size(2) &&
                      deltas.dim_size(3) == 4 * anchors,
                  InvalidArgument("deltas[", i, "] ", deltas.shape().DebugString(), " do not fit scores[", i, "] ",
                                  scores.shape().DebugString()));
      OP_REQUIRES_OK(context, CheckSizes("scores of a level", {options.batch, scores.dim_size(1), scores.dim_size(2),
                                                               scores.dim_size(3)}));
      levels[i] = {scores.flat<float>().data(),
                   deltas.flat<float>().data(),
                   cell.flat<float>().data(),
                   scores.dim_size(1),
                   scores.dim_size(2),
                   anchors,
                   static_cast<float>(strides_[i]),
                   variants_[i]};
      total += options.batch * levels[i].size();
    }
    OP_REQUIRES(context, total <= kMaxElements, InvalidArgument("scores have too many elements in all: ", total));
    OP_REQUIRES_OK(context, CheckSizes("boxes, post_nms_top_n of each level of an image",
                                       {options.batch, num_levels, options.post_nms_top_n}));

    tensorflow::Tensor *boxes, *box_scores;
    OP_REQUIRES_OK(context, AllocateOutput(context, 0, {options.batch, options.post_nms_top_n, 4}, &boxes));
    OP_REQUIRES_OK(context, AllocateOutput(context, 1, {options.batch, options.post_nms_top_n}, &box_scores));
    Run(context, levels, options, image_info.flat<float>().data(),
        has_range ? area_range.flat<float>().data() : nullptr, boxes->flat<float>().data(),
        box_scores->flat<float>().data());
  }

 protected:
  virtual void Run(tensorflow::OpKernelContext* context, const ProposalLevel* levels, const ProposalOptions& options,
                   const float* image_info, const float* area_range, float* boxes, float* scores) = 0;

 private:
  ProposalOptions options_;
  std::vector<int64_t> strides_;
  std::vector<ProposalVariant> variants_;
};

class GenerateProposalsCpuOp : public GenerateProposalsOp {
 public:
  using GenerateProposalsOp::GenerateProposalsOp;

 protected:
  void Run(tensorflow::OpKernelContext* context, const ProposalLevel* levels, const ProposalOptions& options,
           const float* image_info, const float* area_range, float* boxes, float* scores) override {
    GenerateProposalsCpu(levels, options, image_info, area_range, boxes, scores, PoolOf(context));
  }
};
REGISTER_KERNEL_BUILDER(Name("TfdetGenerateProposals").Device(tensorflow::DEVICE_CPU), GenerateProposalsCpuOp);

#if GOOGLE_CUDA
class GenerateProposalsGpuOp : public GenerateProposalsOp {
 public:
  using GenerateProposalsOp::GenerateProposalsOp;

 protected:
  void Run(tensorflow::OpKernelContext* context, const ProposalLevel* levels, const ProposalOptions& options,
           const float* image_info, const float* area_range, float* boxes, float* scores) override {
    size_t bytes = 0;
    OP_REQUIRES_OK(context,
                   GpuStatus("TfdetGenerateProposals", GenerateProposalsGpuWorkspace(levels, options, &bytes)));
    tensorflow::Tensor workspace;
    OP_REQUIRES_OK(context, AllocateWorkspace(context, static_cast<int64_t>(bytes), &workspace));
    OP_REQUIRES_OK(context,
                   GpuStatus("TfdetGenerateProposals",
                             GenerateProposalsGpu(levels, options, image_info, area_range, boxes, scores,
                                                  workspace.flat<uint8_t>().data(), StreamOf(context))));
  }
};
REGISTER_KERNEL_BUILDER(Name("TfdetGenerateProposals").Device(tensorflow::DEVICE_GPU), GenerateProposalsGpuOp);
#endif

}  // namespace tfdet
