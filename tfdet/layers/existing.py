"""Layers on the rows of a batch that stand for something."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from tfdet.layers.normalization import counted_in_statistics


def on_existing(call: Callable[..., Sequence[tf.Tensor]], exists: tf.Tensor, *inputs: tf.Tensor) -> Sequence[tf.Tensor]:
    """What `call` makes of the rows that exist; zeros in the places of the others.

    A batch of RoIs is filled up with rows that stand for none, whose outputs count nowhere. Layers that take statistics
    of a batch would count them in all the same. Where no row exists the first one is computed, counts in no statistic,
    and its outputs are dropped: TensorFlow 2.20 gives a convolution of no images on a CPU the shape of its input, and
    what waits for other replicas must not be left out.

    Args:
        call: from inputs [K, ...] to outputs [K, ...].
        exists: bool [N], N >= 1; K is the number of rows that are True, at least 1.
        inputs: each [N, ...].

    Returns:
        The outputs, each [N, ...].
    """
    some = tf.reduce_any(exists)
    first = tf.one_hot(0, tf.size(exists), on_value=True, off_value=False, dtype=tf.bool)
    rows = tf.where(tf.where(some, exists, first))
    with counted_in_statistics(tf.cast(some, tf.float32)):
        outputs = call(*(tf.gather_nd(values, rows) for values in inputs))
    count = tf.shape(exists, tf.int64)
    scattered = []
    for values in outputs:
        values = tf.where(some, values, tf.zeros_like(values))
        shape = tf.concat([count, tf.shape(values, tf.int64)[1:]], axis=0)
        scattered.append(tf.ensure_shape(tf.scatter_nd(rows, values, shape), [None, *values.shape[1:]]))
    return scattered
