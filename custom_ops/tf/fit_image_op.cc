// FitImage as a TensorFlow op: shapes, checks, output. The work is in custom_ops/kernels/fit_*.
#include "custom_ops/kernels/fit_image.h"

#include <cmath>
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

// Of either side: what a weighted sum over it has room for in 32 bits.
constexpr int64_t kLongestSide = 1 << 22;

enum Input { kImage, kSize, kScale, kMirror, kWindow, kCanvas, kPlace, kFill };

absl::Status InferShapes(InferenceContext* c) {
  ShapeHandle image, size, fill, canvas, unused;
  DimensionHandle channels, two;
  TF_RETURN_IF_ERROR(c->WithRank(c->input(kImage), 3, &image));
  TF_RETURN_IF_ERROR(c->WithRank(c->input(kFill), 1, &fill));
  TF_RETURN_IF_ERROR(c->Merge(c->Dim(image, 2), c->Dim(fill, 0), &channels));
  for (const int scalar : {kScale, kMirror}) TF_RETURN_IF_ERROR(c->WithRank(c->input(scalar), 0, &unused));
  for (const int pair : {kSize, kCanvas, kPlace}) {
    TF_RETURN_IF_ERROR(c->WithRank(c->input(pair), 1, &size));
    TF_RETURN_IF_ERROR(c->WithValue(c->Dim(size, 0), 2, &two));
  }
  TF_RETURN_IF_ERROR(c->WithRank(c->input(kWindow), 1, &size));
  TF_RETURN_IF_ERROR(c->WithValue(c->Dim(size, 0), 4, &two));
  TF_RETURN_IF_ERROR(c->MakeShapeFromShapeTensor(kCanvas, &canvas));
  TF_RETURN_IF_ERROR(c->Concatenate(canvas, c->Vector(channels), &canvas));
  c->set_output(0, canvas);
  return absl::OkStatus();
}

REGISTER_OP("TfdetFitImage")
    .Input("image: uint8")
    .Input("size: int32")
    .Input("scale: double")
    .Input("mirror: bool")
    .Input("window: int32")
    .Input("canvas: int32")
    .Input("place: int32")
    .Input("fill: uint8")
    .Output("fitted: T")
    .Attr("T: {uint8, float}")
    .Attr("rule: {'simpledet', 'detectron2', 'torchvision'}")
    .SetShapeFn(InferShapes)
    .Doc("One image resized, mirrored, cut and put on a canvas: see fit_image in tfdet/ops/fit_image.py.");

absl::Status CheckNumbers(const char* name, const Tensor& tensor, int64_t count) {
  if (tensor.dims() == 1 && tensor.dim_size(0) == count) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("FitImage: ", name, " ", tensor.shape().DebugString(),
                                                 " must have shape [", count, "]"));
}

absl::Status CheckSide(const char* what, int64_t side) {
  if (side >= 1 && side <= kLongestSide) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("FitImage: ", what, " must be 1 to ", kLongestSide, ". Received: ", side));
}

// That the part [first, first + count) lies in [0, size).
absl::Status CheckInside(const char* what, int64_t first, int64_t count, int64_t size) {
  if (first >= 0 && count >= 0 && first + count <= size) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("FitImage: ", what, " do not fit: from ", first, ", ", count,
                                                 " of them, of ", size));
}

class FitImageOp : public tensorflow::OpKernel {
 public:
  explicit FitImageOp(OpKernelConstruction* context) : OpKernel(context) {
    std::string rule;
    tensorflow::DataType type;
    OP_REQUIRES_OK(context, context->GetAttr("rule", &rule));
    OP_REQUIRES_OK(context, context->GetAttr("T", &type));
    rule_ = rule == "simpledet"    ? ResizeRule::kSimpleDet
            : rule == "detectron2" ? ResizeRule::kDetectron2
                                   : ResizeRule::kTorchvision;
    const bool is_float = rule_ == ResizeRule::kTorchvision;
    OP_REQUIRES(context, type == (is_float ? tensorflow::DT_FLOAT : tensorflow::DT_UINT8),
                absl::InvalidArgumentError("FitImage: rule " + rule + " gives " + (is_float ? "float32" : "uint8")));
  }

