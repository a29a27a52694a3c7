"""Anchor targets against SimpleDet and by property."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfdet.ops.anchors import cell_anchors, grid_anchors
from tfdet.ops.box_coding import decode
from tfdet.targets.rpn import rpn_targets

SEED = [11, 12]
RATIOS = [0.5, 1, 2]


def c4_anchors(height=16, width=20):
    return grid_anchors(cell_anchors(16, [2, 4, 8, 16, 32], RATIOS), 16, height, width)


def ground_truth(z):
    return z["gt_bbox"][None, :, :4], np.where(z["gt_bbox"][:, 4] >= 0, 0, -1)[None].astype(np.int32)


def anchor_major(labels, height=16, width=20):
    """From (y, x, anchor) to SimpleDet's (anchor, y, x)."""
    return np.reshape(labels, [height, width, -1]).transpose(2, 0, 1).ravel()


def test_undrawn_targets_equal_simpledet(implementation, golden):
    z = golden("anchor_target")
    result = rpn_targets(c4_anchors(), z["im_info"][None], *ground_truth(z), SEED, batch_per_image=100000)
    np.testing.assert_array_equal(anchor_major(result.labels[0]), z["c4_n100000_label"])
    targets = np.reshape(result.box_targets[0], [16, 20, 60]).transpose(2, 0, 1)
    np.testing.assert_allclose(targets, z["c4_n100000_target"], atol=2e-7)
    weights = np.repeat(np.reshape(result.labels[0], [16, 20, 15]) == 1, 4, axis=-1).transpose(2, 0, 1)
    np.testing.assert_array_equal(weights, z["c4_n100000_weight"])


def test_undrawn_pyramid_targets_equal_simpledet(implementation, golden):
    z = golden("anchor_target")
    levels = [(4, 64, 80), (8, 32, 40), (16, 16, 20), (32, 8, 10), (64, 4, 5)]
    anchors = tf.concat([grid_anchors(cell_anchors(s, [8], RATIOS), s, h, w) for s, h, w in levels], axis=0)
    result = rpn_targets(anchors, z["im_info"][None], *ground_truth(z), SEED, batch_per_image=1000000)
    # There: anchor, then the cells of all levels.
    np.testing.assert_array_equal(np.reshape(result.labels[0], [-1, 3]).T.ravel(), z["fpn_label"])
    np.testing.assert_allclose(np.reshape(result.box_targets[0], [-1, 12]).T, z["fpn_target"], atol=2e-7)


def test_drawn_targets_have_simpledets_counts_and_come_from_the_undrawn(implementation, golden):
    z = golden("anchor_target")
    drawn = anchor_major(rpn_targets(c4_anchors(), z["im_info"][None], *ground_truth(z), SEED).labels[0])
    for label in (-1, 0, 1):
        assert (drawn == label).sum() == (z["c4_n256_label"] == label).sum()
    np.testing.assert_array_equal(drawn[drawn >= 0], z["c4_n100000_label"][drawn >= 0])


def test_undrawn_targets_of_branches_equal_simpledet(golden):
    """TridentNet: anchors near a box of another branch are ignored."""
    z = golden("anchor_target_trident")
    result = rpn_targets(
        c4_anchors(),
        z["im_info"][None],
        *ground_truth(z),
        SEED,
        batch_per_image=100000,
        area_ranges=z["trident_valid_ranges"][None],
    )
    assert result.labels.shape[0] == 3
    for branch in range(3):
        np.testing.assert_array_equal(anchor_major(result.labels[branch]), z["trident_label"][branch])
        targets = np.reshape(result.box_targets[branch], [16, 20, 60]).transpose(2, 0, 1)
        np.testing.assert_allclose(targets, z["trident_target"][branch], atol=2e-7)


def test_branches_are_image_major_and_draw_for_themselves():
    rng = np.random.default_rng(3)
    corner = rng.uniform(0, 150, (2, 5, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(20, 100, (2, 5, 2))], axis=-1).astype(np.float32)
    info, classes = np.float32([[256, 320, 1], [230, 300, 1]]), np.zeros([2, 5], np.int32)
    everything = np.tile(np.float32([[[0, np.inf]]]), [2, 3, 1])
    undrawn = rpn_targets(c4_anchors(), info, boxes, classes, SEED, 100000)
    branches = rpn_targets(c4_anchors(), info, boxes, classes, SEED, 100000, area_ranges=everything)
    for image in range(2):
        for branch in range(3):
            np.testing.assert_array_equal(branches.labels[3 * image + branch], undrawn.labels[image])
    drawn = rpn_targets(c4_anchors(), info, boxes, classes, SEED, 32, area_ranges=everything).labels.numpy()
    assert ((drawn >= 0).sum(axis=1) == 32).all()
    assert (drawn[0] != drawn[1]).any() and (drawn[1] != drawn[2]).any()


