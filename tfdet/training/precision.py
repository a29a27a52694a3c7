"""The dtype policy of the layers and the scale of the loss."""

from __future__ import annotations

import keras
import tensorflow as tf

_DYNAMIC_START = 2.0**15
_DYNAMIC_CEILING = 2.0**24  # a scale that overflowed to infinity could not be halved back
_GROWTH_INTERVAL = 2000
_DYNAMIC_FLOOR = 1.0 / 16.0
_MAX_CONSECUTIVE_SKIPS = 100


def set_policy(name: str) -> None:
    """Sets the Keras policy of layers created later. Variables stay float32: they are the master weights."""
    keras.mixed_precision.set_global_policy(name)


class LossScale(tf.Module):
    """The factor on the loss that keeps float16 gradients representable, and what an overflow does to it.

    - "dynamic": starts at 2**15, halves on a gradient that is not finite, doubles after 2000 good steps.
    - a number, such as 128 (the float16 rows of SimpleDet): never changes.
    - None: 1, and a gradient that is not finite is no overflow but divergence.

    In the first two an update that is not finite is skipped and training goes on, up to 100 skips in a row or until a
    dynamic scale is below 1/16.

    Args:
        mode: "dynamic", a positive number or None.
    """

    def __init__(self, mode: str | float | None):
        super().__init__(name="loss_scale")
        self.mode = mode
        start = _DYNAMIC_START if mode == "dynamic" else float(mode or 1.0)
        first = tf.VariableAggregation.ONLY_FIRST_REPLICA
        self.scale = tf.Variable(start, trainable=False, name="scale", aggregation=first)
        self.good_steps = tf.Variable(0, trainable=False, name="good_steps", dtype=tf.int64, aggregation=first)

    @property
    def tolerates_overflow(self) -> bool:
        """Whether an update that is not finite is skipped rather than an error."""
        return self.mode is not None

    def update(self, finite: tf.Tensor) -> None:
        """Moves the scale after a step, in the cross-replica context. Args: finite, bool scalar."""
        if self.mode != "dynamic":
            return
        good = tf.cast(finite, tf.int64) * (self.good_steps + 1)
        grow = good >= _GROWTH_INTERVAL
        grown = tf.where(grow, tf.minimum(self.scale * 2.0, _DYNAMIC_CEILING), self.scale)
        self.scale.assign(tf.where(finite, grown, self.scale * 0.5))
        self.good_steps.assign(tf.where(grow, tf.zeros_like(good), good))

    def exhausted(self, consecutive_skips: int, scale: float) -> bool:
        """Whether so many updates overflowed that the scale cannot be the reason."""
        too_small = self.mode == "dynamic" and scale < _DYNAMIC_FLOOR
        return too_small or consecutive_skips >= _MAX_CONSECUTIVE_SKIPS

    def describe(self) -> str:
        """For the start-up table."""
        if self.mode is None:
            return "no loss scale"
        return "dynamic loss scale" if self.mode == "dynamic" else f"loss scale {self.mode:g}"
