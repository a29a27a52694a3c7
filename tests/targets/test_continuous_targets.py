"""Targets and losses of Detectron2 and torchvision where they differ from SimpleDet's."""

import numpy as np
import pytest
import tensorflow as tf

from tfdet.detectors.postprocess import PostProcess, without_empty
from tfdet.losses.bbox import BoxLoss, bbox_losses
from tfdet.losses.focal import focal_loss, retina_losses
from tfdet.losses.rpn import RpnLoss, rpn_losses
from tfdet.losses.smooth_l1 import smooth_l1
from tfdet.structures import Detections, RoiSamples
from tfdet.targets.retina import retina_targets
from tfdet.targets.roi import roi_targets
from tfdet.targets.rpn import rpn_targets

SEED = tf.constant([0, 1])
BOXES, CLASSES = tf.constant([[[10.0, 10, 30, 30], [0, 0, 0, 0]]]), tf.constant([[2, -1]])


def test_rows_without_a_roi_are_marked_and_count_nowhere():
    proposals = tf.constant([[[10.0, 10, 30, 31], [50, 50, 60, 60], [0, 0, 0, 0], [5, 5, 5, 40]]])
    found = roi_targets(proposals, BOXES, CLASSES, SEED, num_rois=8, pad="ignore", convention="continuous")
    assert sorted(found.classes.numpy()[0]) == [-2] * 5 + [-1, 2, 2]
    assert not found.boxes.numpy()[0][found.classes.numpy()[0] == -2].any()

    rng = np.random.default_rng(0)
    logits, deltas = rng.normal(size=[1, 8, 4]).astype(np.float32), rng.normal(size=[1, 8, 16]).astype(np.float32)
    shown = found.classes.numpy()[0] >= -1
    short = RoiSamples(*(t[:, :3] for t in found))
    assert shown[:3].all()
    for all_rows, few in zip(
        bbox_losses(logits, deltas, found, False), BoxLoss()(logits[:, :3], deltas[:, :3], short, False)
    ):
        np.testing.assert_allclose(all_rows, few, rtol=1e-6)
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = bbox_losses(logits, deltas, found, False)[0]
    assert not tape.gradient(loss, logits).numpy()[0, 3:].any()


def test_anchors_across_the_border_learn_when_they_may():
    anchors = tf.constant([[-10.0, -10, 20, 20], [10, 10, 30, 30]])
    info = tf.constant([[64.0, 64, 1]])
    inside = rpn_targets(anchors, info, BOXES, CLASSES, SEED)
    every = rpn_targets(anchors, info, BOXES, CLASSES, SEED, allowed_border=float("inf"), convention="continuous")
    np.testing.assert_array_equal(inside.labels, [[-1, 1]])
    np.testing.assert_array_equal(every.labels, [[0, 1]])


def test_a_low_quality_anchor_learns_the_class_of_its_best_box():
    # The anchor overlaps box 0 by 1/2, box 1 by less, and is the only one near box 1.
    anchors, boxes = tf.constant([[0.0, 0, 10, 10], [0, 0, 10, 5]]), tf.constant([[[0.0, 0, 10, 5], [0, 7, 10, 17]]])
    classes = tf.constant([[4, 9]])
    labels = {
        rule: retina_targets(anchors, boxes, classes, 0.6, 0.4, rule, "continuous").labels.numpy().tolist()
        for rule in ("nearest", "best")
    }
    assert labels == {"nearest": [[9, 4]], "best": [[4, 4]]}


def test_rpn_loss_of_one_logit_and_its_divisors():
    logits = tf.constant([[[2.0], [-1.0], [0.5], [9.0]]])
    deltas, targets = tf.ones([1, 4, 4]), tf.zeros([1, 4, 4])
    labels = tf.constant([[1, 0, 0, -1]])
    total = np.log1p(np.exp(-2.0)) + np.log1p(np.exp(-1.0)) + np.log1p(np.exp(0.5))
    for divisor, number in (("drawn", 3.0), ("batch", 10.0)):
        cls, box = RpnLoss(None, divisor, divisor)(logits, deltas, labels, targets, 10)
        np.testing.assert_allclose([cls, box], [total / number, 4.0 / number], rtol=1e-6)
    two = tf.concat([tf.zeros_like(logits), logits], axis=-1)  # a softmax against 0 is the sigmoid
    np.testing.assert_allclose(rpn_losses(two, deltas, labels, targets)[0], total / 3, rtol=1e-6)
    with pytest.raises(ValueError, match="cls_divisor"):
        RpnLoss(cls_divisor="all")


def test_plain_l1_has_a_gradient_everywhere():
    values = tf.constant([-2.0, 0.0, 3.0])
    with tf.GradientTape() as tape:
        tape.watch(values)
        distance = smooth_l1(values, None)
    np.testing.assert_array_equal(distance, [2, 0, 3])
    np.testing.assert_array_equal(tape.gradient(distance, values), [-1, 0, 1])


def test_every_image_by_its_own_number_of_objects():
    rng = np.random.default_rng(1)
    logits = tf.constant(rng.normal(size=[2, 6, 3]), tf.float32)
    deltas, targets = (tf.constant(rng.normal(size=[2, 6, 4]), tf.float32) for _ in range(2))
    labels = tf.constant([[0, 1, 2, -1, -1, -2], [-1, -1, -2, -1, -1, -1]])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(logits)
        cls, box = retina_losses([logits], [deltas], labels, targets, sigma=None, divisor="image")
        expected = focal_loss(logits[:1], labels[:1]) / 3 / 2 + focal_loss(logits[1:], labels[1:]) / 2
    np.testing.assert_allclose(cls, expected, rtol=1e-6)
    np.testing.assert_allclose(tape.gradient(cls, logits), tape.gradient(expected, logits), rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(box, np.abs(deltas - targets)[0, :3].sum() / 3 / 2, rtol=1e-6)


def test_detections_without_an_area_leave_and_the_rest_moves_up():
    boxes = tf.constant([[[0.0, 0, 5, 5], [3, 0, 3, 9], [1, 1, 2, 2], [0, 0, 0, 0]]])
    found = without_empty(
        Detections(boxes, tf.constant([[0.9, 0.8, 0.7, 0.0]]), tf.constant([[1, 2, 3, -1]]), tf.constant([3]))
    )
    np.testing.assert_array_equal(found.classes, [[1, 3, -1, -1]])
    np.testing.assert_array_equal(found.num_valid, [2])
    np.testing.assert_array_equal(found.boxes[0, 1], [1, 1, 2, 2])


def test_small_boxes_leave_before_suppression():
    boxes = tf.constant([[[[0.0, 0, 0.005, 9]], [[20, 20, 30, 30]]]])
    scores = tf.constant([[[0.1, 0.9], [0.2, 0.8]]])
    info = tf.constant([[64.0, 64, 1]])
    for min_size, left in ((0.0, 2), (1e-2, 1)):
        postprocess = PostProcess(min_size=min_size)
        postprocess.convention = "continuous"
        found = postprocess(boxes, scores, info)
        assert int(found.num_valid[0]) == left
