"""`tfdet.ops.matching` by TensorFlow's own operations, with bounded memory."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfdet.ops.boxes import area, extra_pixel
from tfdet.ops.iou import pairwise_iou

PAIRS_AT_ONCE = 2**20  # 4 MB per float32 temporary, of which about ten live
_SMALLEST_NORMAL = float(np.finfo(np.float32).tiny)


def match_boxes(boxes, box_valid, gt_boxes, gt_valid, gt_crowd, convention: str, ties: bool) -> tuple[tf.Tensor, ...]:
    """The custom op `TfdetMatchBoxes`, bit for bit.

    Ground truth is taken a few boxes at a time, for which all pairs are built: a few times `PAIRS_AT_ONCE`, or the
    number of boxes where that is larger.

    Args:
        boxes: float32 [B, N, 4]; B may be 1.
        box_valid: bool [B, N]; B may be 1.
        gt_boxes: float32 [B, G, 4].
        gt_valid: bool [B, G].
        gt_crowd: bool [B, G].
        convention: of the IoU.
        ties: whether `nearest_index` and `gt_iou` are wanted; [0, 0] where not.

    Returns:
        iou float32 [B, N], index int32 [B, N], nearest_index int32 [B, N], gt_iou float32 [B, G] and crowd_overlap
        float32 [B, N], as in `tfdet.ops.matching.BoxMatches`.

    Raises:
        tf.errors.InvalidArgumentError: when shapes do not belong together.
    """
    _check(boxes, box_valid, gt_boxes, gt_valid, gt_crowd)
    box_valid, boxes = _only_numbers(boxes, box_valid)
    gt_valid, gt_boxes = _only_numbers(gt_boxes, gt_valid)
    shape = tf.stack([tf.shape(gt_boxes)[0], tf.shape(boxes)[1]])
    box_valid = tf.broadcast_to(box_valid, shape)
    best = _best(boxes, box_valid, gt_boxes, gt_valid & ~gt_crowd, convention, ties)
    overlap = _crowd_overlap(boxes, box_valid, gt_boxes, gt_valid & gt_crowd, convention)
    return *best, overlap


class _Ordered(NamedTuple):
    """The ground truth of every image, what takes part first."""

    boxes: tf.Tensor  # float32 [B, G, 4]
    takes_part: tf.Tensor  # bool [B, G]
    slot: tf.Tensor  # int32 [B, G], where it stood
    count: tf.Tensor  # int32, the largest number in an image that takes part


def _best(boxes, box_valid, gt_boxes, gt_valid, convention: str, ties: bool):
    gt = _in_order(gt_boxes, gt_valid)
    pairs_a_slot = tf.size(box_valid)
    size = tf.clip_by_value(PAIRS_AT_ONCE // tf.maximum(pairs_a_slot, 1), 1, tf.maximum(gt.count, 1))
    state = tf.TensorShape([gt_boxes.shape[0], boxes.shape[1]])

    def match_slice(start, best, position, nearest, maxima):
        taken, takes_part = gt.boxes[:, start : start + size], gt.takes_part[:, start : start + size]
        iou = _counted(pairwise_iou(taken, boxes, convention))
        iou = tf.where(takes_part[:, :, None] & box_valid[:, None, :], iou, -1.0)
        slots = tf.range(start, start + tf.shape(taken)[1])[None, :, None]
        top = tf.reduce_max(iou, axis=1)
        first = tf.reduce_min(tf.where(iou == top[:, None], slots, tf.int32.max), axis=1)
        position = tf.where(top > best, first, position)
        best = tf.maximum(best, top)
        if ties:
            maximum = tf.reduce_max(iou, axis=2, keepdims=True)
            last = tf.reduce_max(tf.where((iou == maximum) & (iou >= 0.0), slots, -1), axis=1)
            nearest = tf.maximum(nearest, last)  # later slices hold later slots
            maxima = tf.concat([maxima, maximum[..., 0]], axis=1)
        return start + size, best, tf.ensure_shape(position, state), tf.ensure_shape(nearest, state), maxima

    nothing = tf.fill(tf.shape(box_valid), -1)
    _, best, position, nearest, maxima = tf.while_loop(
        lambda start, *_: start < gt.count,
        match_slice,
        (0, tf.cast(nothing, tf.float32), nothing, nothing, tf.zeros([tf.shape(gt_boxes)[0], 0])),
        shape_invariants=(tf.TensorShape([]), state, state, state, tf.TensorShape([gt_boxes.shape[0], None])),
        parallel_iterations=1,
    )
    iou = tf.maximum(best, 0.0)
    if not ties:
        return iou, _slot(gt, position), tf.zeros([0, 0], tf.int32), tf.zeros([0, 0])
    maxima = tf.pad(tf.maximum(maxima, 0.0), [[0, 0], [0, tf.shape(gt_valid)[1] - tf.shape(maxima)[1]]])
    gt_iou = tf.gather(maxima, tf.argsort(gt.slot, axis=1), batch_dims=1)
    return iou, _slot(gt, position), _slot(gt, nearest), tf.ensure_shape(gt_iou, gt_valid.shape)


def _crowd_overlap(boxes, box_valid, gt_boxes, gt_crowd, convention: str) -> tf.Tensor:
    crowds = _in_order(gt_boxes, gt_crowd)
    own_area = area(boxes, convention)
    extra = extra_pixel(convention)
    state = tf.TensorShape([gt_boxes.shape[0], boxes.shape[1]])

    def overlap_one(slot, largest):
        """Crowds are few: one of every image at a time."""
        x1, y1, x2, y2 = (c[..., None] for c in tf.unstack(crowds.boxes[:, slot], 4, axis=-1))
        width = tf.maximum(tf.minimum(boxes[..., 2], x2) - tf.maximum(boxes[..., 0], x1) + extra, 0.0)
        height = tf.maximum(tf.minimum(boxes[..., 3], y2) - tf.maximum(boxes[..., 1], y1) + extra, 0.0)
        share = _counted(tf.math.divide_no_nan(width * height, own_area))
        share = tf.where(crowds.takes_part[:, slot, None] & box_valid, share, 0.0)
        return slot + 1, tf.maximum(largest, share)

    return tf.while_loop(
        lambda slot, _: slot < crowds.count,
        overlap_one,
        (0, tf.zeros(tf.shape(box_valid))),
        shape_invariants=(tf.TensorShape([]), state),
        parallel_iterations=1,
    )[1]


def _only_numbers(boxes, valid) -> tuple[tf.Tensor, tf.Tensor]:
    finite = tf.reduce_all(tf.math.is_finite(boxes), axis=-1)
    return valid & finite, tf.where(finite[..., None], boxes, 0.0)


def _counted(ratio: tf.Tensor) -> tf.Tensor:
    # Below: 0 in some of TensorFlow's threads, which flush subnormal numbers, and not in others. Or not a number.
    return tf.where(ratio >= _SMALLEST_NORMAL, ratio, 0.0)


def _in_order(gt_boxes, takes_part) -> _Ordered:
    slot = tf.argsort(tf.where(takes_part, 0, 1), axis=1, stable=True)
    count = tf.reduce_max(tf.reduce_sum(tf.cast(takes_part, tf.int32), axis=1))
    return _Ordered(tf.gather(gt_boxes, slot, batch_dims=1), tf.gather(takes_part, slot, batch_dims=1), slot, count)


def _slot(gt: _Ordered, position: tf.Tensor) -> tf.Tensor:
    """Where ground truth stood, for positions in its order; -1 for -1."""
    return tf.gather(tf.pad(gt.slot, [[0, 0], [1, 0]], constant_values=-1), position + 1, batch_dims=1)


def _check(boxes, box_valid, gt_boxes, gt_valid, gt_crowd) -> None:
    images, slots = gt_boxes.shape[0], gt_boxes.shape[1]
    for name, tensor, shapes in (
        ("boxes", boxes, ([1, None, 4], [images, None, 4])),
        ("box_valid", box_valid, ([1, boxes.shape[1]], [images, boxes.shape[1]])),
        ("gt_boxes", gt_boxes, ([None, None, 4],)),
        ("gt_valid", gt_valid, ([images, slots],)),
        ("gt_crowd", gt_crowd, ([images, slots],)),
    ):
        if not any(tensor.shape.is_compatible_with(shape) for shape in shapes):
            message = f"MatchBoxes: {name} has shape {tensor.shape}, expected {' or '.join(map(str, shapes))}"
            raise tf.errors.InvalidArgumentError(None, None, message)
