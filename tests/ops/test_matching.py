"""Matching of boxes and ground truth: both implementations against each other's meaning, Detectron2 and plain numpy."""

import ctypes

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfdet.errors import UserError
from tfdet.ops import matching_portable
from tfdet.ops.matching import BoxMatches, match_best, match_boxes

# As custom_ops/BUILD compiles the kernels.
CONVENTIONS = {"legacy_plus_one": 1, "continuous": 0}
BOXES = np.array([[[0, 0, 9, 9], [0, 0, 9, 19], [50, 50, 59, 59], [80, 80, 89, 89]]], np.float32)


def reference(boxes, gt_boxes, gt_valid, gt_crowd, box_valid, convention) -> BoxMatches:
    """All pairs at once, in float32 and in the order of operations of SimpleDet's BBoxOverlap."""
    extra, smallest = np.float32(CONVENTIONS[convention]), np.finfo(np.float32).tiny
    images, slots = gt_valid.shape
    box_valid = np.broadcast_to(box_valid & np.isfinite(boxes).all(axis=-1), (images, boxes.shape[1]))
    gt_valid = gt_valid & np.isfinite(gt_boxes).all(axis=-1)
    a = np.where(np.isfinite(boxes), boxes, 0)[:, None]
    b = np.where(np.isfinite(gt_boxes), gt_boxes, 0)[:, :, None]

    def positive(x):
        return np.where(x > 0, x, np.float32(0))

    def area(x):
        return positive(x[..., 2] - x[..., 0] + extra) * positive(x[..., 3] - x[..., 1] + extra)

    with np.errstate(all="ignore"):
        width = positive(np.minimum(a[..., 2], b[..., 2]) - np.maximum(a[..., 0], b[..., 0]) + extra)
        height = positive(np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 1], b[..., 1]) + extra)
        intersection = width * height
        iou = intersection / (area(a) + area(b) - intersection)
        share = intersection / area(a)
    iou, share = (np.where(x >= smallest, x, np.float32(0)) for x in (iou, share))
    iou = np.where((gt_valid & ~gt_crowd)[:, :, None] & box_valid[:, None], iou, np.float32(-1))
    share = np.where((gt_valid & gt_crowd)[:, :, None] & box_valid[:, None], share, np.float32(0))
    iou = np.concatenate([np.full([images, 1, boxes.shape[1]], -1, np.float32), iou], axis=1)
    largest = iou.max(axis=2, initial=-1)
    tied = (iou == largest[:, :, None]) & (iou >= 0)
    nearest = np.where(tied, np.arange(-1, slots)[:, None], -1).max(axis=1).astype(np.int32)
    return BoxMatches(
        positive(iou.max(axis=1)),
        (iou.argmax(axis=1) - 1).astype(np.int32),
        nearest >= 0,
        nearest,
        positive(largest[:, 1:]),
        share.max(axis=1, initial=0),
    )


@st.composite
def scenes(draw):
    """Arguments of `match_boxes`: few whole-number coordinates, so that IoUs tie; broken and enormous ones; masks."""
    rng = np.random.default_rng(draw(st.integers(0, 2**31 - 1)))
    images = draw(st.integers(1, 3))
    num_boxes, slots = draw(st.sampled_from([0, 1, 7, 63, 64, 65, 700])), draw(st.sampled_from([0, 1, 2, 9, 40]))
    scale = draw(st.sampled_from([8, 300, 3e37]))
    broken = draw(st.sampled_from([0, 0.03]))
    whole = draw(st.booleans())

    def some_boxes(count, number):
        corner = rng.uniform(0, scale, (count, number, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(-0.1 * scale, 0.5 * scale, corner.shape)], axis=-1)
        boxes = np.round(boxes) if whole else boxes
        odd = rng.choice([np.nan, np.inf, -np.inf, 3.4e38, -3.4e38], boxes.shape)
        return np.where(rng.uniform(size=boxes.shape) < broken, odd, boxes).astype(np.float32)

    return (
        some_boxes(draw(st.sampled_from([1, images])), num_boxes),
        some_boxes(images, slots),
        rng.uniform(size=(images, slots)) < 0.8,
        rng.uniform(size=(images, slots)) < draw(st.sampled_from([0, 0.3])),
        rng.uniform(size=(draw(st.sampled_from([1, images])), num_boxes)) < draw(st.sampled_from([0.5, 1])),
        draw(st.sampled_from(sorted(CONVENTIONS))),
    )


