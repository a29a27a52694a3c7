"""A convolution that looks where its input tells it to."""

from __future__ import annotations

import keras
import tensorflow as tf

from tfdet.errors import ParameterError
from tfdet.layers.conv import SymmetricConv2D
from tfdet.ops.deform_conv import deform_conv2d


class DeformConv2D(keras.layers.Layer):
    """Deformable convolution whose offsets are a convolution of the same input; version 2 with a mask as well.

    The inner convolution `offset` has this layer's kernel size, stride and dilation and begins at zero, so that the
    layer begins as an ordinary convolution (version 2: as half of one, the mask being sigmoid(0)). Its channels are
    those of Detectron2's `conv2_offset` and SimpleDet's `conv2_offset`, in their order: for each offset group and tap
    y and then x, behind them in version 2 the mask's logits for each group and tap.

    Args:
        filters: number of output channels.
        kernel_size: odd integer.
        strides: integer stride of both axes.
        dilation_rate: integer dilation of both axes.
        groups: of input and output channels, as of a grouped convolution.
        offset_groups: of input channels that move together; SimpleDet has 4.
        modulated: version 2, with a mask.
        use_bias: bias of the deformable convolution.
        offset_bias: bias of the offsets' convolution; Detectron2 has one, SimpleDet has none.
        kernel_initializer: as of `SymmetricConv2D`.
        **kwargs: of `keras.layers.Layer` (name, dtype).

    Weights: `kernel` [k, k, C / groups, filters], `bias` [filters], `offset/kernel` and `offset/bias` of
    2 (version 2: 3) * offset_groups * k * k channels.

    Shapes: [B, H, W, C] -> [B, H', W', filters], as `SymmetricConv2D`.

    Source: Dai et al., Deformable Convolutional Networks, ICCV 2017; Zhu et al., Deformable ConvNets v2, CVPR 2019;
        Detectron2 modeling/backbone/resnet.py, DeformBottleneckBlock; SimpleDet models/dcn/builder.py.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int = 3,
        strides: int = 1,
        dilation_rate: int = 1,
        groups: int = 1,
        offset_groups: int = 1,
        modulated: bool = False,
        use_bias: bool = False,
        offset_bias: bool = True,
        kernel_initializer: str | keras.initializers.Initializer | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if kernel_size % 2 == 0:
            raise ParameterError(f"Expected an odd kernel_size. Received: kernel_size={kernel_size}")
        if filters % groups:
            raise ParameterError(f"Expected filters in groups of equal size. Received: {filters=}, {groups=}")
        self.filters, self.kernel_size, self.strides, self.dilation_rate = filters, kernel_size, strides, dilation_rate
        self.groups, self.offset_groups, self.modulated = groups, offset_groups, modulated
        self.use_bias, self.offset_bias = use_bias, offset_bias
        self.kernel_initializer = keras.initializers.get(
            kernel_initializer or keras.initializers.VarianceScaling(2.0, "fan_in", "untruncated_normal")
        )
        self.kernel = self.bias = None
        self.offset = SymmetricConv2D(
            (3 if modulated else 2) * offset_groups * kernel_size**2,
            kernel_size,
            strides=strides,
            dilation_rate=dilation_rate,
            use_bias=offset_bias,
            kernel_initializer="zeros",
            dtype=self.dtype_policy,
            name="offset",
        )

    def build(self, input_shape):
        channels = input_shape[-1]
        if channels % self.groups or channels % self.offset_groups:
            raise ParameterError(
                f"{channels} input channels cannot be parted in groups={self.groups} and "
                f"offset_groups={self.offset_groups}"
            )
        shape = (self.kernel_size, self.kernel_size, channels // self.groups, self.filters)
        self.kernel = self.add_weight(shape=shape, name="kernel", initializer=self.kernel_initializer)
        if self.use_bias:
            self.bias = self.add_weight(shape=(self.filters,), name="bias", initializer="zeros")
        self.offset.build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        outputs = self.convolve(inputs, self.kernel)
        return outputs if self.bias is None else tf.nn.bias_add(outputs, self.bias)

    def convolve(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """The convolution alone, without bias, with another kernel of the same shape."""
        moves, mask = self.offset(inputs), None
        if self.modulated:
            samples = self.offset_groups * self.kernel_size**2
            moves, mask = moves[..., : 2 * samples], tf.sigmoid(moves[..., 2 * samples :])
        return deform_conv2d(
            inputs,
            kernel,
            moves,
            mask,
            strides=self.strides,
            padding=self.dilation_rate * (self.kernel_size // 2),
            dilation=self.dilation_rate,
            groups=self.groups,
            offset_groups=self.offset_groups,
        )

    def compute_output_shape(self, input_shape):
        return (*self.offset.compute_output_shape(input_shape)[:-1], self.filters)

    def get_config(self):
        names = ("filters", "kernel_size", "strides", "dilation_rate", "groups", "offset_groups", "modulated")
        config = {name: getattr(self, name) for name in (*names, "use_bias", "offset_bias")}
        initializer = keras.initializers.serialize(self.kernel_initializer)
        return super().get_config() | config | {"kernel_initializer": initializer}
