import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdet.layers import BN_EPSILON, BatchNorm


def normalize(x, mean, var, gamma, beta):
    return (x - mean) / np.sqrt(var + BN_EPSILON) * gamma + beta


def built(mode, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    layer = BatchNorm(mode)
    layer.build((None, None, None, channels))
    values = {
        "gamma": rng.uniform(0.5, 1.5, channels),
        "beta": rng.normal(size=channels),
        "moving_mean": rng.normal(size=channels),
        "moving_variance": rng.uniform(0.5, 2, channels),
    }
    for name, value in values.items():
        getattr(layer, name).assign(value)
    return layer, values


@pytest.mark.parametrize("mode,training", [("frozen", True), ("frozen", False), ("local", False), ("sync", False)])
def test_uses_the_stored_statistics(mode, training):
    layer, v = built(mode)
    x = np.random.default_rng(1).normal(size=(2, 4, 5, 3)).astype("f")
    expected = normalize(x, v["moving_mean"], v["moving_variance"], v["gamma"], v["beta"])
    np.testing.assert_allclose(layer(x, training=training), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(layer.moving_mean.numpy(), v["moving_mean"].astype("f"))


@pytest.mark.parametrize("mode", ["local", "sync"])
def test_training_uses_the_batch_and_moves_by_the_biased_variance(mode):
    layer, v = built(mode)
    x = np.random.default_rng(2).normal(1.0, 2.0, size=(2, 4, 5, 3)).astype("f")
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    np.testing.assert_allclose(
        layer(x, training=True), normalize(x, mean, var, v["gamma"], v["beta"]), rtol=1e-4, atol=1e-4
    )
    np.testing.assert_allclose(layer.moving_mean, 0.9 * v["moving_mean"] + 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, 0.9 * v["moving_variance"] + 0.1 * var, rtol=1e-5)


def test_half_precision_keeps_float32_parameters():
    keras.mixed_precision.set_global_policy("mixed_float16")
    layer, v = built("frozen")
    x = np.random.default_rng(3).normal(size=(1, 2, 2, 3)).astype(np.float16)
    y = layer(x)
    assert y.dtype == tf.float16 and layer.gamma.dtype == "float32"
    expected = normalize(x.astype("f"), v["moving_mean"], v["moving_variance"], v["gamma"], v["beta"])
    np.testing.assert_allclose(y, expected, rtol=2e-3, atol=2e-3)


def test_an_overflow_leaves_the_moving_statistics_alone():
    layer, v = built("local")
    x = np.full((1, 2, 2, 3), np.inf, "f")
    layer(x, training=True)
    np.testing.assert_allclose(layer.moving_mean, v["moving_mean"], rtol=1e-6)
    np.testing.assert_allclose(layer.moving_variance, v["moving_variance"], rtol=1e-6)


def test_a_fixed_gamma_is_a_variable_that_is_not_trained():
    layer = BatchNorm("frozen", fixed_gamma=True)
    layer.build((None, None, None, 3))
    assert [w.path.split("/")[-1] for w in layer.trainable_variables] == ["beta"]
    assert len(layer.weights) == 4


def test_refuses_an_unknown_mode():
    with pytest.raises(ValueError, match="mode='batch'"):
        BatchNorm("batch")


@pytest.mark.parametrize("replicas", [2, 8])
def test_sync_equals_one_device_with_the_whole_batch(replicas):
    x = np.random.default_rng(4).normal(1.0, 3.0, size=(8, 3, 3, 2)).astype("f")
    strategy = tf.distribute.MirroredStrategy(
        [f"/cpu:{i}" for i in range(replicas)], cross_device_ops=tf.distribute.ReductionToOneDevice()
    )
    with strategy.scope():
        layer, v = built("sync", channels=2)
    part = 8 // replicas
    shards = strategy.experimental_distribute_values_from_function(
        lambda c: tf.constant(x[c.replica_id_in_sync_group * part : (c.replica_id_in_sync_group + 1) * part])
    )
    outputs = tf.function(lambda s: strategy.run(lambda b: layer(b, training=True), args=(s,)), autograph=False)(shards)
    ours = np.concatenate([o.numpy() for o in strategy.experimental_local_results(outputs)])
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    np.testing.assert_allclose(ours, normalize(x, mean, var, v["gamma"], v["beta"]), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(layer.moving_variance.numpy(), 0.9 * v["moving_variance"] + 0.1 * var, rtol=1e-5)


@pytest.mark.parametrize("mode", ["torch_local", "torch_sync"])
def test_torch_modes_move_by_the_unbiased_variance_and_sum_exactly(mode):
    """As torch.nn.BatchNorm2d: what the layer gives differs from double precision by the last bits."""
    layer, v = built(mode)
    x = np.random.default_rng(2).normal(3.0, 2.0, size=(2, 64, 80, 3)).astype("f")
    wide = x.astype("f8")
    mean, var, count = wide.mean((0, 1, 2)), wide.var((0, 1, 2)), x.size // 3
    expected = normalize(wide, mean, var, v["gamma"], v["beta"])
    np.testing.assert_allclose(layer(x, training=True), expected, atol=2e-6)
    np.testing.assert_allclose(layer.moving_mean, 0.9 * v["moving_mean"] + 0.1 * mean, rtol=1e-6)
    moved = 0.9 * v["moving_variance"] + 0.1 * var * count / (count - 1)
    np.testing.assert_allclose(layer.moving_variance, moved, rtol=1e-6)


def test_torch_sync_weighs_replicas_by_the_values_they_hold():
    """Replicas of a box head hold different numbers of RoIs."""
    strategy = (
        tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]) if len(tf.config.list_logical_devices("CPU")) > 1 else None
    )
    if strategy is None:
        pytest.fail("the tests set up two virtual CPUs")
    x = np.random.default_rng(4).normal(1.0, 2.0, size=(7, 2, 2, 3)).astype("f")
    with strategy.scope():
        layer, v = built("torch_sync")

    @tf.function
    def step():
        def own():
            first = tf.distribute.get_replica_context().replica_id_in_sync_group == 0
            rows = tf.cond(first, lambda: tf.constant(x[:2]), lambda: tf.constant(x[2:]))
            return layer(rows, training=True)

        return strategy.experimental_local_results(strategy.run(own))

    outputs = np.concatenate([part.numpy() for part in step()])
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    np.testing.assert_allclose(outputs, normalize(x, mean, var, v["gamma"], v["beta"]), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(layer.moving_variance, 0.9 * v["moving_variance"] + 0.1 * var * 28 / 27, rtol=1e-5)
