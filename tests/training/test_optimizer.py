"""The update rule and the loss scale, number by number."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdet.errors import UserError
from tfdet.training.optimizer import MomentumSGD
from tfdet.training.precision import LossScale


def make_variables(*names):
    """Float32 vectors of two elements with the given last parts of their paths."""
    with keras.name_scope("layer"):
        return [keras.Variable(np.float32([2.0, -3.0]), name=name) for name in names]


def apply(optimizer, gradients, learning_rate=0.5, finite=True):
    reduced = optimizer.reduce([tf.constant(gradient, tf.float32) for gradient in gradients])
    optimizer.apply(reduced, tf.constant(learning_rate), tf.constant(finite))


def test_two_updates_with_decay_and_momentum():
    (kernel,) = variables = make_variables("kernel")
    optimizer = MomentumSGD(variables, LossScale(None), momentum=0.9, weight_decay=0.1)
    apply(optimizer, [[1.0, 2.0]], learning_rate=0.5)
    # m = -0.5 * (g + 0.1 w) = -0.5 * [1.2, 1.7]
    np.testing.assert_allclose(optimizer.momenta["layer/kernel"], [-0.6, -0.85], rtol=1e-6)
    np.testing.assert_allclose(kernel.numpy(), [1.4, -3.85], rtol=1e-6)
    apply(optimizer, [[0.0, 0.0]], learning_rate=0.05)
    # the rate is inside the buffer: the old momentum keeps the old rate
    momentum = np.float32([0.9 * -0.6 - 0.05 * 0.14, 0.9 * -0.85 + 0.05 * 0.385])
    np.testing.assert_allclose(optimizer.momenta["layer/kernel"], momentum, rtol=1e-6)
    np.testing.assert_allclose(kernel.numpy(), np.float32([1.4, -3.85]) + momentum, rtol=1e-6)


def test_torchs_rule_over_a_warm_up_and_a_decay(golden):
    """torch.optim.SGD in float64, over the rates of a stored run: m = momentum m + g + decay w, w -= lr m."""
    rates = golden("torch_rates")["d2_retinanet"] * 50.0
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=[len(rates), 2, 2]).astype(np.float32)
    variables = {rule: make_variables("kernel", "bias") for rule in ("torch", "mxnet")}
    factors, decays = (1.0, 0.5), (0.1, 0.0)
    weights, momenta = np.array([[2.0, -3.0]] * 2), np.zeros([2, 2])
    options = {"momentum": 0.9, "weight_decay": 0.1, "decayed": ("kernel",), "lr_factors": {"bias": 0.5}}
    optimizers = {rule: MomentumSGD(own, LossScale(None), **options, rule=rule) for rule, own in variables.items()}
    for rate, gradient in zip(rates, gradients):
        for optimizer in optimizers.values():
            apply(optimizer, gradient, learning_rate=np.float32(rate))
        momenta = 0.9 * momenta + gradient + np.array(decays)[:, None] * weights
        weights = weights - rate * np.array(factors)[:, None] * momenta
    own = np.stack([variable.numpy() for variable in variables["torch"]])
    np.testing.assert_allclose(own, weights, atol=2e-6)
    stored = [momentum.numpy() for momentum in optimizers["torch"].momenta.values()]
    np.testing.assert_allclose(stored, momenta, atol=2e-6)
    other = np.stack([variable.numpy() for variable in variables["mxnet"]])
    assert np.abs(other - weights).max() > 1e-2


@pytest.mark.parametrize("name, decays", [("kernel", True), ("gamma", True), ("bias", False), ("beta", False)])
def test_decay_where_it_applies(name, decays):
    (variable,) = variables = make_variables(name)
    apply(MomentumSGD(variables, LossScale(None), weight_decay=0.1), [[0.0, 0.0]], learning_rate=1.0)
    np.testing.assert_allclose(variable.numpy(), [1.8, -2.7] if decays else [2.0, -3.0], rtol=1e-6)


def test_what_is_exempt_does_not_decay():
    """SimpleDet's SyncBN row decays every beta but that of bn_data."""
    first, second = make_variables("beta")[0], None
    with keras.name_scope("bn_data"):
        second = keras.Variable(np.float32([2.0, -3.0]), name="beta")
    decayed = {"decayed": ("beta",), "undecayed": ("bn_data/beta",)}
    optimizer = MomentumSGD([first, second], LossScale(None), weight_decay=0.1, **decayed)
    apply(optimizer, [[0.0, 0.0]] * 2, learning_rate=1.0)
    np.testing.assert_allclose(first.numpy(), [1.8, -2.7], rtol=1e-6)
    np.testing.assert_allclose(second.numpy(), [2.0, -3.0], rtol=1e-6)


