import numpy as np
import pytest
import tensorflow as tf

from tfdet.layers import SymmetricConv2D


def correlate(image, kernel, stride, dilation):
    """Plain cross-correlation of [H, W] with symmetric zero padding ((k - 1) d + 1) // 2."""
    k = kernel.shape[0]
    pad = ((k - 1) * dilation + 1) // 2
    padded = np.pad(image, pad)
    size = [(n + 2 * pad - dilation * (k - 1) - 1) // stride + 1 for n in image.shape]
    out = np.zeros(size)
    for i in range(size[0]):
        for j in range(size[1]):
            rows, cols = i * stride + dilation * np.arange(k), j * stride + dilation * np.arange(k)
            out[i, j] = (padded[np.ix_(rows, cols)] * kernel).sum()
    return out


@pytest.mark.parametrize("height,width", [(8, 8), (9, 8), (7, 11)])
@pytest.mark.parametrize("kernel,stride,dilation", [(1, 2, 1), (3, 1, 1), (3, 2, 1), (3, 1, 2), (3, 1, 3), (7, 2, 1)])
def test_equals_symmetrically_padded_correlation(height, width, kernel, stride, dilation):
    rng = np.random.default_rng(kernel * 10 + stride)
    image, weights = rng.normal(size=(height, width)), rng.normal(size=(kernel, kernel))
    layer = SymmetricConv2D(1, kernel, stride, dilation)
    layer.build((None, None, None, 1))
    layer.kernel.assign(weights[:, :, None, None])
    ours = layer(tf.constant(image[None, :, :, None], tf.float32))
    np.testing.assert_allclose(ours[0, :, :, 0], correlate(image, weights, stride, dilation), atol=1e-5)
    assert tuple(ours.shape) == layer.compute_output_shape((1, height, width, 1))


def test_the_gradient_of_a_strided_1x1_at_batch_size_1():
    """TensorFlow 2.20's own strided 1x1 crashes the process here, on a CPU with oneDNN."""
    layer = SymmetricConv2D(8, 1, 2)
    x = tf.Variable(np.random.default_rng(0).normal(size=(1, 16, 24, 4)), dtype=tf.float32)
    for _ in range(10):
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(layer(x))
        gradient = tape.gradient(total, x).numpy()
    expected = np.zeros((1, 16, 24, 4), "f")
    expected[:, ::2, ::2] = layer.kernel.numpy().sum(-1)[0, 0]
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)


def test_refuses_an_even_kernel():
    with pytest.raises(ValueError, match="kernel_size=2"):
        SymmetricConv2D(1, 2)


@pytest.mark.parametrize("in_graph", [False, True])
@pytest.mark.parametrize("stride, dilation", [(1, 1), (2, 1), (1, 2)])
def test_groups_are_convolutions_of_their_own(stride, dilation, in_graph):
    """Values and gradients, which TensorFlow's CPU kernels have in few cases."""
    rng = np.random.default_rng(stride)
    layer, x = SymmetricConv2D(6, 3, stride, dilation, groups=2), tf.constant(rng.normal(size=(2, 9, 8, 4)), tf.float32)
    parts = [SymmetricConv2D(3, 3, stride, dilation) for _ in range(2)]
    layer.build((None, None, None, 4))

    def run(x, kernel):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            total = tf.reduce_sum(layer.convolve(x, kernel) ** 3)
        return total, *tape.gradient(total, [x, kernel])

    def run_apart(x, kernel):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            pieces = zip(parts, tf.split(x, 2, -1), tf.split(kernel, 2, -1), strict=True)
            total = tf.reduce_sum(
                tf.concat([part.convolve(own, own_kernel) for part, own, own_kernel in pieces], -1) ** 3
            )
        return total, *tape.gradient(total, [x, kernel])

    kernel = tf.constant(rng.normal(size=(3, 3, 2, 6)), tf.float32)
    for part in parts:
        part.build((None, None, None, 2))
    ours = (tf.function(run) if in_graph else run)(x, kernel)
    for value, expected in zip(ours, run_apart(x, kernel), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_groups_in_half_precision():
    layer = SymmetricConv2D(6, 3, 2, groups=2, dtype="mixed_float16")
    x = tf.constant(np.random.default_rng(0).normal(size=(1, 9, 8, 4)), tf.float16)
    with tf.GradientTape() as tape:
        y = layer(x)
        total = tf.reduce_sum(tf.cast(y, tf.float32) ** 2)
    (gradient,) = tape.gradient(total, layer.trainable_variables)
    exact = layer.convolve(tf.cast(x, tf.float32), tf.cast(tf.cast(layer.kernel.value, tf.float16), tf.float32))
    assert y.dtype == tf.float16 and np.isfinite(gradient.numpy()).all() and np.abs(gradient).max() > 0
    np.testing.assert_allclose(y, exact, atol=2e-2)
