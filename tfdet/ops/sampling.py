"""Random subsets that depend on nothing but their seed."""

from __future__ import annotations

import tensorflow as tf


def split_seed(seed, number: int) -> list[tf.Tensor]:
    """Makes `number` independent seeds, int32 [2] each, of one seed int32 [2]."""
    return [tf.random.experimental.stateless_fold_in(seed, i) for i in range(number)]


def random_order(mask, seed, length: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The marked positions of every row in random order.

    Args:
        mask: bool [B, N].
        seed: int32 [2].
        length: K, positions wanted at most.

    Returns:
        int32 [B, K] positions, of which the first `min(K, number marked)` are marked ones, no two the same, any
        order equally likely; and int32 [B], the number marked (it may exceed K).
    """
    missing = tf.maximum(0, length - tf.shape(mask)[1])
    keys = tf.where(mask, tf.random.stateless_uniform(tf.shape(mask), seed), -1.0)
    keys = tf.pad(keys, [[0, 0], [0, missing]], constant_values=-1.0)
    _, positions = tf.math.top_k(keys, length)
    return positions, tf.reduce_sum(tf.cast(mask, tf.int32), axis=1)


def random_subset(mask, count, seed, max_count: int) -> tf.Tensor:
    """Draws exactly `min(count, number marked)` of the marked positions of every row, without replacement.

    Args:
        mask: bool [B, N].
        count: int32 [B], the number wanted.
        seed: int32 [2].
        max_count: a bound of `count` known beforehand.

    Returns:
        bool [B, N], a subset of `mask`.
    """
    positions, marked = random_order(mask, seed, max_count)
    drawn = tf.range(max_count) < tf.minimum(count, marked)[:, None]
    batch = tf.shape(mask)[0]
    rows = tf.broadcast_to(tf.range(batch)[:, None], tf.shape(positions))
    where = tf.stack([rows, positions], axis=-1)
    # A row shorter than max_count was padded: its positions past the end are never drawn, but must be addressable.
    width = tf.maximum(tf.shape(mask)[1], max_count)
    chosen = tf.scatter_nd(where, tf.cast(drawn, tf.int32), tf.stack([batch, width])) > 0
    return chosen[:, : tf.shape(mask)[1]]
