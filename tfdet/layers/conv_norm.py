"""A convolution and the normalisation behind it, as one where that gives the same."""

from __future__ import annotations

import keras
import tensorflow as tf

from tfdet.layers.conv import SymmetricConv2D
from tfdet.layers.normalization import BatchNorm


def convolve_and_normalize(
    conv: SymmetricConv2D, norm: keras.layers.Layer, inputs: tf.Tensor, training: bool = False, **options
) -> tf.Tensor:
    """`norm(conv(inputs))`, in training with stored statistics as a convolution with another kernel and a bias.

    A frozen `BatchNorm` is a factor and an offset a channel. In the kernel and the bias they cost the size of the
    weights; on the maps they cost a pass over each map on the way forth and two on the way back, and keep the map
    that the convolution made. The result differs by rounding.

    In half precision the two stay apart: the kernel would be rounded after the factor, where MXNet rounds before it.
    In testing too: there TensorFlow folds them itself, into an operation that works through the map once.

    Args:
        conv: without activation.
        norm: of `make_norm`.
        inputs: [B, H, W, C].
        training: of the call.
        options: further arguments of the convolution's call.
    """
    frozen = training and isinstance(norm, BatchNorm) and norm.mode == "frozen"
    if not (frozen and conv.built and norm.built and conv.compute_dtype == "float32") or conv.use_bias:
        return norm(conv(inputs, **options), training=training)
    scale, shift = norm.stored_affine()
    return tf.nn.bias_add(conv.convolve(inputs, tf.convert_to_tensor(conv.kernel) * scale, **options), shift)
