// TfdetRoiAlign and TfdetRoiAlignGrad: the ops, their shapes and their checks. What they compute: kernels/roi_align.h.
#include <cstdint>
#include <string>
#include <vector>

#include "custom_ops/kernels/roi_align.h"
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

absl::Status ForwardShape(InferenceContext* c) {
  int levels, bins_y, bins_x;
  std::string mode;
  TF_RETURN_IF_ERROR(c->GetAttr("N", &levels));
  TF_RETURN_IF_ERROR(c->GetAttr("bins_y", &bins_y));
  TF_RETURN_IF_ERROR(c->GetAttr("bins_x", &bins_x));
  TF_RETURN_IF_ERROR(c->GetAttr("mode", &mode));
  ShapeHandle boxes, assigned, map;
  TF_RETURN_IF_ERROR(c->WithRank(c->input(levels), 3, &boxes));
  TF_RETURN_IF_ERROR(c->WithRank(c->input(levels + 1), 2, &assigned));
  DimensionHandle batch = c->Dim(boxes, 0), rois, channels = c->UnknownDim(), four;
  TF_RETURN_IF_ERROR(c->WithValue(c->Dim(boxes, 2), 4, &four));
  TF_RETURN_IF_ERROR(c->Merge(batch, c->Dim(assigned, 0), &batch));
  TF_RETURN_IF_ERROR(c->Merge(c->Dim(boxes, 1), c->Dim(assigned, 1), &rois));
  for (int l = 0; l < levels; ++l) {
    TF_RETURN_IF_ERROR(c->WithRank(c->input(l), 4, &map));
    TF_RETURN_IF_ERROR(c->Merge(batch, c->Dim(map, 0), &batch));
    TF_RETURN_IF_ERROR(c->Merge(channels, c->Dim(map, 3), &channels));
  }
  const ShapeHandle pooled = c->MakeShape({batch, rois, c->MakeDim(bins_y), c->MakeDim(bins_x), channels});
  c->set_output(0, pooled);
  c->set_output(1, mode == "max" ? pooled : c->Vector(0));
  return absl::OkStatus();
}

absl::Status GradShape(InferenceContext* c) {
  int levels;
  TF_RETURN_IF_ERROR(c->GetAttr("N", &levels));
  for (int l = 0; l < levels; ++l) {
    ShapeHandle map;
    TF_RETURN_IF_ERROR(c->MakeShapeFromShapeTensor(4 + l, &map));
    TF_RETURN_IF_ERROR(c->WithRank(map, 4, &map));
    c->set_output(l, map);
  }
  return absl::OkStatus();
}

REGISTER_OP("TfdetRoiAlign")
    .Input("features: N * T")
    .Input("boxes: float")
    .Input("levels: int32")
    .Output("pooled: T")
    .Output("winner: uint8")
    .Attr("T: {float, half, bfloat16}")
    .Attr("N: int >= 1")
    .Attr("scales: list(float)")
    .Attr("bins_y: int >= 1")
    .Attr("bins_x: int >= 1")
    .Attr("mode: {'max', 'average'} = 'max'")
    .Attr("sampling_ratio: int >= 0 = 2")
    .Attr("aligned: bool = false")
    .SetShapeFn(ForwardShape)
    .Doc("RoIAlign over the levels of a feature pyramid; see tfdet/ops/roi_align.py.");

REGISTER_OP("TfdetRoiAlignGrad")
    .Input("upstream: T")
    .Input("winner: uint8")
    .Input("boxes: float")
    .Input("levels: int32")
    .Input("shapes: N * int32")
    .Output("gradients: N * T")
    .Attr("T: {float, half, bfloat16}")
    .Attr("N: int >= 1")
    .Attr("scales: list(float)")
    .Attr("bins_y: int >= 1")
    .Attr("bins_x: int >= 1")
    .Attr("mode: {'max', 'average'} = 'max'")
    .Attr("sampling_ratio: int >= 0 = 2")
    .Attr("aligned: bool = false")
    .SetShapeFn(GradShape)
    .Doc("Gradient of TfdetRoiAlign for the features.");

// The RoIs of one call, as both ops have them.
struct Rois {
  const Tensor* boxes;
  const Tensor* levels;
};

