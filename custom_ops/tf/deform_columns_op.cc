// TfdetDeformColumns and TfdetDeformColumnsGrad: the ops, their shapes and their checks. What they compute:
// kernels/deform_columns.h.
#include <cstdint>
#include <string>
#include <vector>

#include "custom_ops/kernels/deform_columns.h"
#include "custom_ops/tf/glue.h"
#include "tensorflow/core/util/determinism.h"

namespace tfdet {
namespace {

using tensorflow::OpInputList;
using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::OpOutputList;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

// Reads the options of the op or of the shape function.
template <typename Context>
absl::Status TakeOptions(Context* c, DeformShape* shape) {
  const auto take = [c](const char* name, int32_t* y, int32_t* x) -> absl::Status {
    std::vector<int32_t> pair;
    TF_RETURN_IF_ERROR(c->GetAttr(name, &pair));
    if (pair.size() != 2)
      return absl::InvalidArgumentError(absl::StrCat(name, ": expected two numbers, y and x. Received: ", pair.size()));
    *y = pair[0];
    *x = pair[1];
    return absl::OkStatus();
  };
  TF_RETURN_IF_ERROR(take("kernel", &shape->kernel_y, &shape->kernel_x));
  TF_RETURN_IF_ERROR(take("strides", &shape->stride_y, &shape->stride_x));
  TF_RETURN_IF_ERROR(take("padding", &shape->padding_y, &shape->padding_x));
  TF_RETURN_IF_ERROR(take("dilation", &shape->dilation_y, &shape->dilation_x));
  TF_RETURN_IF_ERROR(c->GetAttr("groups", &shape->groups));
  TF_RETURN_IF_ERROR(c->GetAttr("offset_groups", &shape->offset_groups));
  if (const char* error = DeformOptionsError(*shape))
    return absl::InvalidArgumentError(absl::StrCat("deform_columns: ", error));
  return absl::OkStatus();
}

absl::Status ForwardShape(InferenceContext* c) {
  DeformShape options;
  TF_RETURN_IF_ERROR(TakeOptions(c, &options));
  ShapeHandle inputs, offsets;
  TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 4, &inputs));
  TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 4, &offsets));
  DimensionHandle batch, pixels, channels = c->UnknownDim();
  TF_RETURN_IF_ERROR(c->Merge(c->Dim(inputs, 0), c->Dim(offsets, 0), &batch));
  TF_RETURN_IF_ERROR(c->Multiply(c->Dim(offsets, 1), c->Dim(offsets, 2), &pixels));
  if (c->ValueKnown(c->Dim(inputs, 3))) {
    const int64_t own = c->Value(c->Dim(inputs, 3)) / options.groups;
    channels = c->MakeDim(own * options.taps());
  }
  c->set_output(0, c->MakeShape({batch, c->MakeDim(options.groups), pixels, channels}));
  return absl::OkStatus();
}

absl::Status GradShape(InferenceContext* c) {
  for (int i = 1; i < c->num_inputs(); ++i) c->set_output(i - 1, c->input(i));
  return absl::OkStatus();
}

REGISTER_OP("TfdetDeformColumns")
    .Input("inputs: T")
    .Input("offsets: float")
    .Input("mask: masks * float")
    .Output("columns: T")
    .Attr("T: {float, half, bfloat16}")
    .Attr("masks: int >= 0")
    .Attr("kernel: list(int)")
    .Attr("strides: list(int)")
    .Attr("padding: list(int)")
    .Attr("dilation: list(int)")
    .Attr("groups: int >= 1")
    .Attr("offset_groups: int >= 1")
    .SetShapeFn(ForwardShape)
    .Doc("What the taps of a deformable convolution read; see tfdet/ops/deform_conv.py.");

REGISTER_OP("TfdetDeformColumnsGrad")
    .Input("upstream: T")
    .Input("inputs: T")
    .Input("offsets: float")
    .Input("mask: masks * float")
    .Output("for_inputs: T")
    .Output("for_offsets: float")
    .Output("for_mask: masks * float")
    .Attr("T: {float, half, bfloat16}")
    .Attr("masks: int >= 0")
    .Attr("kernel: list(int)")
    .Attr("strides: list(int)")
    .Attr("padding: list(int)")
    .Attr("dilation: list(int)")
    .Attr("groups: int >= 1")
    .Attr("offset_groups: int >= 1")
    .SetShapeFn(GradShape)
    .Doc("Gradients of TfdetDeformColumns.");

class DeformColumnsBase : public OpKernel {
 public:
  explicit DeformColumnsBase(OpKernelConstruction* c) : OpKernel(c) {
    OP_REQUIRES_OK(c, TakeOptions(c, &given_));
    OP_REQUIRES_OK(c, c->GetAttr("masks", &masks_));
    OP_REQUIRES(c, masks_ <= 1,
                absl::InvalidArgumentError(absl::StrCat("mask: expected one or none. Received: ", masks_)));
  }

