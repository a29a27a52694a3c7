"""The custom RoIAlign against TensorFlow's own ops, its kernels for any number of threads, and bad inputs."""

import ctypes

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfdet.ops import native
from tfdet.ops.roi_align import roi_align

CHANNELS = (1, 3, 8, 16, 37, 64)  # below, at and between the widths that the kernels have loops for
MODES = [("max", 2, False), *(("average", ratio, aligned) for ratio in (0, 1, 2, 3) for aligned in (False, True))]


def random_case(seed):
    rng = np.random.default_rng(seed)
    batch, channels, rois = rng.integers(1, 3), int(rng.choice(CHANNELS)), rng.integers(1, 20)
    features = [rng.normal(size=(batch, *rng.integers(1, 14, 2), channels)).astype(np.float32) for _ in range(3)]
    corner = rng.uniform(-30, 100, (batch, rois, 2))
    span = rng.choice([rng.uniform(-20, 80, (batch, rois, 2)), 10.0 ** rng.uniform(-3, 1, (batch, rois, 2))])
    boxes = np.concatenate([corner, corner + span], axis=-1).astype(np.float32)
    size = tuple(int(n) for n in rng.integers(1, 6, 2))
    levels = rng.integers(0, 3, (batch, rois)).astype(np.int32)
    return features, boxes, levels, size, rng.normal(size=(batch, rois, *size, channels)).astype(np.float32)


def both_ways(features, boxes, levels, size, upstream, **options):
    with tf.GradientTape() as tape:
        tape.watch(features)
        pooled = roi_align(features, boxes, levels, (8, 16, 32), size, **options)
    return pooled, tape.gradient(pooled, features, upstream)


@pytest.mark.parametrize("mode,ratio,aligned", MODES)
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**31 - 1))
def test_equals_tensorflows_own_ops(custom_ops, mode, ratio, aligned, seed):
    features, *rest = random_case(seed)
    features = [tf.constant(f) for f in features]
    options = {"mode": mode, "sampling_ratio": ratio, "aligned": aligned}
    with native.implementation("native"):
        pooled, gradients = both_ways(features, *rest, **options)
    with native.implementation("python"):
        expected, expected_gradients = both_ways(features, *rest, **options)
    np.testing.assert_allclose(pooled, expected, rtol=0, atol=0 if mode == "max" else 5e-6)
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(gradient, wanted, rtol=1e-5, atol=1e-5)


def test_shapes_are_known_while_tracing(custom_ops):
    signature = [tf.TensorSpec([2, None, None, 5]), tf.TensorSpec([None, 7, 4]), tf.TensorSpec([None, None], tf.int32)]

    @tf.function(input_signature=signature, autograph=False)
    def run(features, boxes, levels):
        with native.implementation("native"):
            pooled = roi_align([features], boxes, levels, [16], (3, 4))
            gradient = tf.gradients(pooled, features)[0]
        assert pooled.shape == (2, 7, 3, 4, 5)
        assert gradient.shape.as_list() == [2, None, None, 5]
        return pooled, gradient

    pooled, gradient = run(tf.ones([2, 5, 6, 5]), tf.zeros([2, 7, 4]), tf.zeros([2, 7], tf.int32))
    assert pooled.shape == (2, 7, 3, 4, 5) and gradient.shape == (2, 5, 6, 5)


@pytest.mark.parametrize(
    "changes,message",
    [
        ({"levels": [[0, 2]]}, "levels: expected 0 to 1.*Received: 2 for RoI 1 of image 0"),
        ({"levels": [[-1, 0]]}, "levels: expected 0 to 1.*Received: -1 for RoI 0 of image 0"),
        ({"levels": [[0]]}, "levels|[Dd]imension"),
        ({"boxes": np.zeros([1, 2, 5], np.float32)}, "boxes|Dimension must be 4"),
        ({"boxes": np.zeros([2, 4], np.float32)}, "boxes|rank 3"),
        ({"features": [np.ones([1, 4, 4, 2], np.float32)] * 3}, "scales: expected one for each of 3"),
        ({"features": [np.ones([2, 4, 4, 2], np.float32)] * 2}, r"features\[0\]: expected 1 images|Dimensions"),
        ({"features": [np.ones([1, 4, 4, c], np.float32) for c in (2, 3)]}, r"features\[1\]: expected 2 channels"),
        ({"features": [np.ones([1, 4, 4], np.float32)] * 2}, r"features\[0\]: expected the shape"),
        ({"bins_x": 2000}, "1 to 1024 bins"),
        ({"mode": "average", "sampling_ratio": 500}, "sampling ratio of 0"),
        ({"scales": [1.0, float("nan")]}, "strides"),
        ({"scales": [1.0, -1.0]}, "strides"),
    ],
)
def test_bad_inputs_are_named(custom_ops, changes, message):
    arguments = {
        "features": [np.ones([1, 4, 4, 2], np.float32)] * 2,
        "boxes": np.zeros([1, 2, 4], np.float32),
        "levels": [[0, 1]],
        "scales": [1.0, 0.5],
        "bins_y": 2,
        "bins_x": 2,
        **changes,
    }
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError), match=message):
        custom_ops.tfdet_roi_align(**arguments)


