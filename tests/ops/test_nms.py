"""Suppression against a plain reference, SimpleDet's outputs and properties."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfdet.errors import UserError
from tfdet.ops.iou import pairwise_iou
from tfdet.ops.nms import multiclass_nms, nms

pytestmark = pytest.mark.usefixtures("implementation")


def reference_nms(boxes, scores, threshold, inclusive=False, convention="legacy_plus_one"):
    """Greedy suppression, written down plainly."""
    iou = pairwise_iou(boxes[None], boxes[None], convention).numpy()[0]
    order, kept = list(np.argsort(-scores, kind="stable")), []
    while order:
        best = order.pop(0)
        kept.append(best)
        order = [i for i in order if not (iou[best, i] >= threshold if inclusive else iou[best, i] > threshold)]
    return kept


def random_boxes(rng, *shape, size=100):
    corner = rng.uniform(0, size, (*shape, 2))
    return np.concatenate([corner, corner + rng.uniform(1, size / 2, (*shape, 2))], axis=-1).astype(np.float32)


@pytest.mark.parametrize(("threshold", "key"), [(0.5, "nms_0_5"), (0.3, "nms_0_3")])
def test_equals_simpledet(golden, threshold, key):
    z = golden("py_bbox_utils")
    result = nms(z["nms_in"][None, :, :4], z["nms_in"][None, :, 4], threshold, 80)
    count = int(result.num_valid[0])
    np.testing.assert_array_equal(z["nms_in"][result.indices.numpy()[0, :count]], z[key])
    assert (result.indices.numpy()[0, count:] == -1).all()


def test_equals_box_nms(golden):
    z = golden("box_nms_probe")
    data = z["data"][0]
    result = nms(data[None, :, 2:], data[None, :, 1], 0.7, 6, convention="continuous", score_threshold=0.0)
    count = int(result.num_valid[0])
    np.testing.assert_array_equal(data[result.indices.numpy()[0, :count]], z["out"][0, :count])
    assert (z["out"][0, count:] == -1).all()


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**31 - 1),
    st.floats(0.1, 0.9),
    st.booleans(),
    st.sampled_from(["legacy_plus_one", "continuous"]),
)
def test_equals_the_plain_reference(seed, threshold, inclusive, convention):
    rng = np.random.default_rng(seed)
    boxes = random_boxes(rng, 2, 40)
    scores = rng.integers(0, 12, (2, 40)).astype(np.float32)  # many ties
    result = nms(boxes, scores, threshold, 40, inclusive, convention)
    for image in range(2):
        expected = reference_nms(boxes[image], scores[image], threshold, inclusive, convention)
        got = result.indices.numpy()[image, : int(result.num_valid[image])]
        np.testing.assert_array_equal(got, expected)


def test_an_iou_at_the_threshold_is_kept_unless_inclusive():
    boxes = np.array([[[0, 0, 9, 9], [0, 0, 9, 4]]], np.float32)  # IoU 1/2 with + 1
    scores = np.array([[0.9, 0.8]], np.float32)
    assert int(nms(boxes, scores, 0.5, 2).num_valid[0]) == 2
    assert int(nms(boxes, scores, 0.5, 2, inclusive=True).num_valid[0]) == 1


def test_what_is_not_a_number_is_never_kept():
    boxes = np.array([[[0, 0, 9, 9], [np.nan, 0, 5, 5], [20, 20, 29, 29], [40, 40, np.inf, 50]]], np.float32)
    scores = np.array([[0.5, 0.9, np.nan, 0.8]], np.float32)
    result = nms(boxes, scores, 0.5, 3)
    np.testing.assert_array_equal(result.indices, [[0, -1, -1]])
    np.testing.assert_array_equal(result.num_valid, [1])


def test_no_boxes_and_a_short_list():
    empty = nms(np.zeros([2, 0, 4], np.float32), np.zeros([2, 0], np.float32), 0.5, 3)
    np.testing.assert_array_equal(empty.indices, np.full([2, 3], -1))
    first = nms(random_boxes(np.random.default_rng(0), 1, 30), np.ones([1, 30], np.float32), 1.0, 2)
    np.testing.assert_array_equal(first.indices, [[0, 1]])


@pytest.mark.parametrize(("threshold", "inclusive"), [(1.5, False), (-0.1, False), (0.0, True)])
def test_a_threshold_out_of_range_is_refused(threshold, inclusive):
    with pytest.raises(UserError, match="iou_threshold"):
        nms(np.zeros([1, 1, 4], np.float32), np.zeros([1, 1], np.float32), threshold, 1, inclusive)


def reference_multiclass(boxes, scores, score_threshold, iou_threshold, max_detections):
    found = []
    for c in range(scores.shape[1]):
        live = np.flatnonzero(scores[:, c] > score_threshold)
        own = boxes[:, min(c, boxes.shape[1] - 1)]
        kept = reference_nms(own[live], scores[live, c], iou_threshold)[:max_detections]
        found += [(-scores[live[k], c], c, i, own[live[k]]) for i, k in enumerate(kept)]
    return sorted(found, key=lambda f: f[:3])[:max_detections]


@pytest.mark.parametrize("shared_boxes", [True, False])
@pytest.mark.parametrize("max_detections", [5, 200])
def test_multiclass_equals_the_plain_reference(shared_boxes, max_detections):
    rng = np.random.default_rng(3)
    boxes = random_boxes(rng, 2, 30, 1 if shared_boxes else 4)
    scores = rng.uniform(0, 1, (2, 30, 4)).astype(np.float32).round(1)
    result = multiclass_nms(boxes, scores, 0.3, 0.4, max_detections)
    assert result.boxes.shape == (2, max_detections, 4)
    for image in range(2):
        expected = reference_multiclass(boxes[image], scores[image], np.float32(0.3), 0.4, max_detections)
        count = int(result.num_valid[image])
        assert count == len(expected)
        np.testing.assert_array_equal(result.scores[image, :count], [-e[0] for e in expected])
        np.testing.assert_array_equal(result.classes[image, :count], [e[1] for e in expected])
        np.testing.assert_array_equal(result.boxes[image, :count], [e[3] for e in expected])
        assert (result.classes.numpy()[image, count:] == -1).all()
        assert (result.boxes.numpy()[image, count:] == 0).all() and (result.scores.numpy()[image, count:] == 0).all()


def test_multiclass_never_returns_what_is_not_a_number():
    boxes = np.array([[[[0, 0, 9, 9]], [[np.nan, 0, 9, 9]], [[50, 50, 60, 60]]]], np.float32)
    scores = np.array([[[0.9], [0.95], [np.nan]]], np.float32)
    result = multiclass_nms(boxes, scores, 0.05, 0.5, 4)
    np.testing.assert_array_equal(result.num_valid, [1])
    np.testing.assert_array_equal(result.boxes[0, 0], [0, 0, 9, 9])


@pytest.mark.parametrize(("boxes", "classes"), [(0, 3), (4, 0)])
def test_multiclass_without_boxes_or_classes(boxes, classes):
    result = multiclass_nms(
        np.zeros([2, boxes, 1, 4], np.float32), np.ones([2, boxes, classes], np.float32), 0.1, 0.5, 3
    )
    np.testing.assert_array_equal(result.num_valid, [0, 0])
    np.testing.assert_array_equal(result.classes, np.full([2, 3], -1))


@pytest.mark.parametrize(
    "name", ["1", "10", "100", "1000", "degenerate", "duplicates", "exact_half", "tv_float16_case"]
)
def test_equals_torchvision(golden, name):
    z = {k[len(name) + 1 :]: v for k, v in golden("nms_torchvision").items() if k.startswith(f"{name}_")}
    thresholds = [key for key in z if key.startswith("keep_")]
    assert thresholds
    for key in thresholds:
        result = nms(z["boxes"][None], z["scores"][None], int(key[5:]) / 100, len(z["scores"]), convention="continuous")
        np.testing.assert_array_equal(result.indices[0, : int(result.num_valid[0])], z[key])


@pytest.mark.parametrize("name", ["50x3", "1000x80", "3000x5"])
@pytest.mark.parametrize("threshold", [30, 50, 70])
def test_multiclass_equals_torchvision(golden, name, threshold):
    z = {k[len(name) + 1 :]: v for k, v in golden("batched_nms_torchvision").items() if k.startswith(f"{name}_")}
    count, classes = (int(n) for n in name.split("x"))
    scores = np.full([1, count, classes], -1, np.float32)
    scores[0, np.arange(count), z["idxs"]] = z["scores"]
    result = multiclass_nms(z["boxes"][None, :, None], scores, -0.5, threshold / 100, count, "continuous")
    keep = z[f"keep_{threshold}"]
    keep = keep[np.lexsort((keep, z["idxs"][keep], -z["scores"][keep]))]  # equal scores: here the lower class first
    assert int(result.num_valid[0]) == len(keep)
    np.testing.assert_array_equal(result.scores[0, : len(keep)], z["scores"][keep])
    np.testing.assert_array_equal(result.classes[0, : len(keep)], z["idxs"][keep])
    np.testing.assert_array_equal(result.boxes[0, : len(keep)], z["boxes"][keep])


def test_soft_nms_equals_simpledet(golden):
    z = golden("py_bbox_utils")
    data = z["nms_in"][None]
    result = multiclass_nms(data[:, :, None, :4], data[:, :, 4:], 0.001, 0.5, 100, method="linear")
    assert int(result.num_valid[0]) == len(z["soft_nms_linear_0_5"]) == 80
    np.testing.assert_array_equal(result.boxes[0, :80], z["soft_nms_linear_0_5"][:, :4])
    np.testing.assert_allclose(result.scores[0, :80], z["soft_nms_linear_0_5"][:, 4], rtol=1e-5)


def reference_soft(boxes, scores, weight, score_threshold):
    """Soft suppression of one class in double precision, written down plainly: positions and scores."""
    iou = pairwise_iou(boxes[None], boxes[None]).numpy()[0].astype(np.float64)
    scores, kept = scores.astype(np.float64), []
    while scores.max() > score_threshold:
        best = int(scores.argmax())
        kept.append((best, scores[best]))
        scores *= weight(iou[best])
        scores[[k for k, _ in kept]] = -np.inf
    return kept


@pytest.mark.parametrize("shared_boxes", [True, False])
@pytest.mark.parametrize("method", ["linear", "gaussian"])
def test_soft_nms_equals_the_plain_reference(method, shared_boxes):
    rng = np.random.default_rng(5)
    boxes, scores = random_boxes(rng, 2, 25, 1 if shared_boxes else 3), rng.uniform(0, 1, (2, 25, 3))
    scores = scores.astype(np.float32)
    weights = {
        "linear": lambda iou: np.where(iou > np.float32(0.3), 1 - iou, 1),
        "gaussian": lambda iou: np.exp(-(iou**2) / 0.4),
    }
    result = multiclass_nms(boxes, scores, 0.2, 0.3, 80, method=method, sigma=0.4)
    for image in range(2):
        expected = []
        for c in range(3):
            own = boxes[image, :, min(c, boxes.shape[2] - 1)]
            kept = reference_soft(own, scores[image, :, c], weights[method], 0.2)
            expected += [(-score, c, own[k]) for k, score in kept]
        expected.sort(key=lambda e: e[:2])
        count = int(result.num_valid[image])
        assert count == len(expected) > 25  # soft: more than a hard one leaves
        np.testing.assert_allclose(result.scores[image, :count], [-e[0] for e in expected], rtol=1e-5)
        np.testing.assert_array_equal(result.classes[image, :count], [e[1] for e in expected])
        np.testing.assert_array_equal(result.boxes[image, :count], [e[2] for e in expected])
        assert (result.classes.numpy()[image, count:] == -1).all()


@pytest.mark.parametrize("method", ["linear", "gaussian"])
@pytest.mark.parametrize(("boxes", "classes"), [(0, 3), (4, 0), (0, 0)])
def test_soft_nms_without_boxes_or_classes(method, boxes, classes):
    corners, scores = np.zeros([2, boxes, 1, 4], np.float32), np.ones([2, boxes, classes], np.float32)
    result = multiclass_nms(corners, scores, 0.1, 0.5, 3, method=method)
    np.testing.assert_array_equal(result.num_valid, [0, 0])
    np.testing.assert_array_equal(result.classes, np.full([2, 3], -1))


def test_no_image():
    assert nms(np.zeros([0, 5, 4], np.float32), np.zeros([0, 5], np.float32), 0.5, 3).indices.shape == (0, 3)
    none = multiclass_nms(np.zeros([0, 5, 1, 4], np.float32), np.zeros([0, 5, 2], np.float32), 0.1, 0.5, 3)
    assert none.boxes.shape == (0, 3, 4) and none.num_valid.shape == (0,)


def test_a_box_whose_area_overflows_is_never_kept():
    boxes = np.array([[[0, 0, 3e19, 3e19], [0, 0, 9, 9], [0, 0, 1e18, 1e18]]], np.float32)
    np.testing.assert_array_equal(nms(boxes, [[0.9, 0.8, 0.7]], 0.5, 3).indices, [[1, 2, -1]])


@pytest.mark.parametrize(
    ("options", "named"),
    [({"method": "fuzzy"}, "method.*fuzzy"), ({"sigma": 0.0}, "sigma"), ({"sigma": float("nan")}, "sigma")],
)
def test_an_unknown_method_or_sigma_is_refused(options, named):
    with pytest.raises(UserError, match=named):
        multiclass_nms(np.zeros([1, 1, 1, 4], np.float32), np.zeros([1, 1, 1], np.float32), 0.1, 0.5, 1, **options)


def test_no_gradient_flows_through_detections():
    boxes, scores = tf.constant(random_boxes(np.random.default_rng(0), 1, 5, 1)), tf.random.uniform([1, 5, 2])
    with tf.GradientTape() as tape:
        tape.watch([boxes, scores])
        result = multiclass_nms(boxes, scores, 0.0, 0.5, 4)
        total = tf.reduce_sum(result.boxes) + tf.reduce_sum(result.scores)
    assert tape.gradient(total, [boxes, scores]) == [None, None]


def test_soft_suppression_of_negative_scores_is_sorted_too(implementation):
    """A score below 0 is raised where a box overlaps a better one, past those that do not."""
    boxes = np.array([[0, 0, 99, 99], [0, 0, 99, 79], [200, 200, 260, 260]], np.float32)[None, :, None]
    scores = np.array([-0.1, -0.2, -0.15], np.float32)[None, :, None]
    found = multiclass_nms(boxes, scores, -1.0, 0.5, 5, method="linear")
    np.testing.assert_allclose(found.scores[0, :3], [-0.2 * 0.2, -0.1, -0.15], rtol=1e-5)
    np.testing.assert_array_equal(found.boxes[0, :3], boxes[0, [1, 0, 2], 0])
