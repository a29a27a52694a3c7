"""ResNet-v1 as SimpleDet builds it (mxnext backbone/resnet_v1.py), the MSRA variant: stride on the first 1x1.

Detectron2's and torchvision's are options of it: stride on the 3x3, another epsilon, branches of dilations in stage 3.

He et al., Deep Residual Learning for Image Recognition, CVPR 2016.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import tensorflow as tf

from tfdet.config import configurable
from tfdet.config.ranges import Channels, NonNegativeFloat, PositiveInt, Range, Width
from tfdet.errors import ParameterError
from tfdet.layers import (
    BN_EPSILON,
    CompositeLayer,
    ConfiguredLayer,
    DilatedConv2D,
    Norm,
    Program,
    SymmetricConv2D,
    convolve_and_normalize,
    draw_by_outputs,
    make_norm,
    recomputed,
)

UNITS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
"""Residual units of the four stages, by depth."""

Depth = Literal[18, 50, 101]
Stage = Literal[1, 2, 3, 4]
StrideOn = Literal["1x1", "3x3"]

_STEM_CHANNELS = 64


def stage_channels(depth: int, stage: int, width: float = 1.0) -> tuple[int, int]:
    """(inner, output) channels of a stage, 1 to 4; `width` multiplies both."""
    inner = round(_STEM_CHANNELS * 2 ** (stage - 1) * width)
    return inner, inner if depth == 18 else 4 * inner


def check_recompute(stages: tuple[int, ...], num_stages: int, name: str) -> None:
    """`ParameterError` where one of the stages to recompute is not there."""
    if max(stages, default=0) > num_stages:
        raise ParameterError(f"Expected stages from 1 to {num_stages} in {name}.recompute. Received: {tuple(stages)}")


class BottleneckUnit(CompositeLayer):
    """1x1 -> 3x3 -> 1x1, each with BN; shortcut added; ReLU after the sum.

    Args:
        inner, outer: channels of the first two and of the last convolution.
        strides: stride of the unit and of the projection.
        project: whether the shortcut is a 1x1 convolution with BN rather than the input.
        norm: of `make_norm`.
        stride_on: the convolution that has the stride, "1x1" (the first) or "3x3".
        epsilon: of `BatchNorm`.

    Call: [B, H, W, Cin] -> [B, H', W', outer]. With `dilations` of k branches, for which the stride is on the 1x1, the
    input is [k B, H, W, Cin], image-major, or with `split` [B, H, W, Cin], the same for all; see `DilatedConv2D`.
    """

    def __init__(
        self,
        inner: int,
        outer: int,
        strides: int,
        project: bool,
        norm: str,
        stride_on: str = "1x1",
        epsilon: float = BN_EPSILON,
        **kwargs,
    ):
        super().__init__(**kwargs)
        # A strided 1x1 convolution is a plain one on every s-th pixel.
        self.subsampling, second = (strides, 1) if stride_on == "1x1" else (1, strides)
        self.conv1 = SymmetricConv2D(inner, 1, name="conv1")
        self.bn1 = make_norm(norm, name="bn1", bn_epsilon=epsilon)
        self.conv2 = DilatedConv2D(inner, 3, second, name="conv2")
        self.bn2 = make_norm(norm, name="bn2", bn_epsilon=epsilon)
        self.conv3 = SymmetricConv2D(outer, 1, name="conv3")
        self.bn3 = make_norm(norm, name="bn3", bn_epsilon=epsilon)
        self.sc = SymmetricConv2D(outer, 1, second, name="sc") if project else None
        self.sc_bn = make_norm(norm, name="sc_bn", bn_epsilon=epsilon) if project else None

    def call(
        self,
        inputs: tf.Tensor,
        training: bool = False,
        dilations: Sequence[int] | None = None,
        split: bool = False,
    ) -> tf.Tensor:
        if self.subsampling > 1:  # once for both of its readers
            inputs = inputs[:, :: self.subsampling, :: self.subsampling]
        x = tf.nn.relu(convolve_and_normalize(self.conv1, self.bn1, inputs, training))
        x = convolve_and_normalize(self.conv2, self.bn2, x, training, dilations=dilations, split=split)
        x = convolve_and_normalize(self.conv3, self.bn3, tf.nn.relu(x), training)
        shortcut = convolve_and_normalize(self.sc, self.sc_bn, inputs, training) if self.sc else inputs
        if dilations and split and len(dilations) > 1:
            shortcut = tf.repeat(shortcut, len(dilations), axis=0)
        return tf.nn.relu(x + shortcut)


class BasicUnit(CompositeLayer):
    """3x3 (stride here) -> 3x3 of ResNet-18; not part of SimpleDet's zoo, for small runs. Args as `BottleneckUnit`."""

    def __init__(self, inner: int, outer: int, strides: int, project: bool, norm: str, **kwargs):
        super().__init__(**kwargs)
        self.conv1 = SymmetricConv2D(inner, 3, strides, name="conv1")
        self.bn1 = make_norm(norm, name="bn1")
        self.conv2 = SymmetricConv2D(outer, 3, name="conv2")
        self.bn2 = make_norm(norm, name="bn2")
        self.sc = SymmetricConv2D(outer, 1, strides, name="sc") if project else None
        self.sc_bn = make_norm(norm, name="sc_bn") if project else None

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        x = tf.nn.relu(convolve_and_normalize(self.conv1, self.bn1, inputs, training))
        x = convolve_and_normalize(self.conv2, self.bn2, x, training)
        shortcut = convolve_and_normalize(self.sc, self.sc_bn, inputs, training) if self.sc else inputs
        return tf.nn.relu(x + shortcut)


