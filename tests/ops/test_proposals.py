"""Proposals against SimpleDet's four operators."""

import numpy as np
import pytest
import tensorflow as tf

from tfdet.errors import UserError
from tfdet.ops.anchors import cell_anchors
from tfdet.ops.proposals import generate_proposals, merge_levels
from tfdet.structures import Proposals

pytestmark = pytest.mark.usefixtures("implementation")


def nhwc(maps):
    return maps.transpose(0, 2, 3, 1)


def assert_same(result, rois, score):
    np.testing.assert_array_equal(result.scores, score[..., 0])
    np.testing.assert_allclose(result.boxes, rois, atol=1e-4)  # exp() differs in its last bit


@pytest.mark.parametrize("min_size", [0, 16])
@pytest.mark.parametrize(
    ("variant", "key", "post", "threshold"),
    [
        ("v1", "proposal_gpu", 100, 0.7),
        ("v1", "proposal_gpu_pad", 500, 0.3),
        ("v2", "proposal_v2_gpu", 100, 0.7),
        ("v3", "proposal_v3_gpu", 100, 0.7),
    ],
)
def test_equals_simpledet(golden, min_size, variant, key, post, threshold):
    z = golden("proposal")
    result = generate_proposals(
        nhwc(z["fg_prob"]),
        nhwc(z["bbox_pred"]),
        cell_anchors(16, z["scales"], z["ratios"]),
        16,
        z["im_info"],
        600,
        post,
        threshold,
        min_size,
        variant,
        area_range=z["valid_ranges"] if variant == "v2" else None,
    )
    assert_same(result, z[f"minsize{min_size}_{key}_rois"], z[f"minsize{min_size}_{key}_score"])


@pytest.mark.parametrize("min_size", [0, 16])
def test_v2_equals_simpledet(golden, min_size):
    """TridentNet's operator: boxes outside their branch's range come last."""
    z, expected = golden("proposal"), golden("proposal_v2")
    result = generate_proposals(
        nhwc(z["fg_prob"]),
        nhwc(z["bbox_pred"]),
        cell_anchors(16, z["scales"], z["ratios"]),
        16,
        z["im_info"],
        600,
        100,
        0.7,
        min_size,
        "v2",
        expected["valid_ranges"],
    )
    assert_same(
        result,
        expected[f"minsize{min_size}_proposal_v2_gpu_rois"],
        expected[f"minsize{min_size}_proposal_v2_gpu_score"],
    )


def test_v2_without_a_range_is_v1_and_v1_has_none():
    scores = [0.1, 0.2, 0.9, 0.3, 0.4, 0.8]
    for ours, plain in zip(simple(scores, variant="v2"), simple(scores), strict=True):
        np.testing.assert_array_equal(ours, plain)
    with pytest.raises(UserError, match="area_range"):
        simple(scores, area_range=[[0.0, 10.0]])


@pytest.mark.parametrize(
    ("inputs", "outputs", "threshold"), [("b1_", "b1_", 0.7), ("", "thr7_", 0.7), ("", "thr2_", 0.2)]
)
def test_symbolic_equals_simpledet(golden, inputs, outputs, threshold):
    z = golden("proposal_symbolic")
    np.testing.assert_array_equal(cell_anchors(8, [8], [0.5, 1, 2]), z["cell_anchors"])
    result = generate_proposals(
        nhwc(z[f"{inputs}fg_prob"]),
        nhwc(z[f"{inputs}bbox_pred"]),
        z["cell_anchors"],
        8,
        z[f"{inputs}im_info"],
        300,
        100,
        threshold,
        variant="symbolic",
    )
    assert_same(result, z[f"{outputs}rois"], z[f"{outputs}score"])


def test_merge_equals_simpledet(golden):
    z = golden("get_top_proposal")
    split = [
        Proposals(tf.constant(z["bbox"][:, s]), tf.constant(z["score"][:, s, 0])) for s in (slice(0, 7), slice(7, 50))
    ]
    result = merge_levels(split, int(z["top_n"]))
    np.testing.assert_array_equal(result.boxes, z["out_bbox"])
    np.testing.assert_array_equal(result.scores, z["out_score"][..., 0])


def test_merge_pads_with_missing_proposals():
    level = Proposals(tf.constant([[[1.0, 2, 3, 4]]]), tf.constant([[0.3]]))
    result = merge_levels([level, level], 4)
    np.testing.assert_array_equal(result.scores, np.float32([[0.3, 0.3, 0, 0]]))
    np.testing.assert_array_equal(result.boxes[0, 2:], np.zeros([2, 4]))


