"""Losses: their vectors, normalisers, gradients and empty cases."""

import numpy as np
import pytest
import tensorflow as tf

from tfdet.losses.bbox import bbox_losses
from tfdet.losses.rpn import rpn_losses
from tfdet.losses.smooth_l1 import smooth_l1
from tfdet.structures import RoiSamples


@pytest.mark.parametrize(
    ("sigma", "expected"),
    [
        (1.0, [0.00125, 0.02, 1.0]),
        (3.0, [0.01125, 0.144444, 1.444444]),
        (np.sqrt(1 / 0.11), [0.011364, 0.145, 1.445]),
    ],
)
def test_smooth_l1_vectors(sigma, expected):
    np.testing.assert_allclose(smooth_l1([0.05, 0.2, 1.5], sigma), expected, atol=1e-6)
    np.testing.assert_allclose(smooth_l1([-0.05, -0.2, -1.5], sigma), expected, atol=1e-6)


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def rpn_case():
    rng = np.random.default_rng(0)
    labels = np.array([[1, 0, -1, 0, -1], [-1, -1, 1, -1, -1]], np.int32)
    return (
        rng.normal(size=(2, 5, 2)),
        rng.normal(size=(2, 5, 4)),
        labels,
        rng.normal(size=(2, 5, 4)) * (labels == 1)[..., None],
    )


def as_tensors(*arrays):
    return [tf.constant(a, tf.int32 if a.dtype.kind == "i" else tf.float32) for a in arrays]


def test_rpn_losses_divide_by_drawn_anchors_and_by_the_batch():
    logits, deltas, labels, targets = rpn_case()
    p = softmax(logits)
    expected_cls = -np.mean([np.log(p[0, 0, 1]), np.log(p[0, 1, 0]), np.log(p[0, 3, 0]), np.log(p[1, 2, 1])])
    x = np.abs(deltas - targets)[labels == 1]
    expected_box = np.where(x < 1 / 9, 4.5 * x**2, x - 1 / 18).sum() / (2 * 256)
    cls, box = rpn_losses(*as_tensors(logits, deltas, labels, targets))
    np.testing.assert_allclose([cls, box], [expected_cls, expected_box], rtol=1e-5)
    np.testing.assert_allclose(rpn_losses(*as_tensors(logits, deltas, labels, targets), 64)[1], 4 * box, rtol=1e-5)


def test_rpn_gradients_are_those_of_the_zoo():
    """(softmax - one-hot) / number drawn, and nothing into ignored anchors."""
    logits, deltas, labels, targets = as_tensors(*rpn_case())
    with tf.GradientTape() as tape:
        tape.watch([logits, deltas])
        cls, box = rpn_losses(logits, deltas, labels, targets)
    to_logits, to_deltas = tape.gradient([cls, box], [logits, deltas])
    one_hot = np.eye(2)[np.maximum(labels, 0)]
    expected = (softmax(logits.numpy()) - one_hot) * (labels.numpy() >= 0)[..., None] / 4
    np.testing.assert_allclose(to_logits, expected, atol=1e-6)
    difference = deltas.numpy() - targets.numpy()
    expected = np.clip(9 * difference, -1, 1) * (labels.numpy() == 1)[..., None] / 512
    np.testing.assert_allclose(to_deltas, expected, atol=1e-6)


def roi_case(width):
    rng = np.random.default_rng(1)
    classes = np.array([[2, 0, -1, -1], [1, -1, -1, -1]], np.int32)
    targets = (rng.normal(size=(2, 4, 4)) * (classes >= 0)[..., None]).astype(np.float32)
    samples = RoiSamples(tf.zeros([2, 4, 4]), tf.constant(classes), tf.constant(targets), tf.constant(classes))
    return rng.normal(size=(2, 4, 4)).astype(np.float32), rng.normal(size=(2, 4, width)).astype(np.float32), samples