class RoiAlignBase : public OpKernel {
 public:
  explicit RoiAlignBase(OpKernelConstruction* c) : OpKernel(c) {
    std::string mode;
    std::vector<float> scales;
    int levels;
    OP_REQUIRES_OK(c, c->GetAttr("mode", &mode));
    OP_REQUIRES_OK(c, c->GetAttr("N", &levels));
    OP_REQUIRES_OK(c, c->GetAttr("scales", &scales));
    OP_REQUIRES_OK(c, c->GetAttr("bins_y", &given_.bins_y));
    OP_REQUIRES_OK(c, c->GetAttr("bins_x", &given_.bins_x));
    OP_REQUIRES_OK(c, c->GetAttr("sampling_ratio", &given_.sampling_ratio));
    OP_REQUIRES_OK(c, c->GetAttr("aligned", &given_.aligned));
    given_.maximum = mode == "max";
    given_.num_levels = levels;
    OP_REQUIRES(c, levels <= kRoiAlignLevels,
                absl::InvalidArgumentError(absl::StrCat("features: expected at most ", kRoiAlignLevels,
                                                        " feature maps. Received: ", levels)));
    OP_REQUIRES(c, int(scales.size()) == levels,
                absl::InvalidArgumentError(absl::StrCat("scales: expected one for each of ", levels,
                                                        " feature maps. Received: ", scales.size())));
    for (int l = 0; l < levels; ++l) given_.scale[l] = scales[l];
    const char* error = RoiAlignError(given_);
    OP_REQUIRES(c, error == nullptr, absl::InvalidArgumentError(absl::StrCat("roi_align: ", error)));
  }

 protected:
  // Checks boxes and levels.
  absl::Status TakeRois(const Rois& rois, RoiAlignShape* shape) const {
    const TensorShape &boxes = rois.boxes->shape(), &levels = rois.levels->shape();
    if (boxes.dims() != 3 || boxes.dim_size(2) != 4)
      return absl::InvalidArgumentError(
          absl::StrCat("boxes: expected the shape [batch, rois, 4]. Received: ", boxes.DebugString()));
    if (levels.dims() != 2 || levels.dim_size(0) != boxes.dim_size(0) || levels.dim_size(1) != boxes.dim_size(1))
      return absl::InvalidArgumentError(absl::StrCat("levels: expected the shape [", boxes.dim_size(0), ",",
                                                     boxes.dim_size(1), "], as boxes. Received: ",
                                                     levels.DebugString()));
    TF_RETURN_IF_ERROR(CheckSizes("boxes", {boxes.dim_size(0), boxes.dim_size(1), 4}));
    shape->batch = boxes.dim_size(0);
    shape->rois = boxes.dim_size(1);
    return absl::OkStatus();
  }

  // Checks the map of a level.
  absl::Status TakeMap(int level, const TensorShape& map, RoiAlignShape* shape) const {
    if (map.dims() != 4)
      return absl::InvalidArgumentError(absl::StrCat("features[", level, "]: expected the shape [batch, height, width, ",
                                                     "channels]. Received: ", map.DebugString()));
    if (map.dim_size(0) != shape->batch)
      return absl::InvalidArgumentError(absl::StrCat("features[", level, "]: expected ", shape->batch,
                                                     " images, as boxes. Received: ", map.DebugString()));
    for (int d = 1; d < 4; ++d)
      if (map.dim_size(d) > kRoiAlignSide)
        return absl::InvalidArgumentError(absl::StrCat("features[", level, "]: expected sizes of at most ",
                                                       kRoiAlignSide, ". Received: ", map.DebugString()));
    if (level > 0 && map.dim_size(3) != shape->channels)
      return absl::InvalidArgumentError(absl::StrCat("features[", level, "]: expected ", shape->channels,
                                                     " channels, as features[0]. Received: ", map.DebugString()));
    // Lines without pixels take no memory and could be any number; the kernels go through them.
    const bool has_pixels = map.dim_size(1) > 0 && map.dim_size(2) > 0;
    shape->height[level] = has_pixels ? int32_t(map.dim_size(1)) : 0;
    shape->width[level] = has_pixels ? int32_t(map.dim_size(2)) : 0;
    shape->channels = int32_t(map.dim_size(3));
    return absl::OkStatus();
  }

  static absl::Status PooledShape(const RoiAlignShape& shape, TensorShape* pooled) {
    return TensorShape::BuildTensorShape({shape.batch, shape.rois, shape.bins_y, shape.bins_x, shape.channels}, pooled);
  }

  // On the CPU only: a GPU would have to be waited for.
  static absl::Status CheckLevels(const RoiAlignShape& shape, const int32_t* levels) {
    for (int64_t i = 0; i < shape.batch * shape.rois; ++i)
      if (levels[i] < 0 || levels[i] >= shape.num_levels)
        return absl::InvalidArgumentError(absl::StrCat("levels: expected 0 to ", shape.num_levels - 1,
                                                       ", the index of a feature map. Received: ", levels[i],
                                                       " for RoI ", i % shape.rois, " of image ", i / shape.rois));
    return absl::OkStatus();
  }