def test_some_variables_learn_at_another_rate():
    """MXNet's lr_mult: the factor is in the buffer, with the decay; of several names in a path the longest counts."""
    variables = [*make_variables("kernel", "bias"), *make_variables("gamma")]
    factors = {"layer": 0.5, "layer/bias": 0.0, "gamma": 3.0}
    optimizer = MomentumSGD(variables, LossScale(None), momentum=0.0, weight_decay=0.1, lr_factors=factors)
    apply(optimizer, [[1.0, 2.0]] * 3, learning_rate=0.1)
    kernel, bias, gamma = (variable.numpy() for variable in variables)
    np.testing.assert_allclose(kernel, [2.0 - 0.1 * 0.5 * 1.2, -3.0 - 0.1 * 0.5 * 1.7], rtol=1e-6)
    np.testing.assert_array_equal(bias, [2.0, -3.0])
    # "layer" and "gamma" are equally long: the one that was named first.
    np.testing.assert_allclose(gamma, kernel, rtol=1e-6)
    with pytest.raises(UserError, match="no trained variable has 'neck'"):
        MomentumSGD(variables, LossScale(None), lr_factors={"neck": 0.5})


def test_clip_acts_on_elements_before_the_decay():
    (kernel,) = variables = make_variables("kernel")
    optimizer = MomentumSGD(variables, LossScale(None), momentum=0.0, weight_decay=1.0, clip=5.0)
    apply(optimizer, [[100.0, -1.0]], learning_rate=1.0)
    np.testing.assert_allclose(kernel.numpy(), [2.0 - (5.0 + 2.0), -3.0 - (-1.0 - 3.0)], rtol=1e-6)


def test_clip_acts_after_the_mean_over_replicas(mirrored):
    strategy = mirrored(2)
    with strategy.scope():
        variables = make_variables("bias")
        optimizer = MomentumSGD(variables, LossScale(None), momentum=0.0, weight_decay=0.0, clip=5.0)

    @tf.function(autograph=False)
    def step():
        def replica():
            index = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.float32)
            gradient = tf.stack([10.0 - 18.0 * index, 40.0 * index])  # [10, 0] and [-8, 40]
            reduced = optimizer.reduce([gradient])
            optimizer.apply(reduced, tf.constant(1.0), tf.constant(True))

        strategy.run(replica)

    step()
    # means 1 and 20; clipped 1 and 5. Clipped on each replica they would be 0 and 2.5.
    for copy in strategy.experimental_local_results(variables[0].value):
        np.testing.assert_allclose(copy.numpy(), [2.0 - 1.0, -3.0 - 5.0], rtol=1e-6)


def test_gradients_are_unscaled():
    (bias,) = variables = make_variables("bias")
    optimizer = MomentumSGD(variables, LossScale(128.0), momentum=0.0, clip=5.0)
    apply(optimizer, [[128.0, 1280.0]], learning_rate=1.0)
    np.testing.assert_allclose(bias.numpy(), [1.0, -8.0], rtol=1e-6)


def test_an_update_that_is_not_finite_changes_nothing():
    variables = make_variables("kernel", "bias")
    optimizer = MomentumSGD(variables, LossScale(None))
    apply(optimizer, [[1.0, 1.0], [1.0, 1.0]])
    weights = [variable.numpy() for variable in variables]
    momenta = [momentum.numpy() for momentum in optimizer.momenta.values()]
    apply(optimizer, [[np.nan, np.inf], [1.0, 1.0]], finite=False)
    np.testing.assert_array_equal([variable.numpy() for variable in variables], weights)
    np.testing.assert_array_equal([momentum.numpy() for momentum in optimizer.momenta.values()], momenta)


