"""AdamW, number by number: beside torch's and Keras' own, on replicas, with a loss scale."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_optimizer import apply, make_variables

from tfdet.training.adamw import AdamW
from tfdet.training.precision import LossScale

RATES = np.float32(1e-2 * np.minimum(1.0, np.arange(1, 21) / 5)) * np.float32(np.where(np.arange(1, 21) > 15, 0.1, 1.0))
OPTIONS = {"weight_decay": 0.5, "decayed": ("kernel",), "lr_factors": {"bias": 0.5}}

# torch.optim.AdamW of torch 2.14.1 in float64 on the numbers of `gradients(tiny=True)`: the kernel with a decay of .5,
# the bias without and at half the rate, after updates 1, 8 and 20.
OF_TORCH = {
    1: [1.995999999969081, -2.9949999999139076, 1.9989999999681172, -3.000999999952169],
    8: [1.9760874878195471, -2.886578683792625, 1.9954239583414728, -3.0114935984096998],
    20: [1.927686890260265, -2.794680316336166, 1.983153141306992, -3.029564027678714],
}


def gradients(tiny=False):
    """Of 20 updates of two variables; where they are tiny epsilon counts."""
    values = np.random.default_rng(0).normal(size=[20, 2, 2]).astype(np.float32)
    if tiny:
        values[5:8] *= 1e-9
    return values


def values(variables):
    return np.concatenate([variable.numpy() for variable in variables])


def test_as_torch_has_it_for_20_updates():
    variables = make_variables("kernel", "bias")
    optimizer = AdamW(variables, LossScale(None), **OPTIONS)
    for number, (rate, gradient) in enumerate(zip(RATES, gradients(tiny=True)), 1):
        apply(optimizer, gradient, learning_rate=rate)
        if number in OF_TORCH:
            np.testing.assert_allclose(values(variables), OF_TORCH[number], atol=1e-6)
    assert int(optimizer.updates) == 20


def test_as_keras_has_it_for_20_updates():
    """Its epsilon is another, and nothing beside gradients of this size."""
    ours, theirs = make_variables("kernel", "bias"), make_variables("kernel", "bias")
    optimizer = AdamW(ours, LossScale(None), betas=(0.8, 0.99), weight_decay=0.5, decayed=("kernel",))
    other = keras.optimizers.AdamW(weight_decay=0.5, beta_1=0.8, beta_2=0.99, epsilon=1e-10)
    other.exclude_from_weight_decay(var_names=["bias"])
    other.build(theirs)
    for rate, gradient in zip(RATES, gradients()):
        apply(optimizer, gradient, learning_rate=rate)
        other.learning_rate = rate
        other.apply(list(map(tf.constant, gradient)), theirs)
    np.testing.assert_allclose(values(ours), values(theirs), atol=2e-6)
    assert np.abs(values(ours) - [2.0, -3.0, 2.0, -3.0]).min() > 4e-3


def test_on_replicas_under_a_loss_scale_and_a_skipped_update(mirrored):
    """Every replica's copy of weights and moments is what one device makes of the mean; a skipped update is none."""
    strategy = mirrored(2)
    with strategy.scope():
        variables = make_variables("kernel", "bias")
        optimizer = AdamW(variables, LossScale(128.0), **OPTIONS)
    spread = np.stack([np.ones([2, 2]), -np.ones([2, 2])]).astype(np.float32)

    @tf.function
    def step(gradient, rate, finite):
        def replica():
            own = gradient + tf.gather(spread, tf.distribute.get_replica_context().replica_id_in_sync_group)
            optimizer.apply(optimizer.reduce([128.0 * own[0], 128.0 * own[1]]), rate, finite)

        strategy.run(replica)

    for number, (rate, gradient) in enumerate(zip(RATES, gradients())):
        if number == 10:
            step(tf.constant(gradient * np.float32(np.nan)), tf.constant(rate), tf.constant(False))
        step(tf.constant(gradient), tf.constant(rate), tf.constant(True))
    alone = make_variables("kernel", "bias")
    single = AdamW(alone, LossScale(None), **OPTIONS)
    for rate, gradient in zip(RATES, gradients()):
        apply(single, gradient, learning_rate=rate)
    pairs = list(zip([variable.value for variable in variables], [variable.value for variable in alone]))
    for group, own in optimizer.slots.items():
        pairs += list(zip(own.values(), single.slots[group].values()))
    for mirrored_variable, expected in pairs:
        for copy in strategy.experimental_local_results(mirrored_variable):
            np.testing.assert_allclose(copy.numpy(), expected.numpy(), rtol=1e-5)


@pytest.mark.parametrize("name, decays", [("kernel", True), ("gamma", False), ("bias", False), ("beta", False)])
def test_the_decay_is_left_out_for_norms_and_biases(name, decays):
    (variable,) = variables = make_variables(name)
    apply(AdamW(variables, LossScale(None), weight_decay=0.1), [[0.0, 0.0]], learning_rate=1.0)
    np.testing.assert_allclose(variable.numpy(), [1.8, -2.7] if decays else [2.0, -3.0], rtol=1e-6)
