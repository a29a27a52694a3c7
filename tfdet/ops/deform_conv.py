"""Deformable convolution: every tap of the kernel reads its input pixel at an offset that is itself an input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfdet.errors import UserError
from tfdet.ops import native
from tfdet.ops.deform_conv_portable import DeformGeometry, portable_columns, portable_columns_gradient

_NATIVE_TYPES = (tf.float32, tf.float16, tf.bfloat16)


def deform_conv2d(
    inputs,
    kernel,
    offsets,
    mask=None,
    *,
    strides: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 1,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    offset_groups: int = 1,
) -> tf.Tensor:
    """Convolves at sampling points that are moved by offsets and, in version 2, weighted by a mask.

    Tap (i, j) of output pixel (h, w) reads the input at y = h stride - padding + i dilation + offset, x likewise, with
    bilinear interpolation between the four pixels around it; a pixel outside the map counts as 0, so a sample further
    than a pixel outside is worth nothing and moves nothing. So is one whose offset is infinite or NaN.

    Gradients reach inputs, kernel, offsets and mask. The offset's is the slope between the pixels below and above the
    sample; at a whole position, where the two sides differ, the slope towards larger coordinates. Columns (the samples
    of all taps) are made for one image at a time, and again in the backward pass rather than kept. There is no second
    derivative.

    The custom op (tfdet/ops/native.py) makes the columns and their gradients, except for float64; both differ from
    TensorFlow's own ops by rounding. On a CPU it gives the same bits for any number of threads. Its gradient for the
    inputs on a GPU adds in no fixed order, so that the last bits differ from run to run; where deterministic ops are
    asked for, it refuses.

    Positions and interpolation are in float32 (float64 for float64 inputs) whatever the dtypes given; sampled values
    are rounded to the inputs' dtype, and the products with the kernel are TensorFlow's in that dtype.

    Args:
        inputs: float [B, H, W, C].
        kernel: float [kh, kw, C / groups, filters]; output channels of one group side by side.
        offsets: float [B, H', W', 2 * offset_groups * kh * kw] in input pixels: for each offset group and tap, taps
            row by row, y and then x. Offset group g moves input channels g C / offset_groups and on.
        mask: float [B, H', W', offset_groups * kh * kw], a factor for every sample in the order of the offsets;
            None for version 1, which has none.
        strides, padding, dilation: of both axes, or of y and of x; padding is added on both sides.
        groups: of input and output channels, as in an ordinary grouped convolution.
        offset_groups: of input channels that move together.

    Returns:
        [B, H', W', filters] in the inputs' dtype, H' = floor((H + 2 padding - dilation (kh - 1) - 1) / stride) + 1.

    Raises:
        UserError: a rank, number of channels, dtype or option does not fit.

    Source: Dai et al., Deformable Convolutional Networks, ICCV 2017; Zhu et al., Deformable ConvNets v2, CVPR 2019;
        torchvision.ops.deform_conv2d, whose values and gradients these are.
    """
    inputs, kernel, offsets = (tf.convert_to_tensor(t) for t in (inputs, kernel, offsets))
    masks = [] if mask is None else [tf.convert_to_tensor(mask)]
    geometry = DeformGeometry(
        kernel=(kernel.shape[0] or 0, kernel.shape[1] or 0) if kernel.shape.rank == 4 else (0, 0),
        strides=_pair("strides", strides, 1),
        padding=_pair("padding", padding, 0),
        dilation=_pair("dilation", dilation, 1),
        groups=groups,
        offset_groups=offset_groups,
    )
    _check(inputs, kernel, offsets, masks, geometry)
    interpolated = tf.float64 if inputs.dtype == tf.float64 else tf.float32
    offsets, *masks = (tf.cast(t, interpolated) for t in (offsets, *masks))
    height, width = geometry.output_size(tf.shape(inputs)[1], tf.shape(inputs)[2])
    # Offsets of another size are an error of this reshape.
    sized = [tf.reshape(t, [tf.shape(inputs)[0], height, width, t.shape[-1]]) for t in (offsets, *masks)]
    outputs = _convolution(geometry, native.in_use() and inputs.dtype in _NATIVE_TYPES)(
        inputs, tf.cast(kernel, inputs.dtype), *sized
    )
    known = [None if n is None else int(n) for n in inputs.shape]
    sizes = [
        None if n is None else size
        for n, size in zip(known[1:3], geometry.output_size(known[1] or 0, known[2] or 0), strict=True)
    ]
    outputs.set_shape([known[0], *sizes, kernel.shape[-1]])
    return outputs


def _pair(name: str, value: int | tuple[int, int], smallest: int) -> tuple[int, int]:
    pair = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(pair) != 2 or not all(isinstance(n, int) and smallest <= n <= 1 << 16 for n in pair):
        raise UserError(f"deform_conv2d: {name} must be {smallest} to {1 << 16}, one or two. Received: {value}")
    return pair


def _check(inputs, kernel, offsets, masks: Sequence[tf.Tensor], geometry: DeformGeometry) -> None:
    def require(fits: bool, message: str) -> None:
        if not fits:
            raise UserError(f"deform_conv2d: {message}")

    for name, tensor in zip(("inputs", "kernel", "offsets", "mask"), (inputs, kernel, offsets, *masks), strict=False):
        require(tensor.dtype.is_floating, f"{name} must be float. Received: {tensor.dtype.name}")
        require(tensor.shape.rank == 4, f"{name} must have 4 axes. Received shape: {tensor.shape}")
    taps_y, taps_x, inner, filters = kernel.shape
    require(None not in (taps_y, taps_x, inner, filters), f"kernel needs a fixed shape. Received: {kernel.shape}")
    require(taps_y > 0 and taps_x > 0, f"kernel must have at least one tap a side. Received shape: {kernel.shape}")
    groups, offset_groups = geometry.groups, geometry.offset_groups
    require(groups >= 1 and offset_groups >= 1, f"groups must be positive. Received: {groups}, {offset_groups}")
    channels = inputs.shape[-1]
    require(channels is not None, f"inputs need a fixed number of channels. Received shape: {inputs.shape}")
    require(
        channels == inner * groups and filters % groups == 0,
        f"{channels} channels and {groups} groups do not fit a kernel of shape {kernel.shape}",
    )
    require(channels % offset_groups == 0, f"{channels} channels cannot be parted in {offset_groups} offset groups")
    samples = offset_groups * taps_y * taps_x
    for name, tensor, expected in zip(("offsets", "mask"), (offsets, *masks), (2 * samples, samples), strict=False):
        require(
            tensor.shape[-1] == expected,
            f"{name} must have {expected} channels for {offset_groups} offset groups of {taps_y} x {taps_x} taps. "
            f"Received shape: {tensor.shape}",
        )


def _native_columns(inputs, offsets, mask=None, *, geometry: DeformGeometry) -> tf.Tensor:
    return native.library().tfdet_deform_columns(
        inputs=inputs, offsets=offsets, mask=[] if mask is None else [mask], **_attributes(geometry)
    )


def _native_columns_gradient(upstream, inputs, offsets, mask=None, *, geometry: DeformGeometry) -> list[tf.Tensor]:
    for_inputs, for_offsets, for_mask = native.library().tfdet_deform_columns_grad(
        upstream=upstream,
        inputs=inputs,
        offsets=offsets,
        mask=[] if mask is None else [mask],
        **_attributes(geometry),
    )
    return [for_inputs, for_offsets, *for_mask]


def _attributes(geometry: DeformGeometry) -> dict[str, Any]:
    return {name: list(v) if isinstance(v, tuple) else v for name, v in geometry._asdict().items()}


def _convolution(geometry: DeformGeometry, use_native: bool) -> Callable[..., tf.Tensor]:
    """The convolution of checked (inputs, kernel, offsets[, mask]) with its gradient."""
    # Chosen once: the backward pass may be traced where another choice is in force.
    columns_of, columns_gradient = (
        (_native_columns, _native_columns_gradient) if use_native else (portable_columns, portable_columns_gradient)
    )

    @tf.custom_gradient
    def convolve(inputs, kernel, *moves):
        weights = _grouped(kernel, geometry.groups)

        def outputs_of(tensors):
            columns = columns_of(*tensors, geometry=geometry)
            height, width = tf.shape(tensors[1])[1], tf.shape(tensors[1])[2]
            return [_ungrouped(_product(columns, weights), height, width)]

        (outputs,) = _image_by_image(outputs_of, [inputs, *moves], [inputs.dtype])

        def gradient(upstream):
            def gradients_of(tensors):
                given, *own = tensors
                by_group = _outputs_by_group(given, geometry.groups)
                columns = columns_of(*own, geometry=geometry)
                kernel_part = tf.matmul(_flat(columns), _flat(by_group), transpose_a=True)
                backwards = _product(by_group, weights, transposed=True)
                moved = columns_gradient(tf.reshape(backwards, tf.shape(columns)), *own, geometry=geometry)
                return [*moved, kernel_part[None]]

            tensors = [upstream, inputs, *moves]
            *gradients, parts = _image_by_image(gradients_of, tensors, [t.dtype for t in (inputs, *moves, kernel)])
            for result, tensor in zip(gradients, (inputs, *moves), strict=True):
                result.set_shape(tensor.shape)
            return gradients[0], _kernel_of_groups(tf.reduce_sum(parts, axis=0), kernel.shape), *gradients[1:]

        return outputs, gradient

    return convolve


def _image_by_image(function: Callable, tensors: list[tf.Tensor], dtypes: list[tf.DType]) -> list[tf.Tensor]:
    """`function` of tensors [B, ...], given one image after the other so that one image's columns exist at a time."""

    def each():
        def one(rows):
            return [result[0] for result in function([row[None] for row in rows])]

        return tf.map_fn(one, tensors, fn_output_signature=dtypes, parallel_iterations=1)

    batch = tensors[0].shape[0]
    if batch is not None:
        return each() if batch > 1 else function(tensors)
    return tf.cond(tf.shape(tensors[0])[0] > 1, each, lambda: function(tensors))