def assert_same(found, expected):
    for name, a, b in zip(BoxMatches._fields, found, expected):
        a, b = np.asarray(a), np.asarray(b)
        assert a.dtype == b.dtype and a.shape == b.shape, name
        np.testing.assert_array_equal(a, b, err_msg=name)
        assert a.tobytes() == b.tobytes(), name  # no -0 either


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(scene=scenes(), pairs=st.sampled_from([1, 500, 2**20]))
def test_matches_equal_all_pairs_bit_for_bit(implementation, scene, pairs):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching_portable, "PAIRS_AT_ONCE", pairs)  # slices of one ground-truth box, of several, of all
        assert_same(match_boxes(*scene), reference(*scene))


def test_thousands_of_boxes_and_of_ground_truth(implementation):
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 1000, (1, 5000, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(4, 200, corner.shape)], axis=-1).astype(np.float32)
    scene = (boxes[:, :2000], boxes[:, 2000:], rng.uniform(size=(1, 3000)) < 0.9, np.zeros([1, 3000], bool))
    scene += (np.ones([1, 2000], bool), "legacy_plus_one")
    assert_same(match_boxes(*scene), reference(*scene))


def test_inside_a_graph_of_unknown_sizes(implementation):
    spec = [tf.TensorSpec(shape, dtype) for shape, dtype in (([None, None, 4], tf.float32), ([None, None], tf.bool))]
    graph = tf.function(
        lambda b, g, v, m: match_boxes(b, g, v, box_valid=m), [spec[0], spec[0], spec[1], spec[1]], autograph=False
    )
    gt = np.array([[[0, 0, 9, 4], [200, 200, 210, 210]], [[1, 1, 1, 1], [0, 0, 9, 19]]], np.float32)
    valid, mask = np.array([[True, True], [False, True]]), np.array([[True, True, False, True]])
    expected = reference(BOXES, gt, valid, np.zeros_like(valid), mask, "legacy_plus_one")
    assert_same(graph(BOXES, gt, valid, mask), expected)
    empty = graph(BOXES[:, :0], gt[:, :0], valid[:, :0], mask[:, :0])
    assert [t.shape.as_list() for t in empty] == [[2, 0]] * 6


def test_a_graph_rounds_as_eager_tensorflow_does(implementation, monkeypatch):
    """TensorFlow's graph optimizer moves constants through sums where it may, which changes last bits."""
    monkeypatch.setattr(matching_portable, "PAIRS_AT_ONCE", 2**17)
    rng = np.random.default_rng(0)
    anchors = np.stack(np.meshgrid(*[np.arange(-16, 240, 4)] * 2), axis=-1).reshape(1, -1, 2)
    anchors = np.concatenate([anchors, anchors + [47, 23]], axis=-1).astype(np.float32)
    corner = rng.uniform(0, 1, (1, 100, 2)) * [200, 4]  # near 0, where fractions have many bits
    gt = np.concatenate([corner, corner + rng.uniform(8, 90, corner.shape)], axis=-1).astype(np.float32)
    valid, mask = np.ones([1, 100], bool), np.ones(anchors.shape[:2], bool)
    crowd = rng.uniform(size=valid.shape) < 0.2
    graph = tf.function(lambda a, g: match_boxes(a, g, valid, crowd, mask), autograph=False)
    assert_same(
        graph(tf.constant(anchors), tf.constant(gt)), reference(anchors, gt, valid, crowd, mask, "legacy_plus_one")
    )


def test_best_match_ignores_padding_and_takes_the_first_of_equals(implementation):
    gt = np.array([[[-1, -1, -1, -1], [0, 0, 9, 9], [0, 0, 9, 9], [50, 50, 59, 54]]], np.float32)
    matches = match_best(BOXES, gt, np.array([[False, True, True, True]]))
    np.testing.assert_array_equal(matches.index, [[1, 1, 3, 1]])
    np.testing.assert_allclose(matches.iou, [[1, 0.5, 0.5, 0]])


