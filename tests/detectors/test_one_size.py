"""Images of several sizes in one batch: each is seen alone, and rows of other programs too."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.detectors.small import assert_batch_changes_nothing
from tfdet import config
from tfdet.detectors import build_detector
from tfdet.detectors.one_size import detect_by_size
from tfdet.structures import Detections


def sum_of_pixels(images, image_info):
    """A detection an image, of which everything would change with a pixel or a row of the canvas."""
    total = tf.reduce_sum(tf.cast(images, tf.float32), [1, 2, 3])
    size = tf.tile(tf.cast(tf.shape(images)[None, 1:3], tf.float32), [tf.shape(images)[0], 1])
    return Detections(
        tf.concat([size, image_info[:, :2]], axis=1)[:, None],
        total[:, None],
        tf.cast(total[:, None], tf.int32),
        tf.ones([tf.shape(images)[0]], tf.int32),
    )


IMAGES = tf.ones([4, 5, 7, 3], tf.uint8)
INFO = tf.constant([[5.0, 3, 1], [2, 7, 1], [5, 3, 2], [1, 1, 1]])


@pytest.mark.parametrize("compiled", [False, True])
def test_each_image_is_seen_without_padding_and_results_keep_their_order(compiled):
    def detect(images, info):
        return detect_by_size(lambda views: sum_of_pixels(*views[0]), [(images, info)])

    found = (tf.function(detect) if compiled else detect)(IMAGES, INFO)
    np.testing.assert_array_equal(found.boxes[:, 0], [[5, 3, 5, 3], [2, 7, 2, 7], [5, 3, 5, 3], [1, 1, 1, 1]])
    np.testing.assert_array_equal(found.scores[:, 0], [45, 42, 45, 3])
    assert found.masks is None
    empty = (tf.function(detect) if compiled else detect)(IMAGES[:0], INFO[:0])
    assert [tuple(field.shape) for field in empty[:4]] == [(0, 1, 4), (0, 1), (0, 1), (0,)]
    assert empty.classes.dtype == tf.int32


def test_views_are_cut_each_to_its_own_size():
    """Two images are of one group only where all their views are of one size."""
    seen = []

    def detect(views):
        seen.append([tuple(images.shape[:3]) for images, _ in views])
        return sum_of_pixels(*views[0])

    other = tf.constant([[4.0, 4, 1], [3, 4, 1], [2, 2, 1], [4, 4, 1]])
    found = detect_by_size(detect, [(IMAGES, INFO), (IMAGES, other)])
    assert sorted(seen) == sorted(
        [[(1, 5, 3), (1, 4, 4)], [(1, 2, 7), (1, 3, 4)], [(1, 5, 3), (1, 2, 2)], [(1, 1, 1), (1, 4, 4)]]
    )
    np.testing.assert_array_equal(found.scores[:, 0], [45, 42, 45, 3])


@pytest.mark.parametrize(
    ("row", "bindings"),
    [
        ("torchvision/fasterrcnn_r50_fpn.gin", ["ProposalGenerator.post_nms_top_n = (60, 40)"]),
        ("detectron2/retinanet_r50_fpn.gin", ["DensePostProcess.score_threshold = 0.001"]),
    ],
)
def test_rows_that_pad_to_whole_cells_find_the_same_in_a_batch(row, bindings):
    config.register_all()
    keras.utils.set_random_seed(0)
    configuration = config.parse([row], ["WIDTH = 0.125", "DEPTH = 18", *bindings])
    assert_batch_changes_nothing(configuration.build(build_detector, num_classes=3))
