"""Boxes, IoU, anchors and box coding."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfdet.errors import UserError
from tfdet.ops.anchors import cell_anchors, grid_anchors
from tfdet.ops.box_coding import decode, encode
from tfdet.ops.boxes import area, clip_to_image
from tfdet.ops.iou import pairwise_iou

CONVENTIONS = ["legacy_plus_one", "continuous"]
STD = (0.1, 0.1, 0.2, 0.2)


@st.composite
def box_arrays(draw, count=6):
    corners = draw(st.lists(st.tuples(*[st.floats(0, 900, width=32)] * 2), min_size=count, max_size=count))
    spans = draw(st.lists(st.tuples(*[st.floats(0.5, 400, width=32)] * 2), min_size=count, max_size=count))
    corners, spans = np.array(corners, np.float32), np.array(spans, np.float32)
    return np.concatenate([corners, corners + spans], axis=1)


def test_area_knows_both_conventions_and_no_negative_size():
    boxes = np.array([[2, 3, 5, 4], [5, 5, 2, 2]], np.float32)
    np.testing.assert_array_equal(area(boxes), [8, 0])
    np.testing.assert_array_equal(area(boxes, "continuous"), [3, 0])


def test_an_unknown_convention_is_named():
    with pytest.raises(UserError, match="legacy_plus_one.*'inclusive'"):
        area(np.zeros([1, 4], np.float32), "inclusive")


def test_clip_stops_at_the_last_pixel_of_each_image():
    boxes = np.array([[[-3, -4, 500, 600]], [[10, 20, 30, 40]]], np.float32)
    info = np.array([[50, 80, 1], [25, 300, 1]], np.float32)
    np.testing.assert_array_equal(clip_to_image(boxes, info), [[[0, 0, 79, 49]], [[10, 20, 30, 24]]])
    np.testing.assert_array_equal(clip_to_image(boxes, info, "continuous")[0], [[0, 0, 80, 50]])
    by_class = clip_to_image(np.tile(boxes[:, :, None], (1, 1, 3, 1)), info)
    np.testing.assert_array_equal(by_class[0, 0, 2], [0, 0, 79, 49])


def test_iou_equals_simpledet(golden):
    z = golden("py_bbox_utils")
    # SimpleDet's Cython adds in float64 in places: the last bit may differ.
    np.testing.assert_allclose(pairwise_iou(z["boxes"][None], z["query"][None])[0], z["overlaps"], rtol=2e-7)


@settings(max_examples=30, deadline=None)
@given(box_arrays(), box_arrays(), st.sampled_from(CONVENTIONS))
def test_iou_is_symmetric_and_bounded(a, b, convention):
    forward = pairwise_iou(a[None], b[None], convention).numpy()[0]
    np.testing.assert_allclose(forward, pairwise_iou(b[None], a[None], convention).numpy()[0].T, rtol=1e-6)
    assert (forward >= 0).all() and (forward <= 1 + 1e-6).all()
    np.testing.assert_allclose(np.diag(pairwise_iou(a[None], a[None], convention).numpy()[0]), 1, rtol=1e-6)


def test_iou_of_boxes_without_area_is_zero():
    boxes = np.array([[[3, 3, 3, 3], [9, 9, 1, 1]]], np.float32)
    np.testing.assert_array_equal(pairwise_iou(boxes, boxes, "continuous"), np.zeros([1, 2, 2]))


@pytest.mark.parametrize("name", ["c4", "fpn8", "retina8", "retina128"])
def test_anchors_equal_simpledet(golden, name):
    z = golden(f"anchors_{name}")
    cell = cell_anchors(int(z["stride"]), z["scales"], z["ratios"])
    np.testing.assert_array_equal(cell, z["numpy_base_anchor"].astype(np.float32))
    grid = grid_anchors(cell, int(z["stride"]), *z["feat_hw"])
    np.testing.assert_allclose(grid, z["numpy_all_anchor"], atol=1e-4)
    if name in ("c4", "fpn8"):  # whole pixels: exact in float32
        np.testing.assert_array_equal(grid, z["numpy_all_anchor"])


@pytest.mark.parametrize(
    ("stride", "expected"),
    [
        (4, [[-22, -10, 25, 13], [-14, -14, 17, 17], [-10, -22, 13, 25]]),
        (16, [[-84, -40, 99, 55], [-56, -56, 71, 71], [-36, -80, 51, 95]]),
        (32, [[-164, -72, 195, 103], [-112, -112, 143, 143], [-76, -168, 107, 199]]),
        (64, [[-332, -152, 395, 215], [-224, -224, 287, 287], [-148, -328, 211, 391]]),
    ],
)
def test_pyramid_anchors(stride, expected):
    np.testing.assert_array_equal(cell_anchors(stride, [8], [0.5, 1, 2]), expected)


def test_rounding_of_halves():
    even, up = (cell_anchors(32, [1], [0.5], rounding=r)[0] for r in ("numpy", "half_up"))
    assert even[3] - even[1] + 1 == 22 and up[3] - up[1] + 1 == 23
    assert even[2] - even[0] + 1 == 45 and up[2] - up[0] + 1 == 45


@pytest.mark.parametrize("change", [{"stride": 0}, {"scales": []}, {"ratios": [0.0]}, {"rounding": "down"}])
def test_bad_anchor_arguments_are_named(change):
    arguments = {"stride": 16, "scales": [8], "ratios": [1.0], "rounding": "numpy"} | change
    with pytest.raises(UserError, match="anchors"):
        cell_anchors(**arguments)


def test_encode_equals_simpledet(golden):
    z = golden("py_bbox_utils")
    np.testing.assert_allclose(encode(z["ex_rois"], z["gt_rois"]), z["transform"], rtol=2e-6, atol=1e-7)


def test_encode_vector():
    anchor, box = [[10, 20, 109, 219]], [[30, 40, 89, 259]]
    np.testing.assert_allclose(encode(anchor, box)[0], [0, 0.15, -0.510826, 0.09531], atol=1e-6)
    np.testing.assert_allclose(encode(anchor, box, std=STD)[0], [0, 1.5, -2.554128, 0.476551], atol=1e-5)


@pytest.mark.parametrize("heads", ["agnostic", "perclass"])
def test_decode_equals_simpledet(golden, heads):
    z = golden(f"decode_bbox_{heads}")
    batch, rois = z["rois"].shape[:2]
    deltas = z["bbox_pred"].reshape(batch, rois, -1, 4)
    if heads == "agnostic":
        deltas = deltas[:, :, -1:]
    boxes = clip_to_image(decode(z["rois"][:, :, None], deltas, std=tuple(z["std"])), z["im_info"])
    np.testing.assert_allclose(np.reshape(boxes, z["op_cpu_xywh"].shape), z["op_cpu_xywh"], atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(box_arrays(), box_arrays(), st.sampled_from(CONVENTIONS))
def test_decode_undoes_encode(anchors, boxes, convention):
    deltas = encode(anchors, boxes, mean=(0.1, 0, 0, 0), std=STD, convention=convention)
    back = decode(anchors, deltas, mean=(0.1, 0, 0, 0), std=STD, convention=convention)
    np.testing.assert_allclose(back, boxes, atol=2e-2, rtol=1e-4)


def test_growth_is_bounded_only_on_request():
    anchor, deltas = [[0, 0, 9, 9]], [[0.0, 0.0, 10.0, 1.0]]
    free, bounded = decode(anchor, deltas)[0], decode(anchor, deltas, max_log_ratio=np.log(1000 / 16))[0]
    np.testing.assert_allclose(free[2] - free[0] + 1, 10 * np.exp(10), rtol=1e-4)
    np.testing.assert_allclose(bounded[2] - bounded[0] + 1, 625, rtol=1e-4)
    np.testing.assert_allclose(bounded[3], free[3], rtol=1e-6)


def test_offsets_from_an_empty_anchor_are_finite():
    offsets = encode([[5.0, 5.0, 5.0, 5.0]], [[5.0, 5.0, 5.0, 5.0]], convention="continuous")
    assert np.isfinite(offsets).all()


def test_half_precision_boxes_are_computed_in_float32():
    boxes = tf.constant([[[100.0, 200.0, 1001.0, 903.0]]], tf.float16)
    assert pairwise_iou(boxes, boxes).dtype == tf.float32
    assert area(boxes).numpy()[0, 0] == (1001 - 100 + 1) * (903 - 200 + 1)