def test_a_seed_gives_one_draw(golden):
    z = golden("anchor_target")
    draws = [
        rpn_targets(c4_anchors(), z["im_info"][None], *ground_truth(z), seed).labels.numpy()
        for seed in (SEED, SEED, [11, 13])
    ]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0] != draws[2]).any()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**31 - 1), st.integers(0, 6))
def test_draws_obey_their_bounds(implementation, seed, slots):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 200, (2, slots, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(20, 120, (2, slots, 2))], axis=-1).astype(np.float32)
    info = np.array([[256, 320, 1], [230, 300, 1]], np.float32)
    classes = rng.integers(-1, 2, (2, slots)).astype(np.int32)
    anchors = c4_anchors()
    labels, targets = (t.numpy() for t in rpn_targets(anchors, info, boxes, classes, [seed, 0], 16))
    foreground = labels == 1
    assert (foreground.sum(axis=1) <= 8).all() and ((labels >= 0).sum(axis=1) <= 16).all()
    np.testing.assert_array_equal(targets[~foreground], 0)
    a = anchors.numpy()
    for image in range(2):
        crossing = (a[:, :2] < 0).any(axis=1) | (a[:, 2] >= info[image, 1]) | (a[:, 3] >= info[image, 0])
        assert (labels[image, crossing] == -1).all()
        real = boxes[image][classes[image] >= 0]
        if not len(real):
            assert not foreground[image].any() and (labels[image] == 0).sum() == 16
        for box in decode(a, targets[image]).numpy()[foreground[image]]:
            assert np.abs(real - box).max(axis=1).min() < 0.01  # every target leads to a real box


def test_an_undetectable_box_makes_all_it_misses_foreground(implementation):
    """A box that overlaps no anchor inside the image has a largest IoU of 0, which all anchors share."""
    anchors = np.array([[0, 0, 9, 9], [20, 20, 29, 29], [-5, 0, 4, 9]], np.float32)
    boxes = np.array([[[90, 90, 95, 95], [0, 0, 9, 9]]], np.float32)
    labels, targets = rpn_targets(anchors, [[100.0, 100, 1]], boxes, np.zeros([1, 2], int), SEED)
    np.testing.assert_array_equal(labels, [[1, 1, -1]])
    # The anchor that overlaps nothing learns its own best box: the first of equals.
    expected = decode(anchors[1:2], targets[0, 1:2])
    np.testing.assert_allclose(expected, boxes[0, :1], atol=1e-3)


def test_anchors_that_share_the_best_iou_are_all_foreground(implementation):
    anchors = np.array([[0, 0, 9, 9], [10, 0, 19, 9], [50, 50, 59, 59]], np.float32)
    boxes = np.array([[[5, 0, 14, 9]]], np.float32)
    labels, _ = rpn_targets(anchors, [[100.0, 100, 1]], boxes, np.zeros([1, 1], int), SEED)
    np.testing.assert_array_equal(labels, [[1, 1, 0]])


@pytest.mark.parametrize("slots", [0, 3])
def test_images_without_boxes_are_background(implementation, slots):
    boxes = np.full([2, slots, 4], -1, np.float32)
    labels, targets = rpn_targets(
        c4_anchors(), [[256.0, 320, 1]] * 2, boxes, np.full([2, slots], -1, np.int32), SEED, batch_per_image=64
    )
    np.testing.assert_array_equal(np.sum(labels.numpy() == 0, axis=1), [64, 64])
    assert not (labels.numpy() == 1).any() and not np.any(targets)


def test_three_hundred_boxes_and_an_image_smaller_than_any_anchor(implementation):
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 200, (2, 300, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 60, (2, 300, 2))], axis=-1).astype(np.float32)
    labels, targets = rpn_targets(c4_anchors(), [[256.0, 320, 1], [4, 4, 1]], boxes, np.zeros([2, 300], np.int32), SEED)
    assert (labels.numpy()[0] == 1).sum() == 128 and (labels.numpy()[0] == 0).sum() == 128
    assert (labels.numpy()[1] == -1).all()
    assert np.isfinite(targets).all()