@pytest.mark.parametrize(
    "changes,message",
    [
        ({"upstream": np.zeros([1, 2, 2, 3, 2], np.float32)}, "upstream: expected the shape"),
        ({"winner": np.zeros([3], np.uint8)}, "winner: expected the shape"),
        ({"shapes": [[1, 4, 4]]}, r"shapes\[0\]: expected 4 numbers|rank 4"),
        ({"shapes": [[1, -4, 4, 2]]}, "-4|negative"),
        ({"shapes": [[1, 4, 4, 3]]}, "upstream: expected the shape"),
        ({"levels": [[0, 1]]}, "levels: expected 0 to 0"),
    ],
)
def test_bad_inputs_of_the_gradient_are_named(custom_ops, changes, message):
    arguments = {
        "upstream": np.zeros([1, 2, 2, 2, 2], np.float32),
        "winner": np.zeros([1, 2, 2, 2, 2], np.uint8),
        "boxes": np.zeros([1, 2, 4], np.float32),
        "levels": [[0, 0]],
        "shapes": [[1, 4, 4, 2]],
        "scales": [1.0],
        "bins_y": 2,
        "bins_x": 2,
        **changes,
    }
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError), match=message):
        custom_ops.tfdet_roi_align_grad(**arguments)


def call(function, bits, features, boxes, levels, size, mode, ratio, aligned, *arrays, threads):
    """`function` on arrays of float32 (bits 0), or on the bits of half (1) and bfloat16 (2)."""
    maps = [np.ascontiguousarray(f) for f in features]
    heights, widths = ((ctypes.c_int32 * 3)(*(f.shape[axis] for f in maps)) for axis in (1, 2))
    scales = (ctypes.c_float * 3)(1 / 8, 1 / 16, 1 / 32)
    shape = [3, heights, widths, scales, *map(ctypes.c_int64, boxes.shape[:2]), maps[0].shape[-1], *size]
    pointers = (ctypes.c_void_p * 3)(*(m.ctypes.data for m in maps))
    arrays = [ctypes.c_void_p(a.ctypes.data) if a is not None else pointers for a in arrays]
    assert function(bits, *shape, int(mode == "average"), ratio, int(aligned), *arrays, threads) == 0
    return maps


@pytest.mark.parametrize("bits", [0, 1, 2], ids=["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("mode,ratio,aligned", [("max", 2, False), ("average", 2, True), ("average", 0, False)])
def test_any_number_of_threads_gives_the_same_bits(kernels, mode, ratio, aligned, bits):
    def stored(values):
        return (
            values if bits == 0 else values.astype(np.float16) if bits == 1 else (values.view("u4") >> 16).astype("u2")
        )

    for seed in range(20):
        features, boxes, levels, size, upstream = random_case(seed)
        if seed % 4 == 0:  # subnormal numbers count as 0, in every thread
            features, upstream = [f * np.float32(1e-39) for f in features], upstream * np.float32(1e-39)
        features, upstream = [stored(f) for f in features], stored(upstream)
        results = []
        for threads in (1, 2, 3, 7):
            pooled, winner = np.empty_like(upstream), np.full(upstream.shape, 77, np.uint8)
            arguments = (bits, features, boxes, levels, size, mode, ratio, aligned)
            call(kernels.tfdet_roi_align_cpu, *arguments, None, boxes, levels, pooled, winner, threads=threads)
            gradients = [np.full_like(f, 7) for f in features]
            arguments = (bits, gradients, *arguments[2:])
            call(
                kernels.tfdet_roi_align_grad_cpu,
                *arguments,
                *(upstream, winner, boxes, levels, None),
                threads=threads,
            )
            results.append([a.tobytes() for a in (pooled, winner, *gradients)])
        assert all(result == results[0] for result in results[1:])
        assert (winner[...] != 77).all() == (mode == "max")


def test_the_c_interface_refuses_levels_that_do_not_exist(kernels):
    features, boxes, levels, size, upstream = random_case(0)
    levels[0, 0] = 3
    pooled, winner = np.empty_like(upstream), np.empty(upstream.shape, np.uint8)
    with pytest.raises(AssertionError):
        call(
            kernels.tfdet_roi_align_cpu,
            *(0, features, boxes, levels, size, "max", 2, False),
            *(None, boxes, levels, pooled, winner),
            threads=1,
        )
