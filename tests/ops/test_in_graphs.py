"""Every operator inside tf.function with unknown dimensions and under the half-precision policy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdet.losses.bbox import bbox_losses
from tfdet.losses.rpn import rpn_losses
from tfdet.ops.anchors import cell_anchors, grid_anchors
from tfdet.ops.nms import multiclass_nms
from tfdet.ops.proposals import generate_proposals, merge_levels
from tfdet.ops.roi_align import assign_levels, roi_align
from tfdet.targets.roi import roi_targets
from tfdet.targets.rpn import rpn_targets

pytestmark = pytest.mark.usefixtures("implementation")

CELL = cell_anchors(16, [2, 4], [0.5, 1, 2])
ANCHORS = len(CELL)


def detector_arithmetic(features, logits, deltas, image_info, boxes, classes, seed):
    """What a two-stage detector computes between its layers, forwards, in one function."""
    shape = tf.shape(features)
    labels, targets = rpn_targets(grid_anchors(CELL, 16, shape[1], shape[2]), image_info, boxes, classes, seed, 32)
    flat = tf.reshape(logits, [shape[0], -1, 2])
    losses = rpn_losses(flat, tf.reshape(deltas, [shape[0], -1, 4]), labels, targets, 32)
    scores = tf.reshape(tf.nn.softmax(tf.cast(flat, tf.float32))[..., 1], [shape[0], shape[1], shape[2], ANCHORS])
    proposals = generate_proposals(scores, deltas, CELL, 16, image_info, 200, 20)
    proposals = merge_levels([proposals, proposals], 30)
    samples = roi_targets(proposals.boxes, boxes, classes, seed, 16)
    pooled = roi_align([features], samples.boxes, assign_levels(samples.boxes, [16]), [16], 3)
    pooled = tf.cast(pooled, tf.float32)  # as the heads do
    cls_logits = tf.reduce_mean(pooled, [2, 3])
    box_losses = bbox_losses(cls_logits, tf.tile(cls_logits, [1, 1, 4]), samples, class_agnostic=False)
    detections = multiclass_nms(
        samples.boxes[:, :, None], tf.nn.softmax(cls_logits)[..., 1:], 0.01, 0.5, max_detections=7
    )
    return losses + box_losses, proposals, samples, pooled, detections


def inputs(batch, height, width, slots, dtype):
    rng = np.random.default_rng(height)
    corner = rng.uniform(0, 16 * height - 40, (batch, slots, 2))
    return (
        tf.constant(rng.normal(size=(batch, height, width, 4)), dtype),
        tf.constant(rng.normal(size=(batch, height, width, 2 * ANCHORS)), dtype),
        tf.constant(rng.normal(size=(batch, height, width, 4 * ANCHORS)) / 10, dtype),
        tf.constant([[16.0 * height - 3, 16.0 * width, 1.5]] * batch),
        tf.constant(np.concatenate([corner, corner + 30], axis=-1), tf.float32),
        tf.constant(rng.integers(-1, 3, (batch, slots)), tf.int32),
        tf.constant([4, 5]),
    )


def present(results):
    """The tensors of a result; detections without masks have a None."""
    return [tensor for tensor in tf.nest.flatten(results) if tensor is not None]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_one_trace_serves_all_sizes_and_equals_eager(dtype):
    if dtype == "float16":
        keras.mixed_precision.set_global_policy("mixed_float16")
    signature = [
        tf.TensorSpec([None, None, None, 4], dtype),
        tf.TensorSpec([None, None, None, 2 * ANCHORS], dtype),
        tf.TensorSpec([None, None, None, 4 * ANCHORS], dtype),
        tf.TensorSpec([None, 3]),
        tf.TensorSpec([None, None, 4]),
        tf.TensorSpec([None, None], tf.int32),
        tf.TensorSpec([2], tf.int32),
    ]
    compiled = tf.function(detector_arithmetic, input_signature=signature, autograph=False)
    for batch, height, width, slots in ((2, 8, 11, 5), (1, 5, 6, 0), (1, 6, 5, 300)):
        arguments = inputs(batch, height, width, slots, dtype)
        got, expected = compiled(*arguments), detector_arithmetic(*arguments)
        for a, b in zip(present(got), present(expected)):
            assert a.dtype in (tf.float32, tf.int32)
            assert np.isfinite(a.numpy()).all()
            # A proposal may move by a bit of exp(), and a weight of the pooled features with it: by one unit of half.
            np.testing.assert_allclose(a, b, rtol=1e-3 if dtype == "float16" else 1e-4, atol=1e-3)
    assert compiled.experimental_get_tracing_count() == 1


def test_static_shapes_survive_where_they_are_known():
    concrete = tf.function(detector_arithmetic, autograph=False).get_concrete_function(*inputs(2, 6, 6, 3, "float32"))
    _, proposals, samples, pooled, detections = concrete.structured_outputs
    assert proposals.boxes.shape == (2, 30, 4)
    assert samples.boxes.shape == (2, 16, 4) and samples.classes.shape == (2, 16)
    assert pooled.shape == (2, 16, 3, 3, 4)
    assert detections.boxes.shape == (2, 7, 4)
