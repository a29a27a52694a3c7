"""An exponential moving average of the weights, beside the weights that are trained."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import keras
import tensorflow as tf

from tfdet.training.optimizer import assign_on_replicas
from tfdet.training.variables import zeros_beside


class WeightAverage(tf.Module):
    """A second value of every variable that training moves: `average += (1 - d) * (value - average)` per good update.

    d = min(decay, (1 + n) / (10 + n)) for the n-th update that was not skipped, as in TensorFlow's
    `ExponentialMovingAverage`, so that the first weights are forgotten soon. The moving statistics of normalisation
    are averaged like weights: the averaged weights were never run to gather their own.

    Make it under the scope of the strategy.

    Args:
        strategy: whose replicas hold the variables.
        variables: float32 Keras variables: the trained ones and the statistics that move. The average of what stands
            still is the value itself, and kept by nobody.
        decay: in (0, 1).

    Attributes:
        values: dict from variable path to the average, float32 of the variable's shape.

    Source: Polyak and Juditsky, Acceleration of Stochastic Approximation by Averaging, 1992; the form in use is that
    of Tan and Le, EfficientNet, ICML 2019.
    """

    def __init__(self, strategy: tf.distribute.Strategy, variables: Sequence[keras.Variable], decay: float):
        super().__init__(name="average")
        self._strategy = strategy
        self._variables = [variable.value for variable in variables]
        self.decay = float(decay)
        self.values = zeros_beside(variables, "average")
        self.reset()

    def reset(self) -> None:
        """Starts again from the weights as they are."""
        for copy, average in self._copies():
            average.assign(copy)

    def update(self, update: tf.Tensor, finite: tf.Tensor) -> None:
        """Moves the averages where `finite`; call it in the replica context, after the weights were assigned.

        Args:
            update: integer scalar n: good updates done, this one included.
            finite: bool scalar, the same on every replica.
        """
        n = tf.cast(update, tf.float32)
        share = tf.where(finite, 1.0 - tf.minimum(self.decay, (1.0 + n) / (10.0 + n)), 0.0)
        averages = list(self.values.values())
        moved = []
        for variable, average in zip(self._variables, averages, strict=True):
            old = tf.convert_to_tensor(average)
            moved.append(old + share * (tf.convert_to_tensor(variable) - old))
        assign_on_replicas(averages, moved)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Within it the variables hold their averages, and afterwards their own values again, bit for bit."""
        kept = [copy.numpy() for copy, _ in self._copies()]
        for copy, average in self._copies():
            copy.assign(average)
        try:
            yield
        finally:
            for (copy, _), value in zip(self._copies(), kept, strict=True):
                copy.assign(value)

    def _copies(self) -> Iterator[tuple[tf.Variable, tf.Variable]]:
        """Every replica's copy of every variable and of its average."""
        for variable, average in zip(self._variables, self.values.values(), strict=True):
            yield from zip(
                self._strategy.experimental_local_results(variable),
                self._strategy.experimental_local_results(average),
                strict=True,
            )
