"""Group normalisation, for batches too small for batch statistics."""

from __future__ import annotations

import math
from typing import Literal

import keras
import tensorflow as tf

from tfdet.errors import ParameterError
from tfdet.layers.normalization import BN_EPSILON, MODES, BatchNorm

GROUP = "group"
Norm = Literal["frozen", "local", "sync", "torch_local", "torch_sync", "group"]
HeadNorm = Literal["group"]
GROUPS = 32
GN_EPSILON = 1e-5


class GroupNorm(keras.layers.Layer):
    """Normalises each image by groups of channels: `(x - mean) / sqrt(var + epsilon) * gamma + beta`.

    Mean and biased variance are those of H x W x C / G values, the canvas' padding among them, in training and in
    testing alike. There are 32 groups, or gcd(32, C) where 32 does not divide C: a narrow network of 8 channels has 8
    groups of one, 24 channels 8 groups of three.

    Args:
        groups: most groups there are, > 0.
        epsilon: added to the variance.

    Weights: gamma, beta [C], float32 under every precision policy. Statistics are computed in float32, in two passes:
    the mean of squares less the square of the mean loses digits where a mean is large. The output has the input's
    dtype.

    Shapes: [B, H, W, C] -> [B, H, W, C].

    Source: Wu and He, Group Normalization, ECCV 2018.
    """

    def __init__(self, groups: int = GROUPS, epsilon: float = GN_EPSILON, **kwargs):
        super().__init__(**kwargs)
        if groups < 1:
            raise ParameterError(f"Expected groups of at least 1. Received: groups={groups}")
        self.groups, self.epsilon = groups, epsilon

    def build(self, input_shape):
        channels = input_shape[-1]
        self.num_groups = math.gcd(self.groups, channels)
        weight = {"shape": (channels,), "dtype": "float32", "autocast": False}
        self.gamma = self.add_weight(name="gamma", initializer="ones", **weight)
        self.beta = self.add_weight(name="beta", initializer="zeros", **weight)

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        del training  # nothing here behaves differently; the argument is part of the normalisations' common call
        shape = tf.shape(inputs)
        width = inputs.shape[-1] // self.num_groups
        grouped = tf.reshape(tf.cast(inputs, tf.float32), [shape[0], shape[1], shape[2], self.num_groups, width])
        mean = _mean_of_groups(grouped)
        centred = grouped - mean
        variance = _mean_of_groups(tf.square(centred))
        gamma, beta = (
            tf.reshape(tf.convert_to_tensor(weight), [1, 1, 1, self.num_groups, width])
            for weight in (self.gamma, self.beta)
        )
        outputs = centred * (tf.math.rsqrt(variance + self.epsilon) * gamma) + beta
        return tf.reshape(tf.cast(outputs, inputs.dtype), shape)

    def compute_output_shape(self, input_shape):
        return input_shape


def _mean_of_groups(values: tf.Tensor) -> tf.Tensor:
    """[B, H, W, G, w] -> [B, 1, 1, G, 1]; one axis after the other, which rounds less than one long sum."""
    for axis in (4, 2, 1):
        values = tf.reduce_mean(values, axis, keepdims=True)
    return values


def make_norm(norm: Norm, name: str, bn_epsilon: float = BN_EPSILON) -> keras.layers.Layer:
    """The normalisation layer of a network.

    Args:
        norm: a mode of `BatchNorm`, or "group" (`GroupNorm`).
        name: of the layer.
        bn_epsilon: of a `BatchNorm`; a `GroupNorm` has its own.
    """
    if norm == GROUP:
        return GroupNorm(name=name)
    if norm not in MODES:
        raise ParameterError(f"Expected norm to be one of {(*MODES, GROUP)}. Received: norm={norm!r}")
    return BatchNorm(norm, epsilon=bn_epsilon, name=name)


def takes_batch_statistics(norm: Norm | None) -> bool:
    """Whether what a layer of `make_norm` computes in training depends on the other rows of its batch."""
    return norm not in (None, "frozen", GROUP)


def make_final_norm(norm: Norm, name: str) -> keras.layers.Layer:
    """The normalisation behind a pre-activation network: stored statistics whatever the rows' BN is, or groups."""
    return make_norm(GROUP if norm == GROUP else "frozen", name)


def make_head_norms(norm: HeadNorm | None, names: list[str]) -> list[keras.layers.Layer] | None:
    """Normalisation behind convolutions that serve maps of several sizes: None for none, or a `GroupNorm` a name.

    Batch statistics are not offered there: those of the levels of a pyramid differ.

    Args:
        norm: None or "group".
        names: of the layers.
    """
    if norm not in (None, GROUP):
        raise ParameterError(f"Expected norm to be None or {GROUP!r}. Received: norm={norm!r}")
    return None if norm is None else [GroupNorm(name=name) for name in names]


def make_norms(norm: Norm | None, names: list[str], bn_epsilon: float = BN_EPSILON) -> list[keras.layers.Layer] | None:
    """Normalisation behind convolutions that each have maps of their own: None for none, or `make_norm` a name.

    Args:
        norm: None, or as in `make_norm`.
        names: of the layers, with `{}` where "gn" or "bn" is put.
        bn_epsilon: of a `BatchNorm`.
    """
    if norm is None:
        return None
    return [make_norm(norm, name.format("gn" if norm == GROUP else "bn"), bn_epsilon) for name in names]
