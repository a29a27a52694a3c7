"""The order of an epoch: a permutation of the images that is computed from (seed, epoch) alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf


def num_batches(entries: int, global_batch: int) -> int:
    """Batches an epoch of one orientation with so many entries."""
    return max(entries // global_batch, min(entries, 1))


def epoch_seed(seed: int, epoch: tf.Tensor, stream: int) -> tf.Tensor:
    """The seed int64 [2] of one of several independent streams of an epoch."""
    key = tf.stack([tf.constant(seed, tf.int64), tf.constant(stream, tf.int64)])
    return tf.random.experimental.stateless_fold_in(key, epoch)


def epoch_batches(
    rows: Sequence[np.ndarray], flip: bool, mixed: bool, epoch: tf.Tensor, seed: int, global_batch: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """The global batches of one epoch.

    Args:
        rows: int64 [N], of the index: those of landscape images, then those of portrait ones.
        flip: the epoch holds a mirrored copy of every image.
        mixed: batches of both orientations in random order; else all landscape ones come first.
        epoch: int64 [].
        seed: of the run.
        global_batch: images of a batch, over all replicas.

    Returns:
        entries int64 [steps, global_batch], is_portrait bool [steps]. An entry is a row of the index, or with flipping
        2 * row + (1 for the mirrored copy).
    """
    groups = []
    for stream, own in enumerate(rows):
        entries = tf.constant(own, tf.int64)
        if flip:
            entries = tf.concat([2 * entries, 2 * entries + 1], axis=0)
        entries = tf.random.experimental.stateless_shuffle(entries, epoch_seed(seed, epoch, stream))
        whole = num_batches(entries.shape[0], global_batch)
        if 0 < entries.shape[0] < global_batch:
            entries = tf.gather(entries, tf.range(global_batch) % entries.shape[0])
        groups.append(tf.reshape(entries[: whole * global_batch], [whole, global_batch]))
    entries = tf.concat(groups, axis=0)
    portrait = tf.range(entries.shape[0]) >= groups[0].shape[0]
    if mixed:
        order = tf.range(entries.shape[0])
        order = tf.random.experimental.stateless_shuffle(order, epoch_seed(seed, epoch, 2))
        entries, portrait = tf.gather(entries, order), tf.gather(portrait, order)
    return entries, portrait
