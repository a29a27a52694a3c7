"""Region proposal network head (SimpleDet symbol/builder.py: RpnHead; models/FPN/builder.py: FPNRpnHead).

Ren et al., Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks, NIPS 2015.
"""

from __future__ import annotations

from typing import Literal

import keras
import tensorflow as tf

from tfdet.config import configurable
from tfdet.config.ranges import Channels, PositiveInt
from tfdet.layers import INIT_STD, ConfiguredLayer, SymmetricConv2D, draw_each


@configurable
class RpnHead(ConfiguredLayer):
    """3x3 convolutions with ReLU, then 1x1 convolutions for class logits and box deltas, shared by all levels.

    Args:
        num_anchors: anchors of a cell, A.
        channels: of the 3x3 convolutions; 512 on C4, 256 on FPN.
        num_convs: 3x3 convolutions; 1 but in torchvision's v2 detectors and Detectron2's new baselines, which have 2.
        objectness: "softmax" of background and foreground, or "sigmoid" of one logit (Detectron2, torchvision).

    Call: list of [B, H, W, C] -> list of (cls_logits [B, H, W, 2A or A], deltas [B, H, W, 4A]), float32. Logit channels
    are the backgrounds of all anchors, then their foregrounds; of a sigmoid they are the anchors. Delta channels are
    4a + k.
    """

    def __init__(
        self,
        num_anchors: PositiveInt,
        channels: Channels = 512,
        objectness: Literal["softmax", "sigmoid"] = "softmax",
        num_convs: PositiveInt = 1,
        name: str = "rpn_head",
    ):
        super().__init__(name=name)
        self.num_anchors, self.channels, self.objectness = num_anchors, channels, objectness
        init = keras.initializers.RandomNormal(stddev=INIT_STD)
        self.num_convs = num_convs
        # The first one is called as where it is the only one.
        self.convs = [
            SymmetricConv2D(channels, 3, use_bias=True, kernel_initializer=init, name="conv" if i == 1 else f"conv{i}")
            for i in range(1, num_convs + 1)
        ]
        # SimpleDet casts to float32 after the shared convolution: scores and boxes never live in half precision.
        one_by_one = {"use_bias": True, "kernel_initializer": init, "dtype": "float32"}
        self.cls = SymmetricConv2D((2 if objectness == "softmax" else 1) * num_anchors, 1, name="cls", **one_by_one)
        self.box = SymmetricConv2D(4 * num_anchors, 1, name="box", **one_by_one)
        draw_each(self)

    def call(self, features: list[tf.Tensor]) -> list[tuple[tf.Tensor, tf.Tensor]]:
        outputs = []
        for x in features:
            for conv in self.convs:
                x = tf.nn.relu(conv(x))
            outputs.append(self._outputs(tf.cast(x, tf.float32)))
        return outputs

    def _outputs(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Both output layers as one: of so few channels, what they cost is the reading of `x`."""
        layers = (self.cls, self.box)
        # Within the call of a half-precision layer the weights would come as half.
        if self.compute_dtype != "float32" or not all(layer.built for layer in layers):
            return tuple(layer(x) for layer in layers)
        kernel, bias = (
            tf.concat([tf.convert_to_tensor(weight) for weight in weights], axis=-1)
            for weights in ([layer.kernel for layer in layers], [layer.bias for layer in layers])
        )
        joined = tf.nn.bias_add(self.cls.convolve(x, kernel), bias)
        return tuple(tf.split(joined, [layer.filters for layer in layers], axis=-1))


def split_logits(cls_logits: tf.Tensor) -> tf.Tensor:
    """[B, H, W, 2A] of `RpnHead` -> [B, H, W, A, 2], last axis (background, foreground)."""
    shape = tf.shape(cls_logits)
    anchors = cls_logits.shape[-1] // 2
    blocks = tf.reshape(cls_logits, [shape[0], shape[1], shape[2], 2, anchors])
    return tf.transpose(blocks, [0, 1, 2, 4, 3])


def flatten_levels(rpn: list[tuple[tf.Tensor, tf.Tensor]]) -> tuple[tf.Tensor, tf.Tensor]:
    """RPN maps -> logits [B, N, 2 or 1] and deltas [B, N, 4], in the order of the concatenated anchor grids."""
    batch = tf.shape(rpn[0][0])[0]
    if rpn[0][0].shape[-1] * 4 == rpn[0][1].shape[-1]:  # one logit an anchor
        logits = [tf.reshape(cls, [batch, -1, 1]) for cls, _ in rpn]
    else:
        logits = [tf.reshape(split_logits(cls), [batch, -1, 2]) for cls, _ in rpn]
    deltas = [tf.reshape(box, [batch, -1, 4]) for _, box in rpn]
    return tf.concat(logits, axis=1), tf.concat(deltas, axis=1)
