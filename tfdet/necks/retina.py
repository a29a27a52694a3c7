"""RetinaNet's feature pyramid as SimpleDet builds it (models/retinanet/builder.py: RetinaNetNeck).

Lin et al., Focal Loss for Dense Object Detection, ICCV 2017.
"""

from __future__ import annotations

from typing import Literal

import keras
import tensorflow as tf

from tfdet.config import configurable
from tfdet.config.ranges import Channels, NonNegativeFloat
from tfdet.errors import ParameterError
from tfdet.layers import BN_EPSILON, ConfiguredLayer, Norm, SymmetricConv2D, draw_each, make_norms
from tfdet.necks.fpn import add_top_down, run_each


@configurable
class RetinaNeck(ConfiguredLayer):
    """P3 to P5 as `FPN` makes them, P6 by a strided 3x3 of c5 (or of P5), P7 by a strided 3x3 of ReLU(P6).

    Args:
        channels: channels of every output.
        p6_from: what P6 is made of: "c5" (SimpleDet, Detectron2) or "p5" (torchvision).
        norm: None (zoo): no normalisation. A mode of `BatchNorm` or "group" puts one behind every lateral and every
            3x3 of P3 to P5, which then have no bias.
        epsilon: of a `BatchNorm`.

    Call: [c2, c3, c4, c5] -> [p3, p4, p5, p6, p7], strides 8 to 128, each [B, ceil(H/s), ceil(W/s), channels]. c2 is
    not used. P6 itself has no ReLU: only what P7 sees of it.
    """

    strides = [8, 16, 32, 64, 128]

    def __init__(
        self,
        channels: Channels = 256,
        p6_from: Literal["c5", "p5"] = "c5",
        norm: Norm | None = None,
        epsilon: NonNegativeFloat = BN_EPSILON,
        name: str = "neck",
    ):
        super().__init__(name=name)
        self.channels, self.p6_from, self.norm, self.epsilon = channels, p6_from, norm, epsilon
        init = keras.initializers.VarianceScaling(1.0, mode="fan_in", distribution="uniform")
        plain = {"use_bias": True, "kernel_initializer": init}
        conv = plain | {"use_bias": norm is None}
        self.laterals = [SymmetricConv2D(channels, 1, name=f"p{i}_lateral", **conv) for i in range(3, 6)]
        self.outputs_ = [SymmetricConv2D(channels, 3, name=f"p{i}_conv", **conv) for i in range(3, 6)]
        self.lateral_norms = make_norms(norm, [f"p{i}_lateral_{{}}" for i in range(3, 6)], epsilon)
        self.output_norms = make_norms(norm, [f"p{i}_{{}}" for i in range(3, 6)], epsilon)
        self.p6 = SymmetricConv2D(channels, 3, strides=2, name="p6_conv", **plain)
        self.p7 = SymmetricConv2D(channels, 3, strides=2, name="p7_conv", **plain)
        draw_each(self)

    def call(self, inputs: list[tf.Tensor], training: bool = False) -> list[tf.Tensor]:
        if len(inputs) != 4:
            raise ParameterError(f"Expected 4 feature maps (c2 to c5). Received: {len(inputs)}; set num_stages = 4")
        sums = add_top_down(run_each(self.laterals, self.lateral_norms, inputs[1:], training))
        outputs = run_each(self.outputs_, self.output_norms, sums, training)
        p6 = self.p6(inputs[-1] if self.p6_from == "c5" else outputs[-1])
        return [*outputs, p6, self.p7(tf.nn.relu(p6))]
