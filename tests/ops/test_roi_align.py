"""RoIAlign against SimpleDet, a plain transcription of its loops, Detectron and finite differences."""

import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfdet.errors import UserError
from tfdet.ops.roi_align import assign_levels, roi_align
from tfdet.ops.roi_sampling import max_samples

F32 = np.float32
STRIDES = (4, 8, 16, 32)


def nhwc(maps):
    return maps.transpose(0, 2, 3, 1)


def nchw(pooled):
    return np.asarray(pooled).transpose(0, 1, 4, 2, 3)


def one_level(features, boxes, stride, bins, **options):
    return roi_align([features], boxes, tf.zeros(tf.shape(boxes)[:2], tf.int32), [stride], bins, **options)


def reference_positions(begin, end, scale, size, bins):
    """The sampling loop of one axis in the arithmetic of the original: float32 values, float64 comparison."""
    begin, end = F32(begin) * F32(scale), F32(end) * F32(scale)
    length = F32((end - begin) / F32(bins))
    result = []
    for p in range(bins):
        low = min(max(F32(F32(p) * length + begin), F32(0)), F32(size - 1))
        high = min(max(F32(F32(p + 1) * length + begin), F32(0)), F32(size - 1))
        step, found = F32(float(high - low) / 3.0), []
        position = F32(low + step)
        while high > low and float(position) <= float(F32(high - step)) + 0.01:
            found.append(position)
            position = F32(position + max(step, F32(0.01)))
        result.append(found)
    return result


def reference_value(plane, y, x):
    height, width = plane.shape
    top, bottom = (min(max(int(f(y)), 0), height - 1) for f in (math.floor, math.ceil))
    left, right = (min(max(int(f(x)), 0), width - 1) for f in (math.floor, math.ceil))
    a = F32(0.5) if top == bottom else F32(y - F32(top))
    b = F32(0.5) if left == right else F32(x - F32(left))
    one = F32(1)
    value = (one - a) * (one - b) * plane[top, left] + a * (one - b) * plane[bottom, left]
    return value + (one - a) * b * plane[top, right] + a * b * plane[bottom, right]


def reference_roi_align(plane, box, scale, bins):
    ys = reference_positions(box[1], box[3], scale, plane.shape[0], bins)
    xs = reference_positions(box[0], box[2], scale, plane.shape[1], bins)
    out = np.zeros([bins, bins], F32)
    for i in range(bins):
        for j in range(bins):
            out[i, j] = max((reference_value(plane, y, x) for y in ys[i] for x in xs[j]), default=0)
    return out


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "graph"])
@pytest.mark.parametrize("name", ["7x7", "14x14"])
def test_equals_simpledet(golden, implementation, name, compiled):
    z = golden(f"roi_align_v2_{name}")
    features, bins = tf.constant(nhwc(z["data"])), z["out"].shape[-1]

    def forward_and_gradient(features, boxes, upstream):
        with tf.GradientTape() as tape:
            tape.watch(features)
            pooled = one_level(features, boxes, 16, bins)
        return pooled, tape.gradient(pooled, features, upstream)

    run = tf.function(forward_and_gradient, autograph=False) if compiled else forward_and_gradient
    pooled, gradient = run(features, tf.constant(z["rois"]), tf.constant(z["top_grad"].transpose(0, 1, 3, 4, 2)))
    np.testing.assert_array_equal(nchw(pooled), z["out"])
    np.testing.assert_allclose(gradient.numpy().transpose(0, 3, 1, 2), z["grad_data_gpu"], atol=1e-5)


def test_samples_are_where_simpledet_found_its_maxima(golden):
    z = golden("roi_align_v2_7x7")
    shape = z["rois"].shape[:2]
    samples = max_samples(
        z["rois"][..., 0], z["rois"][..., 2], tf.fill(shape, 1 / 16), tf.fill(shape, z["data"].shape[-1]), 7
    )
    low, high, weight, valid = (t.numpy() for t in samples)
    position = np.where(valid, low + np.where(low == high, 0, weight), -9)
    won = z["maxidx_x"][..., None]  # [B, R, C, P, P, 1]; -1 where the bin is empty
    near = np.abs(won - position[:, :, None, None, :, :]).min(axis=-1)
    assert (won >= 0).any()
    np.testing.assert_allclose(near[won[..., 0] >= 0], 0, atol=1e-5)


