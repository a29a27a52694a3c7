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
