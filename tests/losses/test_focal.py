"""The focal loss against SimpleDet's gradient, against Detectron2's operator, and RetinaNet's normalisers."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfdet.losses.focal import RETINA_SIGMA, focal_loss, retina_losses


def gradient_of(logits, labels, **arguments):
    logits = tf.constant(logits, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = focal_loss(logits, np.asarray(labels, np.int32), **arguments)
    return float(loss), tape.gradient(loss, logits).numpy()


@pytest.mark.parametrize(
    ("z", "own", "other"),
    [
        (-4.59512, -0.26514239, 2.24e-6),
        (-1.0, -0.19205868, 0.03943585),
        (0.0, -0.0745717, 0.2237151),
        (2.0, -0.00121774, 0.8075353),
    ],
)
def test_gradient_vectors_of_simpledet(z, own, other):
    _, gradient = gradient_of([[[z, z], [z, z], [z, z]]], [[0, -1, -2]])
    np.testing.assert_allclose(gradient[0, 0], [own, other], rtol=2e-6, atol=6e-9)
    np.testing.assert_allclose(gradient[0, 1], [other, other], rtol=2e-6, atol=6e-9)
    np.testing.assert_array_equal(gradient[0, 2], 0)


def test_equals_detectron2(golden):
    """Its targets may hold several classes an anchor; as anchors of one class each they are ours."""
    z = golden("focal_loss")
    labels = np.where(z["target"] > 0, 0, -1).reshape(2, -1)
    loss, gradient = gradient_of(z["logits"].reshape(2, -1, 1), labels)
    assert loss == pytest.approx(float(z["loss"]), rel=1e-6)
    np.testing.assert_allclose(gradient.reshape(z["gradient"].shape), z["gradient"], atol=1e-6)


def plain(logits, labels, alpha, gamma):
    """The definition in float64, one element after another."""
    total = 0.0
    for z, label in zip(np.asarray(logits, np.float64).reshape(-1, logits.shape[-1]), np.ravel(labels)):
        for c, value in enumerate(z):
            p = 1 / (1 + np.exp(-value))
            if label == c:
                total -= alpha * (1 - p) ** gamma * np.log(p)
            elif label >= -1:
                total -= (1 - alpha) * p**gamma * np.log(1 - p)
    return total


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(0, 6), st.floats(0.1, 0.9), st.sampled_from([0.0, 1.0, 1.5, 2.0, 3.0]))
def test_loss_is_the_definition_and_the_gradient_its_slope(seed, anchors, alpha, gamma):
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(0, 2, (2, anchors, 3)), rng.integers(-2, 3, (2, anchors))
    loss, gradient = gradient_of(logits, labels, alpha=alpha, gamma=gamma)
    assert loss == pytest.approx(plain(logits, labels, alpha, gamma), rel=1e-4, abs=1e-6)
    step = 1e-4
    for index in np.ndindex(logits.shape):
        up, down = logits.copy(), logits.copy()
        up[index] += step
        down[index] -= step
        slope = (plain(up, labels, alpha, gamma) - plain(down, labels, alpha, gamma)) / (2 * step)
        assert gradient[index] == pytest.approx(slope, abs=1e-4)


def test_extreme_logits_stay_finite():
    logits = [[[-200.0, 200.0], [200.0, -200.0]]]
    loss, gradient = gradient_of(logits, [[0, 1]])
    assert loss == pytest.approx(2 * 0.25 * 200 + 2 * 0.75 * 200, rel=1e-5)
    np.testing.assert_allclose(gradient, [[[-0.25, 0.75], [0.75, -0.25]]], rtol=1e-5)


def test_an_ignored_overflow_does_not_reach_loss_or_gradient():
    loss, gradient = gradient_of([[[np.inf, -np.inf], [0.0, 0.0]]], [[-2, -1]])
    assert np.isfinite(loss) and np.isfinite(gradient).all()


def retina_case(labels, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.asarray(labels, np.int32)
    logits, deltas = rng.normal(size=(*labels.shape, 3)), rng.normal(size=(*labels.shape, 4))
    return [tf.constant(a, tf.float32) for a in (logits, deltas, rng.normal(size=(*labels.shape, 4)))], labels


def losses_of(logits, deltas, targets, labels, cut=2):
    """As if the anchors were of two levels."""
    return retina_losses([logits[:, :cut], logits[:, cut:]], [deltas[:, :cut], deltas[:, cut:]], labels, targets)


def test_both_losses_divide_by_the_foreground_of_the_replica_and_one():
    (logits, deltas, targets), labels = retina_case([[0, -1, -2, 2, -1], [-1, 1, -1, -2, -1]])
    cls, box = losses_of(logits, deltas, targets, labels)
    np.testing.assert_allclose(cls, plain(logits.numpy(), labels, 0.25, 2.0) / 4, rtol=1e-5)
    x = np.abs(deltas - targets)[labels >= 0]
    expected = np.where(x < 0.11, 0.5 / 0.11 * x**2, x - 0.055).sum() / 4
    np.testing.assert_allclose(box, expected, rtol=1e-5)
    assert RETINA_SIGMA == pytest.approx(np.sqrt(1 / 0.11))


def test_box_gradient_reaches_foreground_alone():
    (logits, deltas, targets), labels = retina_case([[0, -1, -2, 2, -1]])
    with tf.GradientTape() as tape:
        tape.watch(deltas)
        _, box = losses_of(logits, deltas, targets, labels)
    expected = np.clip((deltas - targets).numpy() / 0.11, -1, 1) * (labels >= 0)[..., None] / 3
    np.testing.assert_allclose(tape.gradient(box, deltas), expected, atol=1e-6)


@pytest.mark.parametrize("label", [-1, -2])
def test_without_foreground_the_background_alone_counts(label):
    (logits, deltas, targets), labels = retina_case(np.full([2, 5], label))
    cls, box = losses_of(logits, deltas, targets, labels)
    assert float(box) == 0.0
    np.testing.assert_allclose(cls, plain(logits.numpy(), labels, 0.25, 2.0), rtol=1e-5)


def test_half_precision_predictions_give_float32_losses():
    (logits, deltas, targets), labels = retina_case([[0, -1, -2, 2, -1]])
    halves = [tf.cast(t, tf.float16) for t in (logits, deltas)]
    for half, exact in zip(losses_of(*halves, targets, labels), losses_of(logits, deltas, targets, labels)):
        assert half.dtype == tf.float32
        np.testing.assert_allclose(half, exact, rtol=1e-2)