@pytest.mark.parametrize("rule", ["thresholds", "log2"])
def test_levels_and_their_features_equal_simpledet(golden, implementation, rule):
    z = golden("fpn_roi_align")
    levels = assign_levels(z["rois"], STRIDES, rule=rule)
    for index, stride in enumerate(STRIDES):
        own = np.where((levels.numpy() == index)[..., None], z["rois"], 0)
        np.testing.assert_array_equal(own, z[f"rois_stride{stride}"])
    pooled = roi_align([nhwc(z[f"feat_stride{s}"]) for s in STRIDES], z["rois"], levels, STRIDES, 7)
    np.testing.assert_array_equal(nchw(pooled), z["align_sum"])


VECTORS = [
    ([16, 16, 112, 80], [26.3333, 29.3333, 46.3333, 49.3333], [1.0, 2.3333, 1.0, 2.3333]),
    ([0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]),
    ([100, 90, 159, 127], [71.4375, 72.6562, 76.75, 77.9688], [0.1428, 1.4484, 5.0983, 3.6391]),
    ([5, 7, 6, 8], [4.9167, 4.9479, 5.2292, 5.2604], [0.0033, -0.0052, 0.0013, -0.0013]),
]


def test_vectors(implementation):
    row, column = np.mgrid[:8, :10]
    maps = np.stack([10 * row + column, (-1.0) ** (row + column) * (1 + column)], axis=-1).astype(F32)
    boxes = np.array([[v[0] for v in VECTORS]], F32)
    pooled = one_level(maps[None], boxes, 16, 2).numpy()[0].reshape(len(VECTORS), 4, 2)
    np.testing.assert_allclose(pooled[..., 0], [v[1] for v in VECTORS], atol=6e-5)
    np.testing.assert_allclose(pooled[..., 1], [v[2] for v in VECTORS], atol=6e-5)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**31 - 1), kind=st.sampled_from(["usual", "tiny", "edge"]))