@pytest.mark.parametrize(("agnostic", "width"), [(True, 8), (True, 4), (False, 16)])
def test_bbox_losses_divide_by_all_rois_and_pick_their_slot(agnostic, width):
    logits, deltas, samples = roi_case(width)
    slot = samples.classes.numpy() + 1
    expected_cls = -np.log(np.take_along_axis(softmax(logits), slot[..., None], axis=-1)).mean()
    slots = deltas.reshape(2, 4, -1, 4)
    total = 0.0
    for image, row in ((0, 0), (0, 1), (1, 0)):
        own = slots[image, row, -1 if agnostic else slot[image, row]]
        x = np.abs(own - samples.box_targets.numpy()[image, row])
        total += np.where(x < 1, 0.5 * x**2, x - 0.5).sum()
    cls, box = bbox_losses(logits, deltas, samples, agnostic)
    np.testing.assert_allclose([cls, box], [expected_cls, total / 8], rtol=1e-5)


@pytest.mark.parametrize("agnostic", [True, False])
def test_bbox_gradient_reaches_the_own_slot_of_foreground_alone(agnostic):
    logits, deltas, samples = roi_case(8 if agnostic else 16)
    deltas = tf.constant(deltas)
    with tf.GradientTape() as tape:
        tape.watch(deltas)
        _, box = bbox_losses(logits, deltas, samples, agnostic)
    touched = tape.gradient(box, deltas).numpy().reshape(2, 4, -1, 4).any(axis=-1)
    expected = np.zeros_like(touched)
    for image, row, slot in ((0, 0, 3), (0, 1, 1), (1, 0, 2)):
        expected[image, row, -1 if agnostic else slot] = True
    np.testing.assert_array_equal(touched, expected)


@pytest.mark.parametrize("anchors", [0, 5])
def test_rpn_losses_of_nothing_are_zero_with_zero_gradient(anchors):
    logits, deltas = tf.random.normal([2, anchors, 2]), tf.random.normal([2, anchors, 4])
    with tf.GradientTape() as tape:
        tape.watch([logits, deltas])
        losses = rpn_losses(logits, deltas, tf.fill([2, anchors], -1), tf.zeros([2, anchors, 4]))
    assert [float(v) for v in losses] == [0.0, 0.0]
    for gradient in tape.gradient(losses, [logits, deltas]):
        np.testing.assert_array_equal(gradient, np.zeros(gradient.shape))


def test_bbox_losses_of_no_rois_are_zero():
    samples = RoiSamples(
        tf.zeros([2, 0, 4]), tf.zeros([2, 0], tf.int32), tf.zeros([2, 0, 4]), tf.zeros([2, 0], tf.int32)
    )
    for agnostic, width in ((True, 8), (False, 16)):
        losses = bbox_losses(tf.zeros([2, 0, 4]), tf.zeros([2, 0, width]), samples, agnostic)
        assert [float(v) for v in losses] == [0.0, 0.0]


def test_an_overflow_where_nothing_is_learnt_does_not_reach_the_gradient():
    logits, deltas, labels, targets = as_tensors(*rpn_case())
    deltas = tf.where((labels == 0)[..., None], np.inf, deltas)
    with tf.GradientTape() as tape:
        tape.watch(deltas)
        _, box = rpn_losses(logits, deltas, labels, targets)
    assert np.isfinite(box) and np.isfinite(tape.gradient(box, deltas)).all()


def test_half_precision_predictions_give_float32_losses():
    logits, deltas, labels, targets = as_tensors(*rpn_case())
    halves = [tf.cast(t, tf.float16) for t in (logits, deltas)]
    for loss, exact in zip(rpn_losses(*halves, labels, targets), rpn_losses(logits, deltas, labels, targets)):
        assert loss.dtype == tf.float32
        np.testing.assert_allclose(loss, exact, rtol=1e-2)
    logits, deltas, samples = roi_case(8)
    for loss in bbox_losses(tf.cast(logits, tf.float16), tf.cast(deltas, tf.float16), samples, True):
        assert loss.dtype == tf.float32