  void Compute(OpKernelContext* context) override {
    FitImageArgs args;
    OP_REQUIRES_OK(context, Read(context, &args));
    const int64_t channels = args.channels;
    OP_REQUIRES_OK(context, CheckSizes("FitImage: canvas", {args.canvas_height, args.canvas_width, channels}));
    Tensor* canvas;
    OP_REQUIRES_OK(context, AllocateOutput(context, 0, {args.canvas_height, args.canvas_width, channels}, &canvas));
    if (canvas->NumElements() == 0) return;
    args.canvas = canvas->data();
    FitImageCpu(args, PoolOf(context));
  }

 private:
  absl::Status Read(OpKernelContext* context, FitImageArgs* args) const {
    const Tensor& image = context->input(kImage);
    if (image.dims() != 3)
      return absl::InvalidArgumentError("FitImage: image " + image.shape().DebugString() + " must have rank 3");
    TF_RETURN_IF_ERROR(CheckNumbers("size", context->input(kSize), 2));
    TF_RETURN_IF_ERROR(CheckNumbers("window", context->input(kWindow), 4));
    TF_RETURN_IF_ERROR(CheckNumbers("canvas", context->input(kCanvas), 2));
    TF_RETURN_IF_ERROR(CheckNumbers("place", context->input(kPlace), 2));
    TF_RETURN_IF_ERROR(CheckNumbers("fill", context->input(kFill), image.dim_size(2)));
    if (context->input(kScale).NumElements() != 1 || context->input(kMirror).NumElements() != 1)
      return absl::InvalidArgumentError("FitImage: scale and mirror must be one value each");
    const auto size = context->input(kSize).flat<int32_t>(), window = context->input(kWindow).flat<int32_t>();
    const auto canvas = context->input(kCanvas).flat<int32_t>(), place = context->input(kPlace).flat<int32_t>();
    args->rule = rule_;
    args->mirror = context->input(kMirror).flat<bool>()(0);
    args->scale = context->input(kScale).flat<double>()(0);
    args->height = image.dim_size(0);
    args->width = image.dim_size(1);
    args->channels = image.dim_size(2);
    args->new_height = size(0);
    args->new_width = size(1);
    args->window_top = window(0);
    args->window_left = window(1);
    args->window_height = window(2);
    args->window_width = window(3);
    args->canvas_height = canvas(0);
    args->canvas_width = canvas(1);
    args->place_top = place(0);
    args->place_left = place(1);
    args->image = image.flat<uint8_t>().data();
    args->fill = context->input(kFill).flat<uint8_t>().data();
    TF_RETURN_IF_ERROR(CheckSide("the image's height", args->height));
    TF_RETURN_IF_ERROR(CheckSide("the image's width", args->width));
    TF_RETURN_IF_ERROR(CheckSide("the new height", args->new_height));
    TF_RETURN_IF_ERROR(CheckSide("the new width", args->new_width));
    TF_RETURN_IF_ERROR(CheckInside("the window's rows", args->window_top, args->window_height, args->new_height));
    TF_RETURN_IF_ERROR(CheckInside("the window's columns", args->window_left, args->window_width, args->new_width));
    TF_RETURN_IF_ERROR(CheckInside("rows of the canvas", args->place_top, args->window_height, args->canvas_height));
    TF_RETURN_IF_ERROR(CheckInside("columns of the canvas", args->place_left, args->window_width, args->canvas_width));
    if (rule_ == ResizeRule::kSimpleDet && !(args->scale > 0 && std::isfinite(args->scale)))
      return absl::InvalidArgumentError(absl::StrCat("FitImage: scale must be above 0 and finite. Received: ", args->scale));
    return absl::OkStatus();
  }

  ResizeRule rule_;
};

// On a CPU alone: it stands in front of everything that a GPU does.
REGISTER_KERNEL_BUILDER(Name("TfdetFitImage").Device(tensorflow::DEVICE_CPU), FitImageOp);

}  // namespace
}  // namespace tfdet