# Columns are [B, groups, H' W', taps * C / groups], so that every group is a matrix product of its own.


def _grouped(kernel: tf.Tensor, groups: int) -> tf.Tensor:
    """[kh, kw, C / groups, filters] -> [groups, kh kw C / groups, filters / groups]."""
    *_, filters = kernel.shape
    return tf.transpose(tf.reshape(kernel, [-1, groups, filters // groups]), [1, 0, 2])


def _kernel_of_groups(weights: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
    return tf.reshape(tf.transpose(weights, [1, 0, 2]), shape)


def _product(rows: tf.Tensor, weights: tf.Tensor, transposed: bool = False) -> tf.Tensor:
    """[B, groups, N, K] by [groups, K, M] -> [B, groups, N, M]; with `transposed` by [groups, M, K]."""
    return tf.matmul(rows, weights, transpose_b=transposed)


def _flat(rows: tf.Tensor) -> tf.Tensor:
    """[B, groups, N, K] -> [groups, B N, K]."""
    _, groups, _, values = rows.shape
    return tf.reshape(tf.transpose(rows, [1, 0, 2, 3]), [groups, -1, values])


def _ungrouped(outputs: tf.Tensor, height, width) -> tf.Tensor:
    """[B, groups, H' W', M] -> [B, H', W', groups M]."""
    batch = tf.shape(outputs)[0]
    _, groups, _, filters = outputs.shape
    return tf.reshape(tf.transpose(outputs, [0, 2, 1, 3]), [batch, height, width, groups * filters])


def _outputs_by_group(outputs: tf.Tensor, groups: int) -> tf.Tensor:
    """[B, H', W', groups M] -> [B, groups, H' W', M]."""
    shape = tf.shape(outputs)
    split = tf.reshape(outputs, [shape[0], shape[1] * shape[2], groups, outputs.shape[-1] // groups])
    return tf.transpose(split, [0, 2, 1, 3])
