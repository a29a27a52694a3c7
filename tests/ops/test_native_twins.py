"""NMS and proposals: the custom ops give exactly what TensorFlow's own ops give, and refuse what does not fit."""

import ctypes

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfdet.ops import native
from tfdet.ops.nms import METHODS, multiclass_nms, nms
from tfdet.ops.proposals import VARIANTS, generate_proposals

CONVENTIONS = ["legacy_plus_one", "continuous"]
STRANGE = np.float32([np.nan, np.inf, -np.inf, 3e38, -3e38, 1e19, 0, -0.0])


def both(function, *arguments, **options):
    """The results of a function with TensorFlow's own ops and with the custom ones, as arrays."""
    results = []
    for name in ("python", "native"):
        with native.implementation(name):
            results.append([np.asarray(t) for t in function(*arguments, **options)])
    return results


def random_boxes(rng, *shape, size=60):
    corner = rng.uniform(0, size, (*shape, 2))
    return np.concatenate([corner, corner + rng.uniform(-2, size / 2, (*shape, 2))], axis=-1).astype(np.float32)


def with_strange_values(rng, array, share=0.03):
    array = array.copy()
    where = rng.random(array.shape) < share
    array[where] = rng.choice(STRANGE, where.sum())
    return array


seeds = st.integers(0, 2**31 - 1)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seeds, st.integers(0, 90), st.integers(0, 70), st.booleans(), st.booleans(), st.sampled_from(CONVENTIONS))
def test_nms_is_the_same(custom_ops, seed, count, kept, inclusive, strange, convention):
    rng = np.random.default_rng(seed)
    boxes, scores = random_boxes(rng, 2, count), rng.normal(size=(2, count)).astype(np.float32).round(1)
    if strange:
        boxes, scores = with_strange_values(rng, boxes), with_strange_values(rng, scores)
    for a, b in zip(*both(nms, boxes, scores, rng.uniform(0.01, 0.99), kept, inclusive, convention)):
        np.testing.assert_array_equal(a, b)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    seeds,
    st.integers(0, 40),
    st.integers(0, 4),
    st.booleans(),
    st.booleans(),
    st.sampled_from(METHODS),
    st.sampled_from(CONVENTIONS),
)
def test_multiclass_nms_is_the_same(custom_ops, seed, count, classes, shared_boxes, strange, method, convention):
    rng = np.random.default_rng(seed)
    boxes = random_boxes(rng, 2, count, 1 if shared_boxes else classes)
    scores = rng.uniform(0, 1, (2, count, classes)).astype(np.float32).round(2)
    if strange:
        boxes, scores = with_strange_values(rng, boxes), with_strange_values(rng, scores)
    options = {"convention": convention, "method": method}
    python, custom = both(multiclass_nms, boxes, scores, 0.3, rng.uniform(0.05, 0.9), 20, **options)
    assert python.pop().item() is None and custom.pop().item() is None  # no masks
    for a, b in zip(python, custom):
        if method == "gaussian":  # the exponential differs in its last bit
            np.testing.assert_allclose(a, b, rtol=1e-5)
        else:
            np.testing.assert_array_equal(a, b)


def test_nms_of_many_boxes_is_the_same(custom_ops):
    rng = np.random.default_rng(0)
    boxes, scores = random_boxes(rng, 2, 5000, size=600), rng.uniform(0, 1, (2, 5000)).astype(np.float32)
    for a, b in zip(*both(nms, boxes, scores, 0.5, 1500)):
        np.testing.assert_array_equal(a, b)


def maps(rng, batch, sizes, anchors, channels, growth):
    """Scores, deltas, cell anchors and strides of several levels; growth is the deviation of dw and dh."""
    scores = [rng.uniform(0, 1, (batch, h, w, channels)).astype(np.float32).round(2) for h, w in sizes]
    deltas = [rng.normal(size=(batch, h, w, anchors, 4)) * [0.4, 0.4, growth, growth] for h, w in sizes]
    deltas = [d.astype(np.float32).reshape(*d.shape[:3], 4 * anchors) for d in deltas]
    strides = [4 * 2**i for i in range(len(sizes))]
    return scores, deltas, [random_boxes(rng, anchors, size=2 * s) - np.float32(s) for s in strides], strides


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    seeds,
    st.integers(1, 2),
    st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7), st.sampled_from(VARIANTS)), min_size=1, max_size=4),
    st.integers(0, 3),
    st.sampled_from([0.0, 3.0, 12.0]),
    st.booleans(),
)
def test_proposals_are_the_same(custom_ops, seed, batch, levels, anchors, min_size, strange):
    rng = np.random.default_rng(seed)
    variants = [variant for *_, variant in levels]
    # Without growth no exponential is in play, and everything is exact.
    scores, deltas, cells, strides = maps(rng, batch, [size for *size, _ in levels], anchors, anchors, 0.0)
    if strange:
        scores, deltas = ([with_strange_values(rng, t) for t in tensors] for tensors in (scores, deltas))
    info = rng.uniform([8, 8, 0.5], [50, 50, 2], (batch, 3)).astype(np.float32)
    area_range = np.sort(rng.uniform(0, 40, (batch, 2)).astype(np.float32)) if "v2" in variants else None
    options = {"min_size": min_size, "variant": variants, "area_range": area_range}
    pre, post = int(rng.integers(0, 150)), int(rng.integers(1, 60))
    python, custom = both(generate_proposals, scores, deltas, cells, strides, info, pre, post, 0.6, **options)
    for a, b in zip(python, custom):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("variant", VARIANTS)
