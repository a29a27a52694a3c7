"""Where RoIAlign takes its samples: positions along one axis, and the two pixels around each."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from tfdet.ops import native

MAX_SAMPLING_RATIO = 128  # samples a side of a bin; an adaptive ratio stops here
_SMALLEST_STEP = 0.01  # of a feature pixel; SimpleDet's loops advance at least by this


class AxisSamples(NamedTuple):
    """Samples along y or x, S a bin, P bins a RoI."""

    low: tf.Tensor  # int32 [B, R, P, S], the pixel before the sample
    high: tf.Tensor  # int32 [B, R, P, S], the pixel after it
    weight: tf.Tensor  # float32 [B, R, P, S], share of `high`
    valid: tf.Tensor  # bool [B, R, P, S]


def max_samples(begin, end, scale, size, bins: int) -> AxisSamples:
    """The samples of SimpleDet's ROIAlign_v2 along one axis: the thirds of every bin clamped to the map.

    A range that is no finite number has no samples.

    SimpleDet loops from `start + step` while `position <= end - step + 0.01`, with `step` a third of the bin, and
    advances by at least 0.01. That is two samples, or three where the step rounds to 0.01; the comparison is made in
    float64, as there, so that the same bins have three.

    Args:
        begin: float32 [B, R], x1 or y1 in pixels of the network input.
        end: float32 [B, R], x2 or y2.
        scale: float32 [B, R], feature pixels per network pixel.
        size: int32 [B, R], width or height of the feature map.
        bins: bins a side, P.

    Returns:
        AxisSamples with S = 3, none valid where the bin is empty.

    Source: SimpleDet operator_cxx/contrib/roi_align_v2-inl.h, ROIAlignForwardKernel_v2.
    """
    begin, end = begin * scale, end * scale
    extent = end - begin
    finite = tf.math.is_finite(extent)[..., None, None]
    length = _divide(extent, bins)[..., None]
    last = tf.cast(size - 1, tf.float32)[..., None]
    index = tf.range(bins, dtype=tf.float32)
    lower = tf.clip_by_value(index * length + begin[..., None], 0.0, last)
    upper = tf.clip_by_value((index + 1.0) * length + begin[..., None], 0.0, last)
    step = _divide(upper - lower, 3)
    advance = tf.maximum(step, _SMALLEST_STEP)
    first = _add(lower, step)
    second = _add(first, advance)
    position = tf.stack([first, second, _add(second, advance)], axis=-1)
    limit = tf.cast(upper - step, _precise()) + _SMALLEST_STEP
    valid = (tf.cast(position, _precise()) <= limit[..., None]) & (upper > lower)[..., None] & finite

    position = tf.where(valid, position, 0.0)  # a NaN must not become a pixel index
    border = tf.maximum(size - 1, 0)[..., None, None]
    low = tf.clip_by_value(tf.cast(tf.floor(position), tf.int32), 0, border)
    high = tf.clip_by_value(tf.cast(tf.math.ceil(position), tf.int32), 0, border)
    weight = tf.where(low == high, 0.5, position - tf.cast(low, tf.float32))
    return AxisSamples(low, high, weight, valid)


def average_samples(begin, end, scale, size, bins: int, per_bin: int, aligned: bool) -> tuple[AxisSamples, tf.Tensor]:
    """The samples of Detectron's RoIAlign along one axis: evenly spaced, outside the map worth nothing.

    A range that is no finite number, and a map without pixels, have no samples.

    Args:
        begin: float32 [B, R], x1 or y1 in pixels of the network input.
        end: float32 [B, R], x2 or y2.
        scale: float32 [B, R], feature pixels per network pixel.
        size: int32 [B, R], width or height of the feature map.
        bins: bins a side, P.
        per_bin: samples a side of a bin; 0: the RoI's bins in feature pixels, rounded up, at most `MAX_SAMPLING_RATIO`.
        aligned: shift by half a pixel, and no smallest RoI of one feature pixel.

    Returns:
        AxisSamples with S = per_bin, or the most that any RoI has; and the samples a side of a bin, int32 [B, R].

    Source: Detectron2 layers/csrc/ROIAlign/ROIAlign_cpu.cpp; torchvision ops/cpu/roi_align_kernel.cpp.
    """
    begin, end = begin * scale, end * scale
    if aligned:
        begin, end = begin - 0.5, end - 0.5
    extent = end - begin
    finite = tf.math.is_finite(extent)
    extent = tf.where(finite, extent if aligned else tf.maximum(extent, 1.0), 0.0)
    length = _divide(extent, bins)
    if per_bin:
        count, most = tf.fill(tf.shape(extent), per_bin), per_bin
    else:
        count = tf.cast(tf.clip_by_value(tf.math.ceil(length), 0.0, MAX_SAMPLING_RATIO), tf.int32)
        most = tf.maximum(tf.reduce_max(count), 0)  # without RoIs the largest count is the smallest int32
    index, sample = tf.range(bins, dtype=tf.float32)[:, None], tf.range(most)
    bin_start = _add(begin[..., None, None], index * length[..., None, None])
    divisor = tf.cast(tf.maximum(count, 1), _precise())[..., None]
    offset = (tf.cast(sample, tf.float32) + 0.5) * length[..., None]
    offset = tf.cast(tf.cast(offset, _precise()) / divisor, tf.float32)
    position = _add(bin_start, offset[..., None, :])  # the order of the reference's operations, each rounded

    extent = tf.cast(size, tf.float32)[..., None, None]
    valid = (position >= -1.0) & (position <= extent) & (extent > 0.0) & finite[..., None, None]
    valid &= (sample < count[..., None])[..., None, :]
    position = tf.clip_by_value(tf.where(valid, position, 0.0), 0.0, tf.maximum(extent - 1.0, 0.0))
    border = tf.maximum(size - 1, 0)[..., None, None]
    low = tf.minimum(tf.cast(tf.floor(position), tf.int32), border)
    high = tf.minimum(low + 1, border)
    return AxisSamples(low, high, position - tf.cast(low, tf.float32), valid), count


# TensorFlow's graph optimizer turns a division by a constant into a product with its rounded reciprocal, and a chain
# of additions into one in another order. Each moves samples by some 1e-6 pixels against eager execution, so that a
# compiled step and a check by hand would differ. In float64 those errors are rounded away, and the casts break chains.


def _precise() -> tf.DType:
    """float64, but not in a graph for programs that have no float64."""
    return tf.float32 if native.exchanged() else tf.float64


def _divide(values: tf.Tensor, by: int) -> tf.Tensor:
    """`values / by` in float32, rounded once."""
    return tf.cast(tf.cast(values, _precise()) / by, tf.float32)


def _add(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """`a + b` in float32, rounded once."""
    return tf.cast(tf.cast(a, _precise()) + tf.cast(b, _precise()), tf.float32)
