"""RetinaNet's targets against a plain transcription of their rules, and their corner cases."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfdet.ops.anchors import cell_anchors, grid_anchors
from tfdet.ops.box_coding import decode
from tfdet.targets.retina import RetinaTargetAssigner, retina_targets

SCALES = [4 * 2 ** (i / 3) for i in range(3)]


def pyramid_anchors(height=128, width=160):
    levels = []
    for stride in (8, 16, 32, 64, 128):
        cells = cell_anchors(stride, SCALES, [0.5, 1, 2])
        levels.append(grid_anchors(cells, stride, -(-height // stride), -(-width // stride)))
    return tf.concat(levels, axis=0).numpy()


def plain(anchors, boxes, classes, positive, negative):
    """One anchor and one box after another, in float32 and the order of operations of SimpleDet's IoU."""
    real = [(box.astype(np.float32), int(c)) for box, c in zip(boxes, classes) if c >= 0]
    if not real:
        return np.full(len(anchors), -1), np.zeros([len(anchors), 4])
    one = np.float32(1)
    iou = np.zeros([len(anchors), len(real)], np.float32)
    for i, a in enumerate(anchors):
        for j, (b, _) in enumerate(real):
            w = min(a[2], b[2]) - max(a[0], b[0]) + one
            h = min(a[3], b[3]) - max(a[1], b[1]) + one
            if w > 0 and h > 0:
                both = w * h
                area_a, area_b = ((c[2] - c[0] + one) * (c[3] - c[1] + one) for c in (a, b))
                iou[i, j] = both / (area_a + area_b - both)
    labels = np.full(len(anchors), -2)
    best = iou.argmax(axis=1)
    labels[iou.max(axis=1) < negative] = -1
    for i, j in zip(*np.where(iou == iou.max(axis=0))):  # row by row: the last box of an anchor stays
        labels[i] = real[j][1]
    for i in np.where(iou.max(axis=1) >= positive)[0]:
        labels[i] = real[best[i]][1]
    targets = np.zeros([len(anchors), 4])
    for i in np.where(labels >= 0)[0]:
        a, b = anchors[i].astype(np.float64), real[best[i]][0].astype(np.float64)
        (aw, ah), (bw, bh) = a[2:] - a[:2] + 1, b[2:] - b[:2] + 1
        centres = (b[:2] + 0.5 * (b[2:] - b[:2])) - (a[:2] + 0.5 * (a[2:] - a[:2]))
        targets[i] = [centres[0] / aw, centres[1] / ah, np.log(bw / aw), np.log(bh / ah)]
    return labels, targets


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**31 - 1), st.integers(0, 6), st.booleans())
def test_equal_the_plain_rules(implementation, seed, slots, whole_pixels):
    rng = np.random.default_rng(seed)
    anchors = pyramid_anchors(32, 40)
    corner = rng.uniform(0, 30, (2, slots, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(1, 40, corner.shape)], axis=-1).astype(np.float32)
    boxes = np.round(boxes) if whole_pixels else boxes  # whole pixels bring ties
    classes = rng.integers(-1, 5, (2, slots)).astype(np.int32)
    labels, targets = retina_targets(anchors, boxes, classes)
    for image in range(2):
        expected_labels, expected_targets = plain(anchors, boxes[image], classes[image], 0.5, 0.4)
        np.testing.assert_array_equal(labels[image], expected_labels)
        np.testing.assert_allclose(targets[image], expected_targets, atol=1e-4)


def test_a_low_quality_anchor_takes_its_class_from_one_box_and_its_place_from_another(implementation):
    anchors = np.array([[0, 0, 99, 99], [0, 0, 19, 19]], np.float32)
    # The first box has IoU 0.36 with the large anchor, more than with the small one; the second box has 0.45.
    boxes = np.array([[[0, 0, 59, 59], [40, 0, 109, 63]]], np.float32)
    labels, targets = retina_targets(anchors, boxes, np.array([[3, 7]]))
    iou_first, iou_second = 3600 / 10000, 60 * 64 / (10000 + 70 * 64 - 60 * 64)
    assert 0.4 > iou_second > iou_first  # both low: the anchor is nearest to both boxes
    np.testing.assert_array_equal(labels, [[7, -1]])
    np.testing.assert_allclose(decode(anchors[:1], targets[0, :1]), boxes[0, 1:], atol=1e-3)
    # With the boxes in the other order the last one, now of the lower IoU, gives the class; the place stays.
    labels, targets = retina_targets(anchors, boxes[:, ::-1], np.array([[7, 3]]))
    np.testing.assert_array_equal(labels, [[3, -1]])
    np.testing.assert_allclose(decode(anchors[:1], targets[0, :1]), boxes[0, 1:], atol=1e-3)