 protected:
  absl::Status Take(const Tensor& inputs, const Tensor& offsets, const OpInputList& mask, DeformShape* shape,
                    TensorShape* columns) const {
    const TensorShape& map = inputs.shape();
    if (map.dims() != 4)
      return absl::InvalidArgumentError(
          absl::StrCat("inputs: expected the shape [batch, height, width, channels]. Received: ", map.DebugString()));
    for (int d = 1; d < 4; ++d)
      if (map.dim_size(d) > kDeformSide)
        return absl::InvalidArgumentError(
            absl::StrCat("inputs: expected sizes of at most ", kDeformSide, ". Received: ", map.DebugString()));
    TF_RETURN_IF_ERROR(CheckSizes("inputs", {map.dim_size(0), map.dim_size(1), map.dim_size(2), map.dim_size(3)}));
    shape->batch = map.dim_size(0);
    shape->height = int32_t(map.dim_size(1));
    shape->width = int32_t(map.dim_size(2));
    shape->channels = int32_t(map.dim_size(3));
    if (shape->channels % shape->groups != 0 || shape->channels % shape->offset_groups != 0)
      return absl::InvalidArgumentError(absl::StrCat("inputs: ", shape->channels, " channels cannot be parted in ",
                                                     shape->groups, " groups and ", shape->offset_groups,
                                                     " offset groups"));
    SetDeformOutput(shape);
    const int64_t samples = int64_t(shape->offset_groups) * shape->taps();
    TF_RETURN_IF_ERROR(CheckSizes("offsets", {shape->batch, shape->out_y, shape->out_x, 2 * samples}));
    TF_RETURN_IF_ERROR(CheckMoves("offsets", offsets.shape(), *shape, 2 * samples));
    for (const Tensor& own : mask) TF_RETURN_IF_ERROR(CheckMoves("mask", own.shape(), *shape, samples));
    if (const char* error = DeformError(*shape))
      return absl::InvalidArgumentError(absl::StrCat("deform_columns: ", error));
    return TensorShape::BuildTensorShape({shape->batch, shape->groups, shape->pixels(),
                                          int64_t(shape->taps()) * (shape->channels / shape->groups)},
                                         columns);
  }

  static const float* DataOf(const OpInputList& mask) {
    return mask.size() == 0 ? nullptr : mask[0].flat<float>().data();
  }

  DeformShape given_;  // the attributes

 private:
  static absl::Status CheckMoves(const char* name, const TensorShape& given, const DeformShape& shape,
                                 int64_t channels) {
    const TensorShape expected({shape.batch, shape.out_y, shape.out_x, channels});
    if (given == expected) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": expected the shape ", expected.DebugString(), ". Received: ", given.DebugString()));
  }

  int masks_ = 0;
};

template <typename T>
class DeformColumnsOp : public DeformColumnsBase {
 public:
  using DeformColumnsBase::DeformColumnsBase;

  void Compute(OpKernelContext* context) final {
    const Tensor &inputs = context->input(0), &offsets = context->input(1);
    OpInputList mask;
    OP_REQUIRES_OK(context, context->input_list("mask", &mask));
    DeformShape shape = given_;
    TensorShape columns_shape;
    OP_REQUIRES_OK(context, Take(inputs, offsets, mask, &shape, &columns_shape));
    Tensor* columns;
    OP_REQUIRES_OK(context, context->allocate_output(0, columns_shape, &columns));
    OP_REQUIRES_OK(context, Run(context, shape, inputs.flat<T>().data(), offsets.flat<float>().data(), DataOf(mask),
                                columns->flat<T>().data()));
  }

 protected:
  virtual absl::Status Run(OpKernelContext* context, const DeformShape& shape, const T* inputs, const float* offsets,
                           const float* mask, T* columns) = 0;
};

template <typename T>
class DeformColumnsGradOp : public DeformColumnsBase {
 public:
  using DeformColumnsBase::DeformColumnsBase;

  void Compute(OpKernelContext* context) final {
    const Tensor &upstream = context->input(0), &inputs = context->input(1), &offsets = context->input(2);
    OpInputList mask;
    OpOutputList for_mask;
    OP_REQUIRES_OK(context, context->input_list("mask", &mask));
    OP_REQUIRES_OK(context, context->output_list("for_mask", &for_mask));
    DeformShape shape = given_;
    TensorShape columns_shape;
    OP_REQUIRES_OK(context, Take(inputs, offsets, mask, &shape, &columns_shape));
    OP_REQUIRES(context, upstream.shape() == columns_shape,
                absl::InvalidArgumentError(absl::StrCat("upstream: expected the shape ", columns_shape.DebugString(),
                                                        ". Received: ", upstream.shape().DebugString())));
    Tensor *for_inputs, *for_offsets, *own = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, inputs.shape(), &for_inputs));
    OP_REQUIRES_OK(context, context->allocate_output(1, offsets.shape(), &for_offsets));
    if (mask.size() > 0) OP_REQUIRES_OK(context, for_mask.allocate(0, mask[0].shape(), &own));
    OP_REQUIRES_OK(context, Run(context, shape, upstream.flat<T>().data(), inputs.flat<T>().data(),
                                offsets.flat<float>().data(), DataOf(mask), for_inputs->flat<T>().data(),
                                for_offsets->flat<float>().data(),
                                own == nullptr ? nullptr : own->flat<float>().data()));
  }

 protected:
  virtual absl::Status Run(OpKernelContext* context, const DeformShape& shape, const T* upstream, const T* inputs,
                           const float* offsets, const float* mask, T* for_inputs, float* for_offsets,
                           float* for_mask) = 0;
};

