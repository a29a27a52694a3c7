"""Deformable convolution: an independent formula, plain convolutions, finite differences, and the custom op."""

import ctypes

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfdet.errors import UserError
from tfdet.ops import native
from tfdet.ops.deform_conv import deform_conv2d

OPTIONS = ("strides", "padding", "dilation", "groups", "offset_groups")


def random_case(seed, modulated, spread=1.5, dtype=np.float32):
    rng = np.random.default_rng(seed)
    groups, offset_groups = (int(n) for n in rng.choice([1, 2, 3], 2))
    channels = groups * offset_groups * int(rng.choice([1, 2, 8]))
    kernel, strides, dilation = (tuple(int(n) for n in rng.integers(1, 4, 2)) for _ in range(3))
    padding = tuple(int(n) for n in rng.integers(0, 4, 2))
    size = [int(rng.integers(d * (k - 1) + 1, 14)) for k, d in zip(kernel, dilation)]
    out = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, p, d, k, s in zip(size, padding, dilation, kernel, strides)]
    batch, taps = int(rng.integers(1, 4)), kernel[0] * kernel[1]
    tensors = {
        "inputs": rng.normal(size=(batch, *size, channels)),
        "kernel": rng.normal(size=(*kernel, channels // groups, 2 * groups)),
        "offsets": rng.normal(size=(batch, *out, 2 * offset_groups * taps)) * spread,
    }
    if modulated:
        tensors["mask"] = rng.uniform(size=(batch, *out, offset_groups * taps))
    options = dict(zip(OPTIONS, (strides, padding, dilation, groups, offset_groups), strict=True))
    return {name: t.astype(dtype) for name, t in tensors.items()}, options


def by_the_formula(inputs, kernel, offsets, mask=None, *, strides, padding, dilation, groups, offset_groups):
    """One sample after the other in float64: a sum over all pixels of the map, each with its triangle's weight."""
    inputs, kernel = inputs.astype(np.float64), kernel.astype(np.float64)
    batch, height, width, channels = inputs.shape
    taps_y, taps_x, inner, filters = kernel.shape
    out_y, out_x = offsets.shape[1:3]
    offsets = offsets.astype(np.float64).reshape(batch, out_y, out_x, offset_groups, taps_y, taps_x, 2)
    factors = np.ones(offsets.shape[:-1]) if mask is None else mask.astype(np.float64).reshape(offsets.shape[:-1])
    result = np.zeros((batch, out_y, out_x, filters))
    for b, h, w, i, j in np.ndindex(batch, out_y, out_x, taps_y, taps_x):
        pixel = np.zeros(channels)
        for g in range(offset_groups):
            own = slice(g * channels // offset_groups, (g + 1) * channels // offset_groups)
            y = h * strides[0] - padding[0] + i * dilation[0] + offsets[b, h, w, g, i, j, 0]
            x = w * strides[1] - padding[1] + j * dilation[1] + offsets[b, h, w, g, i, j, 1]
            weights = np.outer(
                np.maximum(0, 1 - np.abs(y - np.arange(height))), np.maximum(0, 1 - np.abs(x - np.arange(width)))
            )
            pixel[own] = factors[b, h, w, g, i, j] * np.einsum("yx,yxc->c", weights, inputs[b, :, :, own])
        for group in range(groups):
            out = slice(group * filters // groups, (group + 1) * filters // groups)
            result[b, h, w, out] += pixel[group * inner : (group + 1) * inner] @ kernel[i, j, :, out]
    return result


def drawn_upstream(shape):
    return np.random.default_rng(7).normal(size=shape)


def with_gradients(tensors, options):
    variables = {name: tf.constant(t) for name, t in tensors.items()}
    with tf.GradientTape() as tape:
        tape.watch(variables)
        outputs = deform_conv2d(**variables, **options)
        loss = tf.reduce_sum(outputs * tf.constant(drawn_upstream(outputs.shape), outputs.dtype))
    return outputs.numpy(), {name: g.numpy() for name, g in tape.gradient(loss, variables).items()}


@pytest.mark.parametrize("modulated", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_equals_the_formula(implementation, seed, modulated):
    tensors, options = random_case(seed, modulated)
    expected = by_the_formula(**tensors, **options)
    np.testing.assert_allclose(deform_conv2d(**tensors, **options), expected, atol=2e-5)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_gradients_are_those_of_finite_differences(seed):
    """Along a random direction of every input, in float64."""
    tensors, options = random_case(seed, seed != 1, dtype=np.float64)
    outputs, gradients = with_gradients(tensors, options)
    rng = np.random.default_rng(seed)
    for name, tensor in tensors.items():
        direction = rng.normal(size=tensor.shape)
        # No position of these cases is that near to a whole number.
        ahead, behind = (deform_conv2d(**tensors | {name: tensor + s * direction}, **options) for s in (1e-7, -1e-7))
        slope = np.sum((ahead - behind) * drawn_upstream(outputs.shape)) / 2e-7
        np.testing.assert_allclose(np.sum(gradients[name] * direction), slope, rtol=1e-5, err_msg=name)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**31 - 1), modulated=st.booleans(), spread=st.sampled_from([0.0, 1.0, 30.0]))
def test_the_custom_op_equals_tensorflows_own_ops(custom_ops, seed, modulated, spread):
    tensors, options = random_case(seed, modulated, spread)
    rng = np.random.default_rng(seed)
    odd = rng.random(tensors["offsets"].shape) < 0.05
    tensors["offsets"][odd] = rng.choice(np.float32([np.nan, np.inf, -np.inf, 3e38, -3e38, 2.0**31, -1]), odd.sum())
    with native.implementation("native"):
        outputs, gradients = with_gradients(tensors, options)
    with native.implementation("python"):
        expected, wanted = with_gradients(tensors, options)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=2e-5)
    assert np.isfinite(expected).all()
    for name, gradient in gradients.items():
        np.testing.assert_allclose(gradient, wanted[name], rtol=1e-4, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("groups", [1, 2])
def test_without_offsets_it_is_a_plain_convolution(implementation, groups):
    rng = np.random.default_rng(0)
    inputs = tf.constant(rng.normal(size=(2, 9, 8, 4)), tf.float32)
    kernel = tf.constant(rng.normal(size=(3, 3, 4 // groups, 6)), tf.float32)
    outputs = deform_conv2d(inputs, kernel, tf.zeros([2, 9, 8, 18]), groups=groups)
    np.testing.assert_allclose(outputs, tf.nn.conv2d(inputs, kernel, 1, "SAME"), atol=1e-5)


def test_samples_outside_are_worth_nothing_and_move_nothing(implementation):
    for far in (5000.0, -5000.0, 1e30, np.inf, -np.inf, np.nan):
        tensors = {"inputs": np.ones((1, 4, 5, 2), np.float32), "kernel": np.ones((3, 3, 2, 2), np.float32)}
        tensors |= {"offsets": np.full((1, 4, 5, 18), far, np.float32), "mask": np.ones((1, 4, 5, 9), np.float32)}
        outputs, gradients = with_gradients(tensors, {})
        assert not outputs.any()
        assert not any(g.any() for g in gradients.values())


def test_at_whole_positions_the_slope_is_that_towards_larger_coordinates(implementation):
    ramp = np.float32([0, 1, 5, 6]).reshape(1, 1, 4, 1)
    tensors = {"inputs": ramp, "kernel": np.ones((1, 1, 1, 1), np.float32), "offsets": np.zeros((1, 1, 4, 2), "f4")}
    with tf.GradientTape() as tape:
        offsets = tf.constant(tensors["offsets"])
        tape.watch(offsets)
        outputs = deform_conv2d(ramp, tensors["kernel"], offsets, padding=0)
    np.testing.assert_array_equal(outputs, ramp)
    np.testing.assert_array_equal(tape.gradient(outputs, offsets)[0, 0, :, 1], [1, 4, 1, -6])


def test_half_precision_rounds_the_samples_alone(implementation):
    tensors, options = random_case(3, True)
    expected = deform_conv2d(**tensors, **options)
    half = {name: t.astype(np.float16) if name in ("inputs", "kernel") else t for name, t in tensors.items()}
    outputs, gradients = with_gradients(half, options)
    assert outputs.dtype == np.float16
    np.testing.assert_allclose(outputs, expected, atol=0.02, rtol=0.02)
    assert {name: g.dtype for name, g in gradients.items()} == {name: t.dtype for name, t in half.items()}


@pytest.mark.parametrize("batch,height", [(0, 6), (1, 0), (3, 6)])
def test_sizes_known_at_run_time_alone(implementation, batch, height):
    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 2]), tf.TensorSpec([None, None, None, 18])])
    def run(inputs, offsets):
        outputs = deform_conv2d(inputs, tf.ones([3, 3, 2, 4]), offsets, strides=2)
        assert outputs.shape.as_list() == [None, None, None, 4]
        return outputs, tf.gradients(outputs, [inputs, offsets])

    lines = (height - 1) // 2 + 1
    outputs, gradients = run(tf.ones([batch, height, 5, 2]), tf.zeros([batch, lines, 3, 18]))
    assert outputs.shape == (batch, lines, 3, 4)
    assert [g.shape for g in gradients] == [(batch, height, 5, 2), (batch, lines, 3, 18)]
    if batch and height == 6:
        np.testing.assert_array_equal(outputs[0, :, :, 0], [[8, 12, 8], [12, 18, 12], [12, 18, 12]])


def test_offsets_of_another_size_are_an_error(implementation):
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError)):
        deform_conv2d(tf.ones([1, 4, 4, 2]), tf.ones([3, 3, 2, 4]), tf.zeros([1, 3, 4, 18]))