def test_no_ground_truth_matches_nothing(implementation):
    for gt, valid in ((np.zeros([1, 0, 4]), np.zeros([1, 0], bool)), (BOXES, np.zeros([1, 4], bool))):
        matches = match_boxes(BOXES, gt.astype(np.float32), valid)
        nearest = matches.nearest
        np.testing.assert_array_equal(matches.index, [[-1] * 4])
        np.testing.assert_array_equal(matches.iou, [[0] * 4])
        assert not nearest.numpy().any()


def test_every_box_at_a_column_maximum_is_nearest(implementation):
    gt = np.array([[[0, 0, 9, 4], [200, 200, 210, 210]]], np.float32)
    one = match_boxes(BOXES, gt[:, :1], np.array([[True]])).nearest
    np.testing.assert_array_equal(one, [[True, False, False, False]])
    quirk = match_boxes(BOXES, gt, np.array([[True, True]])).nearest  # nothing overlaps the second
    assert quirk.numpy().all()


def test_of_several_ground_truth_boxes_the_last_names_the_nearest(implementation):
    """As in SimpleDet's RetinaNet, whose assignment by a list of pairs keeps the last."""
    gt = np.array([[[300, 300, 310, 310], [0, 0, 9, 9], [0, 0, 9, 9], [50, 50, 59, 54]]], np.float32)
    matches = match_boxes(BOXES, gt, np.ones([1, 4], bool))
    # The first box overlaps nothing, so all boxes are nearest to it, and some to another as well.
    np.testing.assert_array_equal(matches.nearest_index, [[2, 0, 3, 0]])
    np.testing.assert_array_equal(matches.index, [[1, 1, 3, 0]])
    np.testing.assert_allclose(matches.gt_iou, [[0, 1, 1, 0.5]])


def test_crowds_are_measured_by_the_boxs_own_area_and_match_nothing(implementation):
    gt = np.array([[[0, 0, 99, 14], [50, 50, 54, 59], [0, 0, 9, 9]]], np.float32)
    matches = match_boxes(BOXES, gt, np.ones([1, 3], bool), np.array([[True, True, False]]))
    np.testing.assert_array_equal(matches.crowd_overlap, [[1, 0.75, 0.5, 0]])
    np.testing.assert_array_equal(matches.index, [[2] * 4])
    np.testing.assert_array_equal(matches.gt_iou, [[0, 0, 1]])


def test_boxes_that_take_no_part_neither_are_nor_hide_the_nearest(implementation):
    gt = np.array([[[0, 0, 9, 9], [np.nan, 0, 9, 9]]], np.float32)
    boxes = np.concatenate([BOXES, [[[0, 0, np.inf, 9]]]], axis=1)
    valid = np.array([[False, True, True, True, True]])
    matches = match_boxes(boxes, gt, np.ones([1, 2], bool), box_valid=valid)
    np.testing.assert_array_equal(matches.nearest, [[False, True, False, False, False]])
    np.testing.assert_array_equal(matches.index, [[-1, 0, 0, 0, -1]])
    np.testing.assert_array_equal(matches.iou, [[0, 0.5, 0, 0, 0]])


# Thresholds (background below, foreground from), and whether the nearest is foreground at any IoU.
DETECTRON2 = {
    "rpn": (0.3, 0.7, True),
    "retina": (0.4, 0.5, True),
    "roi": (0.5, 0.5, False),
    "cas6": (0.6, 0.6, False),
    "cas7": (0.7, 0.7, False),
}


@pytest.mark.parametrize("name", DETECTRON2)
def test_labels_equal_detectron2s_matcher(implementation, golden, name):
    z = golden("d2_matcher")
    low, high, nearest_is_foreground = DETECTRON2[name]
    matches = match_boxes(z["anchors"][None], z["gt"][None], np.ones([1, 12], bool), convention="continuous")
    iou = matches.iou[0].numpy()
    np.testing.assert_allclose(iou, z["iou"].max(axis=0), rtol=1e-6)
    labels = np.where(iou < low, 0, np.where(iou >= high, 1, -1))
    if nearest_is_foreground:
        labels = np.where(matches.nearest[0], 1, labels)
    np.testing.assert_array_equal(labels, z[f"{name}_lab"])
    np.testing.assert_array_equal(matches.index[0], z[f"{name}_idx"])
    assert len(np.unique(z[f"{name}_lab"])) == (3 if low < high else 2)


