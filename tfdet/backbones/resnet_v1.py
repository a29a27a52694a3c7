"""ResNet-v1 as SimpleDet builds it (mxnext backbone/resnet_v1.py), the MSRA variant: stride on the first 1x1.

He et al., Deep Residual Learning for Image Recognition, CVPR 2016.
"""

from __future__ import annotations

import keras
import tensorflow as tf

from tfdet.config import configurable
from tfdet.layers import SymmetricConv2D, make_norm, recomputed

UNITS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
"""Residual units of the four stages, by depth."""

_STEM_CHANNELS = 64


def stage_channels(depth: int, stage: int, width: float = 1.0) -> tuple[int, int]:
    """(inner, output) channels of a stage, 1 to 4; `width` multiplies both."""
    inner = round(_STEM_CHANNELS * 2 ** (stage - 1) * width)
    return inner, inner if depth == 18 else 4 * inner


def check_recompute(stages: tuple[int, ...], num_stages: int, name: str) -> None:
    """`ValueError` where one of the stages to recompute is not there."""
    if any(stage not in range(1, num_stages + 1) for stage in stages):
        raise ValueError(f"Expected stages from 1 to {num_stages} in {name}.recompute. Received: {tuple(stages)}")


class BottleneckUnit(keras.layers.Layer):
    """1x1 (stride here) -> 3x3 -> 1x1, each with BN; shortcut added; ReLU after the sum.

    Args:
        inner, outer: channels of the first two and of the last convolution.
        strides: stride of the first 1x1 and of the projection.
        project: whether the shortcut is a 1x1 convolution with BN rather than the input.
        norm: of `make_norm`.
    """

    def __init__(self, inner: int, outer: int, strides: int, project: bool, norm: str, **kwargs):
        super().__init__(**kwargs)
        self.conv1 = SymmetricConv2D(inner, 1, strides, name="conv1")
        self.bn1 = make_norm(norm, name="bn1")
        self.conv2 = SymmetricConv2D(inner, 3, name="conv2")
        self.bn2 = make_norm(norm, name="bn2")
        self.conv3 = SymmetricConv2D(outer, 1, name="conv3")
        self.bn3 = make_norm(norm, name="bn3")
        self.sc = SymmetricConv2D(outer, 1, strides, name="sc") if project else None
        self.sc_bn = make_norm(norm, name="sc_bn") if project else None

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        x = tf.nn.relu(self.bn1(self.conv1(inputs), training=training))
        x = tf.nn.relu(self.bn2(self.conv2(x), training=training))
        x = self.bn3(self.conv3(x), training=training)
        shortcut = self.sc_bn(self.sc(inputs), training=training) if self.sc else inputs
        return tf.nn.relu(x + shortcut)


class BasicUnit(keras.layers.Layer):
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
        x = tf.nn.relu(self.bn1(self.conv1(inputs), training=training))
        x = self.bn2(self.conv2(x), training=training)
        shortcut = self.sc_bn(self.sc(inputs), training=training) if self.sc else inputs
        return tf.nn.relu(x + shortcut)


class ResNetV1Stage(keras.layers.Layer):
    """All residual units of one stage.

    Args:
        depth: 18, 50 or 101.
        stage: 1 to 4; sets the number of units and the channels.
        strides: stride of the first unit.
        norm: "frozen", "local", "sync" or "group" (`make_norm`).
        width: multiplies the channels.
        recompute: in training keep each unit's input alone and compute the rest again for the gradient.

    Shapes: [B, H, W, Cin] -> [B, ceil(H / strides), ceil(W / strides), Cout], after ReLU.
    """

    def __init__(
        self, depth: int, stage: int, strides: int, norm: str, width: float = 1.0, recompute: bool = False, **kwargs
    ):
        super().__init__(**kwargs)
        self.recompute = recompute
        inner, outer = stage_channels(depth, stage, width)
        unit = BasicUnit if depth == 18 else BottleneckUnit
        self.units = [
            # Every stage of SimpleDet's nets starts with a projection, stage 1 too (its channels grow from 64 to 256).
            unit(inner, outer, strides if i == 0 else 1, i == 0, norm, name=f"unit{i + 1}")
            for i in range(UNITS[depth][stage - 1])
        ]

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        x = inputs
        for unit in self.units:
            x = recomputed(unit, x, training=True) if self.recompute and training else unit(x, training=training)
        return x


@configurable
class ResNetV1(keras.layers.Layer):
    """ResNet-v1 backbone.

    Args:
        depth: 18, 50 or 101.
        num_stages: 3 for C4 detectors (their RCNN head owns stage 4), 4 for FPN.
        norm: "frozen" (zoo), "local", "sync" or "group".
        width: channel multiplier, 1.0 in the zoo.
        recompute: stages, 1 to 4, whose activations are computed again for the gradient and not kept; () for none.

    Call: float [B, H, W, 3], mean-subtracted RGB -> list [c2, c3, c4(, c5)] of [B, H/s, W/s, C], strides 4 to 32,
    C = 256, 512, 1024, 2048 (times width), all after ReLU.
    """

    def __init__(
        self,
        depth: int = 50,
        num_stages: int = 3,
        norm: str = "frozen",
        width: float = 1.0,
        recompute: tuple[int, ...] = (),
        name: str = "backbone",
    ):
        super().__init__(name=name)
        if depth not in UNITS:
            raise ValueError(f"Expected ResNetV1.depth to be one of {sorted(UNITS)}. Received: depth={depth}")
        check_recompute(recompute, num_stages, "ResNetV1")
        self.depth, self.num_stages, self.norm, self.width = depth, num_stages, norm, width
        self.recompute = tuple(recompute)
        self.strides = [4, 8, 16, 32][:num_stages]
        self.conv0 = SymmetricConv2D(round(_STEM_CHANNELS * width), 7, 2, name="conv0")
        self.bn0 = make_norm(norm, name="bn0")
        self.stages = [
            ResNetV1Stage(depth, s, 1 if s == 1 else 2, norm, width, s in recompute, name=f"stage{s}")
            for s in range(1, num_stages + 1)
        ]

    def stem(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Convolution, BN, ReLU and max pooling: [B, H, W, 3] -> [B, H/4, W/4, 64 * width]."""
        x = tf.nn.relu(self.bn0(self.conv0(inputs), training=training))
        # Pad 1 on both sides with zeros, which equals -inf here: the input is not negative.
        return tf.nn.max_pool2d(tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]), 3, 2, "VALID")

    def call(self, inputs: tf.Tensor, training: bool = False) -> list[tf.Tensor]:
        x = self.stem(inputs, training=training)
        features = []
        for stage in self.stages:
            x = stage(x, training=training)
            features.append(x)
        return features

    def get_config(self):
        return {
            "depth": self.depth,
            "num_stages": self.num_stages,
            "norm": self.norm,
            "width": self.width,
            "recompute": self.recompute,
            "name": self.name,
        }
