"""The neck of SimpleDet's Cascade R-CNN rows: one convolution before the RoIs are pooled."""

from __future__ import annotations

import keras
import tensorflow as tf

from tfdet.config import configurable
from tfdet.config.ranges import Channels, PoolSize, PositiveInt
from tfdet.layers import INIT_STD, ConfiguredLayer, SymmetricConv2D


@configurable
class ReduceNeck(ConfiguredLayer):
    """A convolution with ReLU on the last map, which the RoIs are pooled from; the map before it is the RPN's.

    Args:
        channels: of the convolution.
        kernel_size: odd: 1 in the first release (models/cascade_rcnn/builder.py: CascadeNeck), 3 in the later revision
            (symbol/builder.py: ReduceNeck).
        use_bias: True in the first release, with kernels drawn from N(0, .01); False in the later revision, with the
            default ones.
        stride: of both maps, pixels.

    Call: [..., c4, c5], both at `stride` -> [c4, reduced], `strides` [16, 16], reduced [B, H, W, channels].
    """

    def __init__(
        self,
        channels: Channels = 1024,
        kernel_size: PoolSize = 1,
        use_bias: bool = True,
        stride: PositiveInt = 16,
        name: str = "neck",
    ):
        super().__init__(name=name)
        self.channels, self.kernel_size, self.use_bias, self.stride = channels, kernel_size, use_bias, stride
        self.strides = [stride, stride]
        init = keras.initializers.RandomNormal(stddev=INIT_STD) if use_bias else None
        self.conv = SymmetricConv2D(channels, kernel_size, use_bias=use_bias, kernel_initializer=init, name="reduce")

    def call(self, inputs: list[tf.Tensor], training: bool = False) -> list[tf.Tensor]:
        del training  # nothing here behaves differently; the argument is part of the necks' common call
        return [inputs[-2], tf.nn.relu(self.conv(inputs[-1]))]
