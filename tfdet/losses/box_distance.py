"""How far predicted boxes are from the ones to learn: by their offsets, or by what the boxes share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import tensorflow as tf

from tfdet.losses.smooth_l1 import smooth_l1
from tfdet.ops.box_coding import MAX_LOG_RATIO, NO_STD, decode
from tfdet.ops.boxes import CONTINUOUS

BoxDistance = Literal["smooth_l1", "giou", "diou", "ciou"]
IOU_EPSILON = 1e-7
"""In the divisions (fvcore nn/giou_loss.py, nn/{d,c}iou_loss; torchvision ops/{giou,diou,ciou}_loss.py)."""


def box_distance(
    predicted,
    targets,
    kind: str = "smooth_l1",
    sigma: float | None = None,
    anchors=None,
    std: Sequence[float] = NO_STD,
    convention: str = CONTINUOUS,
) -> tf.Tensor:
    """The distance of every predicted box from its target.

    Args:
        predicted, targets: float32 [..., 4], offsets from `anchors` divided by `std`.
        kind: "smooth_l1", the sum over the offsets; or of the boxes "giou", "diou" or "ciou", see `iou_loss`.
        sigma: of `smooth_l1`.
        anchors: float32 [..., 4], which offsets lead from; read where boxes are compared.
        std, convention: of the offsets, as in `ops.box_coding.decode`, whose bound of growth holds.

    Returns:
        float32 [...].
    """
    if kind == "smooth_l1":
        return tf.reduce_sum(smooth_l1(predicted - targets, sigma), axis=-1)
    boxes, wanted = (
        decode(anchors, deltas, std=std, convention=convention, max_log_ratio=MAX_LOG_RATIO)
        for deltas in (predicted, targets)
    )
    return iou_loss(boxes, tf.stop_gradient(wanted), kind)


def iou_loss(boxes, targets, kind: str = "giou", epsilon: float = IOU_EPSILON) -> tf.Tensor:
    """1 - IoU of boxes and their targets, and what the boxes lack beside.

    "giou" adds the share of the smallest box around both that neither covers; "diou" the squared distance of the
    centres over the squared diagonal of that box; "ciou" that, and a term for the difference of the aspect ratios.

    Args:
        boxes: float32 [..., 4], continuous edges x1, y1, x2, y2.
        targets: float32 [..., 4].
        kind: "giou", "diou" or "ciou".
        epsilon: added to divisors.

    Returns:
        float32 [...], from 0 to 2 or a little more.

    Source: Rezatofighi et al., Generalized Intersection over Union, CVPR 2019; Zheng et al., Distance-IoU Loss, AAAI
    2020; torchvision ops/giou_loss.py, diou_loss.py, ciou_loss.py.
    """
    x1, y1, x2, y2 = tf.unstack(tf.cast(boxes, tf.float32), 4, axis=-1)
    tx1, ty1, tx2, ty2 = tf.unstack(tf.cast(targets, tf.float32), 4, axis=-1)
    width = tf.maximum(tf.minimum(x2, tx2) - tf.maximum(x1, tx1), 0.0)
    height = tf.maximum(tf.minimum(y2, ty2) - tf.maximum(y1, ty1), 0.0)
    intersection = width * height
    union = (x2 - x1) * (y2 - y1) + (tx2 - tx1) * (ty2 - ty1) - intersection
    iou = intersection / (union + epsilon)
    around_width = tf.maximum(x2, tx2) - tf.minimum(x1, tx1)
    around_height = tf.maximum(y2, ty2) - tf.minimum(y1, ty1)
    if kind == "giou":
        around = around_width * around_height
        return 1.0 - (iou - (around - union) / (around + epsilon))
    diagonal = tf.square(around_width) + tf.square(around_height) + epsilon
    between = (tf.square(x1 + x2 - tx1 - tx2) + tf.square(y1 + y2 - ty1 - ty2)) / 4.0
    loss = 1.0 - iou + between / diagonal
    if kind == "diou":
        return loss
    turned = tf.atan((tx2 - tx1) / (ty2 - ty1)) - tf.atan((x2 - x1) / (y2 - y1))
    shape = (4.0 / math.pi**2) * tf.square(turned)
    weight = tf.stop_gradient(shape / (1.0 - iou + shape + epsilon))
    return loss + weight * shape