  RoiAlignShape given_;  // the attributes
};

template <typename T>
class RoiAlignOp : public RoiAlignBase {
 public:
  using RoiAlignBase::RoiAlignBase;

  void Compute(OpKernelContext* context) final {
    OpInputList features;
    OP_REQUIRES_OK(context, context->input_list("features", &features));
    const int levels = features.size();
    const Rois rois = {&context->input(levels), &context->input(levels + 1)};
    RoiAlignShape shape = given_;
    OP_REQUIRES_OK(context, TakeRois(rois, &shape));
    const void* maps[kRoiAlignLevels];
    for (int l = 0; l < levels; ++l) {
      OP_REQUIRES_OK(context, TakeMap(l, features[l].shape(), &shape));
      maps[l] = features[l].tensor_data().data();
    }
    TensorShape pooled_shape;
    OP_REQUIRES_OK(context, PooledShape(shape, &pooled_shape));
    Tensor *pooled, *winner;
    OP_REQUIRES_OK(context, context->allocate_output(0, pooled_shape, &pooled));
    OP_REQUIRES_OK(context, context->allocate_output(1, shape.maximum ? pooled_shape : TensorShape({0}), &winner));
    OP_REQUIRES_OK(context, Run(context, shape, maps, rois.boxes->flat<float>().data(),
                                rois.levels->flat<int32_t>().data(), pooled->flat<T>().data(),
                                winner->flat<uint8_t>().data()));
  }

 protected:
  virtual absl::Status Run(OpKernelContext* context, const RoiAlignShape& shape, const void* const* features,
                           const float* boxes, const int32_t* levels, T* pooled, uint8_t* winner) = 0;
};

template <typename T>
class RoiAlignGradOp : public RoiAlignBase {
 public:
  using RoiAlignBase::RoiAlignBase;

  void Compute(OpKernelContext* context) final {
    const Tensor &upstream = context->input(0), &winner = context->input(1);
    const Rois rois = {&context->input(2), &context->input(3)};
    OpInputList shapes;
    OpOutputList gradients;
    OP_REQUIRES_OK(context, context->input_list("shapes", &shapes));
    OP_REQUIRES_OK(context, context->output_list("gradients", &gradients));
    RoiAlignShape shape = given_;
    OP_REQUIRES_OK(context, TakeRois(rois, &shape));
    std::vector<TensorShape> map_shapes(shapes.size());
    for (int l = 0; l < shapes.size(); ++l) {
      OP_REQUIRES(context, shapes[l].dims() == 1 && shapes[l].NumElements() == 4,
                  absl::InvalidArgumentError(absl::StrCat("shapes[", l, "]: expected 4 numbers. Received: ",
                                                          shapes[l].shape().DebugString())));
      const auto sizes = shapes[l].flat<int32_t>();
      OP_REQUIRES_OK(context, TensorShape::BuildTensorShape({sizes(0), sizes(1), sizes(2), sizes(3)}, &map_shapes[l]));
      OP_REQUIRES_OK(context, TakeMap(l, map_shapes[l], &shape));
    }
    TensorShape pooled_shape;
    OP_REQUIRES_OK(context, PooledShape(shape, &pooled_shape));
    OP_REQUIRES(context, upstream.shape() == pooled_shape,
                absl::InvalidArgumentError(absl::StrCat("upstream: expected the shape ", pooled_shape.DebugString(),
                                                        ". Received: ", upstream.shape().DebugString())));
    OP_REQUIRES(context, !shape.maximum || winner.shape() == pooled_shape,
                absl::InvalidArgumentError(absl::StrCat("winner: expected the shape ", pooled_shape.DebugString(),
                                                        ". Received: ", winner.shape().DebugString())));
    void* maps[kRoiAlignLevels];
    for (int l = 0; l < shapes.size(); ++l) {
      Tensor* gradient;
      OP_REQUIRES_OK(context, gradients.allocate(l, map_shapes[l], &gradient));
      maps[l] = gradient->flat<T>().data();
    }
    OP_REQUIRES_OK(context, Run(context, shape, upstream.flat<T>().data(), winner.flat<uint8_t>().data(),
                                rois.boxes->flat<float>().data(), rois.levels->flat<int32_t>().data(), maps));
  }

 protected:
  virtual absl::Status Run(OpKernelContext* context, const RoiAlignShape& shape, const T* upstream,
                           const uint8_t* winner, const float* boxes, const int32_t* levels, void* const* gradients) = 0;
};

