"""RoI features: a fixed grid of bins out of feature maps of one or several strides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from tfdet.errors import UserError
from tfdet.ops.boxes import to_float32
from tfdet.ops.roi_sampling import AxisSamples, average_samples, max_samples

_NO_WINNER = 255


class _Source(NamedTuple):
    """Where the pixels of every RoI lie in the rows of the flattened feature maps."""

    first_row: tf.Tensor  # int32 [B, R]
    width: tf.Tensor  # int32 [B, R], pixels of a line


def roi_align(
    features: Sequence[tf.Tensor],
    boxes,
    levels,
    strides: Sequence[int],
    output_size: int,
    mode: str = "max",
    sampling_ratio: int = 2,
    aligned: bool = False,
) -> tf.Tensor:
    """Samples a grid of `output_size` x `output_size` bins per RoI with bilinear interpolation.

    `mode="max"` is SimpleDet's ROIAlign_v2: bins are clamped to the map, have no half-pixel shift, and take the
    largest of 2 x 2 samples at the thirds of the bin; an empty bin gives 0. `mode="average"` is the RoIAlign of
    Detectron: the mean of `sampling_ratio`^2 samples.

    The gradient reaches the features alone: in `"max"` the four pixels around the winning sample of every output
    (the first winner when samples tie). Samples are taken one after the other, so that the memory needed is a few
    times the output, and the backward pass keeps one byte per output value.

    Args:
        features: one [B, H_l, W_l, C] a level, any float dtype; same B and C.
        boxes: float32 [B, R, 4] in pixels of the network input. Zero boxes give zeros.
        levels: int32 [B, R], the index into `features` of every RoI.
        strides: network pixels per feature pixel, one a level.
        output_size: bins a side, P.
        mode: `"max"` (default) or `"average"`.
        sampling_ratio: samples a side of a bin; `"average"` only, at least 1.
        aligned: half-pixel shift (Detectron2's ROIAlignV2); `"average"` only.

    Returns:
        float32 [B, R, P, P, C].

    Raises:
        UserError: when `mode` is unknown or the numbers of features and strides differ.

    Source: SimpleDet operator_cxx/contrib/roi_align_v2-inl.h, ROIAlignForwardKernel_v2; Mask R-CNN, He et al. 2017.
    """
    if len(features) != len(strides) or not features:
        raise UserError(
            f"roi_align: expected one stride a feature map. Received: {len(features)} features, strides={strides}"
        )
    if mode not in ("max", "average"):
        raise UserError(f'roi_align: mode must be "max" or "average". Received: {mode!r}')
    boxes = tf.stop_gradient(to_float32(boxes))
    levels = tf.cast(levels, tf.int32)
    shapes = [tf.shape(f) for f in features]
    batch, channels = shapes[0][0], shapes[0][3]
    heights = tf.gather(tf.stack([s[1] for s in shapes]), levels)
    widths = tf.gather(tf.stack([s[2] for s in shapes]), levels)
    scales = tf.gather(tf.constant([1.0 / s for s in strides], tf.float32), levels)

    rows = [s[0] * s[1] * s[2] for s in shapes]  # of each level in the flattened maps
    level_start = tf.gather(tf.cumsum(tf.stack(rows), exclusive=True), levels)
    image = tf.range(batch)[:, None]
    source = _Source(level_start + image * heights * widths, widths)

    if mode == "max":
        y = max_samples(boxes[..., 1], boxes[..., 3], scales, heights, output_size)
        x = max_samples(boxes[..., 0], boxes[..., 2], scales, widths, output_size)
    else:
        y = average_samples(boxes[..., 1], boxes[..., 3], scales, heights, output_size, sampling_ratio, aligned)
        x = average_samples(boxes[..., 0], boxes[..., 2], scales, widths, output_size, sampling_ratio, aligned)

    flat = [tf.reshape(tf.cast(f, tf.float32), [-1, channels]) for f in features]
    flat = flat[0] if len(flat) == 1 else tf.concat(flat, axis=0)
    pooled = (_pool_max if mode == "max" else _pool_average)(flat, source, y, x)
    pooled.set_shape([features[0].shape[0], boxes.shape[1], output_size, output_size, features[0].shape[-1]])
    return pooled


def assign_levels(
    boxes,
    strides: Sequence[int],
    canonical_size: float = 224,
    canonical_level: int = 4,
    rule: str = "thresholds",
) -> tf.Tensor:
    """Chooses the pyramid level of every RoI by the square root of its area (widths and heights with + 1).

    A RoI of `canonical_size` goes to the level of stride 2^canonical_level, one half as large to the next finer one.

    Args:
        boxes: float32 [..., 4] in pixels of the network input.
        strides: strides of the levels, finest first, each twice the one before, e.g. (4, 8, 16, 32).
        canonical_size: pixels.
        canonical_level: log2 of a stride.
        rule: `"thresholds"` compares with canonical_size * 2^k; `"log2"` takes
            floor(canonical_level + log2(size / canonical_size + 1e-6)). They differ by 1e-6 at the borders.

    Returns:
        int32 [...], indices into `strides`.

    Raises:
        UserError: when `rule` is unknown or the strides do not double.

    Source: SimpleDet models/FPN/assign_layer_fpn.py (thresholds); mxnext tvm/fpn_roi_assign.py (log2).
    """
    finest = int(strides[0]).bit_length() - 1
    if [2 ** (finest + i) for i in range(len(strides))] != [int(s) for s in strides]:
        raise UserError(f"assign_levels: strides must be powers of two that double. Received: {tuple(strides)}")
    x1, y1, x2, y2 = tf.unstack(to_float32(boxes), 4, axis=-1)
    size = tf.sqrt(tf.maximum((x2 - x1 + 1.0) * (y2 - y1 + 1.0), 0.0))
    if rule == "thresholds":
        borders = [canonical_size * 2.0 ** (finest + i - canonical_level) for i in range(1, len(strides))]
        return tf.add_n([tf.zeros_like(size, tf.int32)] + [tf.cast(size >= b, tf.int32) for b in borders])
    if rule == "log2":
        level = tf.floor(canonical_level + tf.math.log(size / canonical_size + 1e-6) / tf.math.log(2.0))
        # Clip before the cast: the integer of an infinite float is undefined.
        return tf.cast(tf.clip_by_value(level - finest, 0.0, len(strides) - 1.0), tf.int32)
    raise UserError(f'assign_levels: rule must be "thresholds" or "log2". Received: {rule!r}')


def _pool_max(flat: tf.Tensor, source: _Source, y: AxisSamples, x: AxisSamples) -> tf.Tensor:
    # A third sample a side exists only in the rare bin whose step is 0.01 to the last bit.
    side = tf.where(tf.reduce_any(y.valid[..., 2]) | tf.reduce_any(x.valid[..., 2]), 3, 2)
    # Clamping by a NaN box is neither empty nor full; `not any sample` covers it.
    empty = ~(y.valid[..., 0][:, :, :, None] & x.valid[..., 0][:, :, None, :])[..., None]

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

            return _scatter(tf.shape(flat), source, y, x, side, share)

        return tf.where(empty, 0.0, best), grad

    return pool(flat)


def _pool_average(flat: tf.Tensor, source: _Source, y: AxisSamples, x: AxisSamples) -> tf.Tensor:
    side = y.valid.shape[-1]

    @tf.custom_gradient
    def pool(flat):
        shape = tf.concat([tf.shape(y.valid)[:3], tf.shape(x.valid)[2:3], tf.shape(flat)[1:]], axis=0)

        def body(sample, total):
            corners, valid = _corners(source, y, x, sample // side, sample % side)
            return sample + 1, total + tf.where(valid[..., None], _interpolate(flat, corners), 0.0)

        _, total = tf.while_loop(
            lambda sample, _: sample < side * side,
            body,
            (tf.constant(0), tf.zeros(shape)),
            parallel_iterations=1,
        )

        def grad(upstream):
            def share(sample):
                _, valid = _corners(source, y, x, sample // side, sample % side)
                return tf.where(valid[..., None], upstream / side**2, 0.0)

            return _scatter(tf.shape(flat), source, y, x, side, share)

        return total / side**2, grad

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


def _scatter(shape, source: _Source, y: AxisSamples, x: AxisSamples, side, share) -> tf.Tensor:
    """Adds `share(sample)` [B, R, P, P, C] to the four pixels of every sample; the gradient of the samples' values."""

    def body(sample, total):
        part = share(sample)
        corners, _ = _corners(source, y, x, sample // side, sample % side)
        for row, weight in corners:
            total = tf.tensor_scatter_nd_add(total, row[..., None], part * weight[..., None])
        return sample + 1, total

    _, total = tf.while_loop(
        lambda sample, _: sample < side * side, body, (tf.constant(0), tf.zeros(shape)), parallel_iterations=1
    )
    return total
