// TfdetBatchedNms: suppression per class of a batch, and the best detections over all classes.
#include <cmath>

#include "custom_ops/kernels/nms.h"
#include "custom_ops/tf/glue.h"

namespace tfdet {

using tensorflow::errors::InvalidArgument;
using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

REGISTER_OP("TfdetBatchedNms")
    .Input("boxes: float")
    .Input("scores: float")
    .Output("detected_boxes: float")
    .Output("detected_scores: float")
    .Output("detected_classes: int32")
    .Output("indices: int32")
    .Output("num_valid: int32")
    .Attr("max_detections: int >= 0")
    .Attr("iou_threshold: float")
    .Attr("score_threshold: float")
    .Attr("inclusive: bool = false")
    .Attr("convention: {'legacy_plus_one', 'continuous'} = 'legacy_plus_one'")
    .Attr("method: {'hard', 'linear', 'gaussian'} = 'hard'")
    .Attr("sigma: float = 0.5")
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle boxes, scores;
      DimensionHandle batch, unused;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 4, &boxes));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 3, &scores));
      TF_RETURN_IF_ERROR(c->WithValue(c->Dim(boxes, 3), 4, &unused));
      TF_RETURN_IF_ERROR(c->Merge(c->Dim(boxes, 0), c->Dim(scores, 0), &batch));
      TF_RETURN_IF_ERROR(c->Merge(c->Dim(boxes, 1), c->Dim(scores, 1), &unused));
      int64_t rows;
      TF_RETURN_IF_ERROR(c->GetAttr("max_detections", &rows));
      c->set_output(0, c->MakeShape({batch, c->MakeDim(rows), c->MakeDim(4)}));
      for (int i = 1; i < 4; ++i) c->set_output(i, c->Matrix(batch, rows));
      c->set_output(4, c->Vector(batch));
      return absl::OkStatus();
    });

class BatchedNmsOp : public tensorflow::OpKernel {
 public:
  explicit BatchedNmsOp(tensorflow::OpKernelConstruction* context) : OpKernel(context) {
    std::string convention, method;
    OP_REQUIRES_OK(context, context->GetAttr("max_detections", &options_.max_detections));
    OP_REQUIRES_OK(context, context->GetAttr("iou_threshold", &options_.iou_threshold));
    OP_REQUIRES_OK(context, context->GetAttr("score_threshold", &options_.score_threshold));
    OP_REQUIRES_OK(context, context->GetAttr("inclusive", &options_.inclusive));
    OP_REQUIRES_OK(context, context->GetAttr("sigma", &options_.sigma));
    OP_REQUIRES_OK(context, context->GetAttr("convention", &convention));
    OP_REQUIRES_OK(context, context->GetAttr("method", &method));
    options_.extra_pixel = convention == "legacy_plus_one" ? 1.0f : 0.0f;
    options_.method = method == "hard"     ? NmsMethod::kHard
                      : method == "linear" ? NmsMethod::kLinear
                                           : NmsMethod::kGaussian;
    const float threshold = options_.iou_threshold;
    OP_REQUIRES(context, threshold >= 0.0f && threshold <= 1.0f && !(options_.inclusive && threshold == 0.0f),
                InvalidArgument("iou_threshold must be in [0, 1], above 0 if inclusive. Received: ", threshold));
    OP_REQUIRES(context, std::isfinite(options_.sigma) && options_.sigma > 0.0f,
                InvalidArgument("sigma must be above 0. Received: ", options_.sigma));
    OP_REQUIRES(context, options_.max_detections <= kMaxElements,
                InvalidArgument("max_detections is too large: ", options_.max_detections));
  }

