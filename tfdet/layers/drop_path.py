"""Stochastic depth whose draws are a function of the step's seed."""

from __future__ import annotations

import contextlib
import threading
import zlib
from collections.abc import Iterator

import keras
import tensorflow as tf

from tfdet.layers.inference import in_inference

_OPEN = threading.local()  # every replica's step is traced in a thread of its own


@contextlib.contextmanager
def drop_seed(seed: tf.Tensor | None) -> Iterator[None]:
    """Within it every `DropPath` that is called in training draws from this seed, int32 [2]."""
    before = current_drop_seed()
    _OPEN.seed = seed
    try:
        yield
    finally:
        _OPEN.seed = before


def current_drop_seed() -> tf.Tensor | None:
    """The seed of the innermost `drop_seed`; None outside of one."""
    return getattr(_OPEN, "seed", None)


class DropPath(keras.layers.Layer):
    """In training multiplies each image of a batch by 0, with probability `rate`, or by 1 / (1 - rate).

    The draws are a function of the seed that `drop_seed` gives and of the layer's name alone: a run that is resumed
    draws as one that went on, and a layer that is computed again for the gradient draws the same. Keras' own layers
    have a state that is in no checkpoint of tfdet. Outside of `drop_seed` nothing is dropped.

    Args:
        rate: in [0, 1).

    Shapes: [B, ...] -> the same.

    Source: Huang et al., Deep Networks with Stochastic Depth, ECCV 2016; sample by sample as in EfficientNet.
    """

    def __init__(self, rate: float, **kwargs):
        super().__init__(**kwargs)
        self.rate = rate

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        seed = current_drop_seed()
        if not training or not self.rate or seed is None or in_inference():
            return inputs
        own = tf.random.experimental.stateless_fold_in(seed, zlib.crc32(self.name.encode()) & 0x7FFFFFFF)
        shape = [tf.shape(inputs)[0], *[1] * (len(inputs.shape) - 1)]
        kept = tf.random.stateless_uniform(shape, own) >= self.rate
        return inputs * tf.cast(tf.where(kept, 1.0 / (1.0 - self.rate), 0.0), inputs.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "rate": self.rate}