@pytest.mark.parametrize(
    "changes,message",
    [
        ({"offsets": (1, 4, 4, 9)}, "offsets must have 18 channels"),
        ({"mask": (1, 4, 4, 18)}, "mask must have 9 channels"),
        ({"kernel": (3, 3, 3, 2)}, "do not fit a kernel"),
        ({"kernel": (3, 3, 2, 3), "groups": 2}, "do not fit a kernel"),
        ({"offset_groups": 3, "offsets": (1, 4, 4, 54)}, "3 offset groups"),
        ({"inputs": (4, 4, 4)}, "inputs must have 4 axes"),
        ({"strides": 0}, "strides must be"),
        ({"padding": -1}, "padding must be"),
        ({"dilation": (1, 2, 3)}, "dilation must be"),
        ({"groups": 0}, "groups must be positive"),
    ],
)
def test_what_does_not_fit_is_named(changes, message):
    shapes = {"inputs": (1, 4, 4, 4), "kernel": (3, 3, 4, 2), "offsets": (1, 4, 4, 18)}
    arguments = {name: tf.zeros(shape) for name, shape in shapes.items()}
    arguments |= {n: tf.zeros(v) if n in ("mask", *shapes) else v for n, v in changes.items()}
    with pytest.raises(UserError, match=message):
        deform_conv2d(**arguments)