template <typename T>
class DeformColumnsCpuOp : public DeformColumnsOp<T> {
 public:
  using DeformColumnsOp<T>::DeformColumnsOp;

 protected:
  absl::Status Run(OpKernelContext* context, const DeformShape& shape, const T* inputs, const float* offsets,
                   const float* mask, T* columns) override {
    typedef typename Storage<T>::type S;
    DeformColumnsCpu<S>(shape, reinterpret_cast<const S*>(inputs), offsets, mask, reinterpret_cast<S*>(columns),
                        PoolOf(context));
    return absl::OkStatus();
  }
};

template <typename T>
class DeformColumnsGradCpuOp : public DeformColumnsGradOp<T> {
 public:
  using DeformColumnsGradOp<T>::DeformColumnsGradOp;

 protected:
  absl::Status Run(OpKernelContext* context, const DeformShape& shape, const T* upstream, const T* inputs,
                   const float* offsets, const float* mask, T* for_inputs, float* for_offsets,
                   float* for_mask) override {
    typedef typename Storage<T>::type S;
    DeformColumnsGradCpu<S>(shape, reinterpret_cast<const S*>(upstream), reinterpret_cast<const S*>(inputs), offsets,
                            mask, reinterpret_cast<S*>(for_inputs), for_offsets, for_mask, PoolOf(context));
    return absl::OkStatus();
  }
};

#define TFDET_REGISTER(T)                                                                                       \
  REGISTER_KERNEL_BUILDER(Name("TfdetDeformColumns").Device(tensorflow::DEVICE_CPU).TypeConstraint<T>("T"),     \
                          DeformColumnsCpuOp<T>);                                                               \
  REGISTER_KERNEL_BUILDER(Name("TfdetDeformColumnsGrad").Device(tensorflow::DEVICE_CPU).TypeConstraint<T>("T"), \
                          DeformColumnsGradCpuOp<T>);
TFDET_REGISTER(float)
TFDET_REGISTER(Eigen::half)
TFDET_REGISTER(Eigen::bfloat16)
#undef TFDET_REGISTER

#if GOOGLE_CUDA
template <typename T>
class DeformColumnsGpuOp : public DeformColumnsOp<T> {
 public:
  using DeformColumnsOp<T>::DeformColumnsOp;

 protected:
  absl::Status Run(OpKernelContext* context, const DeformShape& shape, const T* inputs, const float* offsets,
                   const float* mask, T* columns) override {
    return GpuStatus("TfdetDeformColumns", DeformColumnsGpu(Storage<T>::id, shape, inputs, offsets, mask, columns,
                                                            StreamOf(context)));
  }
};

template <typename T>
class DeformColumnsGradGpuOp : public DeformColumnsGradOp<T> {
 public:
  using DeformColumnsGradOp<T>::DeformColumnsGradOp;

 protected:
  absl::Status Run(OpKernelContext* context, const DeformShape& shape, const T* upstream, const T* inputs,
                   const float* offsets, const float* mask, T* for_inputs, float* for_offsets,
                   float* for_mask) override {
    if (tensorflow::OpDeterminismRequired())
      return absl::UnimplementedError(
          "TfdetDeformColumnsGrad adds in no fixed order on a GPU, and deterministic ops are asked for "
          "(enable_op_determinism). Set TFDET_OPS=python.");
    Tensor workspace;
    TF_RETURN_IF_ERROR(AllocateWorkspace(context, DeformColumnsGradWorkspace(Storage<T>::id, shape), &workspace));
    return GpuStatus("TfdetDeformColumnsGrad",
                     DeformColumnsGradGpu(Storage<T>::id, shape, upstream, inputs, offsets, mask, for_inputs,
                                          for_offsets, for_mask,
                                          reinterpret_cast<float*>(workspace.flat<uint8_t>().data()),
                                          StreamOf(context)));
  }
};

#define TFDET_REGISTER(T)                                                                                       \
  REGISTER_KERNEL_BUILDER(Name("TfdetDeformColumns").Device(tensorflow::DEVICE_GPU).TypeConstraint<T>("T"),     \
                          DeformColumnsGpuOp<T>);                                                               \
  REGISTER_KERNEL_BUILDER(Name("TfdetDeformColumnsGrad").Device(tensorflow::DEVICE_GPU).TypeConstraint<T>("T"), \
                          DeformColumnsGradGpuOp<T>);
TFDET_REGISTER(float)
TFDET_REGISTER(Eigen::half)
TFDET_REGISTER(Eigen::bfloat16)
#undef TFDET_REGISTER
#endif

}  // namespace
}  // namespace tfdet
