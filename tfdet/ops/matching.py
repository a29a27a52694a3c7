"""Which ground-truth box belongs to an anchor or proposal: the best by IoU."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from tfdet.ops.boxes import LEGACY
from tfdet.ops.iou import pairwise_iou


class Matches(NamedTuple):
    """The best ground-truth box of every box."""

    iou: tf.Tensor  # float32 [B, N]; 0 where there is no ground truth
    index: tf.Tensor  # int32 [B, N], the first of equals; -1 where there is no ground truth


def match_best(boxes, gt_boxes, gt_valid, convention: str = LEGACY) -> Matches:
    """Finds for every box the ground-truth box of largest IoU.

    Args:
        boxes: float32 [B, N, 4]; B may be 1, shared by all images.
        gt_boxes: float32 [B, G, 4].
        gt_valid: bool [B, G], False in padded slots.
        convention: of the IoU, `"legacy_plus_one"` (default) or `"continuous"`.

    Returns:
        Matches.

    Source: SimpleDet operator_cxx/proposal_target.cc, SampleROI.
    """
    return _best(valid_iou(boxes, gt_boxes, gt_valid, convention))


def match_with_ties(boxes, gt_boxes, gt_valid, convention: str = LEGACY) -> tuple[Matches, tf.Tensor]:
    """`match_best`, and the boxes that come nearest to some ground-truth box.

    All boxes that share the largest IoU of a ground-truth box count, even when that IoU is 0: a ground-truth box
    that no box overlaps thus marks every box of IoU 0 to it. SimpleDet trained its zoo so, and it is kept.

    Args:
        boxes: float32 [B, N, 4]; B may be 1, shared by all images.
        gt_boxes: float32 [B, G, 4].
        gt_valid: bool [B, G], False in padded slots.
        convention: of the IoU, `"legacy_plus_one"` (default) or `"continuous"`.

    Returns:
        Matches, and bool [B, N]: True where the box has the largest IoU of a ground-truth box.

    Source: SimpleDet core/detection_input.py, AnchorTarget2D._assign_label_to_anchor.
    """
    iou = valid_iou(boxes, gt_boxes, gt_valid, convention)
    largest = tf.reduce_max(iou, axis=1, keepdims=True)
    nearest = tf.reduce_any((iou == largest) & (iou >= 0.0), axis=2)
    return _best(iou), nearest


def valid_iou(boxes, gt_boxes, gt_valid, convention: str = LEGACY) -> tf.Tensor:
    """`pairwise_iou` [B, N, 1 + G] with -1 in padded slots, and before them a slot that is always padded.

    The extra slot lets a maximum over no ground truth at all be taken.
    """
    gt_boxes = tf.pad(gt_boxes, [[0, 0], [1, 0], [0, 0]])
    gt_valid = tf.pad(gt_valid, [[0, 0], [1, 0]])
    return tf.where(gt_valid[:, None, :], pairwise_iou(boxes, gt_boxes, convention), -1.0)


def _best(iou: tf.Tensor) -> Matches:
    best = tf.reduce_max(iou, axis=2)
    # tf.argmax names the first of equals, as numpy does; the padded first slot turns "none" into -1.
    return Matches(tf.maximum(best, 0.0), tf.argmax(iou, axis=2, output_type=tf.int32) - 1)
