"""RetinaNet's dense head (SimpleDet models/retinanet/builder.py: RetinaNetHead).

Lin et al., Focal Loss for Dense Object Detection, ICCV 2017.
"""

from __future__ import annotations

import math

import keras
import tensorflow as tf

from tfdet.config import configurable
from tfdet.config.ranges import Channels, NumClasses, NumConvs, OpenFraction, PositiveFloat, PositiveInt
from tfdet.layers import (
    INIT_STD,
    ConfiguredLayer,
    HeadNorm,
    SymmetricConv2D,
    draw_each,
    make_head_norms,
)


@configurable
class RetinaHead(ConfiguredLayer):
    """Two towers of 3x3 convolutions with ReLU, one for classes and one for boxes, shared by all levels.

    Args:
        num_classes: C, without background.
        num_anchors: anchors of a cell, A.
        channels: of the towers' convolutions.
        num_convs: convolutions of a tower, before its 3x3 predictor.
        prior: the score every class begins with, in (0, 1): the bias of the class predictor is its logit.
        init_std: standard deviation of the initial kernels. 0.01 suits 256 channels; narrow towers need more, or
            nothing of the features reaches the predictors.
        norm: "group" puts a `GroupNorm` behind every convolution of the towers, which then have no bias; None (zoo)
            none.

    Call: list of [B, H, W, Cin] -> list of (cls_logits [B, H, W, A * C], channel a * C + c; deltas [B, H, W, 4 * A],
    channel 4 * a + k), float32. The scores are sigmoids: there is no background channel.
    """

    def __init__(
        self,
        num_classes: NumClasses,
        num_anchors: PositiveInt,
        channels: Channels = 256,
        num_convs: NumConvs = 4,
        prior: OpenFraction = 0.01,
        init_std: PositiveFloat = INIT_STD,
        norm: HeadNorm | None = None,
        name: str = "retina_head",
    ):
        super().__init__(name=name)
        self.num_classes, self.num_anchors, self.prior = num_classes, num_anchors, prior
        self.channels, self.num_convs, self.init_std, self.norm = channels, num_convs, init_std, norm
        conv = {"use_bias": norm is None, "kernel_initializer": keras.initializers.RandomNormal(stddev=init_std)}
        self.cls_convs = [SymmetricConv2D(channels, 3, name=f"cls_conv{i + 1}", **conv) for i in range(num_convs)]
        self.box_convs = [SymmetricConv2D(channels, 3, name=f"box_conv{i + 1}", **conv) for i in range(num_convs)]
        self.cls_norms = make_head_norms(norm, [f"cls_gn{i + 1}" for i in range(num_convs)])
        self.box_norms = make_head_norms(norm, [f"box_gn{i + 1}" for i in range(num_convs)])
        # Float32 whatever the policy: SimpleDet casts behind the towers, so that scores and boxes are never in half.
        conv |= {"dtype": "float32", "use_bias": True}
        bias = keras.initializers.Constant(-math.log((1 - prior) / prior))
        self.cls = SymmetricConv2D(num_anchors * num_classes, 3, bias_initializer=bias, name="cls", **conv)
        self.box = SymmetricConv2D(num_anchors * 4, 3, name="box", **conv)
        draw_each(self)

    def call(self, features: list[tf.Tensor]) -> list[tuple[tf.Tensor, tf.Tensor]]:
        return [
            (
                self.cls(self.tower(x, self.cls_convs, self.cls_norms)),
                self.box(self.tower(x, self.box_convs, self.box_norms)),
            )
            for x in features
        ]

    @staticmethod
    def tower(x: tf.Tensor, convs: list[SymmetricConv2D], norms: list[keras.layers.Layer] | None = None) -> tf.Tensor:
        """What a predictor reads: [B, H, W, Cin] -> float32 [B, H, W, channels]."""
        for i, conv in enumerate(convs):
            x = conv(x)
            x = tf.nn.relu(x if norms is None else norms[i](x))
        return tf.cast(x, tf.float32)
