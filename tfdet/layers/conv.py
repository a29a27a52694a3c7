"""Convolution with MXNet's padding."""

from __future__ import annotations

import keras
import tensorflow as tf

from tfdet.errors import ParameterError

INIT_STD = 0.01
"""Standard deviation of the initial kernels of what is trained from nothing: RPN, heads, reducing necks."""


class SymmetricConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` that pads both sides alike, as MXNet, Caffe and PyTorch do.

    TensorFlow's "same" puts the odd pixel of a strided convolution at the bottom right, which shifts the result by
    one input pixel; a checkpoint trained with symmetric padding then computes something else.

    Args:
        filters: number of output channels.
        kernel_size: odd integer.
        strides: integer stride of both axes.
        dilation_rate: integer dilation of both axes.
        use_bias: convolutions of SimpleDet's backbones have none.
        kernel_initializer: default N(0, sqrt(2 / fan_in)), SimpleDet's global initialiser
            (detection_train.py: Xavier gaussian, factor "in", magnitude 2).
        **kwargs: passed on to `keras.layers.Conv2D` (name, dtype, activation, bias_initializer, groups).

    Shapes: [B, H, W, C] -> [B, floor((H + 2p - d(k-1) - 1)/s) + 1, ..., filters] with p = ((k - 1) d + 1) // 2.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        strides: int = 1,
        dilation_rate: int = 1,
        use_bias: bool = False,
        kernel_initializer: str | keras.initializers.Initializer | None = None,
        **kwargs,
    ):
        if kernel_size % 2 == 0:
            raise ParameterError(f"Expected an odd kernel_size. Received: kernel_size={kernel_size}")
        super().__init__(
            filters,
            kernel_size,
            strides=strides if kernel_size > 1 else 1,
            dilation_rate=dilation_rate,
            # At stride 1 "same" is symmetric for odd kernels, and needs no copy of the input.
            padding="same" if strides == 1 or kernel_size == 1 else "valid",
            use_bias=use_bias,
            kernel_initializer=kernel_initializer
            or keras.initializers.VarianceScaling(2.0, mode="fan_in", distribution="untruncated_normal"),
            **kwargs,
        )
        padded = strides > 1 and kernel_size > 1
        self._pad = ((kernel_size - 1) * dilation_rate + 1) // 2 if padded else 0
        # A strided 1x1 convolution is a plain one on every s-th pixel. Said so, because the gradient of oneDNN's
        # strided one corrupts memory at batch size 1 (TensorFlow 2.20, CPU).
        self.subsampling = strides if kernel_size == 1 else 1

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return super().call(self._prepared(inputs))

    def convolve(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """The convolution alone, without bias and activation, with another kernel of the same shape."""
        return self.convolution_op(self._prepared(inputs), kernel)

    def convolution_op(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """The convolution of prepared inputs: that of Keras, of several groups TensorFlow's own.

        Keras hands grouped convolutions to XLA, from when TensorFlow's CPU kernels had none. Now they have; their
        gradient there is oneDNN's in float32, and no one's in half precision or without oneDNN. Where there is no GPU
        it is therefore taken group by group, which is a quarter faster than oneDNN's as well.
        """
        if self.groups == 1:
            return super().convolution_op(inputs, kernel)
        if tf.config.list_physical_devices("GPU"):
            return self._in_groups(inputs, kernel)

        @tf.custom_gradient
        def convolve(inputs, kernel):
            def gradient(upstream):
                with tf.GradientTape(watch_accessed_variables=False) as tape:
                    tape.watch([inputs, kernel])
                    outputs = self._group_by_group(inputs, kernel)
                return tape.gradient(outputs, [inputs, kernel], upstream)

            return self._in_groups(inputs, kernel), gradient

        return convolve(inputs, tf.convert_to_tensor(kernel))

    def _in_groups(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        padding = self.padding.upper()
        return tf.nn.convolution(inputs, kernel, list(self.strides), padding, dilations=list(self.dilation_rate))

    def _group_by_group(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        parts = zip(tf.split(inputs, self.groups, axis=-1), tf.split(kernel, self.groups, axis=-1), strict=True)
        return tf.concat([super(SymmetricConv2D, self).convolution_op(*part) for part in parts], axis=-1)

    def _prepared(self, inputs: tf.Tensor) -> tf.Tensor:
        if self.subsampling > 1:
            inputs = inputs[:, :: self.subsampling, :: self.subsampling]
        if self._pad:
            inputs = tf.pad(inputs, [[0, 0], [self._pad] * 2, [self._pad] * 2, [0, 0]])
        return inputs

    def get_config(self):
        config = super().get_config()
        del config["padding"]  # follows from the strides
        strides = self.subsampling if self.subsampling > 1 else self.strides[0]
        own = {"kernel_size": self.kernel_size[0], "strides": strides, "dilation_rate": self.dilation_rate[0]}
        return config | own

    def compute_output_shape(self, input_shape):
        s = self.subsampling
        grown = tuple(n if n is None else -(-n // s) + 2 * self._pad for n in input_shape[1:3])
        return super().compute_output_shape((input_shape[0], *grown, input_shape[3]))
