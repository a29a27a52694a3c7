"""Batch normalisation in the three forms that SimpleDet's zoo uses, and in the two of PyTorch."""

from __future__ import annotations

import contextlib
import contextvars
import math
from collections.abc import Iterator
from typing import Literal, get_args

import keras
import tensorflow as tf

from tfdet.errors import ParameterError
from tfdet.layers.inference import in_inference
from tfdet.ops.replica_mean import replica_mean

BN_EPSILON = 1.00001e-5
"""mxnext's 1e-5 + 1e-10, for every BN of every row (mxnext complicate.py: normalizer_factory)."""

BatchNormMode = Literal["frozen", "local", "sync", "torch_local", "torch_sync"]
MODES = get_args(BatchNormMode)
_OF_ALL_REPLICAS = ("sync", "torch_sync")


_SHARE: contextvars.ContextVar[tf.Tensor | None] = contextvars.ContextVar("share", default=None)


@contextlib.contextmanager
def counted_in_statistics(share: tf.Tensor) -> Iterator[None]:
    """While entered, batches are counted in moving statistics, and in those of all replicas, `share` times.

    Args:
        share: float32 [], 1; or 0 where the only row of a batch stands for nothing.
    """
    token = _SHARE.set(share)
    try:
        yield
    finally:
        _SHARE.reset(token)