def test_the_thresholds_include_the_positive_and_exclude_the_negative():
    anchors = np.array([[0, 0, 9, 9], [0, 0, 9, 4], [0, 0, 9, 3], [0, 0, 8, 4]], np.float32)
    labels, _ = retina_targets(anchors, np.array([[[0, 0, 9, 9]]], np.float32), np.array([[2]]))
    # IoU 1, exactly .5, exactly .4 and .45
    np.testing.assert_array_equal(labels, [[2, 2, -2, -2]])
    looser = RetinaTargetAssigner(positive_iou=0.45, negative_iou=0.42)
    labels, _ = looser(anchors, np.array([[[0, 0, 9, 9]]], np.float32), np.array([[2]]))
    np.testing.assert_array_equal(labels, [[2, 2, -1, 2]])


def test_anchors_beyond_the_border_take_part():
    anchors = np.array([[-50, -50, -1, -1], [-20, -20, 29, 29], [500, 500, 540, 540]], np.float32)
    labels, _ = retina_targets(anchors, np.array([[[-10, -10, 29, 29]]], np.float32), np.array([[1]]))
    np.testing.assert_array_equal(labels, [[-1, 1, -1]])


@pytest.mark.parametrize("slots", [0, 3])
def test_images_without_boxes_are_background(implementation, slots):
    labels, targets = retina_targets(
        pyramid_anchors(), np.full([2, slots, 4], -1, np.float32), np.full([2, slots], -1, np.int32)
    )
    assert (labels.numpy() == -1).all() and not np.any(targets)


def test_three_hundred_boxes_beside_an_image_with_none(implementation):
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 110, (2, 300, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 60, (2, 300, 2))], axis=-1).astype(np.float32)
    classes = rng.integers(0, 80, (2, 300)).astype(np.int32)
    classes[1] = -1
    labels, targets = (t.numpy() for t in retina_targets(pyramid_anchors(), boxes, classes))
    assert (labels[0] >= 0).sum() >= 100 and (labels[1] == -1).all()
    assert np.isfinite(targets).all() and not targets[1].any()


def test_lives_in_a_graph_of_unknown_sizes():
    function = tf.function(
        retina_targets,
        input_signature=[
            tf.TensorSpec([None, 4], tf.float32),
            tf.TensorSpec([None, None, 4], tf.float32),
            tf.TensorSpec([None, None], tf.int32),
        ],
        autograph=False,
    )
    anchors = pyramid_anchors(32, 40)
    boxes, classes = np.array([[[2, 3, 30, 28]]], np.float32), np.array([[4]], np.int32)
    for ours, eager in zip(function(anchors, boxes, classes), retina_targets(anchors, boxes, classes)):
        np.testing.assert_array_equal(ours, eager)


def test_an_undetectable_box_makes_all_it_misses_foreground(implementation):
    """A box that overlaps no anchor has a largest IoU of 0, which all anchors without an overlap share."""
    anchors = np.array([[0, 0, 9, 9], [20, 20, 29, 29]], np.float32)
    boxes = np.array([[[0, 0, 9, 9], [90, 90, 95, 95]]], np.float32)
    labels, targets = retina_targets(anchors, boxes, np.array([[3, 5]]))
    np.testing.assert_array_equal(labels, [[3, 5]])
    # The second anchor overlaps nothing: its own best box is the first of equals.
    np.testing.assert_allclose(decode(anchors[1:], targets[0, 1:]), boxes[0, :1], atol=1e-3)
