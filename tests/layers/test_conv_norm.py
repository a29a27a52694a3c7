"""A convolution whose normalisation is folded into it gives what the two give one after the other."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdet.layers import BatchNorm, DilatedConv2D, SymmetricConv2D, convolve_and_normalize, make_norm

CASES = {
    "1x1": (lambda: SymmetricConv2D(6, 1), {}),
    "strided 1x1": (lambda: SymmetricConv2D(6, 1, 2), {}),
    "3x3": (lambda: SymmetricConv2D(6, 3), {}),
    "strided 7x7": (lambda: SymmetricConv2D(6, 7, 2), {}),
    "dilated 3x3": (lambda: DilatedConv2D(6, 3, dilation_rate=2), {}),
    "branches": (lambda: DilatedConv2D(6, 3), {"dilations": (1, 2, 3)}),
    "split": (lambda: DilatedConv2D(6, 3), {"dilations": (1, 2), "split": True}),
}


def built(make_conv, options, norm="frozen", seed=0):
    rng = np.random.default_rng(seed)
    inputs = tf.constant(rng.normal(size=[6, 9, 11, 4]), tf.float32)
    conv, norm = make_conv(), make_norm(norm, name="bn")
    norm(conv(inputs, **options))
    for variable, low in ((norm.gamma, 0.5), (norm.beta, -1), (norm.moving_mean, -1), (norm.moving_variance, 0.5)):
        variable.assign(rng.uniform(low, 2, 6))
    return conv, norm, inputs


def folded_convolutions(function) -> bool:
    """Whether the graph has a convolution and no normalisation."""
    operations = {
        op.type for op in tf.function(function, autograph=False).get_concrete_function().graph.get_operations()
    }
    assert "Conv2D" in operations
    return "FusedBatchNormV3" not in operations


@pytest.mark.parametrize("case", CASES)
def test_same_values_and_gradients(case):
    make_conv, options = CASES[case]
    conv, norm, inputs = built(make_conv, options)
    variables = [conv.kernel, norm.gamma, norm.beta]
    upstream = np.random.default_rng(1).normal(size=conv(inputs, **options).shape).astype("f")

    def run(together):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = together(inputs)
        return [outputs, *tape.gradient(outputs, [inputs, *(v.value for v in variables)], upstream)]

    apart = run(lambda x: norm(conv(x, **options), training=True))
    together = run(lambda x: convolve_and_normalize(conv, norm, x, True, **options))
    for one, other in zip(together, apart, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6 * np.abs(other).max() + 1e-6)
    assert folded_convolutions(lambda: convolve_and_normalize(conv, norm, inputs, True, **options))


@pytest.mark.parametrize("norm", ["local", "group"])
def test_other_normalisations_stay_apart(norm):
    rng = np.random.default_rng(2)
    conv, norm, inputs = SymmetricConv2D(6, 3), make_norm(norm, name="bn"), rng.normal(size=[2, 8, 8, 4]).astype("f")
    found = convolve_and_normalize(conv, norm, inputs, training=True)
    np.testing.assert_array_equal(found, norm(conv(inputs), training=True))


def test_stays_apart_in_testing_and_in_half_precision():
    conv, norm, inputs = built(*CASES["3x3"])
    assert not folded_convolutions(lambda: convolve_and_normalize(conv, norm, inputs, training=False))
    half = keras.DTypePolicy("mixed_float16")
    conv, norm = SymmetricConv2D(6, 3, dtype=half), BatchNorm(dtype=half)
    norm(conv(inputs))
    assert not folded_convolutions(lambda: convolve_and_normalize(conv, norm, inputs, training=True))
    assert convolve_and_normalize(conv, norm, inputs, training=True).dtype == tf.float16


def test_builds_what_is_not_built():
    conv, norm = SymmetricConv2D(6, 3), BatchNorm()
    outputs = convolve_and_normalize(conv, norm, tf.ones([1, 5, 5, 4]), training=True)
    assert conv.built and norm.built and outputs.shape == (1, 5, 5, 6)
