"""The samples of a deformable convolution in TensorFlow's own ops, and their gradients."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf


class DeformGeometry(NamedTuple):
    """Where the taps of a deformable convolution are before they move; pairs are of y and x."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    offset_groups: int

    @property
    def taps(self) -> int:
        """Taps of the kernel."""
        return self.kernel[0] * self.kernel[1]

    def output_size(self, height, width):
        """Lines and columns of the output for those of the input, as integers or int32 scalars; at least 0."""
        sizes = []
        for axis, size in enumerate((height, width)):
            room = size + 2 * self.padding[axis] - self.dilation[axis] * (self.kernel[axis] - 1) - 1
            steps = room // self.strides[axis] + 1
            sizes.append(max(steps, 0) if isinstance(steps, int) else tf.maximum(steps, 0))
        return sizes


class _Samples(NamedTuple):
    """The four pixels around every sample; tensors are [B, H' W', taps, offset groups]."""

    rows: list[tf.Tensor]  # int32, of (image, pixel, offset group); one behind the last for a pixel outside the map
    weights: list[tf.Tensor]  # of the bilinear interpolation
    y: tf.Tensor  # from the upper to the lower pixel, 0 to 1
    x: tf.Tensor


def portable_columns(inputs, offsets, mask=None, *, geometry: DeformGeometry) -> tf.Tensor:
    """The input at every sampling point, group by group as the matrix product wants it.

    Args:
        inputs: float [B, H, W, C].
        offsets: float32 (float64 with float64 inputs) [B, H', W', 2 * offset groups * taps].
        mask: [B, H', W', offset groups * taps] of the offsets' dtype, or None.
        geometry: of the convolution.

    Returns:
        [B, groups, H' W', taps * C / groups] in the inputs' dtype.
    """
    samples = _samples(inputs, offsets, geometry)
    table = _table(inputs, geometry)
    value = None
    for row, weight in zip(samples.rows, samples.weights, strict=True):
        # One corner at a time: four copies of the columns at once would be the peak of the step.
        with tf.control_dependencies([] if value is None else [value]):
            term = tf.cast(tf.gather(table, row), weight.dtype) * weight[..., None]
        value = term if value is None else value + term
    if mask is not None:
        value *= _by_tap(mask, geometry)[..., None]
    value = tf.cast(value, inputs.dtype)
    batch, pixels, groups = tf.shape(value)[0], tf.shape(value)[1], geometry.groups
    width = inputs.shape[-1] // groups
    by_group = tf.reshape(value, [batch, pixels, geometry.taps, groups, width])
    columns = tf.reshape(tf.transpose(by_group, [0, 3, 1, 2, 4]), [batch, groups, pixels, geometry.taps * width])
    columns.set_shape([inputs.shape[0], groups, None, geometry.taps * width])
    return columns


def portable_columns_gradient(upstream, inputs, offsets, mask=None, *, geometry: DeformGeometry) -> list[tf.Tensor]:
    """Gradients of `portable_columns`: for inputs, offsets and, where there is one, mask.

    Args:
        upstream: of the columns' shape and dtype.
        inputs, offsets, mask, geometry: of `portable_columns`.
    """
    samples = _samples(inputs, offsets, geometry)
    table = _table(inputs, geometry)
    shape = tf.shape(samples.y)
    groups, width = geometry.groups, inputs.shape[-1] // geometry.groups
    by_group = tf.reshape(upstream, [shape[0], groups, shape[1], geometry.taps, width])
    last = inputs.shape[-1] // geometry.offset_groups
    given = tf.reshape(tf.transpose(by_group, [0, 2, 3, 1, 4]), tf.concat([shape, [last]], axis=0))
    given = tf.cast(given, offsets.dtype)
    factor = _by_tap(mask, geometry) if mask is not None else tf.ones_like(samples.y)

    # The product of the upstream with each of the four pixels is all that mask and offsets need.
    products: list[tf.Tensor] = []
    total = None
    for row, weight in zip(samples.rows, samples.weights, strict=True):
        with tf.control_dependencies([] if total is None else [total]):
            products.append(tf.reduce_sum(given * tf.cast(tf.gather(table, row), given.dtype), axis=-1))
            part = tf.math.unsorted_segment_sum(given * (weight * factor)[..., None], row, tf.shape(table)[0])
        total = part if total is None else total + part
    for_inputs = tf.reshape(tf.cast(total[:-1], inputs.dtype), tf.shape(inputs))

    top_left, bottom_left, top_right, bottom_right = products
    for_y = factor * ((1 - samples.x) * (bottom_left - top_left) + samples.x * (bottom_right - top_right))
    for_x = factor * ((1 - samples.y) * (top_right - top_left) + samples.y * (bottom_right - bottom_left))
    for_offsets = tf.reshape(tf.transpose(tf.stack([for_y, for_x], axis=-1), [0, 1, 3, 2, 4]), tf.shape(offsets))
    if mask is None:
        return [for_inputs, for_offsets]
    sampled = tf.add_n([weight * product for weight, product in zip(samples.weights, products, strict=True)])
    return [for_inputs, for_offsets, tf.reshape(tf.transpose(sampled, [0, 1, 3, 2]), tf.shape(mask))]


