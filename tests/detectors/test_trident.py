"""TridentNet's ranges and the merge of its branches, against plain transcriptions of SimpleDet's."""

import numpy as np
import pytest
import tensorflow as tf

from tests.detectors.small import random_batch, small_v2_detector
from tfdet.detectors import PostProcess
from tfdet.detectors.branches import ScaleBranches
from tfdet.errors import ParameterError

RANGES = ((0, 90), (30, 160), (90, -1))


def test_training_ranges_scale_with_the_image_and_end_at_its_longer_side():
    """models/tridentnet/input.py, ScaleRange."""
    info = tf.constant([[256.0, 320.0, 1.25], [800.0, 600.0, 2.0]])
    ranges = ScaleBranches(RANGES).network_ranges(info, 3)
    np.testing.assert_allclose(ranges[0], [[0, 112.5], [37.5, 200], [112.5, 320]])
    np.testing.assert_allclose(ranges[1], [[0, 180], [60, 320], [180, 800]])


def test_no_ranges_take_every_box():
    ranges = ScaleBranches(None).network_ranges(tf.constant([[256.0, 320.0, 1.25]]), 3)
    np.testing.assert_array_equal(ranges, [[[0, np.inf]] * 3])


def transcribed(boxes, scores, info):
    """models/tridentnet/builder.py, process_branch_outputs: per image, branch after branch, what is in range."""
    kept = []
    for image, (height, width, scale) in enumerate(info):
        rows = []
        for branch, (low, high) in enumerate(RANGES):
            high = max(height, width) if high < 0 else high
            for box, score in zip(boxes[3 * image + branch] / scale, scores[3 * image + branch], strict=True):
                size = (box[2] - box[0] + 1) * (box[3] - box[1] + 1)
                if low**2 <= size <= high**2:
                    rows.append((*np.round(box * scale, 3), *score))
        kept.append(rows)
    return kept


def test_merge_keeps_what_the_reference_keeps():
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 200, (6, 20, 2))
    side = rng.choice([20.0, 29.0, 59.0, 150.0, 181.0, 300.0, 500.0], (6, 20, 1))
    boxes = np.concatenate([corner, corner + side - 1], axis=-1).astype(np.float32)
    boxes[0, 0], boxes[2, 0] = [0, 0, 179, 179], [0, 0, 179, 179]  # 90 a side at scale 2, with the +1: not quite
    scores = rng.uniform(0.01, 1, (6, 20, 4)).astype(np.float32)
    info = np.float32([[400, 500, 2], [300, 200, 1]])
    merged, merged_scores = ScaleBranches(RANGES).merge(boxes[:, :, None], tf.constant(scores), tf.constant(info))
    assert merged.shape == (2, 60, 1, 4) and merged_scores.shape == (2, 60, 4)
    for image, rows in enumerate(transcribed(boxes, scores, info)):
        live = (merged_scores[image].numpy() >= 0).all(axis=1)
        ours = np.concatenate([np.round(merged[image, :, 0], 3), merged_scores[image]], axis=1)[live]
        assert 0 < len(rows) < 60
        np.testing.assert_allclose(ours, rows, rtol=1e-5)


def test_the_largest_objects_of_an_image_that_was_made_smaller_are_kept():
    """SimpleDet bounds them by the resized image's longer side; nothing of the zoo's images is that large."""
    info = tf.constant([[800.0, 1067.0, 0.26666668]])  # 3000 x 4000
    box = tf.constant([[[[0.0, 0.0, 1066.0, 799.0]]]] * 3)
    _, scores = ScaleBranches(RANGES).merge(box, tf.ones([3, 1, 4]), info)
    np.testing.assert_array_equal(scores[0, :, 0], [-1, -1, 1])


def test_each_axis_may_have_its_own_scale():
    info = tf.constant([[800.0, 400.0, 2.0, 1.0]])
    box = tf.constant([[[[0.0, 0.0, 89.0, 178.0]]]] * 3)  # 90 x 90 pixels of the original: within all ranges
    _, scores = ScaleBranches(RANGES).merge(box, tf.ones([3, 1, 2]), info)
    np.testing.assert_array_equal(scores[0, :, 0], [1, 1, 1])


def test_bounds_are_included():
    """A box of exactly the bound is kept: 90 pixels a side, +1 convention."""
    box = tf.constant([[[[0.0, 0.0, 89.0, 89.0]]]] * 3)
    _, scores = ScaleBranches(RANGES).merge(box, tf.ones([3, 1, 2]), tf.constant([[400.0, 500.0, 1.0]]))
    assert (scores.numpy() == 1).all()


def test_merge_without_ranges_only_pools():
    boxes = tf.reshape(tf.range(2 * 5 * 4, dtype=tf.float32), [2, 5, 1, 4])
    scores = tf.ones([2, 5, 3])
    merged, merged_scores = ScaleBranches(None).merge(boxes, scores, tf.ones([2, 3]))
    np.testing.assert_array_equal(merged, boxes)
    np.testing.assert_array_equal(merged_scores, scores)


def test_proposals_of_a_branch_are_in_its_range_while_training():
    detector, batch = small_v2_detector("trident", norm="frozen"), random_batch([2, 2], 2)
    first = detector.first_stage(batch.images, batch.image_info, training=True)
    proposals = detector.propose(first, batch.image_info, training=True)
    assert proposals.boxes.shape[0] == 6
    ranges = detector.branches.network_ranges(batch.image_info, 3).numpy().reshape(-1, 2)
    boxes, live = proposals.boxes.numpy(), proposals.scores.numpy() > 0
    side = np.sqrt((boxes[..., 2] - boxes[..., 0] + 1) * (boxes[..., 3] - boxes[..., 1] + 1))
    for row in range(6):
        assert live[row].any()
        inside = (side[row][live[row]] >= ranges[row, 0] - 1e-3) & (side[row][live[row]] <= ranges[row, 1] + 1e-3)
        assert inside.all()


def test_fast_trains_three_branches_and_tests_the_middle_one():
    fast, batch = small_v2_detector("trident_fast", norm="frozen"), random_batch([1], 1)
    for training, rows in ((True, 3), (False, 1)):
        first = fast.first_stage(batch.images, batch.image_info, training=training)
        assert first.features[0].shape[0] == rows
    full = small_v2_detector("trident", norm="frozen")
    for ours, theirs in zip(full.weights, fast.weights, strict=True):
        ours.assign(theirs)
    middle = full.first_stage(batch.images, batch.image_info, training=False).features[0][1:2]
    np.testing.assert_allclose(first.features[0], middle, atol=1e-5)


@pytest.mark.parametrize("branches", [None, ScaleBranches(((0, 90), (30, -1)))])
def test_refuses_ranges_that_do_not_fit_the_backbone(branches):
    with pytest.raises(ValueError, match="branches"):
        small_v2_detector("trident", branches=branches)


def test_refuses_a_soft_suppression_that_a_second_one_undoes():
    branches = ScaleBranches(None, suppression="each_first")
    with pytest.raises(ParameterError, match="nms_method = 'linear' would be undone"):
        branches.check(3, 3, PostProcess(nms_method="linear"))
    branches.check(3, 3, PostProcess())
    ScaleBranches(None).check(3, 1, PostProcess(nms_method="linear"))


def test_refuses_branches_of_a_backbone_without():
    with pytest.raises(ValueError, match="branches"):
        small_v2_detector("c4", branches=ScaleBranches())