  void Compute(tensorflow::OpKernelContext* context) override {
    const tensorflow::Tensor &boxes = context->input(0), &scores = context->input(1);
    OP_REQUIRES(context, boxes.dims() == 4 && boxes.dim_size(3) == 4,
                InvalidArgument("boxes must be [B, N, 1 or C, 4]. Received: ", boxes.shape().DebugString()));
    OP_REQUIRES(context, scores.dims() == 3,
                InvalidArgument("scores must be [B, N, C]. Received: ", scores.shape().DebugString()));
    NmsSizes sizes;
    sizes.batch = scores.dim_size(0), sizes.boxes = scores.dim_size(1), sizes.classes = scores.dim_size(2);
    sizes.box_sets = boxes.dim_size(2);
    OP_REQUIRES(context,
                boxes.dim_size(0) == sizes.batch && boxes.dim_size(1) == sizes.boxes &&
                    (sizes.box_sets == 1 || sizes.box_sets == sizes.classes),
                InvalidArgument("boxes ", boxes.shape().DebugString(), " do not fit scores ",
                                scores.shape().DebugString()));
    const int64_t rows = options_.max_detections;
    OP_REQUIRES_OK(context, CheckSizes("scores", {sizes.batch, sizes.boxes, sizes.classes}));
    OP_REQUIRES_OK(context, CheckSizes("detected_boxes, a row for each detection of an image", {sizes.batch, rows, 4}));
    if (sizes.boxes == 0) sizes.classes = 0, sizes.box_sets = 1;  // any number of classes, and a list kept for each

    tensorflow::Tensor* outputs[5];
    OP_REQUIRES_OK(context, AllocateOutput(context, 0, {sizes.batch, rows, 4}, &outputs[0]));
    for (int i = 1; i < 4; ++i) OP_REQUIRES_OK(context, AllocateOutput(context, i, {sizes.batch, rows}, &outputs[i]));
    OP_REQUIRES_OK(context, AllocateOutput(context, 4, {sizes.batch}, &outputs[4]));
    Run(context, sizes, options_, boxes.flat<float>().data(), scores.flat<float>().data(),
        {outputs[0]->flat<float>().data(), outputs[1]->flat<float>().data(), outputs[2]->flat<int32_t>().data(),
         outputs[3]->flat<int32_t>().data(), outputs[4]->flat<int32_t>().data()});
  }

 protected:
  virtual void Run(tensorflow::OpKernelContext* context, const NmsSizes& sizes, const NmsOptions& options,
                   const float* boxes, const float* scores, const NmsOutputs& outputs) = 0;

 private:
  NmsOptions options_;
};

class BatchedNmsCpuOp : public BatchedNmsOp {
 public:
  using BatchedNmsOp::BatchedNmsOp;

 protected:
  void Run(tensorflow::OpKernelContext* context, const NmsSizes& sizes, const NmsOptions& options, const float* boxes,
           const float* scores, const NmsOutputs& outputs) override {
    BatchedNmsCpu(sizes, options, boxes, scores, outputs, PoolOf(context));
  }
};
REGISTER_KERNEL_BUILDER(Name("TfdetBatchedNms").Device(tensorflow::DEVICE_CPU), BatchedNmsCpuOp);

#if GOOGLE_CUDA
class BatchedNmsGpuOp : public BatchedNmsOp {
 public:
  using BatchedNmsOp::BatchedNmsOp;

 protected:
  void Run(tensorflow::OpKernelContext* context, const NmsSizes& sizes, const NmsOptions& options, const float* boxes,
           const float* scores, const NmsOutputs& outputs) override {
    size_t bytes = 0;
    OP_REQUIRES_OK(context, GpuStatus("TfdetBatchedNms", BatchedNmsGpuWorkspace(sizes, options, &bytes)));
    tensorflow::Tensor workspace;
    OP_REQUIRES_OK(context, AllocateWorkspace(context, static_cast<int64_t>(bytes), &workspace));
    OP_REQUIRES_OK(context, GpuStatus("TfdetBatchedNms",
                                      BatchedNmsGpu(sizes, options, boxes, scores, outputs,
                                                    workspace.flat<uint8_t>().data(), StreamOf(context))));
  }
};
REGISTER_KERNEL_BUILDER(Name("TfdetBatchedNms").Device(tensorflow::DEVICE_GPU), BatchedNmsGpuOp);
#endif

}  // namespace tfdet
