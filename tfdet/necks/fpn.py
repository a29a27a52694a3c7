"""Feature pyramid network as SimpleDet builds it (models/FPN/builder.py: FPNNeck).

Lin et al., Feature Pyramid Networks for Object Detection, CVPR 2017.
"""

from __future__ import annotations

import keras
import tensorflow as tf

from tfdet.config import configurable
from tfdet.config.ranges import Channels, NonNegativeFloat
from tfdet.errors import ParameterError
from tfdet.layers import (
    BN_EPSILON,
    ConfiguredLayer,
    Norm,
    SymmetricConv2D,
    convolve_and_normalize,
    draw_each,
    make_norms,
)


@configurable
class FPN(ConfiguredLayer):
    """Laterals 1x1, top-down sums of nearest-neighbour upsampled maps, 3x3 on each, and a subsampled P6.

    Args:
        channels: channels of every output.
        norm: None (zoo): no normalisation. A mode of `BatchNorm` or "group" puts one behind every lateral and every
            3x3, which then have no bias (torchvision's v2 detectors, Detectron2's new baselines).
        epsilon: of a `BatchNorm`.

    Call: [c2, c3, c4, c5] -> [p2, p3, p4, p5, p6], strides 4 to 64, each [B, ceil(H/s), ceil(W/s), channels]. The
    sums are of the maps before their 3x3. P6 takes every second pixel of P5 and serves the RPN alone.
    """

    strides = [4, 8, 16, 32, 64]

    def __init__(
        self,
        channels: Channels = 256,
        norm: Norm | None = None,
        epsilon: NonNegativeFloat = BN_EPSILON,
        name: str = "neck",
    ):
        super().__init__(name=name)
        self.channels, self.norm, self.epsilon = channels, norm, epsilon
        init = keras.initializers.VarianceScaling(1.0, mode="fan_in", distribution="uniform")
        conv = {"use_bias": norm is None, "kernel_initializer": init}
        self.laterals = [SymmetricConv2D(channels, 1, name=f"p{i}_lateral", **conv) for i in range(2, 6)]
        self.outputs_ = [SymmetricConv2D(channels, 3, name=f"p{i}_conv", **conv) for i in range(2, 6)]
        self.lateral_norms = make_norms(norm, [f"p{i}_lateral_{{}}" for i in range(2, 6)], epsilon)
        self.output_norms = make_norms(norm, [f"p{i}_{{}}" for i in range(2, 6)], epsilon)
        draw_each(self)

    def call(self, inputs: list[tf.Tensor], training: bool = False) -> list[tf.Tensor]:
        if len(inputs) != len(self.laterals):
            raise ParameterError(f"Expected 4 feature maps (c2 to c5). Received: {len(inputs)}; set num_stages = 4")
        sums = add_top_down(run_each(self.laterals, self.lateral_norms, inputs, training))
        outputs = run_each(self.outputs_, self.output_norms, sums, training)
        return [*outputs, outputs[-1][:, ::2, ::2]]


def run_each(
    convs: list[SymmetricConv2D],
    norms: list[keras.layers.Layer] | None,
    maps: list[tf.Tensor],
    training: bool = False,
) -> list[tf.Tensor]:
    """Each map [B, H, W, C] through its own convolution, and its own normalisation where there is one."""
    if norms is None:
        return [conv(x) for conv, x in zip(convs, maps, strict=True)]
    each = zip(convs, norms, maps, strict=True)
    return [convolve_and_normalize(conv, norm, x, training) for conv, norm, x in each]


def add_top_down(laterals: list[tf.Tensor]) -> list[tf.Tensor]:
    """The sums of a pyramid: each map [B, H, W, C] plus the doubled sum of the next coarser one, finest first."""
    sums = list(laterals)
    for i in reversed(range(len(sums) - 1)):
        sums[i] += _upsample_to(sums[i + 1], sums[i])
    return sums


def _upsample_to(top: tf.Tensor, lateral: tf.Tensor) -> tf.Tensor:
    """Doubles [B, h, w, C] and crops at the top left; resizing straight to an odd size would shift pixels."""
    doubled = tf.image.resize(top, tf.shape(top)[1:3] * 2, method="nearest")
    if [2 * n if n else None for n in top.shape[1:3]] == lateral.shape[1:3].as_list() and None not in lateral.shape[
        1:3
    ]:
        return doubled  # the gradient of a slice that takes everything is still a copy
    size = tf.shape(lateral)
    return doubled[:, : size[1], : size[2]]
