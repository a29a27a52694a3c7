import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdet.heads import MaskHead

RNG = np.random.default_rng(0)
FEATURES = tf.constant(RNG.normal(size=(5, 3, 3, 6)), tf.float32)


def head_with_biases(**options) -> MaskHead:
    head = MaskHead(4, channels=7, num_convs=2, **options)
    head(FEATURES)
    for weight in head.weights:
        if weight.path.endswith("bias"):
            weight.assign(RNG.normal(size=weight.shape))
    return head


def relu_conv3x3(x, kernel, bias):
    padded = np.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])
    h, w = x.shape[1:3]
    windows = sum(padded[:, i : i + h, j : j + w] @ kernel[i, j] for i in range(3) for j in range(3))
    return np.maximum(windows + bias, 0)


def test_is_the_transcribed_head():
    """Each pixel of the deconvolution's input makes a 2x2 block of its output."""
    head = head_with_biases()
    x = FEATURES.numpy()
    for conv in head.convs:
        x = relu_conv3x3(x, conv.kernel.numpy(), conv.bias.numpy())
    n, h, w, _ = x.shape
    up = np.zeros([n, 2 * h, 2 * w, 7])
    for i in range(2):
        for j in range(2):
            up[:, i::2, j::2] = x @ head.up.kernel.numpy()[i, j].T
    up = np.maximum(up + head.up.bias.numpy(), 0)
    expected = up @ head.logit.kernel.numpy()[0, 0] + head.logit.bias.numpy()
    assert expected.shape == (5, 6, 6, 5)
    np.testing.assert_allclose(head(FEATURES), expected, atol=1e-4)


@pytest.mark.parametrize("background_plane", [True, False])
def test_the_plane_of_a_class_alone(background_plane):
    head = head_with_biases(background_plane=background_plane)
    classes = np.array([3, 0, 1, 2, -1])
    every = head(FEATURES).numpy()
    assert every.shape[-1] == 4 + background_plane
    own = head(FEATURES, classes=tf.constant(classes)).numpy()
    for i in range(4):
        np.testing.assert_allclose(own[i], every[i, ..., classes[i] + background_plane], atol=1e-5)


@pytest.mark.parametrize("background_plane", [True, False])
def test_one_plane_for_all_classes(background_plane):
    head = head_with_biases(background_plane=background_plane, class_agnostic=True)
    every = head(FEATURES).numpy()
    assert every.shape[-1] == 1 + background_plane
    own = head(FEATURES, classes=tf.constant([3, 0, 1, 2, 3]))
    np.testing.assert_allclose(own, every[..., -1], atol=1e-5)


def test_initial_standard_deviations():
    """N(0, sqrt(2 / fan_out)), fan_out of all output channels and cells."""
    head = MaskHead(80, channels=64)
    head(tf.zeros([1, 14, 14, 32]))
    assert np.std(head.convs[0].kernel) == pytest.approx(np.sqrt(2 / (64 * 9)), rel=0.05)
    assert np.std(head.up.kernel) == pytest.approx(np.sqrt(2 / (64 * 4)), rel=0.05)
    assert np.std(head.logit.kernel) == pytest.approx(np.sqrt(2 / 81), rel=0.05)
    assert not any(np.any(w) for w in head.weights if w.path.endswith("bias"))
    assert [w.path for w in head.convs[0].weights] == ["mask_head/conv0/kernel", "mask_head/conv0/bias"]


def test_norm_replaces_the_biases():
    head = MaskHead(2, channels=8, num_convs=2, norm="local")
    head(FEATURES)
    paths = {w.path for w in head.weights}
    assert "mask_head/bn1/gamma" in paths and "mask_head/conv1/bias" not in paths
    before = head.norms[0].moving_mean.numpy()
    head(FEATURES, training=True)
    assert (head.norms[0].moving_mean.numpy() != before).any()


def test_logits_are_float32_in_mixed_precision():
    keras.mixed_precision.set_global_policy("mixed_float16")
    head = MaskHead(2, channels=8, num_convs=1)
    every = head(tf.cast(FEATURES, tf.float16))
    own = head(tf.cast(FEATURES, tf.float16), classes=tf.constant([0, 1, 1, 0, 1]))
    assert every.dtype == own.dtype == tf.float32
    np.testing.assert_allclose(own[1], every[1, ..., 2], atol=1e-3)
    assert MaskHead(**head.get_config()).channels == 8
