"""What is drawn for each image of each step: its short side or jitter, and the seed of its augmentation."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from tfdet.data.epochs import epoch_seed

_SIDE, _JITTER, _AUGMENTATION = 3, 4, 5  # streams of `epoch_seed`


def epoch_draws(
    epoch: tf.Tensor, seed: int, shape: tf.Tensor, sides: int, jitter: bool, augmented: bool
) -> dict[str, tf.Tensor]:
    """The draws of an epoch, by (seed, epoch) alone; what an input does not draw is not there.

    Args:
        epoch: int64 [].
        seed: of the run.
        shape: int32 [2]: steps of the epoch, images of a global batch.
        sides: short sides to choose from; more than one: "side" int32 [steps, global_batch], the place of one.
        jitter: "side" is the jitter's draws instead, float64 [steps, global_batch, 2], from 0 to 1.
        augmented: "seed" int64 [steps, global_batch, 2], of the image's augmentation.
    """
    draws = {}
    pairs = [shape[0], shape[1], 2]
    if jitter:
        draws["side"] = tf.random.stateless_uniform(pairs, epoch_seed(seed, epoch, _JITTER), dtype=tf.float64)
    elif sides > 1:
        own = epoch_seed(seed, epoch, _SIDE)
        draws["side"] = tf.random.stateless_uniform(shape, own, maxval=sides, dtype=tf.int32)
    if augmented:
        draws["seed"] = tf.random.stateless_uniform(
            pairs, epoch_seed(seed, epoch, _AUGMENTATION), minval=None, maxval=None, dtype=tf.int64
        )
    return {name: tf.ensure_shape(draw, [None, None, 2][: draw.shape.rank]) for name, draw in draws.items()}


def filled(draws: Mapping[str, tf.Tensor], count: int | tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Of `count` images "side" and "seed", with zeros for what is not drawn, which an epoch does not keep."""
    side, own = draws.get("side"), draws.get("seed")
    return (
        tf.zeros([count], tf.int32) if side is None else side,
        tf.zeros([count, 2], tf.int64) if own is None else own,
    )
