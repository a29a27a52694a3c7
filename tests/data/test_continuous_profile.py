"""Ground truth for detectors of continuous boxes."""

import numpy as np
import pytest
import tensorflow as tf

from tfdet.data.example import fit_example
from tfdet.data.resize import Resize
from tfdet.structures import Example

EXAMPLE = Example(
    image=tf.zeros([40, 60, 3], tf.uint8),
    image_id=tf.constant(7, tf.int64),
    boxes=tf.constant([[10.0, 5.0, 19.0, 14.0], [50.0, 30.0, 59.0, 39.0]]),  # 10 x 10 pixels each
    classes=tf.constant([0, 1]),
    edges=tf.constant([[10.0, 5.0, 20.0, 5.0]]),
    edge_owners=tf.constant([[0, 0]]),
)


@pytest.mark.parametrize("flip", [False, True])
def test_edges_of_boxes_lie_where_the_pixels_end(flip):
    item = fit_example(EXAMPLE, Resize(80, 200), tf.constant(flip), "continuous")
    expected = np.array([[20.0, 10, 40, 30], [100, 60, 120, 80]])
    polygon = np.array([20.0, 10, 40, 10])
    if flip:
        expected = np.stack([120 - expected[:, 2], expected[:, 1], 120 - expected[:, 0], expected[:, 3]], axis=1)
        polygon = np.array([100.0, 10, 80, 10])
    np.testing.assert_allclose(item.boxes, expected)
    np.testing.assert_allclose(item.edges[0], polygon)


def test_mirroring_twice_leads_back():
    once = fit_example(EXAMPLE, Resize(80, 200), tf.constant(True), "continuous").boxes.numpy()
    twice = np.stack([120 - once[:, 2], once[:, 1], 120 - once[:, 0], once[:, 3]], axis=1)
    np.testing.assert_allclose(twice, fit_example(EXAMPLE, Resize(80, 200), tf.constant(False), "continuous").boxes)


@pytest.mark.parametrize("rule", ["detectron2", "torchvision"])
@pytest.mark.parametrize("flip", [False, True])
def test_boxes_and_polygons_go_by_the_ratio_of_each_axis(rule, flip):
    # 33 x 70 becomes 37.7 x 80 before rounding: 38 x 80 or 37 x 80, so that the axes' ratios are 2 % apart.
    image = tf.constant(np.random.default_rng(0).integers(0, 256, (33, 70, 3), np.uint8))
    example = EXAMPLE._replace(image=image)
    item = fit_example(example, Resize(60, 80, rule), tf.constant(flip), "continuous")
    height = {"detectron2": 38, "torchvision": 37}[rule]
    ratio = np.float32([80 / 70, height / 33, 80 / 70, height / 33])
    boxes, edges = np.float32([[10, 5, 20, 15], [50, 30, 60, 40]]) * ratio, np.float32([[10, 5, 20, 5]]) * ratio
    boxes[:, 3] = np.minimum(boxes[:, 3], height)
    if flip:
        boxes[:, [0, 2]], edges[:, [0, 2]] = 80 - boxes[:, [2, 0]], 80 - edges[:, [0, 2]]
    np.testing.assert_allclose(item.boxes, boxes, rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(item.edges, edges, rtol=1e-6, atol=1e-5)


def test_detectron2_mirrors_what_it_has_resized():
    image = tf.constant(np.random.default_rng(1).integers(0, 256, (33, 70, 3), np.uint8))
    plain, mirrored = (
        fit_example(EXAMPLE._replace(image=image), Resize(60, 80, "detectron2"), tf.constant(flip)).images
        for flip in (False, True)
    )
    np.testing.assert_array_equal(mirrored, plain[:, ::-1])
