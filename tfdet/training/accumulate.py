"""One update from several micro-batches: a recipe for many GPUs on few."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tfdet.errors import UserError
from tfdet.layers import BatchNorm
from tfdet.ops.replica_mean import replica_mean
from tfdet.structures import Batch
from tfdet.training.optimizer import assign_on_replicas
from tfdet.training.step import TrainStep


class AccumulatingStep(TrainStep):
    """A step over k batches per replica, one after the other: on R replicas it is the step of k * R replicas.

    Micro-batch j of replica r is what replica j * R + r of those would have: its element of the input, its random
    draws, its own normalisers, and BN statistics that start where the step started. Gradients, losses and moving
    statistics are means over all of them, and the all-reduce of the gradients comes once, at the end. An infinity in
    one micro-batch stays one in the sums, so it skips the step.

    Python calls the parts: a loop inside the graph could not hold the all-reduce that BN's statistics need.

    Args:
        as in `TrainStep`; and
        accumulate: k, at least 1.

    Raises:
        UserError: a normalisation layer takes its statistics over all replicas: those of another micro-batch are not
            there yet, so the result would be another.
    """

    def __init__(self, strategy: tf.distribute.Strategy, detector, *arguments, accumulate: int, **options):
        super().__init__(strategy, detector, *arguments, **options)
        synchronized = [layer for layer in detector._flatten_layers() if _is_synchronized(layer)]
        if synchronized:
            raise UserError(
                f"Trainer.accumulate = {accumulate} with synchronised normalisation ({synchronized[0].name}): "
                "statistics over micro-batches that come one after the other do not exist. Use Trainer.accumulate = 1, "
                "or NORM = 'frozen', 'local' or 'group'"
            )
        self.parts = accumulate
        with strategy.scope():
            self._gradient_sums = [_sum_like(variable) for variable in self._optimizer.variables_to_train]
            self._statistic_sums = [_sum_like(variable) for variable in self._statistics]
        self._loss_names: list[str] = []

    def compile(self, element_spec) -> Callable[[Batch], dict[str, tf.Tensor] | None]:
        return _Parts(
            tf.function(self._part, input_signature=[element_spec, tf.TensorSpec([], tf.int32)], autograph=False),
            tf.function(self._finish, autograph=False),
            self.parts,
        )

    def _part(self, batch: Batch, part: tf.Tensor) -> tf.Tensor:
        """Adds one micro-batch to the sums. Returns its losses and their total, means over replicas, float32 [n]."""
        self.traces += 1
        values = self._strategy.run(self._one_part, args=(batch, part))
        return self._strategy.experimental_local_results(values)[0]

    def _one_part(self, batch: Batch, part: tf.Tensor) -> tf.Tensor:
        context = tf.distribute.get_replica_context()
        statistics = [tf.identity(variable) for variable in self._statistics]
        replica = part * context.num_replicas_in_sync + tf.cast(context.replica_id_in_sync_group, tf.int32)
        losses, gradients = self._differentiate(batch, replica)
        self._loss_names = list(losses)
        moved = [tf.convert_to_tensor(variable) for variable in self._statistics]
        targets = [*self._gradient_sums, *self._statistic_sums]
        for target, value in zip(targets, [*self._optimizer.dense(gradients), *moved], strict=True):
            target.assign(tf.where(part == 0, value, target.read_value() + value))
        if statistics:
            assign_on_replicas(self._statistics, statistics)
        (values,) = replica_mean(tf.stack(list(losses.values())))
        return values

    def _finish(self, values: tf.Tensor) -> dict[str, tf.Tensor]:
        """Updates from the sums. Args: values, float32 [k, n] of `_part`. Returns: as `TrainStep`'s step."""
        scale = tf.identity(self._optimizer.loss_scale.scale)
        values = tf.reduce_mean(values, axis=0)
        metrics = self._first_results(self._strategy.run(self._finish_replica, args=(values,)))
        self._count(metrics["finite"])
        return dict(zip(self._loss_names, tf.unstack(values), strict=True)) | metrics | {"loss_scale": scale}

    def _finish_replica(self, values: tf.Tensor) -> dict[str, tf.Tensor]:
        gradients, moved = (
            [total.read_value() / self.parts for total in sums] for sums in (self._gradient_sums, self._statistic_sums)
        )
        statistics = [tf.identity(variable) for variable in self._statistics]
        return self._update(self._optimizer.reduce(gradients), values, statistics, moved)


class _Parts:
    """What `compile` returns: counts the parts, and finishes after the last one."""

    def __init__(self, part, finish, count: int):
        self._part, self._finish, self._count = part, finish, count
        self._values: list[tf.Tensor] = []

    def __call__(self, batch: Batch) -> dict[str, tf.Tensor] | None:
        self._values.append(self._part(batch, tf.constant(len(self._values))))
        if len(self._values) < self._count:
            return None
        values, self._values = tf.stack(self._values), []
        return self._finish(values)

    def get_concrete_function(self):
        return self._part.get_concrete_function()


def _sum_like(variable) -> tf.Variable:
    """A sum of its own on every replica."""
    return tf.Variable(
        tf.zeros(variable.shape, tf.float32),
        trainable=False,
        name="sum",
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.SUM,
    )


def _is_synchronized(layer) -> bool:
    ours = isinstance(layer, BatchNorm) and layer.of_all_replicas
    return ours or bool(getattr(layer, "synchronized", False))  # of Keras's own layer
