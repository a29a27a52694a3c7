"""One convolution kernel at several dilations."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

from tfdet.layers.conv import SymmetricConv2D


class DilatedConv2D(SymmetricConv2D):
    """`SymmetricConv2D` whose call may name other dilations than its own, one a branch that shares the kernel.

    Call: `dilations` of k branches. Input [k B, H, W, C], image-major: branch b of image i is row k i + b. With `split`
    the input is [B, H, W, C], the same for all branches. Output [k B, ..., filters], image-major. One dilation, or
    none, is an ordinary convolution.

    Source: Li et al., Scale-Aware Trident Networks for Object Detection, ICCV 2019.
    """

    def call(self, inputs: tf.Tensor, dilations: Sequence[int] | None = None, split: bool = False) -> tf.Tensor:
        if not dilations:
            return super().call(inputs)
        return self.convolve(inputs, self.kernel, dilations, split)

    def convolve(
        self, inputs: tf.Tensor, kernel: tf.Tensor, dilations: Sequence[int] | None = None, split: bool = False
    ) -> tf.Tensor:
        if not dilations:
            return super().convolve(inputs, kernel)
        if len(dilations) == 1:
            return _dilated(inputs, kernel, dilations[0])
        if split:
            return _interleave([_dilated(inputs, kernel, d) for d in dilations])
        shape = tf.shape(inputs)
        by_image = tf.reshape(inputs, [-1, len(dilations), shape[1], shape[2], inputs.shape[-1]])
        return _interleave([_dilated(by_image[:, b], kernel, d) for b, d in enumerate(dilations)])


def _dilated(inputs: tf.Tensor, kernel: tf.Tensor, dilation: int) -> tf.Tensor:
    # At stride 1 "same" is symmetric. keras.ops writes a dilated convolution as a plain one between
    # space_to_batch and batch_to_space on CPUs, where TensorFlow's own has no gradient.
    return keras.ops.conv(inputs, kernel, 1, "same", dilation_rate=dilation)


def _interleave(branches: list[tf.Tensor]) -> tf.Tensor:
    """k tensors [B, H, W, C] -> [k B, H, W, C], image-major."""
    shape = tf.shape(branches[0])
    stacked = tf.stack(branches, axis=1)
    return tf.reshape(stacked, [-1, shape[1], shape[2], branches[0].shape[-1]])
