"""The mean of tensors over the replicas of a distribution strategy."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import tensorflow as tf

_in_order: weakref.WeakSet[tf.distribute.Strategy] = weakref.WeakSet()


def sum_in_order(strategy: tf.distribute.Strategy) -> None:
    """From now on `replica_mean` adds the values of this strategy's replicas in the order of their numbers.

    How NCCL and TensorFlow's ring add depends on how many machines, processes and devices hold the replicas, and of
    more than two the last bits depend on the order. In this way every replica gets the values of all and adds them
    itself: slower, with n times the memory of what is reduced, and the same numbers wherever the n replicas are.
    """
    _in_order.add(strategy)


@tf.custom_gradient
def replica_mean(*tensors: tf.Tensor):
    """Means over all replicas; call it in the replica context.

    `ReplicaContext.all_reduce` and its gradient, which is the mean of the upstream gradients. That function looks for
    variables behind what it reduces, and finds no end of it before the roots of all other replicas' graphs: of a
    network with an all-reduce in every layer it walks the network once a layer and a replica, minutes of tracing.
    `stop_gradient` is where its search ends.

    Args:
        tensors: dense, of the same shapes and dtypes on every replica.

    Returns:
        As many tensors.
    """

    def reduce(values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        context = tf.distribute.get_replica_context()
        values = [tf.stop_gradient(value) for value in values]
        if context.strategy in _in_order:
            return _mean_in_order(context, values)
        return context.all_reduce(tf.distribute.ReduceOp.MEAN, values)

    return reduce(tensors), lambda *upstream: reduce(upstream)


def _mean_in_order(context: tf.distribute.ReplicaContext, values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    count = context.num_replicas_in_sync
    means: list[tf.Tensor] = list(values)
    for dtype in dict.fromkeys(value.dtype for value in values):  # one exchange for all tensors of a type
        chosen = [index for index, value in enumerate(values) if value.dtype == dtype]
        flat = tf.concat([tf.reshape(values[index], [-1]) for index in chosen], axis=0)
        gathered = context.all_gather(flat[None], axis=0)
        mean = tf.add_n(tf.unstack(gathered, count)) / tf.cast(count, dtype)
        parts = tf.split(mean, [tf.size(values[index]) for index in chosen])
        for index, part in zip(chosen, parts, strict=True):
            means[index] = tf.ensure_shape(tf.reshape(part, tf.shape(values[index])), values[index].shape)
    return means
