"""Proposals of continuous boxes: which are kept, in what order, and what stands where there are too few."""

import numpy as np
import pytest
import tensorflow as tf

from tfdet.errors import UserError
from tfdet.ops.nms import nms
from tfdet.ops.top_proposals import top_proposals

INFO = tf.constant([[64.0, 96.0, 1.0]])


def one_map(boxes, logits):
    """A map of one row whose anchors are `boxes` [N, 4], with logits [N] and no offsets."""
    count = len(boxes)
    return (
        [tf.reshape(tf.constant(logits, tf.float32), [1, 1, count, 1])],
        [tf.zeros([1, 1, count, 4])],
        [tf.constant(boxes, tf.float32)],
    )


def test_missing_ones_are_zero_boxes_that_nothing_outranks_downwards(implementation):
    logits, deltas, anchors = one_map([[0, 0, 10, 10], [20, 20, 40, 40]], [-3.0, -2.0])
    found = top_proposals(logits, deltas, anchors, INFO, 100, 5)
    np.testing.assert_array_equal(found.scores[0], [-2.0, -3.0, -np.inf, -np.inf, -np.inf])
    np.testing.assert_array_equal(found.boxes[0, 0], [20, 20, 40, 40])
    assert not found.boxes.numpy()[0, 2:].any()


def test_clipped_to_the_image_and_dropped_without_an_area(implementation):
    boxes = [[-5, -5, 200, 30], [100, 5, 120, 20], [0, 70, 20, 90], [3, 3, 3.5, 20]]
    found = top_proposals(*one_map(boxes, [4.0, 3.0, 2.0, 1.0]), INFO, 100, 4)
    np.testing.assert_array_equal(found.boxes[0, :2], [[0, 0, 96, 30], [3, 3, 3.5, 20]])
    assert np.isneginf(found.scores.numpy()[0, 2:]).all()
    larger = top_proposals(*one_map(boxes, [4.0, 3.0, 2.0, 1.0]), INFO, 100, 4, min_size=1.0)
    assert np.isfinite(larger.scores.numpy()).sum() == 1


def test_levels_are_cut_and_suppressed_apart_and_ranked_together(implementation):
    rng = np.random.default_rng(0)
    levels, every = [], []
    for count in (40, 25):
        corner, size = rng.uniform(0, 50, [count, 2]), rng.uniform(5, 25, [count, 2])
        boxes = np.concatenate([corner, corner + size], axis=1).astype(np.float32).clip(0, [96, 64, 96, 64])
        scores = rng.normal(size=count).astype(np.float32)
        levels.append(one_map(boxes, scores))
        best = np.argsort(-scores)[:20]
        kept, number = nms(boxes[None, best], scores[None, best], 0.5, 20, convention="continuous")
        rows = best[kept.numpy()[0, : int(number[0])]]
        every += [(scores[i], tuple(boxes[i])) for i in rows]
    logits, deltas, anchors = (sum(parts, []) for parts in zip(*levels))
    found = top_proposals(logits, deltas, anchors, INFO, 20, 15, iou_threshold=0.5)
    every.sort(reverse=True)
    np.testing.assert_array_equal(found.scores[0], [score for score, _ in every[:15]])
    np.testing.assert_allclose(found.boxes[0], [box for _, box in every[:15]], rtol=1e-6, atol=1e-5)


def test_growth_is_bounded_and_what_is_no_number_is_never_proposed(implementation):
    logits, deltas, anchors = one_map([[40, 30, 41, 31], [0, 0, 8, 8], [0, 0, 8, 8]], [1.0, np.nan, 0.0])
    deltas[0] = tf.constant([[[[0, 0, 50.0, 50.0], [0, 0, 0, 0], [np.inf, 0, 0, 0]]]])
    found = top_proposals(logits, deltas, anchors, tf.constant([[1000.0, 1000.0, 1.0]]), 10, 3)
    np.testing.assert_allclose(found.boxes[0, 0], [9.25, 0.0, 71.75, 61.75], rtol=1e-5)  # 62.5 = 1000 / 16 pixels wide
    assert np.isneginf(found.scores.numpy()[0, 1:]).all()


def test_lists_must_belong_together():
    logits, deltas, anchors = one_map([[0, 0, 8, 8]], [1.0])
    with pytest.raises(UserError, match="one entry a level"):
        top_proposals(logits, deltas, [], INFO, 10, 10)
