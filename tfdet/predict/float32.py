"""Float32 whatever a process has set: detection computes the same on every device and beside any training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras
import tensorflow as tf

from tfdet.config.bindings import process_state
from tfdet.ops.tensor_float_32 import allow_tensor_float_32


@contextlib.contextmanager
def numerics_as_before() -> Iterator[None]:
    """Behind it Keras' global dtype policy and TensorFlow's use of TensorFloat-32 are what they were."""
    with process_state:
        policy, allowed = keras.config.dtype_policy(), tf.config.experimental.tensor_float_32_execution_enabled()
        try:
            yield
        finally:
            keras.config.set_dtype_policy(policy)
            allow_tensor_float_32(allowed)


@contextlib.contextmanager
def in_float32() -> Iterator[None]:
    """Within it layers are made for float32 and products are exact; behind it all is as it was."""
    with numerics_as_before():
        keras.config.set_dtype_policy("float32")
        allow_tensor_float_32(False)
        yield
