"""Whether GPUs may round the factors of float32 products."""

from __future__ import annotations

import tensorflow as tf


def allow_tensor_float_32(allowed: bool) -> None:
    """Lets NVIDIA GPUs from Ampere on compute float32 convolutions and matrix products in TensorFloat-32, or not.

    TensorFloat-32 rounds both factors of a product from 24 significant bits to 11 and adds in float32. TensorFlow does
    so unless told otherwise, and a float32 detector then finds something else there than on other devices, on which the
    setting does nothing.

    The setting is one of the whole process. Training sets it by `Trainer.tensor_float_32`; whatever detects with
    trained weights, exports or compares is within `predict.float32.in_float32`.

    Args:
        allowed: whether the factors may be rounded.
    """
    tf.config.experimental.enable_tensor_float_32_execution(allowed)