def _table(inputs: tf.Tensor, geometry: DeformGeometry) -> tf.Tensor:
    """The channels of every (image, pixel, offset group), and a row of zeros behind."""
    channels = inputs.shape[-1] // geometry.offset_groups
    rows = tf.size(inputs) // max(channels, 1)
    return tf.pad(tf.reshape(inputs, [rows, channels]), [[0, 1], [0, 0]])


def _by_tap(tensor: tf.Tensor, geometry: DeformGeometry) -> tf.Tensor:
    """[B, H', W', offset groups * taps] -> [B, H' W', taps, offset groups]."""
    shape = tf.shape(tensor)
    split = tf.reshape(tensor, [shape[0], shape[1] * shape[2], geometry.offset_groups, geometry.taps])
    return tf.transpose(split, [0, 1, 3, 2])


def _samples(inputs: tf.Tensor, offsets: tf.Tensor, geometry: DeformGeometry) -> _Samples:
    shape, out = tf.shape(inputs), tf.shape(offsets)
    split = tf.reshape(offsets, [out[0], out[1], out[2], geometry.offset_groups, geometry.taps, 2])
    moves = tf.transpose(split, [0, 1, 2, 4, 3, 5])  # [B, H', W', taps, offset groups, 2]

    def starts(axis: int) -> tf.Tensor:
        """Where taps are before they move: [output lines, taps of the axis]."""
        lines, taps = tf.range(out[1 + axis])[:, None], tf.range(geometry.kernel[axis])
        return lines * geometry.strides[axis] - geometry.padding[axis] + taps * geometry.dilation[axis]

    start_y = tf.repeat(starts(0), geometry.kernel[1], axis=1)[:, None, :, None]
    start_x = tf.tile(starts(1), [1, geometry.kernel[0]])[:, :, None]
    y = tf.cast(start_y, offsets.dtype) + moves[..., 0]
    x = tf.cast(start_x, offsets.dtype) + moves[..., 1]
    flat = [out[0], out[1] * out[2], geometry.taps, geometry.offset_groups]
    low_y, y, rows_y = _around(tf.reshape(y, flat), shape[1])
    low_x, x, rows_x = _around(tf.reshape(x, flat), shape[2])

    image = tf.range(shape[0])[:, None, None, None] * shape[1]
    group, behind = tf.range(geometry.offset_groups), shape[0] * shape[1] * shape[2] * geometry.offset_groups
    rows = []
    for right in (0, 1):
        for below in (0, 1):
            row = ((image + low_y + below) * shape[2] + low_x + right) * geometry.offset_groups + group
            rows.append(tf.where(rows_y[below] & rows_x[right], row, behind))
    weights = [(1 - y) * (1 - x), y * (1 - x), (1 - y) * x, y * x]
    return _Samples(rows, weights, y, x)


def _around(position: tf.Tensor, size) -> tuple[tf.Tensor, tf.Tensor, tuple[tf.Tensor, tf.Tensor]]:
    """The pixel before a position, how far behind it the position is, and whether it and the next exist."""
    # False for a NaN too. Outside, where nothing exists, any position does that an integer can hold.
    near = (position >= -1) & (position < tf.cast(size, position.dtype))
    position = tf.where(near, position, -2)
    low = tf.floor(position)
    index = tf.cast(low, tf.int32)
    return index, position - low, (near & (index >= 0), near & (index + 1 < size))