def test_no_ground_truth_is_background_as_in_detectron2(implementation, golden):
    z = golden("d2_matcher")
    matches = match_boxes(z["anchors"][None], np.zeros([1, 0, 4], np.float32), np.zeros([1, 0], bool))
    np.testing.assert_array_equal(matches.iou[0] >= 0.3, z["empty_gt_lab"])
    assert not matches.nearest.numpy().any() and (matches.index.numpy() == -1).all()


def test_no_gradient_flows(implementation):
    boxes = tf.constant(BOXES)
    with tf.GradientTape() as tape:
        tape.watch(boxes)
        total = tf.reduce_sum(match_boxes(boxes, BOXES[:, :2], np.ones([1, 2], bool)).iou)
    assert tape.gradient(total, boxes) is None


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("boxes", {"boxes": np.zeros([1, 4, 5])}),
        ("boxes", {"boxes": np.zeros([3, 4, 4]), "box_valid": np.ones([1, 4], bool)}),
        ("box_valid", {"box_valid": np.ones([1, 3], bool)}),
        ("gt_boxes", {"gt_boxes": np.zeros([2, 4])}),
        ("gt_valid", {"gt_valid": np.ones([2, 4], bool)}),
        ("gt_crowd", {"gt_crowd": np.ones([1, 3], bool)}),
    ],
)
def test_shapes_that_do_not_belong_together_are_named(implementation, name, change):
    arguments = {
        "boxes": BOXES,
        "gt_boxes": np.zeros([2, 3, 4], np.float32),
        "gt_valid": np.ones([2, 3], bool),
    } | change
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"MatchBoxes: {name} "):
        match_boxes(**arguments)


def test_an_unknown_convention_is_named(implementation):
    with pytest.raises(UserError, match="legacy_plus_one.*'inclusive'"):
        match_boxes(BOXES, BOXES, np.ones([1, 4], bool), convention="inclusive")


def call_plain(library, threads, boxes, gt_boxes, gt_valid, gt_crowd, box_valid, convention) -> BoxMatches:
    images, slots = gt_valid.shape
    per_box = [images, boxes.shape[1]]
    iou, overlap, gt_iou = (
        np.empty(per_box, np.float32),
        np.empty(per_box, np.float32),
        np.empty([images, slots], np.float32),
    )
    index, nearest = np.empty(per_box, np.int32), np.empty(per_box, np.int32)
    sizes = (images, boxes.shape[1], slots, boxes.shape[0], box_valid.shape[0])
    arrays = (boxes, box_valid, gt_boxes, gt_valid, gt_crowd, iou, index, nearest, gt_iou, overlap)
    library.tfdet_match_boxes_cpu(
        *map(ctypes.c_int64, sizes),
        ctypes.c_float(CONVENTIONS[convention]),
        1,
        *(ctypes.c_void_p(np.ascontiguousarray(a).ctypes.data) for a in arrays),
        threads,
    )
    return BoxMatches(iou, index, nearest >= 0, nearest, gt_iou, overlap)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(scene=scenes())
def test_any_number_of_threads_gives_the_same_bits(kernels, scene):
    expected = reference(*scene)
    for threads in (1, 2, 5):
        assert_same(call_plain(kernels, threads, *scene), expected)


def test_hundreds_of_thousands_of_boxes_give_the_same_bits_on_any_number_of_threads(kernels):
    rng = np.random.default_rng(1)
    corner = rng.uniform(0, 2000, (1, 200_000, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(4, 60, corner.shape)], axis=-1).astype(np.float32)
    scene = (
        boxes,
        boxes[:, ::100] + 1,
        np.ones([1, 2000], bool),
        np.zeros([1, 2000], bool),
        np.ones(boxes.shape[:2], bool),
    )
    one, two = (call_plain(kernels, threads, *scene, "continuous") for threads in (1, 2))
    assert_same(two, one)
    sample = rng.integers(0, 200_000, 300)
    part = reference(boxes[:, sample], *scene[1:4], scene[4][:, sample], "continuous")
    np.testing.assert_array_equal(one.iou[:, sample], part.iou)
    np.testing.assert_array_equal(one.index[:, sample], part.index)
    assert 0 < one.nearest.sum() < 4000
