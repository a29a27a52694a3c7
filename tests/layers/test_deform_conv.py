import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdet.errors import ParameterError
from tfdet.layers import DeformConv2D, SymmetricConv2D


def inputs(*shape):
    return tf.constant(np.random.default_rng(0).normal(size=shape), tf.float32)


@pytest.mark.parametrize("strides,dilation", [(1, 1), (2, 1), (1, 2)])
@pytest.mark.parametrize("modulated", [False, True])
def test_it_begins_as_an_ordinary_convolution(strides, dilation, modulated):
    x = inputs(2, 7, 10, 8)
    layer = DeformConv2D(6, strides=strides, dilation_rate=dilation, offset_groups=4, modulated=modulated)
    plain = SymmetricConv2D(6, 3, strides=strides, dilation_rate=dilation)
    outputs = layer(x)
    plain.build(x.shape)
    plain.kernel.assign(layer.kernel)
    np.testing.assert_allclose(outputs, plain(x) * (0.5 if modulated else 1.0), atol=1e-5)
    assert outputs.shape == layer.compute_output_shape(x.shape)


def test_weights_are_named_and_shaped_for_detectron2s_maps():
    layer = DeformConv2D(8, groups=2, offset_groups=2, modulated=True, use_bias=True, name="conv2")
    layer.build((None, None, None, 4))
    assert {w.path: tuple(w.shape) for w in layer.weights} == {
        "conv2/kernel": (3, 3, 2, 8),
        "conv2/bias": (8,),
        "conv2/offset/kernel": (3, 3, 4, 54),
        "conv2/offset/bias": (54,),
    }
    assert not np.any(layer.offset.kernel) and not np.any(layer.offset.bias)


def test_the_offsets_channels_move_the_taps_they_name():
    """y of the middle tap + 1 reads the line below, x + 1 the next column, a mask of 0 nothing."""
    x = inputs(1, 5, 6, 3)
    layer = DeformConv2D(2, modulated=True)
    layer.build(x.shape)
    kernel = np.zeros((3, 3, 3, 2), np.float32)
    kernel[1, 1] = np.random.default_rng(1).normal(size=(3, 2))
    layer.kernel.assign(kernel)

    def moved(channel, amount):
        bias = np.zeros(27, np.float32)
        bias[18:] = 50  # a mask of 1
        bias[channel] = amount
        layer.offset.bias.assign(bias)
        return layer(x).numpy()

    still = x.numpy() @ kernel[1, 1]
    np.testing.assert_allclose(moved(2 * 4, 1.0)[:, :-1], still[:, 1:], atol=1e-6)
    np.testing.assert_allclose(moved(2 * 4 + 1, 1.0)[:, :, :-1], still[:, :, 1:], atol=1e-6)
    np.testing.assert_allclose(moved(2 * 3, 1.0), still, atol=1e-6)
    np.testing.assert_allclose(moved(18 + 4, -200.0), 0, atol=1e-6)


def test_gradients_reach_all_of_its_weights_in_half_precision():
    layer = DeformConv2D(4, modulated=True, use_bias=True, dtype="mixed_float16")
    x = inputs(2, 5, 5, 4)
    with tf.GradientTape() as tape:
        outputs = layer(x)
        loss = tf.reduce_sum(tf.cast(outputs, tf.float32) ** 2)
    assert outputs.dtype == tf.float16
    gradients = tape.gradient(loss, [w.value for w in layer.trainable_variables])
    assert len(gradients) == 4 and all(np.abs(g).max() > 0 for g in gradients)
    assert all(g.dtype == tf.float32 for g in gradients)


def test_it_is_made_again_of_its_config():
    layer = DeformConv2D(6, 5, 2, groups=2, offset_groups=2, offset_bias=False, dtype="float16")
    again = DeformConv2D.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    symbolic = again(keras.Input((None, 9, 4)))
    assert symbolic.shape == (None, None, 5, 6)


@pytest.mark.parametrize(
    "options,channels", [({"kernel_size": 2}, 4), ({"groups": 3}, 4), ({"groups": 2}, 3), ({"offset_groups": 2}, 3)]
)
def test_what_does_not_fit_is_named(options, channels):
    with pytest.raises(ParameterError, match="[Ee]xpected|cannot be parted"):
        DeformConv2D(4, **options).build((None, 4, 4, channels))
