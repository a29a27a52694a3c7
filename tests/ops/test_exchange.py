"""The operators for other programs' formats find what the portable ones find."""

import numpy as np
import pytest
import tensorflow as tf

from tfdet.ops import native
from tfdet.ops.class_aware_nms import class_aware_nms
from tfdet.ops.nms import multiclass_nms, nms
from tfdet.ops.roi_align import roi_align

RNG = np.random.default_rng(5)
CORNERS = RNG.uniform(0, 60, [1, 40, 2])
BOXES = np.concatenate([CORNERS, CORNERS + RNG.uniform(5, 40, [1, 40, 2])], axis=-1).astype(np.float32)
BOXES[0, 7] = np.nan
SCORES = tf.nn.softmax(RNG.normal(0, 2, [1, 40, 5]).astype(np.float32)).numpy()
SCORES[0, 3] = np.nan


def both(function):
    """What a function gives with the portable operators, then with the others, as arrays."""
    results = []
    for name in ("python", "exchange"):
        with native.implementation(name):
            found = function()
        results.append([np.asarray(part) for part in found if part is not None])
    return results


@pytest.mark.parametrize("method", ["hard", "linear", "gaussian"])
@pytest.mark.parametrize("threshold", [0.05, 0.0])
def test_suppression_of_all_classes_together_is_that_of_each(method, threshold):
    options = {"score_threshold": threshold, "iou_threshold": 0.4, "max_detections": 30, "method": method}
    shared, own = BOXES[:, :, None], BOXES[:, :, None] + RNG.uniform(0, 9, [1, 40, 5, 1]).astype(np.float32)
    for boxes in (shared, own):
        portable, other = both(lambda boxes=boxes: multiclass_nms(boxes, SCORES, **options))
        assert 5 < portable[3][0] <= 30
        for expected, found in zip(portable, other, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("method", ["hard", "gaussian"])
def test_suppression_of_a_list(method):
    classes = RNG.integers(-1, 3, [1, 40])
    scores = SCORES[:, :, 0]
    portable, other = both(
        lambda: class_aware_nms(BOXES, scores, classes, 3, iou_threshold=0.3, max_detections=25, method=method)
    )
    assert 3 < portable[3][0]
    for expected, found in zip(portable, other, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_suppression_of_one_class_and_of_nothing():
    for boxes in (BOXES, BOXES[:, :0]):
        portable, other = both(lambda boxes=boxes: nms(boxes, SCORES[:, : boxes.shape[1], 1], 0.5, 12))
        for expected, found in zip(portable, other, strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("mode", "ratio"), [("max", 2), ("average", 2), ("average", 0)])
def test_roi_align_without_loops(mode, ratio):
    features = [RNG.normal(size=[1, 20 // k, 24 // k, 3]).astype(np.float32) for k in (1, 2)]
    levels = RNG.integers(0, 2, [1, 40])
    portable, other = both(lambda: [roi_align(features, BOXES, levels, (4, 8), 7, mode, ratio)])
    np.testing.assert_allclose(other[0], portable[0], atol=2e-5)
    assert np.abs(portable[0]).max() > 1
