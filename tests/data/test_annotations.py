import math

import numpy as np
import pytest
import tensorflow as tf

from tfdet.data.annotations import (
    DEGENERATE,
    OUTSIDE,
    PARTLY_OUTSIDE,
    TOO_SMALL,
    ObjectAnnotation,
    inclusive_boxes,
    judge_box,
)
from tfdet.data.schema import parse_record, serialize_example, training_boxes

HEIGHT, WIDTH = 100, 200

# box [x, y, w, h], area, what SimpleDet makes of it: inclusive corners, or None where it drops the box
RULE = [
    ((10, 20, 30, 40), 1200, (10, 20, 39, 59)),
    ((10.5, 20.25, 30.5, 40), 900, (10.5, 20.25, 40, 59.25)),
    ((0, 0, 200, 100), 20000, (0, 0, 199, 99)),
    ((-5, -5, 20, 20), 400, (0, 0, 19, 19)),  # SimpleDet moves such a box instead of cutting it
    ((190, 90, 30, 30), 900, (190, 90, 199, 99)),
    ((10, 20, 0, 5), 3, (10, 20, 10, 24)),
    ((10, 20, 5, 5), 0, None),
    ((199.5, 50, 0.5, 10), 5, None),
    ((50, 20, -40, 5), 3, None),
    ((10, 20, 5, -5), 3, None),
    ((10, 20, 5, 5), np.inf, None),
]


@pytest.mark.parametrize("box, area, expected", RULE)
def test_rule_in_numpy_and_in_the_graph(box, area, expected):
    x, y, w, h = box
    item = ObjectAnnotation(x, y, w, h, 3, area)
    corners = np.array([[x / WIDTH], [y / HEIGHT], [(x + w) / WIDTH], [(y + h) / HEIGHT]], np.float32)
    boxes, valid = inclusive_boxes(*corners, HEIGHT, WIDTH, np.array([area], np.float32))
    assert valid.tolist() == [expected is not None]
    record = parse_record(serialize_example(b"", "jpeg", HEIGHT, WIDTH, "a.jpg", 1, [item], {3: "cat"}))
    in_graph, labels, _ = training_boxes(record, tf.constant(HEIGHT), tf.constant(WIDTH))
    assert len(labels) == int(valid[0])
    if expected is not None:
        np.testing.assert_allclose(boxes[0], expected, atol=1e-4)
        np.testing.assert_array_equal(in_graph, boxes)


def test_rule_is_the_same_in_numpy_and_in_the_graph_for_random_boxes():
    random = np.random.default_rng(0)
    items = [
        ObjectAnnotation(*np.round(random.uniform((-20, -20, 0, 0), (210, 110, 60, 60)), 2), 3, random.integers(0, 9))
        for _ in range(500)
    ]
    record = parse_record(serialize_example(b"", "jpeg", HEIGHT, WIDTH, "a.jpg", 1, items, {3: "cat"}))
    in_graph, *_ = training_boxes(record, tf.constant(HEIGHT), tf.constant(WIDTH))
    corners = [column.numpy() for column in (record.xmin, record.ymin, record.xmax, record.ymax)]
    boxes, valid = inclusive_boxes(*corners, HEIGHT, WIDTH, record.area.numpy())
    assert 100 < valid.sum() < 500
    np.testing.assert_array_equal(in_graph, boxes[valid])


def test_crowds_are_no_targets():
    items = [ObjectAnnotation(1, 1, 9, 9, 3, 81, is_crowd=True), ObjectAnnotation(2, 2, 9, 9, 7, 81)]
    record = parse_record(serialize_example(b"", "jpeg", HEIGHT, WIDTH, "a", 1, items, {3: "cat", 7: "dog"}))
    _, labels, keep = training_boxes(record, tf.constant(HEIGHT), tf.constant(WIDTH))
    assert labels.numpy().tolist() == [7] and keep.numpy().tolist() == [False, True]
    assert record.is_crowd.numpy().tolist() == [True, False]


@pytest.mark.parametrize(
    "box, area, keep, problem",
    [
        ((10, 20, 30, 40), 9, True, None),
        ((199, 10, 1.6, 5), 9, True, None),  # over the border by less than a pixel
        ((10, 20, 0, 40), 0, False, DEGENERATE),
        ((10, 20, 0, 40), 9, True, DEGENERATE),
        ((10, 20, 0, 0), 9, False, DEGENERATE),
        ((0, 0, 0, 0), 2000, False, DEGENERATE),
        ((10, 20, -3, 40), 9, False, DEGENERATE),
        ((10, math.nan, 3, 40), 9, False, DEGENERATE),
        ((10, 20, math.inf, 40), 9, False, DEGENERATE),
        ((200, 20, 5, 5), 25, False, OUTSIDE),
        ((-9, 20, 9, 5), 25, False, OUTSIDE),
        ((10, 100, 5, 5), 25, False, OUTSIDE),
        ((190, 20, 15, 5), 25, True, PARTLY_OUTSIDE),
        ((-2, 20, 15, 5), 25, True, PARTLY_OUTSIDE),
        ((10, 20, 5, 5), 0, True, TOO_SMALL),
    ],
)
def test_verdicts(box, area, keep, problem):
    verdict = judge_box(ObjectAnnotation(*box, 3, area), HEIGHT, WIDTH)
    assert (verdict.keep, verdict.problem) == (keep, problem)
    assert bool(verdict.reason) == (problem is not None)
