"""Boxes as offsets from anchors or proposals, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence

import tensorflow as tf

from tfdet.ops.boxes import LEGACY, extra_pixel, sizes, to_float32

NO_MEAN = (0.0, 0.0, 0.0, 0.0)
NO_STD = (1.0, 1.0, 1.0, 1.0)
BOX_STD = (0.1, 0.1, 0.2, 0.2)
"""What the offsets of a second stage are divided by (SimpleDet; Detectron2 and torchvision write 1 / 10, 1 / 5)."""
MAX_LOG_RATIO = math.log(1000.0 / 16.0)
"""The most that dw and dh may be where growth is bounded: a side grows by 1000 / 16 at most."""

# Below this an anchor counts as having no extent; it keeps offsets finite. No box in pixels comes near it.
_SMALLEST_SIZE = 1e-6


def encode(
    anchors,
    boxes,
    mean: Sequence[float] = NO_MEAN,
    std: Sequence[float] = NO_STD,
    convention: str = LEGACY,
) -> tf.Tensor:
    """The offsets `(dx, dy, dw, dh)` that lead from `anchors` to `boxes`.

    dx and dy are the shift of the centre in widths and heights of the anchor, dw and dh the logarithms of the growth;
    then `(offset - mean) / std`.

    Args:
        anchors: float32 [..., 4] in pixels.
        boxes: float32 [..., 4] in pixels, a shape that broadcasts with `anchors`.
        mean: four floats, subtracted.
        std: four floats, divided by.
        convention: `"legacy_plus_one"` (default) or `"continuous"`.

    Returns:
        float32 [..., 4], without unit.

    Source: SimpleDet operator_py/bbox_transform.py, nonlinear_transform; R-CNN, Girshick et al. 2014, appendix C.
    """
    anchors, boxes = to_float32(anchors, boxes)
    aw, ah, ax, ay = _centre_form(anchors, convention)
    bw, bh, bx, by = _centre_form(boxes, convention)
    aw, ah, bw, bh = (tf.maximum(side, _SMALLEST_SIZE) for side in (aw, ah, bw, bh))
    offsets = tf.stack([(bx - ax) / aw, (by - ay) / ah, tf.math.log(bw / aw), tf.math.log(bh / ah)], axis=-1)
    return (offsets - tf.constant(mean, tf.float32)) / tf.constant(std, tf.float32)


def decode(
    anchors,
    deltas,
    mean: Sequence[float] = NO_MEAN,
    std: Sequence[float] = NO_STD,
    convention: str = LEGACY,
    max_log_ratio: float | None = None,
) -> tf.Tensor:
    """The boxes that `deltas` make of `anchors`; the inverse of `encode`.

    Args:
        anchors: float32 [..., 4] in pixels.
        deltas: float32 [..., 4], a shape that broadcasts with `anchors`: for class-specific offsets
            [B, R, C, 4] pass anchors [B, R, 1, 4].
        mean: four floats, added after the multiplication by std.
        std: four floats, multiplied by.
        convention: `"legacy_plus_one"` (default) or `"continuous"`.
        max_log_ratio: upper bound of dw and dh before the exponential, e.g. log(1000 / 16); None for no bound.

    Returns:
        float32 [..., 4] in pixels, not clipped.

    Source: SimpleDet operator_cxx/contrib/decodebbox.cc; the bound is that of operator_cxx/contrib/proposal_v3.cu.
    """
    anchors, deltas = to_float32(anchors, deltas)
    extra = extra_pixel(convention)
    deltas = deltas * tf.constant(std, tf.float32) + tf.constant(mean, tf.float32)
    dx, dy, dw, dh = tf.unstack(deltas, 4, axis=-1)
    if max_log_ratio is not None:
        dw, dh = tf.minimum(dw, max_log_ratio), tf.minimum(dh, max_log_ratio)
    aw, ah, ax, ay = _centre_form(anchors, convention)
    x, y = dx * aw + ax, dy * ah + ay
    half_w = 0.5 * (tf.exp(dw) * aw - extra)
    half_h = 0.5 * (tf.exp(dh) * ah - extra)
    return tf.stack([x - half_w, y - half_h, x + half_w, y + half_h], axis=-1)


def _centre_form(boxes, convention: str):
    """Width, height, centre x and centre y of float32 boxes [..., 4]."""
    width, height = sizes(boxes, convention)
    extra = extra_pixel(convention)
    return width, height, boxes[..., 0] + 0.5 * (width - extra), boxes[..., 1] + 0.5 * (height - extra)