def test_proposals_of_logits_are_the_same_but_for_the_last_bits(custom_ops, variant):
    rng = np.random.default_rng(2)
    logits, *others = maps(rng, 2, [(24, 32), (12, 16), (6, 8)], 3, 6, 0.3)
    # Well apart, so that no last bit changes the order.
    distinct = iter(rng.permutation(np.linspace(-3, 3, sum(t.size for t in logits))).astype(np.float32))
    for level in logits:
        level[..., :3], level[..., 3:] = (
            0,
            np.reshape([next(distinct) for _ in range(level.size // 2)], [*level.shape[:3], 3]),
        )
    info, area_range = np.float32([[90, 128, 1.2], [80, 100, 0.7]]), np.float32([[0, 60], [10, 100]])
    options = {"variant": variant, "from_logits": True, "area_range": area_range if variant == "v2" else None}
    python, custom = both(generate_proposals, logits, *others, info, 600, 200, 0.7, **options)
    np.testing.assert_allclose(python[1], custom[1], atol=1e-6)
    np.testing.assert_allclose(python[0], custom[0], atol=1e-3)
    assert (custom[1] > 0).sum() > 200


def call_nms(custom_ops, boxes=(2, 3, 1, 4), scores=(2, 3, 5), **options):
    options = {"max_detections": 3, "iou_threshold": 0.5, "score_threshold": 0.1, **options}
    return custom_ops.tfdet_batched_nms(tf.zeros(boxes), tf.zeros(scores), **options)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"boxes": [2, 3, 4]}, "boxes must be"),
        ({"boxes": [2, 3, 1, 5]}, "boxes must be"),
        ({"scores": [2, 3]}, "scores must be"),
        ({"boxes": [1, 3, 1, 4]}, "boxes .*do not fit scores"),
        ({"boxes": [2, 4, 1, 4]}, "boxes .*do not fit scores"),
        ({"boxes": [2, 3, 2, 4]}, "boxes .*do not fit scores"),
        ({"iou_threshold": 1.5}, "iou_threshold"),
        ({"iou_threshold": float("nan")}, "iou_threshold"),
        ({"iou_threshold": 0.0, "inclusive": True}, "iou_threshold"),
        ({"sigma": -1.0}, "sigma"),
        ({"method": "other"}, "method"),
        ({"max_detections": -1}, "max_detections"),
    ],
)
def test_what_does_not_fit_the_nms_op_is_named(custom_ops, options, named):
    with pytest.raises(tf.errors.InvalidArgumentError, match=named):
        call_nms(custom_ops, **options)


