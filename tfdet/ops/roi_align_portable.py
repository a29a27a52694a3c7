"""RoIAlign in TensorFlow's own ops: what every program can load, and what the custom op is compared with."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from tfdet.ops import native
from tfdet.ops.roi_sampling import AxisSamples, average_samples, max_samples

_NO_WINNER = 255


class _Source(NamedTuple):
    """Where the pixels of every RoI lie in the rows of the flattened feature maps."""

    first_row: tf.Tensor  # int32 [B, R]
    width: tf.Tensor  # int32 [B, R], pixels of a line


def portable_roi_align(
    features: Sequence[tf.Tensor],
    boxes: tf.Tensor,
    levels: tf.Tensor,
    scales: Sequence[float],
    output_size: tuple[int, int],
    mode: str,
    sampling_ratio: int,
    aligned: bool,
) -> tf.Tensor:
    """`roi_align` with checked arguments.

    Samples are taken one after the other, so that the memory needed is a few times the output, and the backward pass
    keeps one byte per output value.

    Args:
        features: one [B, H_l, W_l, C] a level, of one float dtype.
        boxes: float32 [B, R, 4] in pixels of the network input.
        levels: int32 [B, R], the index into `features` of every RoI.
        scales: feature pixels per network pixel, one a level.
        output_size: bins along y and along x.
        mode: `"max"` or `"average"`.
        sampling_ratio: samples a side of a bin, 0 for as many as it has feature pixels; `"average"` only.
        aligned: half-pixel shift; `"average"` only.

    Returns:
        [B, R, Py, Px, C] in the features' dtype.
    """
    shapes = [tf.shape(f) for f in features]
    batch, channels = shapes[0][0], shapes[0][3]
    # A map of no lines has no columns either: every pixel index of its RoIs is then that of its first.
    sizes = [s[1:3] * tf.cast(tf.reduce_all(s[1:3] > 0), tf.int32) for s in shapes]
    heights = tf.gather(tf.stack([s[0] for s in sizes]), levels)
    widths = tf.gather(tf.stack([s[1] for s in sizes]), levels)
    scale = tf.gather(tf.constant(scales, tf.float32), levels)

    rows = [s[0] * s[1] * s[2] for s in shapes]  # of each level in the flattened maps
    level_start = tf.gather(tf.cumsum(tf.stack(rows), exclusive=True), levels)
    image = tf.range(batch)[:, None]
    source = _Source(level_start + image * heights * widths, widths)

    bins_y, bins_x = output_size
    flat = _flatten(features, rows, channels)
    if mode == "max":
        y = max_samples(boxes[..., 1], boxes[..., 3], scale, heights, bins_y)
        x = max_samples(boxes[..., 0], boxes[..., 2], scale, widths, bins_x)
        pooled = _pool_max(flat, source, y, x)
    else:
        y, count_y = average_samples(boxes[..., 1], boxes[..., 3], scale, heights, bins_y, sampling_ratio, aligned)
        x, count_x = average_samples(boxes[..., 0], boxes[..., 2], scale, widths, bins_x, sampling_ratio, aligned)
        count = tf.cast(tf.maximum(count_y * count_x, 1), tf.float32)[:, :, None, None, None]
        pooled = _pool_average(flat, source, y, x, count)
    pooled = tf.cast(pooled, features[0].dtype)
    pooled.set_shape([features[0].shape[0], boxes.shape[1], bins_y, bins_x, features[0].shape[-1]])
    return pooled


def _flatten(features: Sequence[tf.Tensor], rows, channels) -> tf.Tensor:
    """The pixels of all maps, float32 [sum of B * H_l * W_l, C]."""
    flat = [tf.reshape(tf.cast(f, tf.float32), [n, channels]) for f, n in zip(features, rows)]
    pixels = [f.shape[:3].num_elements() for f in features]
    if not all(pixels):
        # A map may be empty, yet a RoI on it reads a pixel, for nothing: there has to be one.
        flat.append(tf.zeros([1, channels]))
    return flat[0] if len(flat) == 1 else tf.concat(flat, axis=0)


def _pool_max(flat: tf.Tensor, source: _Source, y: AxisSamples, x: AxisSamples) -> tf.Tensor:
    # A third sample a side exists only in the rare bin whose step is 0.01 to the last bit.
    side = tf.where(tf.reduce_any(y.valid[..., 2]) | tf.reduce_any(x.valid[..., 2]), 3, 2)
    # Clamping by a NaN box is neither empty nor full; `not any sample` covers it.
    empty = ~(y.valid[..., 0][:, :, :, None] & x.valid[..., 0][:, :, None, :])[..., None]
    if native.exchanged():
        return tf.where(empty, 0.0, _largest(flat, source, y, x))

    @tf.custom_gradient
    def pool(flat):
        shape = tf.concat([tf.shape(y.valid)[:3], tf.shape(x.valid)[2:3], tf.shape(flat)[1:]], axis=0)

        def body(sample, best, winner):
            corners, valid = _corners(source, y, x, sample // side, sample % side)
            value = _interpolate(flat, corners)
            better = (value > best) & valid[..., None]
            winner = tf.where(better, tf.cast(sample, tf.uint8), winner)
            return sample + 1, tf.where(better, value, best), winner

        start = (
            tf.constant(0),
            tf.fill(shape, flat.dtype.min),
            tf.fill(shape, tf.constant(_NO_WINNER, tf.uint8)),
        )
        _, best, winner = tf.while_loop(
            lambda sample, *_: sample < side * side, body, start, parallel_iterations=1, maximum_iterations=9
        )

        def grad(upstream):
            def share(sample):
                return tf.where(winner == tf.cast(sample, tf.uint8), upstream, 0.0)

            return _scatter(tf.shape(flat), source, y, x, side * side, side, share)

        return tf.where(empty, 0.0, best), grad

    return pool(flat)


def _largest(flat: tf.Tensor, source: _Source, y: AxisSamples, x: AxisSamples) -> tf.Tensor:
    """The largest of 2 x 2 samples a bin, without a way back and without a loop.

    LiteRT has no choice among bytes, which the way back keeps, and a turn of a loop costs other programs more. The
    rare third sample, of bins of 0.03 feature pixels, lies within 0.02 pixels of the others: it is left out.
    """
    best = tf.constant(flat.dtype.min)
    for i, j in itertools.product(range(2), repeat=2):
        corners, valid = _corners(source, y, x, i, j)
        value = _interpolate(flat, corners)
        best = tf.where((value > best) & valid[..., None], value, best)
    return best


def _mean(flat: tf.Tensor, source: _Source, y: AxisSamples, x: AxisSamples, count: tf.Tensor) -> tf.Tensor:
    """The mean of a known number of samples a bin, in the same way. Args: as of `_pool_average`."""
    total: tf.Tensor | float = 0.0
    for i, j in itertools.product(range(y.valid.shape[-1]), range(x.valid.shape[-1])):
        corners, valid = _corners(source, y, x, i, j)
        total += tf.where(valid[..., None], _interpolate(flat, corners), 0.0)
    return total / count


def _pool_average(flat: tf.Tensor, source: _Source, y: AxisSamples, x: AxisSamples, count: tf.Tensor) -> tf.Tensor:
    """`count`: float32 [B, R, 1, 1, 1], samples of a bin, those outside the map as well."""
    if native.exchanged() and None not in (y.valid.shape[-1], x.valid.shape[-1]):
        return _mean(flat, source, y, x, count)
    side_y, side_x = tf.shape(y.valid)[-1], tf.shape(x.valid)[-1]

    @tf.custom_gradient
    def pool(flat):
        shape = tf.concat([tf.shape(y.valid)[:3], tf.shape(x.valid)[2:3], tf.shape(flat)[1:]], axis=0)

        def body(sample, total):
            corners, valid = _corners(source, y, x, sample // side_x, sample % side_x)
            return sample + 1, total + tf.where(valid[..., None], _interpolate(flat, corners), 0.0)

        _, total = tf.while_loop(
            lambda sample, _: sample < side_y * side_x,
            body,
            (tf.constant(0), tf.zeros(shape)),
            parallel_iterations=1,
        )

        def grad(upstream):
            def share(sample):
                _, valid = _corners(source, y, x, sample // side_x, sample % side_x)
                return tf.where(valid[..., None], upstream / count, 0.0)

            return _scatter(tf.shape(flat), source, y, x, side_y * side_x, side_x, share)

        return total / count, grad

    return pool(flat)


def _corners(source: _Source, y: AxisSamples, x: AxisSamples, i, j):
    """The four (row of the flattened maps, weight), each [B, R, P, P], of sample (i, j); and which are samples."""

    def vertical(a):
        return tf.gather(a, i, axis=-1)[:, :, :, None]

    def horizontal(a):
        return tf.gather(a, j, axis=-1)[:, :, None, :]

    first, width = source.first_row[:, :, None, None], source.width[:, :, None, None]
    top, bottom = first + vertical(y.low) * width, first + vertical(y.high) * width
    left, right = horizontal(x.low), horizontal(x.high)
    alpha, beta = vertical(y.weight), horizontal(x.weight)
    corners = [
        (top + left, (1 - alpha) * (1 - beta)),
        (bottom + left, alpha * (1 - beta)),
        (top + right, (1 - alpha) * beta),
        (bottom + right, alpha * beta),
    ]
    return corners, vertical(y.valid) & horizontal(x.valid)


def _interpolate(flat: tf.Tensor, corners) -> tf.Tensor:
    value = None
    for row, weight in corners:
        # One corner at a time: four gathered copies of the output at once would be the peak of the train step.
        with tf.control_dependencies([] if value is None else [value]):
            term = tf.gather(flat, row) * weight[..., None]
        value = term if value is None else value + term
    return value


def _scatter(shape, source: _Source, y: AxisSamples, x: AxisSamples, samples, side_x, share) -> tf.Tensor:
    """Adds `share(sample)` [B, R, P, P, C] to the four pixels of every sample; the gradient of the samples' values."""

    def body(sample, total):
        part = share(sample)
        corners, _ = _corners(source, y, x, sample // side_x, sample % side_x)
        for row, weight in corners:
            total = tf.tensor_scatter_nd_add(total, row[..., None], part * weight[..., None])
        return sample + 1, total

    _, total = tf.while_loop(
        lambda sample, _: sample < samples, body, (tf.constant(0), tf.zeros(shape)), parallel_iterations=1
    )
    return total