def test_equals_the_plain_loops(implementation, seed, kind):
    """`edge`: the step between samples is 0.01 of a pixel to within a few bits, where a third sample appears."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(1, 9, 12, 2)).astype(F32)
    corner = rng.uniform(-8, 70, (1, 6, 2)).astype(F32)
    if kind == "usual":
        span = rng.uniform(-5, 60, (1, 6, 2))
    elif kind == "tiny":
        span = 10.0 ** rng.uniform(-5, 0, (1, 6, 2))
    else:
        span = np.full((1, 6, 2), 0.03 * 2 * 8) * (1 + rng.integers(-6, 7, (1, 6, 2)) * 2.0**-22)
    boxes = np.concatenate([corner, corner + span], axis=-1).astype(F32)
    pooled = one_level(features, boxes, 8, 2).numpy()[0]
    for r in range(6):
        for c in range(2):
            np.testing.assert_array_equal(
                pooled[r, ..., c], reference_roi_align(features[0, ..., c], boxes[0, r], 0.125, 2)
            )


def test_a_third_sample_is_taken_where_simpledet_takes_it(implementation):
    rng = np.random.default_rng(5)
    begin = rng.uniform(0, 60, 20000).astype(F32)
    end = (begin + F32(0.03 * 8)).astype(F32)
    samples = max_samples(begin[None], end[None], tf.fill([1, 20000], 0.125), tf.fill([1, 20000], 12), 1)
    count = samples.valid.numpy()[0, :, 0].sum(axis=-1)
    expected = [len(reference_positions(b, e, 0.125, 12, 1)[0]) for b, e in zip(begin[:2000], end[:2000])]
    np.testing.assert_array_equal(count[:2000], expected)
    assert 3 in expected and 2 in expected

    three = int(np.flatnonzero(count == 3)[0])
    ramp = np.broadcast_to(np.arange(12, dtype=F32)[:, None], (1, 12, 12, 1)).astype(F32)
    box = np.array([begin[three], begin[three], end[three], end[three]], F32)
    np.testing.assert_array_equal(
        one_level(ramp, box[None, None], 8, 1).numpy().ravel(), reference_roi_align(ramp[0, ..., 0], box, 0.125, 1)[0]
    )


@pytest.mark.parametrize("mode", ["max", "average"])
def test_gradient_equals_finite_differences(implementation, mode):
    rng = np.random.default_rng(1)
    # Whole numbers: samples differ by much more than the bump, but for rare ties.
    features = [rng.permutation(2 * 6 * 7).reshape(2, 6, 7, 1), rng.permutation(2 * 3 * 4).reshape(2, 3, 4, 1)]
    features = [tf.constant(f, tf.float32) for f in features]
    boxes = tf.constant(
        [[[3, 5, 40, 30], [0, 0, 47, 47], [20, 1, 33, 46]], [[1, 2, 50, 39], [9, 9, 9.5, 9.5], [0] * 4]]
    )
    boxes = tf.cast(boxes, tf.float32)
    levels = tf.constant([[0, 1, 0], [1, 0, 1]])
    weights = tf.constant(rng.normal(size=(2, 3, 2, 2, 1)), tf.float32)

    def objective(*features):
        return tf.reduce_sum(weights * roi_align(list(features), boxes, levels, (8, 16), 2, mode=mode))

    with tf.GradientTape() as tape:
        tape.watch(features)
        value = objective(*features)
    gradients = tape.gradient(value, features)
    for index, gradient in enumerate(gradients):
        for where in rng.choice(gradient.numpy().size, 8, replace=False):
            bump = np.zeros(gradient.numpy().size, F32)
            bump[where] = 0.05
            bump = tf.reshape(tf.constant(bump), features[index].shape)
            plus = objective(*[f + bump if i == index else f for i, f in enumerate(features)])
            minus = objective(*[f - bump if i == index else f for i, f in enumerate(features)])
            np.testing.assert_allclose((plus - minus) / 0.1, gradient.numpy().ravel()[where], atol=5e-3)


def test_on_ties_the_first_sample_gets_the_gradient(implementation):
    features = tf.ones([1, 8, 8, 1])
    box = tf.constant([[[0.0, 0.0, 6.0, 6.0]]])
    with tf.GradientTape() as tape:
        tape.watch(features)
        pooled = one_level(features, box, 1, 1)
    gradient = tape.gradient(pooled, features).numpy()[0, ..., 0]
    assert gradient[2, 2] == 1.0 and gradient.sum() == 1.0  # samples at 2 and 4: the first of four is (2, 2)


def test_no_rois_and_boxes_that_are_no_numbers(implementation):
    features = tf.random.normal([2, 5, 5, 3])
    with tf.GradientTape() as tape:
        tape.watch(features)
        empty = one_level(features, tf.zeros([2, 0, 4]), 16, 7)
    assert empty.shape == (2, 0, 7, 7, 3)
    np.testing.assert_array_equal(tape.gradient(empty, features), np.zeros([2, 5, 5, 3]))
    odd = [[np.nan, 0, 50, 50], [0, np.inf, 50, 50], [0, 0, 50, np.inf], [-np.inf, 0, np.inf, 50]]
    boxes = tf.constant([[*odd, [30, 30, 10, 10]]] * 2, tf.float32)
    np.testing.assert_array_equal(one_level(features, boxes, 16, 2), np.zeros([2, 5, 2, 2, 3]))
    for options in ({}, {"aligned": True}, {"sampling_ratio": 0}):
        pooled = one_level(features, tf.constant([odd] * 2, tf.float32), 16, 2, mode="average", **options)
        np.testing.assert_array_equal(pooled, np.zeros([2, 4, 2, 2, 3]))
        too_wide = one_level(features, tf.fill([2, 1, 4], 3e38) * [-1, 0, 1, 1e-38], 1, 2, mode="average", **options)
        np.testing.assert_array_equal(too_wide, np.zeros([2, 1, 2, 2, 3]))


@pytest.mark.parametrize("mode", ["max", "average"])
def test_maps_without_pixels_give_zeros(implementation, mode):
    features = [tf.ones([1, 4, 4, 2]), tf.zeros([1, 0, 3, 2]), tf.zeros([1, 2, 0, 2])]
    boxes = tf.constant([[[0.0, 0.0, 30.0, 30.0]] * 3])
    with tf.GradientTape() as tape:
        tape.watch(features)
        pooled = roi_align(features, boxes, [[0, 1, 2]], (8, 16, 32), 2, mode=mode)
    np.testing.assert_array_equal(pooled, [[np.ones([2, 2, 2]), *np.zeros([2, 2, 2, 2])]])
    gradients = tape.gradient(pooled, features)
    assert [g.shape for g in gradients] == [f.shape for f in features]
    np.testing.assert_allclose(tf.reduce_sum(gradients[0]), 8)


@pytest.mark.parametrize("mode", ["max", "average"])
def test_maps_without_channels(implementation, mode):
    features = tf.zeros([1, 4, 4, 0])
    with tf.GradientTape() as tape:
        tape.watch(features)
        pooled = one_level(features, tf.constant([[[0.0, 0.0, 30.0, 30.0]]]), 8, 3, mode=mode)
    assert pooled.shape == (1, 1, 3, 3, 0)
    if implementation == "native":  # TensorFlow scatters no rows without channels
        assert tape.gradient(pooled, features).shape == features.shape


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("mode", ["max", "average"])
def test_other_precisions_are_pooled_in_float32_and_rounded(implementation, mode, dtype):
    rng = np.random.default_rng(4)
    features = tf.cast(rng.normal(size=(1, 8, 8, 19)), dtype)
    boxes = tf.constant([[[3.0, 9.0, 100.0, 90.0], [-20.0, 40.0, 200.0, 80.0], [5.0, 7.0, 6.0, 9.0]]])
    upstream = tf.cast(rng.normal(size=(1, 3, 2, 2, 19)), dtype)

    def pooled_and_gradient(features, upstream):
        with tf.GradientTape() as tape:
            tape.watch(features)
            pooled = one_level(features, boxes, 16, 2, mode=mode)
        return pooled, tape.gradient(pooled, features, upstream)

    pooled, gradient = pooled_and_gradient(features, upstream)
    assert pooled.dtype == gradient.dtype == dtype
    exact, exact_gradient = pooled_and_gradient(tf.cast(features, tf.float32), tf.cast(upstream, tf.float32))
    np.testing.assert_array_equal(pooled, tf.cast(exact, dtype))
    np.testing.assert_array_equal(gradient, tf.cast(exact_gradient, dtype))


def test_level_borders():
    side = np.array([111.9, 112, 223.9, 224, 447.9, 448, 5000, 0.5], F32)
    boxes = np.stack([0 * side, 0 * side, side - 1, side - 1], axis=-1)
    np.testing.assert_array_equal(assign_levels(boxes, STRIDES), [0, 1, 1, 2, 2, 3, 3, 0])
    np.testing.assert_array_equal(assign_levels(boxes, STRIDES, rule="log2"), [0, 1, 1, 2, 2, 3, 3, 0])
    np.testing.assert_array_equal(assign_levels(np.full([1, 4], np.nan, F32), STRIDES), [0])


def test_bad_arguments_are_named(implementation):
    features, boxes, levels = tf.zeros([1, 4, 4, 1]), tf.zeros([1, 1, 4]), tf.zeros([1, 1], tf.int32)
    with pytest.raises(UserError, match="one stride a feature map.*1 features"):
        roi_align([features], boxes, levels, (4, 8), 7)
    with pytest.raises(UserError, match="mode.*median"):
        roi_align([features], boxes, levels, (4,), 7, mode="median")
    with pytest.raises(UserError, match="one float dtype.*float32.*float16"):
        roi_align([features, tf.cast(features, tf.float16)], boxes, levels, (4, 8), 7)
    with pytest.raises(UserError, match="one float dtype.*int32"):
        roi_align([tf.cast(features, tf.int32)], boxes, levels, (4,), 7)
    with pytest.raises(UserError, match=r"strides.*\(0,\)"):
        roi_align([features], boxes, levels, (0,), 7)
    for size in (0, (7, 0), (7, 7, 7), 5000):
        with pytest.raises(UserError, match="output_size"):
            roi_align([features], boxes, levels, (4,), size)
    with pytest.raises(UserError, match="sampling_ratio.*129"):
        roi_align([features], boxes, levels, (4,), 7, mode="average", sampling_ratio=129)
    with pytest.raises(UserError, match=r"double.*\(4, 16\)"):
        assign_levels(boxes, (4, 16))
    with pytest.raises(UserError, match="rule.*linear"):
        assign_levels(boxes, STRIDES, rule="linear")


def test_the_gradient_is_the_same_bit_for_bit_every_time(implementation):
    rng = np.random.default_rng(2)
    features = tf.constant(rng.normal(size=(1, 6, 6, 4)), tf.float32)
    corner = rng.uniform(0, 40, (1, 200, 2))
    boxes = tf.constant(np.concatenate([corner, corner + 40], axis=-1), tf.float32)

    @tf.function(autograph=False)
    def gradient(features):
        pooled = one_level(features, boxes, 16, 7)
        return tf.gradients(tf.square(pooled), features)[0]

    first = gradient(features).numpy()
    for _ in range(3):
        np.testing.assert_array_equal(gradient(features), first)
