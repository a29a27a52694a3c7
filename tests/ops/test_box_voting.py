"""Box voting against numpy, one detection at a time."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf

from tfdet.ops.box_voting import vote_boxes
from tfdet.ops.boxes import CONTINUOUS, LEGACY
from tfdet.ops.nms import multiclass_nms
from tfdet.structures import Candidates, Detections

EXTRA = {LEGACY: 1.0, CONTINUOUS: 0.0}


def iou(a, b, extra):
    width = max(min(a[2], b[2]) - max(a[0], b[0]) + extra, 0.0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]) + extra, 0.0)
    areas = [max(x[2] - x[0] + extra, 0) * max(x[3] - x[1] + extra, 0) for x in (a, b)]
    return width * height / max(sum(areas) - width * height, 1e-12)


def by_hand(found, boxes, scores, threshold, score_threshold, convention):
    kept, classes = np.array(found.boxes, np.float64), np.array(found.classes)
    moved = kept.copy()
    for image, count in enumerate(np.array(found.num_valid)):
        for row in range(count):
            kind = classes[image, row]
            total, place = 0.0, np.zeros(4)
            for voter in range(scores.shape[1]):
                box = boxes[image, voter, kind if boxes.shape[2] > 1 else 0].astype(np.float64)
                score = float(scores[image, voter, kind])
                near = iou(kept[image, row], box, EXTRA[convention])
                # So near the threshold float32 may decide otherwise.
                hypothesis.assume(abs(near - threshold) > 1e-5)
                if near >= threshold and score > score_threshold:
                    total, place = total + score, place + score * box
            moved[image, row] = place / total
    return moved


@hypothesis.settings(max_examples=25, deadline=None)
@hypothesis.given(
    seed=st.integers(0, 2**20),
    shared=st.booleans(),
    threshold=st.sampled_from([0.3, 0.6, 0.9]),
    convention=st.sampled_from([LEGACY, CONTINUOUS]),
)
def test_against_numpy(seed, shared, threshold, convention):
    random = np.random.default_rng(seed)
    corners = random.uniform(0, 12, [2, 20, 1 if shared else 3, 2])
    boxes = np.concatenate([corners, corners + random.uniform(4, 20, corners.shape)], axis=-1).astype("f")
    scores = random.uniform(0, 1, [2, 20, 3]).astype("f")
    found = multiclass_nms(boxes, scores, 0.3, 0.5, 12, convention)
    moved = vote_boxes(found, Candidates(boxes, scores), threshold, 0.3, convention)
    expected = by_hand(found, boxes, scores, threshold, 0.3, convention)
    np.testing.assert_allclose(moved.boxes, expected, rtol=1e-5, atol=1e-4)
    for name in ("scores", "classes", "num_valid"):
        np.testing.assert_array_equal(getattr(moved, name), getattr(found, name))
    assert not moved.boxes.numpy()[np.array(found.classes) < 0].any()


def test_an_example():
    """Three boxes of one class, of which the third is too far; the fourth is of another class."""
    boxes = np.array([[0, 0, 9, 9], [2, 0, 11, 9], [30, 0, 39, 9], [1, 0, 10, 9]], "f")[None, :, None]
    scores = np.array([[0.9, 0], [0.3, 0], [0.8, 0], [0, 0.6]], "f")[None]
    found = multiclass_nms(boxes, scores, 0.05, 0.5, 4)
    moved = vote_boxes(found, Candidates(boxes, scores), 0.5)
    expected = [[0.5, 0, 9.5, 9], [30, 0, 39, 9], [1, 0, 10, 9], [0] * 4]
    np.testing.assert_allclose(moved.boxes[0], expected, rtol=1e-6)


def test_what_is_not_a_number_does_not_vote():
    boxes = np.array([[0, 0, 9, 9], [np.nan, 0, 9, 9], [0, 0, 9, np.inf], [1, 0, 9, 9]], "f")[None, :, None]
    scores = np.array([[0.9], [0.9], [0.9], [np.nan]], "f")[None]
    for shared in (True, False):
        own = (boxes, scores) if shared else (np.repeat(boxes, 2, axis=2), np.repeat(scores, 2, axis=2))
        found = multiclass_nms(*own, 0.05, 0.5, 3)
        assert found.num_valid.numpy() > 0
        np.testing.assert_allclose(vote_boxes(found, Candidates(*own), 0.5).boxes, found.boxes, rtol=1e-6)


@pytest.mark.parametrize("slots", [1, 3])
def test_no_box_and_no_detection(slots):
    found = Detections(tf.zeros([1, 4, 4]), tf.zeros([1, 4]), tf.fill([1, 4], -1), tf.zeros([1], tf.int32))
    none = Candidates(tf.zeros([1, 0, slots, 4]), tf.zeros([1, 0, 3]))
    assert not vote_boxes(found, none, 0.5).boxes.numpy().any()


def test_a_list_votes_as_scores_of_every_class():
    rng = np.random.default_rng(4)
    corners = rng.uniform(0, 12, [2, 40, 2])
    boxes = np.concatenate([corners, corners + rng.uniform(4, 20, corners.shape)], axis=-1).astype("f")
    scores, classes = rng.uniform(0, 1, [2, 40]).astype("f"), rng.integers(-1, 3, [2, 40]).astype("i4")
    boxes[0, 3], scores[1, 5] = np.nan, np.inf
    found = multiclass_nms(boxes[:, :, None], tf.one_hot(classes, 3) * scores[..., None], 0.3, 0.5, 12)
    every = Candidates(boxes[:, :, None], np.where(classes[..., None] == np.arange(3), scores[..., None], 0))
    one = vote_boxes(found, Candidates(boxes, scores, classes), 0.4, 0.3)
    np.testing.assert_array_equal(one.boxes, vote_boxes(found, every, 0.4, 0.3).boxes)
    assert np.abs(one.boxes - found.boxes).max() > 0.1
