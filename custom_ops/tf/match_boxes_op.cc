// MatchBoxes as a TensorFlow op: shapes, checks, outputs. The work is in custom_ops/kernels/match_boxes*.
#include "custom_ops/kernels/match_boxes.h"

#include <string>

#include "custom_ops/tf/glue.h"

namespace tfdet {
namespace {

using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

// Merges a dimension that may be 1 where it is known not to be.
absl::Status MergeShared(InferenceContext* c, DimensionHandle shared, DimensionHandle all) {
  DimensionHandle merged;
  if (!c->ValueKnown(shared) || c->Value(shared) == 1) return absl::OkStatus();
  return c->Merge(shared, all, &merged);
}

absl::Status InferShapes(InferenceContext* c) {
  ShapeHandle boxes, box_valid, gt_boxes, gt_valid, gt_crowd;
  TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 3, &boxes));
  TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 2, &box_valid));
  TF_RETURN_IF_ERROR(c->WithRank(c->input(2), 3, &gt_boxes));
  TF_RETURN_IF_ERROR(c->WithRank(c->input(3), 2, &gt_valid));
  TF_RETURN_IF_ERROR(c->WithRank(c->input(4), 2, &gt_crowd));
  DimensionHandle four, count, images, slots;
  TF_RETURN_IF_ERROR(c->WithValue(c->Dim(boxes, 2), 4, &four));
  TF_RETURN_IF_ERROR(c->WithValue(c->Dim(gt_boxes, 2), 4, &four));
  TF_RETURN_IF_ERROR(c->Merge(c->Dim(boxes, 1), c->Dim(box_valid, 1), &count));
  TF_RETURN_IF_ERROR(c->Merge(c->Dim(gt_boxes, 0), c->Dim(gt_valid, 0), &images));
  TF_RETURN_IF_ERROR(c->Merge(images, c->Dim(gt_crowd, 0), &images));
  TF_RETURN_IF_ERROR(c->Merge(c->Dim(gt_boxes, 1), c->Dim(gt_valid, 1), &slots));
  TF_RETURN_IF_ERROR(c->Merge(slots, c->Dim(gt_crowd, 1), &slots));
  TF_RETURN_IF_ERROR(MergeShared(c, c->Dim(boxes, 0), images));
  TF_RETURN_IF_ERROR(MergeShared(c, c->Dim(box_valid, 0), images));
  bool ties;
  TF_RETURN_IF_ERROR(c->GetAttr("ties", &ties));
  const ShapeHandle per_box = c->Matrix(images, count), none = c->Matrix(0, 0);
  c->set_output(0, per_box);
  c->set_output(1, per_box);
  c->set_output(2, ties ? per_box : none);
  c->set_output(3, ties ? c->Matrix(images, slots) : none);
  c->set_output(4, per_box);
  return absl::OkStatus();
}

REGISTER_OP("TfdetMatchBoxes")
    .Input("boxes: float")
    .Input("box_valid: bool")
    .Input("gt_boxes: float")
    .Input("gt_valid: bool")
    .Input("gt_crowd: bool")
    .Output("iou: float")
    .Output("index: int32")
    .Output("nearest_index: int32")
    .Output("gt_iou: float")
    .Output("crowd_overlap: float")
    .Attr("convention: {'legacy_plus_one', 'continuous'} = 'legacy_plus_one'")
    .Attr("ties: bool = true")
    .SetShapeFn(InferShapes)
    .Doc("The best ground-truth box of every box: see match_boxes in tfdet/ops/matching.py.");

std::string Described(const char* name, const Tensor& tensor) {
  return std::string("MatchBoxes: ") + name + " " + tensor.shape().DebugString();
}

absl::Status CheckBoxes(const char* name, const Tensor& boxes) {
  if (boxes.dims() == 3 && boxes.dim_size(2) == 4) return absl::OkStatus();
  return absl::InvalidArgumentError(Described(name, boxes) + " must have shape [images, boxes, 4]");
}

absl::Status CheckMask(const char* name, const Tensor& mask, const char* of, const Tensor& boxes, bool may_be_shared) {
  if (mask.dims() == 2 && mask.dim_size(1) == boxes.dim_size(1) &&
      (may_be_shared || mask.dim_size(0) == boxes.dim_size(0)))
    return absl::OkStatus();
  return absl::InvalidArgumentError(Described(name, mask) + " does not belong to " + of + " " +
                                    boxes.shape().DebugString());
}

absl::Status CheckImages(const char* name, const Tensor& tensor, int64_t images) {
  if (tensor.dim_size(0) == 1 || tensor.dim_size(0) == images) return absl::OkStatus();
  return absl::InvalidArgumentError(Described(name, tensor) + " must be of one image or of the " +
                                    std::to_string(images) + " of gt_boxes");
}