def simple(scores, deltas=None, info=((32, 48, 1),), **options):
    scores = np.asarray(scores, np.float32).reshape(1, 2, 3, 1)
    deltas = np.zeros([1, 2, 3, 4], np.float32) if deltas is None else deltas
    cell = np.array([[0, 0, 15, 15]], np.float32)
    return generate_proposals(scores, deltas, cell, 16, np.float32(info), 6, 6, **options)


def test_cells_outside_the_image_come_last_in_v1_and_not_at_all_special_in_v3():
    scores, info = [0.1, 0.2, 0.9, 0.3, 0.4, 0.8], ((32, 47, 1),)  # 47 / 16: two live columns
    # Clipped to the image the last column is 15 wide: no overlap with its neighbours either way.
    np.testing.assert_allclose(simple(scores, info=info).scores[0], [0.4, 0.3, 0.2, 0.1, -1, -1], rtol=1e-6)
    v3 = simple(scores, info=info, variant="v3").scores[0]
    np.testing.assert_allclose(v3, [0.9, 0.8, 0.4, 0.3, 0.2, 0.1], rtol=1e-6)
    symbolic = simple(scores, info=info, variant="symbolic").scores[0]
    np.testing.assert_allclose(symbolic, [0.4, 0.3, 0.2, 0.1, -1, -1], rtol=1e-6)


def test_equal_scores_keep_the_order_of_cells():
    result = simple([0.5] * 6)
    np.testing.assert_array_equal(result.boxes[0, :, 0], [0, 16, 32, 0, 16, 32])
    np.testing.assert_array_equal(result.boxes[0, :, 1], [0, 0, 0, 16, 16, 16])


@pytest.mark.parametrize("variant", ["v1", "v3", "symbolic"])
def test_what_is_not_a_number_is_never_proposed(variant):
    deltas = np.zeros([1, 2, 3, 4], np.float32)
    deltas[0, 0, 1, 2] = np.nan
    result = simple([0.1, 0.9, np.nan, 0.3, 0.4, 0.5], deltas, variant=variant)
    np.testing.assert_allclose(result.scores[0, :4], [0.5, 0.4, 0.3, 0.1], rtol=1e-6)
    missing = -1 if variant == "symbolic" else 0
    np.testing.assert_array_equal(result.scores[0, 4:], [missing] * 2)
    np.testing.assert_array_equal(result.boxes[0, 4:], np.full([2, 4], missing))


def test_all_scores_missing_gives_all_zero_rows():
    result = simple([np.nan] * 6)
    assert not np.any(result.boxes) and not np.any(result.scores)


def test_no_gradient_flows_through():
    scores, deltas = tf.random.uniform([1, 2, 3, 1]), tf.zeros([1, 2, 3, 4])
    with tf.GradientTape() as tape:
        tape.watch([scores, deltas])
        result = generate_proposals(scores, deltas, [[0.0, 0, 15, 15]], 16, [[32.0, 48, 1]], 6, 6)
        total = tf.reduce_sum(result.boxes) + tf.reduce_sum(result.scores)
    assert tape.gradient(total, [scores, deltas]) == [None, None]


def test_logits_give_what_their_softmax_gives():
    logits = np.random.default_rng(0).normal(size=(1, 2, 3, 2)).astype(np.float32)
    cell = np.array([[0, 0, 15, 15]], np.float32)
    arguments = np.zeros([1, 2, 3, 4], np.float32), cell, 16, [[32.0, 48, 1]], 6, 6
    got = generate_proposals(logits, *arguments, from_logits=True)
    expected = generate_proposals(tf.nn.softmax(logits)[..., 1:], *arguments)
    np.testing.assert_allclose(got.scores, expected.scores, rtol=1e-6)
    np.testing.assert_array_equal(got.boxes, expected.boxes)


def test_logits_of_several_anchors_are_all_backgrounds_then_all_foregrounds():
    logits = np.array([0.0, 0, 3, -1], np.float32).reshape(1, 1, 1, 4)
    cells = np.array([[0, 0, 3, 3], [4, 4, 9, 9]], np.float32)
    result = generate_proposals(
        logits, np.zeros([1, 1, 1, 8], np.float32), cells, 16, [[32.0, 48, 1]], 6, 2, from_logits=True
    )
    np.testing.assert_allclose(result.scores[0], 1 / (1 + np.exp([-3.0, 1])), rtol=1e-6)
    np.testing.assert_array_equal(result.boxes[0], cells)


