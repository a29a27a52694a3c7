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
