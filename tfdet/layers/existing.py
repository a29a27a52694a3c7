"""Layers on the rows of a batch that stand for something."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf


def on_existing(call: Callable[..., Sequence[tf.Tensor]], exists: tf.Tensor, *inputs: tf.Tensor) -> Sequence[tf.Tensor]:
    """What `call` makes of the rows that exist; zeros in the places of the others.

    A batch of RoIs is filled up with rows that stand for none, whose outputs count nowhere. Layers that take statistics
    of a batch would count them in all the same.

    Args:
        call: from inputs [K, ...] to outputs [K, ...].
        exists: bool [N]; K is the number of rows that are True.
        inputs: each [N, ...].

    Returns:
        The outputs, each [N, ...].
    """
    rows = tf.where(exists)
    outputs = call(*(tf.gather_nd(values, rows) for values in inputs))
    count = tf.shape(exists, tf.int64)
    return [
        tf.ensure_shape(
            tf.scatter_nd(rows, values, tf.concat([count, tf.shape(values, tf.int64)[1:]], axis=0)),
            [None, *values.shape[1:]],
        )
        for values in outputs
    ]
