"""Intersection over union of all pairs of two sets of boxes."""

from __future__ import annotations

import tensorflow as tf

from tfdet.ops.boxes import LEGACY, area, extra_pixel, to_float32


def pairwise_iou(a, b, convention: str = LEGACY) -> tf.Tensor:
    """IoU of every box of `a` with every box of `b`.

    The temporaries have the size of the result: no [N, M, 4] is built.

    Args:
        a: float32 [B, N, 4]; B may be 1 in either argument and is then shared.
        b: float32 [B, M, 4].
        convention: `"legacy_plus_one"` (default) or `"continuous"`.

    Returns:
        float32 [B, N, M] in [0, 1]; 0 where a box has no area; NaN only where a coordinate is NaN.

    Source: SimpleDet operator_cxx/proposal_target.cc, BBoxOverlap, whose order of operations is kept;
    operator_py/cython/bbox.pyx agrees with it but for the last bit.
    """
    a, b = to_float32(a, b)
    extra = extra_pixel(convention)
    ax1, ay1, ax2, ay2 = (c[..., :, None] for c in tf.unstack(a, 4, axis=-1))
    bx1, by1, bx2, by2 = (c[..., None, :] for c in tf.unstack(b, 4, axis=-1))
    width = tf.maximum(tf.minimum(ax2, bx2) - tf.maximum(ax1, bx1) + extra, 0.0)
    height = tf.maximum(tf.minimum(ay2, by2) - tf.maximum(ay1, by1) + extra, 0.0)
    intersection = width * height
    union = area(a, convention)[..., :, None] + area(b, convention)[..., None, :] - intersection
    return tf.math.divide_no_nan(intersection, union)
