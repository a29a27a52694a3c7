"""One training step over all replicas."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from tfdet.ops.replica_mean import replica_mean
from tfdet.structures import Batch
from tfdet.training.average import WeightAverage
from tfdet.training.optimizer import Optimizer, all_finite, assign_on_replicas, norm_and_finite
from tfdet.training.variables import moving_statistics


class StepState(tf.Module):
    """The counters of a run. Make it under the scope of the strategy.

    Attributes:
        global_step: int64, steps done, skipped ones included. The learning rate, the random seed and the data
            position are functions of it, so it is the whole of a run's position.
        skipped_steps: int64, steps whose update was not finite.
        consecutive_skips: int64, those of them since the last good step.
    """

    def __init__(self):
        super().__init__(name="state")

        def counter(name: str) -> tf.Variable:
            first = tf.VariableAggregation.ONLY_FIRST_REPLICA
            return tf.Variable(0, dtype=tf.int64, trainable=False, name=name, aggregation=first)

        self.global_step = counter("global_step")
        self.skipped_steps = counter("skipped_steps")
        self.consecutive_skips = counter("consecutive_skips")

    @property
    def step(self) -> int:
        """`global_step` as Python's int."""
        return int(self.global_step.numpy())


class TrainStep:
    """Losses, gradients and update of one batch per replica, traced once.

    The metrics are means over replicas, equal to what one device would report that averages the losses and
    the gradients of the same per-replica batches.

    Args:
        strategy: the strategy under whose scope the other arguments were made.
        detector: has `losses(batch, seed) -> dict[str, float32 scalar]` and Keras variables.
        optimizer: over the variables to train.
        learning_rate: from the 1-based update number to the rate.
        state: the counters.
        seed: of the run; the seed of a replica's step is folded from (seed, step, replica).
        average: of the weights, or None.

    Attributes:
        parts: batches per replica that one step takes.
        traces: how often the network was traced.
    """

    parts = 1

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        detector,
        optimizer: Optimizer,
        learning_rate: Callable[[tf.Tensor], tf.Tensor],
        state: StepState,
        seed: int,
        average: WeightAverage | None = None,
    ):
        self._strategy = strategy
        self._detector = detector
        self._optimizer = optimizer
        self._learning_rate = learning_rate
        self._state = state
        self._seed = seed
        self._average = average
        self._statistics = [variable.value for variable in moving_statistics(detector)]
        self.traces = 0

    def compile(self, element_spec) -> Callable[[Batch], dict[str, tf.Tensor] | None]:
        """The step as a graph for batches of `element_spec`: the spec of a distributed iterator's elements.

        No AutoGraph: layers do not have it either, and a `losses` method should not depend on who calls it.

        Returns:
            The step, to be called with each batch; of several parts the last one's call returns the metrics and the
            others None. Its `get_concrete_function()` has the graph of the network.
        """
        return tf.function(self._all_replicas, input_signature=[element_spec], autograph=False)

    def _all_replicas(self, batch: Batch) -> dict[str, tf.Tensor]:
        """One step.

        Returns:
            Float32 scalars: every loss, "total", "gradient_norm", "learning_rate", "loss_scale" (the one that
            this step used); and "finite", bool.
        """
        self.traces += 1  # runs while tracing only
        scale = tf.identity(self._optimizer.loss_scale.scale)
        metrics = self._first_results(self._strategy.run(self._one_replica, args=(batch,)))
        self._count(metrics["finite"])
        return metrics | {"loss_scale": scale}

    def _first_results(self, per_replica: dict) -> dict[str, tf.Tensor]:
        """What every replica returned alike."""
        return {name: self._strategy.experimental_local_results(value)[0] for name, value in per_replica.items()}

    def _count(self, finite: tf.Tensor) -> None:
        """Moves the counters and the loss scale on, in the cross-replica context."""
        state = self._state
        bad = tf.cast(tf.logical_not(finite), tf.int64)
        state.skipped_steps.assign_add(bad)
        state.consecutive_skips.assign(bad * (state.consecutive_skips + bad))
        self._optimizer.loss_scale.update(finite)
        state.global_step.assign_add(1)

    def _one_replica(self, batch: Batch) -> dict[str, tf.Tensor]:
        context = tf.distribute.get_replica_context()
        statistics = [tf.identity(variable) for variable in self._statistics]
        losses, gradients = self._differentiate(batch, context.replica_id_in_sync_group)
        gradients = self._optimizer.reduce(gradients)
        (values,) = replica_mean(tf.stack(list(losses.values())))
        moved = [tf.convert_to_tensor(variable) for variable in self._statistics]
        with tf.name_scope("update"):
            metrics = self._update(gradients, values, statistics, moved)
        return dict(zip(losses, tf.unstack(values), strict=True)) | metrics

    def _differentiate(self, batch: Batch, replica: tf.Tensor | int) -> tuple[dict[str, tf.Tensor], list]:
        """One batch forth and back.

        Args:
            batch: of one replica.
            replica: its number, of which the random draws are a function.

        Returns:
            The losses and "total", float32; the gradients of the scaled total, one for each trained variable.
        """
        seed = tf.constant([self._seed, 0], tf.int32)
        for position in (self._state.global_step.read_value(), replica):
            seed = tf.random.experimental.stateless_fold_in(seed, tf.cast(position, tf.int32))
        variables = [variable.value for variable in self._optimizer.variables_to_train]
        # Only what is trained is watched: no gradient is traced below frozen layers.
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            losses = {name: tf.cast(value, tf.float32) for name, value in self._detector.losses(batch, seed).items()}
            total = tf.add_n(list(losses.values()))
            scaled = total * self._optimizer.loss_scale.scale
        return losses | {"total": total}, tape.gradient(scaled, variables)

    def _update(
        self,
        gradients: Sequence[tf.Tensor],
        values: tf.Tensor,
        statistics: Sequence[tf.Tensor],
        moved: Sequence[tf.Tensor],
    ) -> dict[str, tf.Tensor]:
        """Updates what is trained, the moving statistics and the average, or nothing; in the replica context.

        Args:
            gradients: means over all batches of the step.
            values: float32 [n], their losses.
            statistics: the moving statistics before the step; they move in the forward pass, before anybody knows
                whether the step is finite, and have to be put back where it is not.
            moved: after it.

        Returns:
            "gradient_norm", "learning_rate", "finite".
        """
        norm, finite = norm_and_finite(gradients)
        finite = tf.logical_and(finite, all_finite([values]))
        step = self._state.global_step.read_value()
        learning_rate = self._learning_rate(step + 1)
        self._optimizer.apply(gradients, learning_rate, finite)
        if self._statistics:
            kept = [tf.where(finite, new, old) for new, old in zip(moved, statistics, strict=True)]
            assign_on_replicas(self._statistics, kept)
        if self._average is not None:
            self._average.update(step + 1 - self._state.skipped_steps.read_value(), finite)
        return {
            "gradient_norm": norm,
            "learning_rate": learning_rate,
            "finite": finite,
        }