class ResNetV1Stage(CompositeLayer):
    """All residual units of one stage.

    Args:
        depth: 18, 50 or 101.
        stage: 1 to 4; sets the number of units and the channels.
        strides: stride of the first unit.
        norm: "frozen", "local", "sync" or "group" (`make_norm`).
        width: multiplies the channels.
        stride_on, epsilon: of every `BottleneckUnit`.
        recompute: in training keep each unit's input alone and compute the rest again for the gradient.

    Call: [B, H, W, Cin] -> [B, ceil(H / strides), ceil(W / strides), Cout], after ReLU. With `dilations` of k branches,
    which begin in the first unit, the output has k B images, image-major.
    """

    def __init__(
        self,
        depth: int,
        stage: int,
        strides: int,
        norm: str,
        width: float = 1.0,
        stride_on: str = "1x1",
        epsilon: float = BN_EPSILON,
        recompute: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.recompute = recompute
        inner, outer = stage_channels(depth, stage, width)
        unit = BasicUnit if depth == 18 else BottleneckUnit
        options = {} if depth == 18 else {"stride_on": stride_on, "epsilon": epsilon}
        self.units = [
            # Every stage of SimpleDet's nets starts with a projection, stage 1 too (its channels grow from 64 to 256).
            unit(inner, outer, strides if i == 0 else 1, i == 0, norm, name=f"unit{i + 1}", **options)
            for i in range(UNITS[depth][stage - 1])
        ]

    def call(self, inputs: tf.Tensor, training: bool = False, dilations: Sequence[int] | None = None) -> tf.Tensor:
        x = inputs
        for i, unit in enumerate(self.units):
            options = {"training": training}
            if dilations:
                options |= {"dilations": dilations, "split": i == 0}
            x = recomputed(unit, x, **options) if self.recompute and training else unit(x, **options)
        return x


@configurable
class ResNetV1(ConfiguredLayer):
    """ResNet-v1 backbone.

    Args:
        depth: 18, 50 or 101.
        num_stages: 3 for C4 detectors (their RCNN head owns stage 4), 4 for FPN.
        norm: "frozen" (zoo), "local", "sync" or "group".
        width: channel multiplier, 1.0 in the zoo.
        stem_channels: of the first convolution; None: 64 times width.
        stride_on: the convolution of a stage's first unit that has the stride: "1x1" (MSRA, Detectron2's R-50) or "3x3"
            (torchvision).
        epsilon: of every BN; torchvision's published COCO_V1 detectors were trained with 0.
        branches: dilations of stage 3, one a branch, while training; () for no branches (Detectron2's TridentNet, whose
            branches begin in the stage's first unit).
        test_branches: the same while testing: `branches`, or the one of a TridentNet-Fast.
        recompute: stages, 1 to 4, whose activations are computed again for the gradient and not kept; () for none.
        initializer: N(0, sqrt(2 / n)) of the kernels with n of the inputs ("simpledet") or outputs (the others).

    Call: float [B, H, W, 3], mean-subtracted RGB -> list [c2, c3, c4(, c5)] of [B, H/s, W/s, C], strides 4 to 32,
    C = 256, 512, 1024, 2048 (times width), all after ReLU. With k branches c4 has k images for one, image-major.
    """

    def __init__(
        self,
        depth: Depth = 50,
        num_stages: Annotated[int, Range(least=1, most=4)] = 3,
        norm: Norm = "frozen",
        width: Width = 1.0,
        stem_channels: Channels | None = None,
        stride_on: StrideOn = "1x1",
        epsilon: NonNegativeFloat = BN_EPSILON,
        branches: tuple[PositiveInt, ...] = (),
        test_branches: tuple[PositiveInt, ...] = (),
        recompute: tuple[Stage, ...] = (),
        initializer: Program = "simpledet",
        name: str = "backbone",
    ):
        super().__init__(name=name)
        _check_branches(depth, num_stages, stride_on, branches, test_branches)
        check_recompute(recompute, num_stages, "ResNetV1")
        self.depth, self.num_stages, self.norm, self.width = depth, num_stages, norm, width
        self.stem_channels, self.stride_on, self.epsilon = stem_channels, stride_on, epsilon
        self.branches, self.test_branches = tuple(branches), tuple(test_branches)
        self.recompute, self.initializer = tuple(recompute), initializer
        self.strides = [4, 8, 16, 32][:num_stages]
        self.conv0 = SymmetricConv2D(stem_channels or round(_STEM_CHANNELS * width), 7, 2, name="conv0")
        self.bn0 = make_norm(norm, name="bn0", bn_epsilon=epsilon)
        self.stages = [
            ResNetV1Stage(
                depth, s, 1 if s == 1 else 2, norm, width, stride_on, epsilon, s in recompute, name=f"stage{s}"
            )
            for s in range(1, num_stages + 1)
        ]
        draw_by_outputs(self, initializer)

    def stem(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Convolution, BN, ReLU and max pooling: [B, H, W, 3] -> [B, H/4, W/4, 64 * width]."""
        x = tf.nn.relu(convolve_and_normalize(self.conv0, self.bn0, inputs, training))
        # Pad 1 on both sides with zeros, which equals -inf here: the input is not negative.
        return tf.nn.max_pool2d(tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]), 3, 2, "VALID")

    def dilations(self, training: bool) -> tuple[int, ...]:
        """The branches of this phase, one dilation each; () where there are none."""
        return self.branches if training else self.test_branches

    def call(self, inputs: tf.Tensor, training: bool = False) -> list[tf.Tensor]:
        x = self.stem(inputs, training=training)
        features = []
        for number, stage in enumerate(self.stages, 1):
            dilations = self.dilations(training) if number == 3 else ()
            x = stage(x, training=training, dilations=dilations or None)
            features.append(x)
        return features


def _check_branches(depth: int, num_stages: int, stride_on: str, branches, test_branches) -> None:
    if bool(branches) != bool(test_branches):
        raise ParameterError(
            "Expected ResNetV1.branches and test_branches both empty or both not. "
            f"Received: branches={tuple(branches)}, test_branches={tuple(test_branches)}"
        )
    if branches and (num_stages != 3 or depth == 18 or stride_on != "1x1"):
        raise ParameterError(
            "Expected with ResNetV1.branches three stages of bottleneck units with the stride on the 1x1. "
            f"Received: depth={depth}, num_stages={num_stages}, stride_on={stride_on!r}"
        )
