"""Second-stage heads: RoI features -> class logits and box deltas."""

from __future__ import annotations

from typing import Literal

import keras
import tensorflow as tf

from tfdet.backbones.resnet_v1 import Depth, ResNetV1Stage, StrideOn
from tfdet.backbones.resnet_v2 import DepthV2, ResNetV2Stage
from tfdet.config import configurable
from tfdet.config.ranges import Channels, NonNegativeFloat, NumClasses, NumConvs, Width
from tfdet.layers import (
    BN_EPSILON,
    INIT_STD,
    ConfiguredLayer,
    Norm,
    Program,
    SymmetricConv2D,
    TorchDense,
    convolve_and_normalize,
    draw_by_outputs,
    draw_each,
    make_final_norm,
    make_norms,
    takes_batch_statistics,
)

_BOX_INIT_STD = 0.001
_INITIALIZERS = {
    "uniform": (1.0, "uniform"),
    "gaussian": (2.0, "untruncated_normal"),
    "detectron2": (1.0, "uniform"),
}


class BoxPredictor(ConfiguredLayer):
    """The two output layers that every box head ends in (SimpleDet symbol/builder.py: BboxHead).

    Args:
        num_classes: C, without background.
        class_agnostic: True predicts one box a RoI, in 8 channels of which the last 4 count, as SimpleDet stores them;
            False one a class, 4 * (1 + C) channels, background first.
        initializer: N(0, .01) of the class kernel, N(0, .001) of the box kernel, biases of 0; with "torchvision" all
            from U(+-1 / sqrt(F)), see `TorchDense`.

    Call: [N, F] -> (cls_logits float32 [N, 1 + C], background first; deltas float32 [N, 8 or 4 (1 + C)]).
    """

    def __init__(
        self, num_classes: int, class_agnostic: bool, initializer: Program = "simpledet", name: str = "predictor"
    ):
        super().__init__(name=name)
        self.num_classes, self.class_agnostic, self.initializer = num_classes, class_agnostic, initializer
        outputs = 8 if class_agnostic else 4 * (1 + num_classes)
        if initializer == "torchvision":
            self.cls = TorchDense(1 + num_classes, dtype="float32", name="cls")
            self.box = TorchDense(outputs, dtype="float32", name="box")
            return
        # Float32 whatever the policy, as SimpleDet's fp16 rows have it.
        cls_init, box_init = (keras.initializers.RandomNormal(stddev=s) for s in (INIT_STD, _BOX_INIT_STD))
        self.cls = keras.layers.Dense(1 + num_classes, kernel_initializer=cls_init, dtype="float32", name="cls")
        self.box = keras.layers.Dense(outputs, kernel_initializer=box_init, dtype="float32", name="box")

    def call(self, features: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        features = tf.cast(features, tf.float32)
        return self.cls(features), self.box(features)


@configurable
class C5BboxHead(ConfiguredLayer):
    """Stage 4 on each RoI, then the mean (SimpleDet symbol/builder.py: BboxC5V1Head).

    Args:
        num_classes: C, without background.
        depth, norm, width: of the stage, as in `ResNetV1`.
        class_agnostic: see `BoxPredictor`; True in the zoo's C4 rows.
        strides: of the stage: 1 on RoIs of 7 x 7 (SimpleDet), 2 on RoIs of 14 x 14 (Detectron2's Res5ROIHeads).
        stride_on, epsilon, initializer: of the stage, as in `ResNetV1`.
        recompute: the stage's activations are computed again for the gradient and not kept.

    Call: [N, P, P, 1024] -> (cls_logits [N, 1 + C], deltas), float32; with `return_map` also the map before the mean,
    [N, 7, 7, 2048], which a mask head may read.
    """

    has_map = True  # `return_map` is understood

    def __init__(
        self,
        num_classes: NumClasses,
        depth: Depth = 50,
        norm: Norm = "frozen",
        width: Width = 1.0,
        class_agnostic: bool = True,
        strides: Literal[1, 2] = 1,
        stride_on: StrideOn = "1x1",
        epsilon: NonNegativeFloat = BN_EPSILON,
        recompute: bool = False,
        initializer: Program = "simpledet",
        name: str = "bbox_head",
    ):
        super().__init__(name=name)
        self.num_classes, self.class_agnostic = num_classes, class_agnostic
        self.depth, self.norm, self.width, self.recompute = depth, norm, width, recompute
        self.strides, self.stride_on, self.epsilon, self.initializer = strides, stride_on, epsilon, initializer
        self.stage4 = ResNetV1Stage(depth, 4, strides, norm, width, stride_on, epsilon, recompute, name="stage4")
        draw_by_outputs(self.stage4, initializer)
        self.predictor = BoxPredictor(num_classes, class_agnostic, initializer)

    def call(self, roi_features: tf.Tensor, training: bool = False, return_map: bool = False):
        x = self.stage4(roi_features, training=training)
        outputs = self.predictor(tf.reduce_mean(tf.cast(x, tf.float32), [1, 2]))
        return (*outputs, x) if return_map else outputs


@configurable
class C5V2BboxHead(ConfiguredLayer):
    """Stage 4 of a ResNet-v2 at stride 1 on each RoI, BN, ReLU, the mean (SimpleDet symbol/builder.py: BboxC5Head).

    Args:
        num_classes: C, without background.
        depth, norm, width: of the stage, as in `ResNetV2`. The last BN uses stored statistics
            but with "group".
        class_agnostic: see `BoxPredictor`; True in the zoo's C4 rows.
        recompute: the stage's activations are computed again for the gradient and not kept.

    Call: [N, 7, 7, 1024] -> (cls_logits [N, 1 + C], deltas), float32; with `return_map` also the map before the mean,
    [N, 7, 7, 2048], which a mask head may read.
    """

    has_map = True  # `return_map` is understood

    def __init__(
        self,
        num_classes: NumClasses,
        depth: DepthV2 = 50,
        norm: Norm = "frozen",
        width: Width = 1.0,
        class_agnostic: bool = True,
        recompute: bool = False,
        name: str = "bbox_head",
    ):
        super().__init__(name=name)
        self.num_classes, self.class_agnostic = num_classes, class_agnostic
        self.depth, self.norm, self.width, self.recompute = depth, norm, width, recompute
        self.stage4 = ResNetV2Stage(depth, 4, 1, norm, width, recompute=recompute, name="stage4")
        self.bn1 = make_final_norm(norm, name="bn1")
        self.predictor = BoxPredictor(num_classes, class_agnostic)

    def call(self, roi_features: tf.Tensor, training: bool = False, return_map: bool = False):
        x = self.stage4(roi_features, training=training)
        x = tf.nn.relu(self.bn1(x, training=training))
        outputs = self.predictor(tf.reduce_mean(tf.cast(x, tf.float32), [1, 2]))
        return (*outputs, x) if return_map else outputs


@configurable
class MlpBboxHead(ConfiguredLayer):
    """Two fully connected layers (SimpleDet models/FPN/builder.py: FPNBbox2fcHead).

    Args:
        num_classes: C, without background.
        channels: of both layers.
        use_bias: True in SimpleDet's first release, False in its later revision (1x1 convolutions without bias).
        class_agnostic: see `BoxPredictor`; False in the zoo's FPN rows, True in a cascade.
        initializer: of both layers' kernels: "uniform" (U(+-sqrt(3 / fan_in)); FPN rows, and Cascade of the later
            revision), "gaussian" (N(0, sqrt(2 / fan_in)); Cascade of the first release), "detectron2" (as "uniform")
            or "torchvision" (`TorchDense`, also of the predictor).

    Call: [N, P, P, C] -> (cls_logits [N, 1 + C], deltas), float32. The features are flattened H, W, C; SimpleDet's
    checkpoints flatten C, H, W, which their weight map mends.
    """

    def __init__(
        self,
        num_classes: NumClasses,
        channels: Channels = 1024,
        use_bias: bool = True,
        class_agnostic: bool = False,
        initializer: Literal["uniform", "gaussian", "detectron2", "torchvision"] = "uniform",
        name: str = "bbox_head",
    ):
        super().__init__(name=name)
        self.num_classes, self.class_agnostic = num_classes, class_agnostic
        self.channels, self.use_bias, self.initializer = channels, use_bias, initializer
        if initializer == "torchvision":
            self.fc1, self.fc2 = (TorchDense(channels, use_bias=use_bias, name=name) for name in ("fc1", "fc2"))
        else:
            scale, distribution = _INITIALIZERS[initializer]
            init = keras.initializers.VarianceScaling(scale, mode="fan_in", distribution=distribution)
            fc = {"use_bias": use_bias, "kernel_initializer": init}
            self.fc1 = keras.layers.Dense(channels, name="fc1", **fc)
            self.fc2 = keras.layers.Dense(channels, name="fc2", **fc)
        program = initializer if initializer in ("detectron2", "torchvision") else "simpledet"
        self.predictor = BoxPredictor(num_classes, class_agnostic, program)
        draw_each(self)

    def call(self, roi_features: tf.Tensor, training: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
        del training  # nothing here behaves differently; the argument is part of the heads' common call
        flat = tf.reshape(roi_features, [-1, roi_features.shape[1] * roi_features.shape[2] * roi_features.shape[3]])
        return self.predictor(tf.nn.relu(self.fc2(tf.nn.relu(self.fc1(flat)))))


@configurable
class ConvBboxHead(ConfiguredLayer):
    """3x3 convolutions with ReLU, then fully connected layers: "4conv1fc" as it comes.

    Args:
        num_classes: C, without background.
        num_convs, conv_channels: of the 3x3 convolutions.
        num_fcs, channels: of the fully connected layers, of which there is at least one.
        norm: None: the convolutions have biases. A mode of `BatchNorm` or "group" normalises them instead. Statistics
            of a batch are of the RoIs that exist, of all images of the batch.
        epsilon: of a `BatchNorm`.
        class_agnostic: see `BoxPredictor`.
        initializer: convolutions from N(0, sqrt(2 / fan_out)); fully connected layers from U(+-sqrt(3 / fan_in))
            ("detectron2") or as torch does ("torchvision", also of the predictor).

    Call: [N, P, P, C] -> (cls_logits [N, 1 + C], deltas), float32.

    Source: Detectron2 modeling/roi_heads/box_head.py, FastRCNNConvFCHead; torchvision models/detection/faster_rcnn.py,
    FastRCNNConvFCHead. Wu and He, Group Normalization, ECCV 2018, section 4.2.
    """

    def __init__(
        self,
        num_classes: NumClasses,
        num_convs: NumConvs = 4,
        conv_channels: Channels = 256,
        num_fcs: Literal[1, 2] = 1,
        channels: Channels = 1024,
        norm: Norm | None = None,
        epsilon: NonNegativeFloat = BN_EPSILON,
        class_agnostic: bool = False,
        initializer: Literal["detectron2", "torchvision"] = "detectron2",
        name: str = "bbox_head",
    ):
        super().__init__(name=name)
        self.num_classes, self.class_agnostic, self.initializer = num_classes, class_agnostic, initializer
        self.num_convs, self.conv_channels, self.num_fcs, self.channels = num_convs, conv_channels, num_fcs, channels
        self.norm, self.epsilon, self.takes_batch_statistics = norm, epsilon, takes_batch_statistics(norm)
        init = keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")
        conv = {"use_bias": norm is None, "kernel_initializer": init}
        numbers = range(1, num_convs + 1)
        self.convs = [SymmetricConv2D(conv_channels, 3, name=f"conv{i}", **conv) for i in numbers]
        self.norms = make_norms(norm, [f"{{}}{i}" for i in numbers], epsilon)
        names = [f"fc{i}" for i in range(1, num_fcs + 1)]
        if initializer == "torchvision":
            self.fcs = [TorchDense(channels, name=name) for name in names]
        else:
            uniform = keras.initializers.VarianceScaling(1.0, "fan_in", "uniform")
            self.fcs = [keras.layers.Dense(channels, kernel_initializer=uniform, name=name) for name in names]
        self.predictor = BoxPredictor(num_classes, class_agnostic, initializer)
        draw_each(self)

    def hidden(self, roi_features: tf.Tensor, training: bool = False) -> tf.Tensor:
        """What the predictor reads: [N, P, P, C] -> [N, channels]."""
        x = roi_features
        for i, conv in enumerate(self.convs):
            x = conv(x) if self.norms is None else convolve_and_normalize(conv, self.norms[i], x, training)
            x = tf.nn.relu(x)
        x = tf.reshape(x, [-1, x.shape[1] * x.shape[2] * x.shape[3]])
        for fc in self.fcs:
            x = tf.nn.relu(fc(x))
        return x

    def call(self, roi_features: tf.Tensor, training: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
        return self.predictor(self.hidden(roi_features, training))
