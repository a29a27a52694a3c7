"""The smooth L1 (Huber) distance of box offsets."""

from __future__ import annotations

import tensorflow as tf


def smooth_l1(difference, sigma: float | None = 1.0) -> tf.Tensor:
    """Quadratic near zero, linear beyond: 0.5 (sigma x)^2 where |x| < 1 / sigma^2, else |x| - 0.5 / sigma^2.

    Args:
        difference: [...], prediction minus target, any float dtype.
        sigma: above 0; the two pieces meet at 1 / sigma^2 (the `beta` of other packages). None is plain L1, a beta of
            0.

    Returns:
        float32 [...].

    Source: Fast R-CNN, Girshick 2015; MXNet smooth_l1.
    """
    magnitude = tf.abs(tf.cast(difference, tf.float32))
    if sigma is None:
        return magnitude
    beta = 1.0 / sigma**2
    return tf.where(magnitude < beta, 0.5 / beta * tf.square(magnitude), magnitude - 0.5 * beta)
