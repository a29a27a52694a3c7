import numpy as np
import tensorflow as tf

from tfdet.losses.mask import mask_loss

RNG = np.random.default_rng(0)
LOGITS = tf.constant(RNG.normal(0, 3, size=(2, 3, 4, 4)), tf.float32)
TARGETS = tf.constant(RNG.integers(0, 2, size=(2, 3, 4, 4)), tf.float32)
VALID = tf.constant([[True, True, False], [False, True, False]])


def test_is_the_mean_over_the_pixels_that_count():
    p = 1 / (1 + np.exp(-LOGITS.numpy().astype(float)))
    loss = -np.where(TARGETS.numpy() > 0, np.log(p), np.log(1 - p))[VALID.numpy()]
    np.testing.assert_allclose(mask_loss(LOGITS, TARGETS, VALID), loss.sum() / (48 + 1e-5), rtol=1e-5)


def test_gradient_is_that_of_the_zoo():
    """(sigmoid - target) / count, and nothing where the target is ignored, whatever the logit."""
    logits = tf.where(VALID[..., None, None], LOGITS, np.inf)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = mask_loss(logits, TARGETS, VALID)
    expected = np.where(VALID[..., None, None], tf.sigmoid(LOGITS) - TARGETS, 0) / 48
    np.testing.assert_allclose(tape.gradient(loss, logits), expected, atol=1e-7)


def test_is_zero_without_foreground():
    assert mask_loss(LOGITS, TARGETS, tf.zeros_like(VALID)) == 0
    assert mask_loss(tf.zeros([2, 0, 4, 4]), tf.zeros([2, 0, 4, 4]), tf.zeros([2, 0], tf.bool)) == 0
