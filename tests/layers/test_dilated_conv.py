import numpy as np
import pytest
import tensorflow as tf

from tfdet.layers import DilatedConv2D, SymmetricConv2D


def inputs(rows):
    return tf.constant(np.random.default_rng(0).normal(size=(rows, 7, 9, 4)), tf.float32)


def at(dilation, x, kernel):
    """One dilation, as nine shifted products."""
    padded = np.pad(x, [(0, 0), (dilation, dilation), (dilation, dilation), (0, 0)])
    height, width = x.shape[1:3]
    taps = [
        padded[:, i * dilation : i * dilation + height, j * dilation : j * dilation + width] @ kernel[i, j]
        for i in range(3)
        for j in range(3)
    ]
    return np.sum(taps, axis=0)


@pytest.mark.parametrize("split", [True, False])
def test_branches_share_the_kernel_and_are_image_major(split):
    conv, x = DilatedConv2D(5, 3), inputs(2 if split else 6)
    y = conv(x, dilations=(1, 2, 3), split=split).numpy()
    assert y.shape == (6, 7, 9, 5) and len(conv.weights) == 1
    for row in range(6):
        image, branch = divmod(row, 3)
        own = x.numpy()[[image if split else row]]
        np.testing.assert_allclose(y[[row]], at(branch + 1, own, conv.kernel.numpy()), atol=1e-5)


def test_the_gradient_is_the_sum_over_branches():
    conv, x = DilatedConv2D(5, 3), inputs(2)
    conv(x)
    weight = tf.constant(np.random.default_rng(1).normal(size=(6, 7, 9, 5)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(conv(x, dilations=(1, 2, 3), split=True) * weight)
    together = tape.gradient(total, [conv.kernel.value, x])
    apart = [0.0, 0.0]
    for branch in range(3):
        single = DilatedConv2D(5, 3, dilation_rate=branch + 1)
        single(x)
        single.kernel.assign(conv.kernel)
        with tf.GradientTape() as tape:
            tape.watch(x)
            total = tf.reduce_sum(single(x) * weight[branch::3])
        apart = [a + g for a, g in zip(apart, tape.gradient(total, [single.kernel.value, x]), strict=True)]
    for a, b in zip(together, apart, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("dilations", [None, ()])
def test_without_dilations_it_is_a_plain_convolution(dilations):
    conv, x = DilatedConv2D(5, 3, strides=2), inputs(2)
    plain = SymmetricConv2D(5, 3, strides=2)
    plain(x)
    y = conv(x, dilations=dilations)
    plain.kernel.assign(conv.kernel)
    np.testing.assert_array_equal(y, plain(x))


def test_one_dilation_replaces_its_own():
    conv, x = DilatedConv2D(5, 3), inputs(2)
    np.testing.assert_allclose(conv(x, dilations=(2,)), at(2, x.numpy(), conv.kernel.numpy()), atol=1e-5)