ATTRIBUTES = {"kernel": [3, 3], "strides": [1, 1], "padding": [1, 1], "dilation": [1, 1], "groups": 1}


@pytest.mark.parametrize(
    "changes,message",
    [
        ({"offsets": (1, 4, 3, 18)}, r"offsets: expected the shape \[1,4,4,18\]"),
        ({"offsets": (2, 4, 4, 18)}, "offsets: expected the shape|must be equal"),
        ({"mask": [(1, 4, 4, 8)]}, r"mask: expected the shape \[1,4,4,9\]"),
        ({"mask": [(1, 4, 4, 9)] * 2}, "mask: expected one or none"),
        ({"inputs": (4, 4, 4)}, "inputs: expected the shape|rank 4"),
        ({"groups": 3}, "cannot be parted"),
        ({"kernel": [3]}, "kernel: expected two numbers"),
        ({"kernel": [0, 3]}, "1 to 65536 taps"),
        ({"kernel": [1000, 1000]}, "at most 65536 taps"),
        ({"strides": [0, 1]}, "strides of 1"),
        ({"padding": [-1, 1]}, "padding of 0"),
        ({"upstream": (1, 1, 16, 35)}, r"upstream: expected the shape \[1,1,16,36\]"),
    ],
)
def test_what_does_not_fit_the_op_is_named(custom_ops, changes, message):
    arguments = {
        "inputs": (1, 4, 4, 4),
        "offsets": (1, 4, 4, 18),
        "mask": [],
        "offset_groups": 1,
        **ATTRIBUTES,
        **changes,
    }
    tensors = {n: tf.zeros(arguments[n]) for n in ("inputs", "offsets", "upstream") if n in arguments}
    tensors["mask"] = [tf.zeros(shape) for shape in arguments["mask"]]
    op = custom_ops.tfdet_deform_columns_grad if "upstream" in changes else custom_ops.tfdet_deform_columns
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError), match=message):
        op(**arguments | tensors)


@pytest.mark.parametrize("bits", [0, 1, 2], ids=["float32", "float16", "bfloat16"])
def test_any_number_of_threads_gives_the_same_bits(kernels, bits):
    def stored(values):
        values = np.float32(values)
        if bits == 0:
            return values
        return values.astype(np.float16) if bits == 1 else (values.view("u4") >> 16).astype("u2")

    for seed in range(12):
        tensors, options = random_case(seed, seed % 2 == 0, spread=3.0)
        inputs, offsets, mask = stored(tensors["inputs"]), tensors["offsets"], tensors.get("mask")
        pairs = [tensors["kernel"].shape[:2], *(options[n] for n in OPTIONS[:3])]
        numbers = [*(n for pair in pairs for n in pair), options["groups"], options["offset_groups"]]
        shape = (ctypes.c_int64(inputs.shape[0]), *inputs.shape[1:], (ctypes.c_int32 * 10)(*numbers))
        upstream = stored(
            np.random.default_rng(seed).normal(size=offsets[..., 0].size * np.prod(pairs[0]) * inputs.shape[-1])
        )
        results = []
        for threads in (1, 2, 5):
            columns, moved = np.empty_like(upstream), np.empty_like(offsets)
            for_inputs, for_mask = np.empty_like(inputs), None if mask is None else np.empty_like(mask)

            def call(name, *arrays, threads=threads, shape=shape):
                arrays = [None if a is None else ctypes.c_void_p(a.ctypes.data) for a in arrays]
                assert getattr(kernels, f"tfdet_deform_columns{name}_cpu")(bits, *shape, *arrays, threads) == 0

            call("", inputs, offsets, mask, columns)
            call("_grad", upstream, inputs, offsets, mask, for_inputs, moved, for_mask)
            results.append([a.tobytes() for a in (columns, for_inputs, moved, for_mask) if a is not None])
        assert results[0] == results[1] == results[2]
