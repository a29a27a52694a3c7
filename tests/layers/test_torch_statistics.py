"""Batch normalisation as PyTorch moves its statistics, and of batches without rows."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdet.layers import BatchNorm, on_existing


def built(mode, channels=3):
    layer = BatchNorm(mode)
    layer.build((None, None, None, channels))
    layer.moving_variance.assign(np.full(channels, 2.0, "f"))
    return layer


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
@pytest.mark.parametrize("mode", ["local", "torch_local"])
def test_a_batch_without_rows_teaches_nothing(mode, policy):
    keras.mixed_precision.set_global_policy(policy)
    layer = built(mode)
    x = tf.cast(tf.random.stateless_normal([2, 3, 3, 3], (1, 2)), layer.compute_dtype)
    kernel = tf.cast(tf.random.stateless_normal([3, 3, 3, 3], (3, 4)), layer.compute_dtype)
    with tf.GradientTape() as tape:
        tape.watch([x, kernel])
        y = on_existing(
            lambda rows: [layer(tf.nn.conv2d(rows, kernel, 1, "SAME"), training=True)], tf.constant([False] * 2), x
        )[0]
        loss = tf.reduce_sum(tf.cast(y, tf.float32) ** 2 + tf.cast(y, tf.float32))
    sources = [layer.gamma.value, layer.beta.value, kernel, x]
    gradients = [tf.convert_to_tensor(gradient) for gradient in tape.gradient(loss, sources)]
    assert not np.any(y) and not any(np.any(gradient) for gradient in gradients)  # a NaN would be true
    np.testing.assert_array_equal(layer.moving_mean, np.zeros(3))
    np.testing.assert_array_equal(layer.moving_variance, np.full(3, 2.0))


def test_rows_that_stand_for_none_are_in_no_statistic():
    x = np.random.default_rng(1).normal(size=(4, 2, 2, 3)).astype("f")
    exists = np.array([True, False, True, True])
    some, all_ = built("torch_local"), built("torch_local")
    y = on_existing(lambda rows: [some(rows, training=True)], tf.constant(exists), tf.constant(x))[0]
    np.testing.assert_allclose(y[exists], all_(x[exists], training=True), rtol=1e-5, atol=1e-6)
    assert not np.any(y[~exists])
    np.testing.assert_allclose(some.moving_variance, all_.moving_variance, rtol=1e-6)