class MatchBoxesOp : public tensorflow::OpKernel {
 public:
  explicit MatchBoxesOp(OpKernelConstruction* context) : OpKernel(context) {
    std::string convention;
    OP_REQUIRES_OK(context, context->GetAttr("convention", &convention));
    OP_REQUIRES_OK(context, context->GetAttr("ties", &ties_));
    extra_ = convention == "legacy_plus_one" ? 1.0f : 0.0f;
  }

  void Compute(OpKernelContext* context) override {
    const Tensor& boxes = context->input(0);
    const Tensor& box_valid = context->input(1);
    const Tensor& gt_boxes = context->input(2);
    const Tensor& gt_valid = context->input(3);
    const Tensor& gt_crowd = context->input(4);
    OP_REQUIRES_OK(context, CheckBoxes("boxes", boxes));
    OP_REQUIRES_OK(context, CheckBoxes("gt_boxes", gt_boxes));
    OP_REQUIRES_OK(context, CheckMask("box_valid", box_valid, "boxes", boxes, true));
    OP_REQUIRES_OK(context, CheckMask("gt_valid", gt_valid, "gt_boxes", gt_boxes, false));
    OP_REQUIRES_OK(context, CheckMask("gt_crowd", gt_crowd, "gt_boxes", gt_boxes, false));
    const int64_t images = gt_boxes.dim_size(0), num_boxes = boxes.dim_size(1), num_gts = gt_boxes.dim_size(1);
    OP_REQUIRES_OK(context, CheckImages("boxes", boxes, images));
    OP_REQUIRES_OK(context, CheckImages("box_valid", box_valid, images));
    OP_REQUIRES_OK(context, CheckSizes("MatchBoxes: images and boxes", {images, num_boxes}));
    OP_REQUIRES_OK(context, CheckSizes("MatchBoxes: images and gt_boxes", {images, num_gts}));

    const int64_t tied_images = ties_ ? images : 0;
    Tensor *iou, *index, *nearest, *gt_iou, *overlap;
    OP_REQUIRES_OK(context, AllocateOutput(context, 0, {images, num_boxes}, &iou));
    OP_REQUIRES_OK(context, AllocateOutput(context, 1, {images, num_boxes}, &index));
    OP_REQUIRES_OK(context, AllocateOutput(context, 2, {tied_images, ties_ ? num_boxes : 0}, &nearest));
    OP_REQUIRES_OK(context, AllocateOutput(context, 3, {tied_images, ties_ ? num_gts : 0}, &gt_iou));
    OP_REQUIRES_OK(context, AllocateOutput(context, 4, {images, num_boxes}, &overlap));

    MatchBoxesArgs args;
    args.images = images;
    args.num_boxes = num_boxes;
    args.num_gts = num_gts;
    args.box_images = boxes.dim_size(0);
    args.mask_images = box_valid.dim_size(0);
    args.extra = extra_;
    args.ties = ties_;
    args.boxes = boxes.flat<float>().data();
    args.box_valid = box_valid.flat<bool>().data();
    args.gt_boxes = gt_boxes.flat<float>().data();
    args.gt_valid = gt_valid.flat<bool>().data();
    args.gt_crowd = gt_crowd.flat<bool>().data();
    args.iou = iou->flat<float>().data();
    args.index = index->flat<int32_t>().data();
    args.nearest_index = nearest->flat<int32_t>().data();
    args.gt_iou = gt_iou->flat<float>().data();
    args.crowd_overlap = overlap->flat<float>().data();
    Launch(context, args);
  }

 protected:
  virtual void Launch(OpKernelContext* context, const MatchBoxesArgs& args) = 0;

 private:
  float extra_;
  bool ties_;
};

class MatchBoxesCpuOp : public MatchBoxesOp {
 public:
  using MatchBoxesOp::MatchBoxesOp;

 protected:
  void Launch(OpKernelContext* context, const MatchBoxesArgs& args) override {
    Tensor workspace;
    const int64_t bytes = MatchBoxesCpuWorkspace(args.images, args.num_gts);
    OP_REQUIRES_OK(context, AllocateWorkspace(context, bytes, &workspace));
    MatchBoxesCpu(args, workspace.flat<uint8_t>().data(), PoolOf(context));
  }
};

REGISTER_KERNEL_BUILDER(Name("TfdetMatchBoxes").Device(tensorflow::DEVICE_CPU), MatchBoxesCpuOp);

#if GOOGLE_CUDA
class MatchBoxesGpuOp : public MatchBoxesOp {
 public:
  using MatchBoxesOp::MatchBoxesOp;

 protected:
  void Launch(OpKernelContext* context, const MatchBoxesArgs& args) override {
    OP_REQUIRES_OK(context, GpuStatus("MatchBoxes", MatchBoxesGpu(args, StreamOf(context))));
  }
};

REGISTER_KERNEL_BUILDER(Name("TfdetMatchBoxes").Device(tensorflow::DEVICE_GPU), MatchBoxesGpuOp);
#endif

}  // namespace
}  // namespace tfdet