PROPOSAL_INPUTS = {
    "scores": [(2, 3, 4, 2)],
    "deltas": [(2, 3, 4, 8)],
    "cell_anchors": [(2, 4)],
    "image_info": (2, 3),
    "area_range": (0, 2),
}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"scores": [(2, 3, 4)]}, r"scores\[0\]"),
        ({"scores": [(1, 3, 4, 2)]}, r"scores\[0\]"),
        ({"from_logits": True}, r"scores\[0\]"),
        ({"deltas": [(2, 3, 5, 8)]}, r"deltas\[0\]"),
        ({"deltas": [(2, 3, 4, 2)]}, r"deltas\[0\]"),
        ({"cell_anchors": [(2, 3)]}, r"cell_anchors\[0\]"),
        ({"image_info": (3,)}, "image_info"),
        ({"image_info": (2, 2)}, "image_info"),
        ({"area_range": (1, 2)}, "area_range"),
        ({"area_range": (2,)}, "area_range"),
        ({"strides": [16, 32]}, "strides"),
        ({"strides": [0]}, "strides"),
        ({"variants": ["v4"]}, "variants"),
        ({"variants": []}, "variants"),
        ({"iou_threshold": -0.5}, "iou_threshold"),
        ({"min_size": float("inf")}, "min_size"),
        ({"pre_nms_top_n": -1}, "pre_nms_top_n"),
    ],
)
def test_what_does_not_fit_the_proposal_op_is_named(custom_ops, options, named):
    attributes = {"strides": [16], "variants": ["v1"], "pre_nms_top_n": 5, "post_nms_top_n": 5}
    attributes |= {name: value for name, value in options.items() if name not in PROPOSAL_INPUTS}
    shapes = {name: options.get(name, shape) for name, shape in PROPOSAL_INPUTS.items()}
    inputs = [[tf.zeros(s) for s in shape] if isinstance(shape, list) else tf.zeros(shape) for shape in shapes.values()]
    with pytest.raises(tf.errors.InvalidArgumentError, match=named):
        custom_ops.tfdet_generate_proposals(*inputs, **attributes)


def test_detections_are_placed_where_the_detector_runs(custom_ops):
    def graph_of(name):
        with native.implementation(name):
            traced = tf.function(lambda b, s: multiclass_nms(b, s, 0.1, 0.5, 4), autograph=False).get_concrete_function(
                tf.TensorSpec([1, 5, 1, 4]), tf.TensorSpec([1, 5, 2])
            )
        return {node.op: node.device for node in traced.graph.as_graph_def().node}

    assert graph_of("native")["TfdetBatchedNms"] == ""
    assert "TfdetBatchedNms" not in graph_of("python")


def at(array):
    return array.ctypes.data_as(ctypes.c_void_p)


@pytest.mark.parametrize("method", [0, 1, 2])
@pytest.mark.parametrize(("count", "classes"), [(300, 7), (6000, 1)])
def test_nms_is_the_same_with_any_number_of_threads(kernels, count, classes, method):
    rng = np.random.default_rng(0)
    boxes = random_boxes(rng, 2, count, 1, size=500)
    scores = rng.uniform(0, 1, (2, count, classes)).astype(np.float32).round(3)
    results = []
    for threads in (1, 2, 5):
        out = [np.empty([2, 400, 4], np.float32), np.empty([2, 400], np.float32)]
        out += [np.empty(shape, np.int32) for shape in ([2, 400], [2, 400], [2])]
        sizes = map(ctypes.c_int64, (2, count, classes, 1))
        options = (ctypes.c_float(0.5), 0, ctypes.c_float(0.01), ctypes.c_float(1), method, ctypes.c_float(0.5))
        arguments = (*sizes, *options, ctypes.c_int64(400), at(boxes), at(scores), *map(at, out), threads)
        assert kernels.tfdet_batched_nms_cpu(*arguments) == 0
        results.append([a.tobytes() for a in out])
        assert out[4].min() > 100 and out[0].any()
    assert results[0] == results[1] == results[2]


def test_proposals_are_the_same_with_any_number_of_threads(kernels):
    scores, deltas, cells, strides = maps(np.random.default_rng(0), 2, [(40, 60), (20, 30), (10, 15)], 3, 6, 0.3)
    cells = [np.ascontiguousarray(c, np.float32) for c in cells]
    info, sizes = np.float32([[150, 230, 1], [120, 240, 2]]), [40, 60, 3, 20, 30, 3, 10, 15, 3]
    results = []
    for threads in (1, 2, 5):
        out = np.empty([2, 500, 4], np.float32), np.empty([2, 500], np.float32)
        pointers = [(ctypes.c_void_p * 3)(*[t.ctypes.data for t in tensors]) for tensors in (scores, deltas, cells)]
        shape = (ctypes.c_int64 * 9)(*sizes), (ctypes.c_float * 3)(*strides), (ctypes.c_int * 3)(3, 0, 2)
        options = (1, ctypes.c_int64(5000), ctypes.c_int64(500), ctypes.c_float(0.7), ctypes.c_float(0))
        arguments = (ctypes.c_int64(2), 3, *pointers, *shape, *options, at(info), None, *map(at, out), threads)
        assert kernels.tfdet_generate_proposals_cpu(*arguments) == 0
        results.append([a.tobytes() for a in out])
        assert np.all(np.diff(out[1]) <= 0) and out[0].any()
    assert results[0] == results[1] == results[2]
    assert kernels.tfdet_generate_proposals_cpu(ctypes.c_int64(2), 0, *arguments[2:]) == -1