class BatchNorm(keras.layers.Layer):
    """Batch normalisation over the last axis: `(x - mean) / sqrt(var + epsilon) * gamma + beta`.

    Args:
        mode: where mean and variance come from in training; testing always uses the moving ones.
            "frozen": the stored moving statistics (mxnext "fixbn"). "local": the batch of this replica ("localbn").
            "sync": the batches of all replicas together, biased variance (mxnext "syncbn",
            operator_cxx/contrib/sync_batch_norm-inl.h). "torch_local" and "torch_sync" are as "local" and "sync", but
            the moving variance takes the unbiased one (torch.nn.BatchNorm2d, torch.nn.SyncBatchNorm), and replicas may
            hold different numbers of values, as the rows of a box head are.
        momentum: share of the old value kept in a moving statistic.
        epsilon: added to the variance.
        fixed_gamma: gamma is 1 and not trained (MXNet `fix_gamma`). A variable stands for it all the same, so that
            the tensors of a detector are those of SimpleDet's checkpoint.

    Weights: gamma, beta (trainable unless frozen by name, as SimpleDet does), moving_mean, moving_variance; all [C],
    float32 under every precision policy. Statistics are computed in float32; the output has the input's dtype.
    The moving variance takes the biased variance, as MXNet's SyncBatchNorm does, but in PyTorch's modes.
    """

    def __init__(
        self,
        mode: BatchNormMode = "frozen",
        momentum: float = 0.9,
        epsilon: float = BN_EPSILON,
        fixed_gamma: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if mode not in MODES:
            raise ParameterError(f"Expected mode to be one of {MODES}. Received: mode={mode!r}")
        self.mode, self.momentum, self.epsilon, self.fixed_gamma = mode, momentum, epsilon, fixed_gamma

    def build(self, input_shape):
        shape = (input_shape[-1],)

        def weight(name, initializer, trainable):
            return self.add_weight(
                shape=shape,
                name=name,
                initializer=initializer,
                dtype="float32",
                autocast=False,
                trainable=trainable,
                # Replicas of "local" see different batches; a checkpoint holds the mean of their statistics.
                aggregation="none" if trainable else "mean",
            )

        self.gamma = weight("gamma", "ones", not self.fixed_gamma)
        self.beta = weight("beta", "zeros", True)
        self.moving_mean = weight("moving_mean", "zeros", False)
        self.moving_variance = weight("moving_variance", "ones", False)

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        if not training or self.mode == "frozen" or in_inference():
            return self._fused(inputs, self.moving_mean, self.moving_variance, is_training=False)[0]
        of_torch = self.mode.startswith("torch")
        count = tf.cast(tf.size(inputs) // tf.shape(inputs)[-1], tf.float32)
        if (share := _SHARE.get()) is not None:
            count *= share
        if not self.of_all_replicas or tf.distribute.get_replica_context().num_replicas_in_sync == 1:
            if of_torch and inputs.dtype == tf.float32:
                outputs, mean, variance = self._of_batch(inputs)
                self._update(_of_some(mean, count), _unbiased(variance, count))
                return outputs
            empty = tf.zeros([0])
            outputs, mean, unbiased = self._fused(inputs, empty, empty, is_training=True)
            unbiased = _of_some(unbiased, count)
            self._update(_of_some(mean, count), unbiased if of_torch else unbiased * (count - 1.0) / count)
            return outputs
        if of_torch:
            mean, variance, total = self._weighted_moments(tf.cast(inputs, tf.float32), count)
            self._update(_of_some(mean, total), _unbiased(variance, total))
        else:
            mean, variance = self._global_moments(tf.cast(inputs, tf.float32))
            self._update(mean, variance)
        scale = self.gamma.value * tf.math.rsqrt(variance + self.epsilon)
        outputs = tf.cast(inputs, tf.float32) * scale + (self.beta.value - mean * scale)
        return tf.cast(outputs, inputs.dtype)

    @property
    def of_all_replicas(self) -> bool:
        """Whether statistics in training are of all replicas' batches together."""
        return self.mode in _OF_ALL_REPLICAS

    @property
    def moving_statistics(self) -> list[keras.Variable]:
        """The variables that a call in training moves: none where the stored statistics are frozen."""
        return [] if self.mode == "frozen" else [self.moving_mean, self.moving_variance]

    def stored_affine(self) -> tuple[tf.Tensor, tf.Tensor]:
        """(scale, shift), float32 [C], of what the layer computes with its stored statistics: `scale * x + shift`."""
        mean, variance = tf.convert_to_tensor(self.moving_mean), tf.convert_to_tensor(self.moving_variance)
        scale = tf.convert_to_tensor(self.gamma) * tf.math.rsqrt(variance + self.epsilon)
        return scale, tf.convert_to_tensor(self.beta) - mean * scale

    def _fused(self, inputs, mean, variance, is_training):
        # The fused kernel takes half-precision inputs with float32 parameters, which is what MXNet computes.
        return tf.compat.v1.nn.fused_batch_norm(
            inputs,
            tf.convert_to_tensor(self.gamma),
            tf.convert_to_tensor(self.beta),
            tf.convert_to_tensor(mean),
            tf.convert_to_tensor(variance),
            epsilon=self.epsilon,
            is_training=is_training,
        )

    def _of_batch(self, inputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The outputs, the mean and the biased variance.

        A sum over one axis after the other: the fused kernel of a CPU adds all values of a channel in one row, and has
        ten times PyTorch's rounding error.
        """

        def mean_of(values: tf.Tensor) -> tf.Tensor:
            for axis in (2, 1, 0):
                values = tf.reduce_mean(values, axis)
            return values

        mean = mean_of(inputs)
        centred = inputs - mean
        variance = mean_of(tf.square(centred))
        return centred * (self.gamma.value * tf.math.rsqrt(variance + self.epsilon)) + self.beta.value, mean, variance

    @staticmethod
    def _global_moments(inputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Mean over replicas of E[x] and E[x^2]: replicas hold batches of one size, as SimpleDet's GPUs do."""
        own = tf.stack([tf.reduce_mean(inputs, [0, 1, 2]), tf.reduce_mean(tf.square(inputs), [0, 1, 2])])
        (both,) = replica_mean(own)
        mean, square = tf.unstack(both)
        return mean, tf.maximum(square - tf.square(mean), 0.0)

    @staticmethod
    def _weighted_moments(inputs: tf.Tensor, count: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Mean and biased variance of all values of all replicas, of which this holds `count`, and their number."""
        sums = [tf.reduce_sum(inputs, [0, 1, 2]), tf.reduce_sum(tf.square(inputs), [0, 1, 2])]
        if (share := _SHARE.get()) is not None:
            sums = [share * own for own in sums]
        (means,) = replica_mean(tf.concat([*sums, count[None]], axis=0))
        mean, square = tf.split(tf.math.divide_no_nan(means[:-1], means[-1]), 2)
        replicas = tf.distribute.get_replica_context().num_replicas_in_sync
        return mean, tf.maximum(square - tf.square(mean), 0.0), means[-1] * replicas

    def _update(self, mean: tf.Tensor, variance: tf.Tensor) -> None:
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            # An overflow in a skipped mixed-precision step must not leave an infinity here for good; and a batch that
            # does not count has no mean, one of a single value no unbiased variance.
            batch = tf.where(tf.math.is_finite(batch), batch, tf.convert_to_tensor(moving))
            moved = moving * self.momentum + tf.stop_gradient(batch) * (1.0 - self.momentum)
            if self.of_all_replicas and isinstance(moving.value, tf.Variable):
                # The same on all replicas: each writes its own copy. `assign` would make them wait for each other,
                # twice a layer, while the step is traced. (In a stateless scope the value is a tensor.)
                tf.raw_ops.AssignVariableOp(resource=moving.value.handle, value=moved)
            else:
                moving.assign(moved)

    def compute_output_shape(self, input_shape):
        return input_shape


def _unbiased(variance: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """The unbiased variance of `count` values, from the biased one: not a number where there are fewer than two."""
    return tf.where(count > 1.0, variance * count / (count - 1.0), math.nan)


def _of_some(statistic: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """A statistic of `count` values: not a number where there are none."""
    return tf.where(count > 0.0, statistic, math.nan)