template <typename T>
class RoiAlignCpuOp : public RoiAlignOp<T> {
 public:
  using RoiAlignOp<T>::RoiAlignOp;

 protected:
  absl::Status Run(OpKernelContext* context, const RoiAlignShape& shape, const void* const* features,
                   const float* boxes, const int32_t* levels, T* pooled, uint8_t* winner) override {
    typedef typename Storage<T>::type S;
    TF_RETURN_IF_ERROR(this->CheckLevels(shape, levels));
    RoiAlignCpu<S>(shape, reinterpret_cast<const S* const*>(features), boxes, levels, reinterpret_cast<S*>(pooled),
                   winner, PoolOf(context));
    return absl::OkStatus();
  }
};

template <typename T>
class RoiAlignGradCpuOp : public RoiAlignGradOp<T> {
 public:
  using RoiAlignGradOp<T>::RoiAlignGradOp;

 protected:
  absl::Status Run(OpKernelContext* context, const RoiAlignShape& shape, const T* upstream, const uint8_t* winner,
                   const float* boxes, const int32_t* levels, void* const* gradients) override {
    typedef typename Storage<T>::type S;
    TF_RETURN_IF_ERROR(this->CheckLevels(shape, levels));
    RoiAlignGradCpu<S>(shape, reinterpret_cast<const S*>(upstream), winner, boxes, levels,
                       reinterpret_cast<S* const*>(gradients), PoolOf(context));
    return absl::OkStatus();
  }
};

#define TFDET_REGISTER(T)                                                                               \
  REGISTER_KERNEL_BUILDER(Name("TfdetRoiAlign").Device(tensorflow::DEVICE_CPU).TypeConstraint<T>("T"),  \
                          RoiAlignCpuOp<T>);                                                            \
  REGISTER_KERNEL_BUILDER(Name("TfdetRoiAlignGrad").Device(tensorflow::DEVICE_CPU).TypeConstraint<T>("T"), \
                          RoiAlignGradCpuOp<T>);
TFDET_REGISTER(float)
TFDET_REGISTER(Eigen::half)
TFDET_REGISTER(Eigen::bfloat16)
#undef TFDET_REGISTER

#if GOOGLE_CUDA
template <typename T>
class RoiAlignGpuOp : public RoiAlignOp<T> {
 public:
  using RoiAlignOp<T>::RoiAlignOp;

 protected:
  absl::Status Run(OpKernelContext* context, const RoiAlignShape& shape, const void* const* features,
                   const float* boxes, const int32_t* levels, T* pooled, uint8_t* winner) override {
    return GpuStatus("TfdetRoiAlign", RoiAlignGpu(Storage<T>::id, shape, features, boxes, levels, pooled, winner,
                                                  StreamOf(context)));
  }
};

template <typename T>
class RoiAlignGradGpuOp : public RoiAlignGradOp<T> {
 public:
  using RoiAlignGradOp<T>::RoiAlignGradOp;

 protected:
  absl::Status Run(OpKernelContext* context, const RoiAlignShape& shape, const T* upstream, const uint8_t* winner,
                   const float* boxes, const int32_t* levels, void* const* gradients) override {
    if (tensorflow::OpDeterminismRequired())
      return absl::UnimplementedError(
          "TfdetRoiAlignGrad adds in no fixed order on a GPU, and deterministic ops are asked for "
          "(enable_op_determinism). Set TFDET_OPS=python.");
    Tensor workspace;
    TF_RETURN_IF_ERROR(AllocateWorkspace(context, RoiAlignGradWorkspace(Storage<T>::id, shape), &workspace));
    return GpuStatus("TfdetRoiAlignGrad",
                     RoiAlignGradGpu(Storage<T>::id, shape, upstream, winner, boxes, levels, gradients,
                                     reinterpret_cast<float*>(workspace.flat<uint8_t>().data()), StreamOf(context)));
  }
};

#define TFDET_REGISTER(T)                                                                               \
  REGISTER_KERNEL_BUILDER(Name("TfdetRoiAlign").Device(tensorflow::DEVICE_GPU).TypeConstraint<T>("T"),  \
                          RoiAlignGpuOp<T>);                                                            \
  REGISTER_KERNEL_BUILDER(                                                                              \
      Name("TfdetRoiAlignGrad").Device(tensorflow::DEVICE_GPU).HostMemory("shapes").TypeConstraint<T>("T"), \
      RoiAlignGradGpuOp<T>);
TFDET_REGISTER(float)
TFDET_REGISTER(Eigen::half)
TFDET_REGISTER(Eigen::bfloat16)
#undef TFDET_REGISTER
#endif

}  // namespace
}  // namespace tfdet
