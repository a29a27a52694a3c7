"""How far predicted boxes are from their targets: by their offsets, or by the overlap of the boxes.

Sources: Rezatofighi et al., Generalized Intersection over Union, CVPR 2019; Zheng et al., Distance-IoU Loss, AAAI 2020;
Detectron2 modeling/box_regression.py, _dense_box_regression_loss, with the losses of fvcore 0.1.5;
torchvision ops/giou_loss.py, ops/diou_loss.py, ops/ciou_loss.py, which compute the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import tensorflow as tf

from tfdet.losses.smooth_l1 import smooth_l1
from tfdet.ops.box_coding import MAX_LOG_RATIO, NO_STD, decode
from tfdet.ops.boxes import LEGACY, extra_pixel, to_float32

BoxDistance = Literal["smooth_l1", "giou", "diou", "ciou"]
"""Smooth L1 of offsets, or one minus the IoU of boxes with a penalty: for what the smallest box around both has beside
them, for the distance of the centres, or for that and the shape."""

_EPSILON = 1e-7


def iou_loss(boxes, targets, kind: Literal["giou", "diou", "ciou"] = "giou", epsilon: float = _EPSILON) -> tf.Tensor:
    """GIoU, DIoU or CIoU loss of pairs of boxes.

    Args:
        boxes: float32 [..., 4], predicted, continuous corners `[x1, y1, x2, y2]` with x1 <= x2 and y1 <= y2.
        targets: float32 [..., 4], likewise.
        kind: which.
        epsilon: added to what is divided by.

    Returns:
        float32 [...], from 0 (equal) up to 2 (GIoU, DIoU) or a little more (CIoU). No gradient goes through CIoU's
        weight of the shape.
    """
    boxes, targets = to_float32(boxes, targets)
    (x1, y1, x2, y2), (tx1, ty1, tx2, ty2) = (tf.unstack(value, 4, axis=-1) for value in (boxes, targets))
    width = tf.maximum(tf.minimum(x2, tx2) - tf.maximum(x1, tx1), 0.0)
    height = tf.maximum(tf.minimum(y2, ty2) - tf.maximum(y1, ty1), 0.0)
    intersection = width * height
    union = (x2 - x1) * (y2 - y1) + (tx2 - tx1) * (ty2 - ty1) - intersection
    iou = intersection / (union + epsilon)
    around_x, around_y = tf.maximum(x2, tx2) - tf.minimum(x1, tx1), tf.maximum(y2, ty2) - tf.minimum(y1, ty1)
    if kind == "giou":
        around = around_x * around_y
        return 1.0 - iou + (around - union) / (around + epsilon)
    diagonal = tf.square(around_x) + tf.square(around_y) + epsilon
    apart = tf.square((x1 + x2 - tx1 - tx2) / 2.0) + tf.square((y1 + y2 - ty1 - ty2) / 2.0)
    loss = 1.0 - iou + apart / diagonal
    if kind == "diou":
        return loss
    shape = tf.atan((tx2 - tx1) / (ty2 - ty1)) - tf.atan((x2 - x1) / (y2 - y1))
    shape = 4.0 / math.pi**2 * tf.square(shape)
    return loss + tf.stop_gradient(shape / (1.0 - iou + shape + epsilon)) * shape


def box_distance(
    offsets,
    target_offsets,
    counts,
    kind: BoxDistance = "smooth_l1",
    sigma: float | None = 1.0,
    anchors=None,
    std: Sequence[float] = NO_STD,
    convention: str = LEGACY,
) -> tf.Tensor:
    """The distance of each prediction from its target.

    Args:
        offsets: [..., 4], predicted offsets, any float dtype.
        target_offsets: float32 [..., 4].
        counts: bool [...]; what does not count has distance and gradient 0, whatever it holds.
        kind: "smooth_l1" of the offsets, or an IoU loss of the boxes that they make of the anchors. As in Detectron2
            and torchvision a predicted box grows to 1000 / 16 times its anchor at most; beyond there is no gradient.
        sigma: of `smooth_l1`.
        anchors: float32, boxes in pixels that broadcast with the offsets; needed by the IoU losses.
        std: of the offsets.
        convention: of the anchors.

    Returns:
        float32 [..., 4], of smooth L1 by coordinate; [..., 1] of an IoU loss.
    """
    counts = counts[..., None]
    offsets = tf.cast(offsets, tf.float32)
    # The mask acts before the distance: beyond it an overflow in what does not count would turn the gradient to NaN.
    if kind == "smooth_l1":
        return smooth_l1(tf.where(counts, offsets - target_offsets, 0.0), sigma)
    boxes, targets = (
        decode(anchors, tf.where(counts, values, 0.0), std=std, convention=convention, max_log_ratio=MAX_LOG_RATIO)
        for values in (offsets, target_offsets)
    )
    edge = tf.constant([0.0, 0.0, 1.0, 1.0]) * extra_pixel(convention)
    return tf.where(counts, iou_loss(boxes + edge, targets + edge, kind)[..., None], 0.0)