def test_a_variable_without_gradient_is_named():
    optimizer = MomentumSGD(make_variables("kernel", "bias"), LossScale(None))
    with pytest.raises(UserError, match="layer/bias"):
        optimizer.reduce([tf.zeros([2]), None])


def test_dynamic_scale_halves_and_doubles():
    scale = LossScale("dynamic")
    assert float(scale.scale) == 2**15
    scale.update(tf.constant(False))
    assert (float(scale.scale), int(scale.good_steps)) == (2**14, 0)
    scale.good_steps.assign(1998)
    scale.update(tf.constant(True))
    assert (float(scale.scale), int(scale.good_steps)) == (2**14, 1999)
    scale.update(tf.constant(True))
    assert (float(scale.scale), int(scale.good_steps)) == (2**15, 0)
    scale.good_steps.assign(1500)
    scale.update(tf.constant(False))
    assert (float(scale.scale), int(scale.good_steps)) == (2**14, 0)


def test_dynamic_scale_stays_finite():
    scale = LossScale("dynamic")
    scale.scale.assign(2.0**24)
    scale.good_steps.assign(1999)
    scale.update(tf.constant(True))
    assert float(scale.scale) == 2**24


def test_fixed_scale_never_moves():
    scale = LossScale(128)
    for finite in (False, True):
        scale.update(tf.constant(finite))
    assert float(scale.scale) == 128


def test_what_counts_as_divergence():
    dynamic, fixed = LossScale("dynamic"), LossScale(128)
    assert not dynamic.exhausted(99, 2.0) and dynamic.exhausted(100, 2.0)
    assert not dynamic.exhausted(1, 1 / 16) and dynamic.exhausted(1, 1 / 32)
    assert not fixed.exhausted(99, 128.0) and fixed.exhausted(100, 128.0)
    assert dynamic.tolerates_overflow and fixed.tolerates_overflow and not LossScale(None).tolerates_overflow


def test_the_norm_is_clipped_after_the_mean_over_replicas(mirrored):
    """Against numpy: element clip, then the norm over all variables, then decay and momentum."""
    random = np.random.default_rng(0)
    gradients = random.normal(0, 10, [2, 2, 2]).astype("f")  # replica, variable, element
    strategy = mirrored(2)
    with strategy.scope():
        variables = make_variables("kernel", "bias")
        optimizer = MomentumSGD(variables, LossScale(4.0), weight_decay=0.1, clip=9.0, clip_norm=2.0)

    @tf.function(autograph=False)
    def step():
        def replica():
            own = tf.gather(gradients, tf.distribute.get_replica_context().replica_id_in_sync_group)
            reduced = optimizer.reduce([4.0 * own[0], 4.0 * own[1]])
            optimizer.apply(reduced, tf.constant(0.5), tf.constant(True))

        strategy.run(replica)

    step()
    mean = np.clip(gradients.mean(0), -9, 9)
    norm = np.sqrt((mean**2).sum())
    assert norm > 2  # each replica's own norm is another, and clipping there would give other numbers
    mean *= 2 / norm
    start = np.float32([2.0, -3.0])
    for variable, gradient, decay in zip(variables, mean, (0.1, 0.0), strict=True):
        expected = start - 0.5 * (gradient + decay * start)
        for copy in strategy.experimental_local_results(variable.value):
            np.testing.assert_allclose(copy.numpy(), expected, rtol=1e-5)


def test_a_small_norm_is_left_alone():
    (kernel,) = variables = make_variables("bias")
    optimizer = MomentumSGD(variables, LossScale(None), momentum=0.0, clip_norm=5.0)
    apply(optimizer, [[3.0, -3.0]], learning_rate=1.0)
    np.testing.assert_array_equal(kernel.numpy(), [-1.0, 0.0])
    apply(optimizer, [[0.0, 0.0]], learning_rate=1.0)
    np.testing.assert_array_equal(kernel.numpy(), [-1.0, 0.0])
