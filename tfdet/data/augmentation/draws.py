"""Random numbers that are a function of the seed of an image alone."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tfdet.errors import UserError
from tfdet.structures import Example

ReadImage = Callable[[tf.Tensor], Example]
"""From a number float64 [] in [0, 1) to the image of the training set that stands there."""


def own_seed(seed: tf.Tensor, stream: int) -> tf.Tensor:
    """The seed int64 [2] of one of several independent streams of `seed`, int64 [2]."""
    return tf.random.experimental.stateless_fold_in(seed, tf.constant(stream, tf.int64))


def uniform(seed: tf.Tensor, *shape) -> tf.Tensor:
    """Numbers in [0, 1): float64 of the shape."""
    return tf.random.stateless_uniform(shape, seed, dtype=tf.float64)


def between(draw: tf.Tensor, least: float, most: float) -> tf.Tensor:
    """A number in [0, 1) as one in [least, most)."""
    return least + draw * (most - least)


def check_order(owner: str, least: str, low: float, most: str, high: float) -> None:
    """`UserError` where the first of two bounds is the larger."""
    if low > high:
        raise UserError(f"{owner}.{least} must be at most its {most}. Received: {low}, {high}")


def is_open(progress: tf.Tensor, off_for_last: float) -> tf.Tensor:
    """Whether a run is before the part of it, at its end, in which images are not mixed: bool [].

    Args:
        progress: float64 [], the part of the run that is done.
        off_for_last: the part at the end.
    """
    return progress < 1.0 - off_for_last if off_for_last else tf.constant(True)
