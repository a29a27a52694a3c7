"""The operative configuration is written before the first step: nothing is configured later."""

import pytest
import tensorflow as tf

from tfdet import config
from tfdet.evaluate.run import detect_function
from tfdet.structures import Batch


@pytest.mark.parametrize("row", ["mask_r50v1_fpn.gin", "retina_r50v1_fpn.gin"])
def test_it_is_whole_once_the_detector_is_built(configured, row):
    config.register_all()
    configuration = configured([row], ["WIDTH = 0.0625", "DEPTH = 18"])
    detector = configuration.build("build_detector", num_classes=3)
    before = configuration.operative_text()
    assert "build_detector.detector" in before and "PostProcess.max_detections" in before
    batch = Batch(
        tf.TensorSpec([1, 128, 128, 3], tf.uint8),
        tf.TensorSpec([1, 3], tf.float32),
        tf.TensorSpec([1, 4, 4], tf.float32),
        tf.TensorSpec([1, 4], tf.int32),
        tf.TensorSpec([1], tf.int64),
        tf.TensorSpec([1, 4, None, 4], tf.float32),
        tf.TensorSpec([1, 4, None], tf.int32),
    )
    losses = tf.function(detector.losses, autograph=False)
    losses.get_concrete_function(batch, tf.TensorSpec([2], tf.int32))
    detect_function(detector).get_concrete_function()
    assert configuration.operative_text() == before