def test_the_area_range_counts_the_last_pixel_and_both_bounds():
    deltas = np.zeros([1, 2, 3, 4], np.float32)
    deltas[0, 1, :, 2:] = np.log(0.5)  # boxes 8 pixels wide and high below, 16 above
    scores = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    large = simple(scores, deltas, variant="v2", area_range=[[16.0, 16.0]])
    np.testing.assert_allclose(large.scores[0], [0.3, 0.2, 0.1, -1, -1, -1], rtol=1e-6)
    small = simple(scores, deltas, variant="v2", area_range=[[0.0, 15.9]])
    np.testing.assert_allclose(small.scores[0], [0.6, 0.5, 0.4, -1, -1, -1], rtol=1e-6)


def pyramid(rng, batch, sizes, anchors=3):
    """Random maps of several levels: lists of scores, deltas, cell anchors and strides."""
    scores = [rng.uniform(0, 1, (batch, h, w, anchors)).astype(np.float32) for h, w in sizes]
    deltas = [rng.normal(0, 0.3, (batch, h, w, 4 * anchors)).astype(np.float32) for h, w in sizes]
    strides = [4 * 2**i for i in range(len(sizes))]
    return scores, deltas, [cell_anchors(s, [8], [0.5, 1, 2]) for s in strides], strides


def test_levels_in_one_call_equal_levels_merged():
    maps = pyramid(np.random.default_rng(1), 2, [(12, 16), (6, 8), (3, 4), (0, 2)])
    info, variants = np.float32([[48, 64, 1], [40, 60, 1.5]]), ["symbolic", "v1", "v3", "v3"]
    got = generate_proposals(*maps, info, 50, 30, 0.6, variant=variants)
    single = [
        generate_proposals(*level, info, 50, 30, 0.6, variant=variant) for *level, variant in zip(*maps, variants)
    ]
    expected = merge_levels(single, 30)
    np.testing.assert_array_equal(got.scores, expected.scores)
    np.testing.assert_array_equal(got.boxes, expected.boxes)
    assert np.all(np.diff(got.scores) <= 0)


@pytest.mark.parametrize("variant", ["v1", "v2", "v3", "symbolic"])
@pytest.mark.parametrize(
    ("batch", "height", "width", "anchors", "pre", "post"),
    [
        (0, 2, 3, 1, 6, 4),
        (2, 0, 3, 1, 6, 4),
        (2, 2, 0, 1, 6, 4),
        (2, 2, 3, 0, 6, 4),
        (2, 2, 3, 1, 0, 4),
        (1, 2, 3, 1, 99, 0),
    ],
)
def test_nothing_to_propose_gives_missing_rows(variant, batch, height, width, anchors, pre, post):
    scores = np.ones([batch, height, width, anchors], np.float32)
    deltas, cell = np.zeros([batch, height, width, 4 * anchors], np.float32), np.zeros([anchors, 4], np.float32)
    area_range = np.zeros([batch, 2], np.float32) if variant == "v2" else None
    info = np.full([batch, 3], 20, np.float32)
    result = generate_proposals(scores, deltas, cell, 16, info, pre, post, variant=variant, area_range=area_range)
    missing = -1 if variant == "symbolic" else 0
    np.testing.assert_array_equal(result.scores, np.full([batch, post], missing))
    np.testing.assert_array_equal(result.boxes, np.full([batch, post, 4], missing))


def test_an_unknown_variant_is_named():
    with pytest.raises(UserError, match="variant.*v9"):
        simple([0.5] * 6, variant="v9")


@pytest.mark.parametrize("options", [{"iou_threshold": 1.1}, {"iou_threshold": 0.0, "variant": "v3"}])
def test_a_threshold_out_of_range_is_refused(options):
    with pytest.raises(UserError, match="iou_threshold"):
        simple([0.5] * 6, **options)


def test_lists_of_different_lengths_are_refused():
    scores, deltas, cells, strides = pyramid(np.random.default_rng(0), 1, [(2, 2), (1, 1)])
    with pytest.raises(UserError, match="2 as in scores.*stride.*1"):
        generate_proposals(scores, deltas, cells, strides[:1], [[8.0, 8, 1]], 5, 5)
