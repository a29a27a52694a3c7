"""The mean of tensors over the replicas of a distribution strategy."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf


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
        return context.all_reduce(tf.distribute.ReduceOp.MEAN, [tf.stop_gradient(value) for value in values])

    return reduce(tensors), lambda *upstream: reduce(upstream)
