"""Candidates of a dense head against SimpleDet's operator, and the whole way to detections."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tfdet.detectors import DensePostProcess
from tfdet.detectors.dense_postprocess import best_candidates
from tfdet.ops.box_coding import MAX_LOG_RATIO


def nhwc(maps):
    return maps.transpose(0, 2, 3, 1)


def logit(p):
    return (np.log(p.astype(np.float64)) - np.log1p(-p.astype(np.float64))).astype(np.float32)


@pytest.mark.parametrize("threshold", ["0.05", "0.4"])
def test_candidates_equal_simpledets_operator(golden, threshold):
    z = golden("proposal_retina")
    found = best_candidates(
        nhwc(logit(z["cls_prob"])), nhwc(z["bbox_pred"]), z["anchors"], z["im_info"], float(threshold), 200, False
    )
    stored = z[f"cls_score_{threshold}"]
    assert (stored[:, :, 0] == 0).all()  # the background column
    np.testing.assert_allclose(found.scores, stored.max(axis=2), atol=1e-6)
    real = stored.max(axis=2) > 0
    assert real.all() == (threshold == "0.05") and real.any()
    np.testing.assert_array_equal(found.classes.numpy()[real], stored.argmax(axis=2)[real] - 1)
    np.testing.assert_allclose(found.boxes, z[f"bbox_xyxy_{threshold}"], atol=1e-4)


def one_cell(*logits, deltas=(0.0, 0.0, 0.0, 0.0)):
    """A map of one cell and one anchor of 20x10 pixels; its arguments of `best_candidates`."""
    anchors = np.array([[10, 20, 29, 29]], np.float32)
    return np.reshape(logits, [1, 1, 1, -1]).astype(np.float32), np.reshape(deltas, [1, 1, 1, 4]), anchors


def test_growth_is_bounded_before_decoding_unless_asked_not_to():
    maps = one_cell(2.0, deltas=(0.0, 0.0, 5.0, 6.0))
    info = [[1e6, 1e6, 1.0]]
    sides = {}
    for bound in (True, False):
        box = best_candidates(*maps, info, 0.05, 5, bound).boxes.numpy()[0, 0]
        sides[bound] = box[2] + 1, box[3] + 1  # from pixel 0: the left and upper part are clipped away
    half = np.exp(MAX_LOG_RATIO) / 2
    np.testing.assert_allclose(sides[True], [20 + 20 * half, 25 + 10 * half], rtol=1e-4)
    np.testing.assert_allclose(sides[False], [20 + 10 * np.exp(5.0), 25 + 5 * np.exp(6.0)], rtol=1e-4)


def test_a_box_with_two_classes_comes_twice_and_inside_the_image():
    found = best_candidates(*one_cell(1.0, -9.0, 3.0, deltas=(9.0, 0, 0, 0)), [[25.0, 100.0, 1.0]], 0.05, 10)
    np.testing.assert_array_equal(found.classes[0], [2, 0, 1])
    np.testing.assert_allclose(found.scores[0], [1 / (1 + np.exp(-3)), 1 / (1 + np.exp(-1)), 0], rtol=1e-5)
    np.testing.assert_array_equal(found.boxes[0], [[99, 20, 99, 24], [99, 20, 99, 24], [0, 0, 0, 0]])


def test_a_score_that_is_no_number_is_never_found():
    found = best_candidates(*one_cell(np.nan, 0.0), [[100.0, 100.0, 1.0]], 0.0, 10)
    np.testing.assert_allclose(found.scores[0], [0.5, 0.0])


def levels(*logits):
    """One cell a level; the deltas move the box of level i by i anchors to the right."""
    parts = [one_cell(*values, deltas=(i, 0, 0, 0)) for i, values in enumerate(logits)]
    return [(tf.constant(cls), tf.constant(box, tf.float32)) for cls, box, _ in parts], [a for _, _, a in parts]


def test_the_coarsest_level_has_its_own_threshold():
    low = -5.0  # a score of .0067
    predictions, anchors = levels([low, 2.0], [low, low])
    detections = DensePostProcess()(predictions, anchors, tf.constant([[100.0, 100, 1]]))
    assert int(detections.num_valid[0]) == 3
    np.testing.assert_array_equal(detections.classes[0, :3], [1, 0, 1])
    np.testing.assert_array_equal(detections.boxes[0, 1, 0], 30)  # both low ones are of the coarsest level
    strict = DensePostProcess(coarsest_score_threshold=0.05)(predictions, anchors, tf.constant([[100.0, 100, 1]]))
    assert int(strict.num_valid[0]) == 1


def test_suppression_is_per_class_and_in_original_pixels():
    # Two levels with one box each, the second moved by a tenth of its width: IoU 18 / 22.
    predictions, anchors = levels([2.0, -9.0], [1.0, 3.0])
    predictions[1] = (predictions[1][0], tf.constant([[[[0.1, 0.0, 0.0, 0.0]]]]))
    info = tf.constant([[100.0, 100.0, 0.5]])
    detections = DensePostProcess()(predictions, anchors, info)
    assert int(detections.num_valid[0]) == 2
    np.testing.assert_array_equal(detections.classes[0, :2], [1, 0])
    np.testing.assert_allclose(detections.boxes[0, :2], [[24, 40, 62, 58], [20, 40, 58, 58]], atol=1e-4)


def test_soft_suppression_keeps_the_box_with_a_lower_score():
    predictions, anchors = levels([2.0], [1.0])
    predictions[1] = (predictions[1][0], tf.constant([[[[0.1, 0.0, 0.0, 0.0]]]]))
    info = tf.constant([[100.0, 100.0, 1.0]])
    hard = DensePostProcess()(predictions, anchors, info)
    soft = DensePostProcess(nms_method="linear")(predictions, anchors, info)
    assert int(hard.num_valid[0]) == 1 and int(soft.num_valid[0]) == 2
    np.testing.assert_allclose(soft.scores[0, 1], (1 - 18 / 22) / (1 + np.exp(-1.0)), rtol=1e-5)


MEMORY = """
import numpy as np
import tensorflow as tf
from tfdet.bench.measure import process_peak
from tfdet.detectors import DensePostProcess
from tfdet.ops import native

rng = np.random.default_rng(0)
corners = rng.uniform(0, 300, (200, 2))
anchors = [tf.constant(np.concatenate([corners, corners + 40], axis=1), tf.float32)] * 3
info = tf.constant([[400.0, 800.0, 1.0]])
for classes in (80, 1200):
    logits = [tf.constant(rng.normal(-1, 1, (1, 10, 20, classes)), tf.float32) for _ in range(3)]
    predictions = [(cls, tf.zeros([1, 10, 20, 4])) for cls in logits]
    for name in ("native", "python") if native.in_use() else ("python",):
        with native.implementation(name):
            for method in ("hard", "linear"):
                postprocess = DensePostProcess(pre_nms_top_n=1500, nms_method=method, vote_iou_threshold=0.8)
                assert int(tf.function(postprocess)(predictions, anchors, info).num_valid[0]) == 100
    print(process_peak())
"""


def test_1200_classes_take_the_memory_of_80():
    """4,500 candidates: their scores of every class would be 21.6 MB, in two or more copies."""
    out = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True).stdout
    few, many = map(int, out.split())
    assert many < few + 25e6
