"""Which ground-truth box belongs to an anchor or proposal: the best by IoU, and whose best IoU it has."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from tfdet.ops import matching_portable, native
from tfdet.ops.boxes import LEGACY, extra_pixel, to_float32


class Matches(NamedTuple):
    """The best ground-truth box of every box."""

    iou: tf.Tensor  # float32 [B, N]; 0 where there is no ground truth
    index: tf.Tensor  # int32 [B, N], the first of equals; -1 where there is no ground truth


class BoxMatches(NamedTuple):
    """How boxes and ground truth belong together, seen from both."""

    iou: tf.Tensor  # float32 [B, N], the largest; 0 where there is no ground truth or the box is not valid
    index: tf.Tensor  # int32 [B, N], whose that is, the first of equals; -1 where there is none
    nearest: tf.Tensor  # bool [B, N], True where the box has the largest IoU of a ground-truth box
    nearest_index: tf.Tensor  # int32 [B, N], the last such ground-truth box; -1 where there is none
    gt_iou: tf.Tensor  # float32 [B, G], the largest IoU with a valid box; 0 where there is none, and for crowds
    crowd_overlap: tf.Tensor  # float32 [B, N], largest intersection with a crowd box over the box's own area


def match_boxes(boxes, gt_boxes, gt_valid, gt_crowd=None, box_valid=None, convention: str = LEGACY) -> BoxMatches:
    """Matches boxes and ground truth in both directions, for a whole batch, without a pairwise matrix.

    All boxes that share the largest IoU of a ground-truth box are nearest to it, even when that IoU is 0: a
    ground-truth box that no box overlaps thus marks every box. SimpleDet trained its zoo so, and it is kept. Of several
    ground-truth boxes to which a box is nearest the last one counts, as in SimpleDet's RetinaNet.

    A box or ground-truth box with a coordinate that is not finite takes no part, as if it were not valid. An IoU that
    is not a number, because areas exceed float32, is 0, and so is one below the smallest normal float32. No gradient
    flows.

    Args:
        boxes: float32 [B, N, 4]; B may be 1, shared by all images.
        gt_boxes: float32 [B, G, 4].
        gt_valid: bool [B, G], False in padded slots.
        gt_crowd: bool [B, G], True for regions of many objects, which take part in `crowd_overlap` alone. None: no one.
        box_valid: bool [B, N], or [1, N], False for boxes that take no part. None: all do.
        convention: of the IoU, `"legacy_plus_one"` (default) or `"continuous"`.

    Returns:
        BoxMatches.

    Raises:
        UserError: when the convention is unknown.
        tf.errors.InvalidArgumentError: when shapes do not belong together.

    Source: SimpleDet core/detection_input.py, AnchorTarget2D._assign_label_to_anchor; models/retinanet/input.py.
        Crowds: COCO's evaluation, for `iscrowd`.
    """
    return _match(boxes, gt_boxes, gt_valid, gt_crowd, box_valid, convention, ties=True)


def match_best(boxes, gt_boxes, gt_valid, convention: str = LEGACY, box_valid=None) -> Matches:
    """Finds for every box the ground-truth box of largest IoU; half the work of `match_boxes`.

    Args:
        boxes: float32 [B, N, 4]; B may be 1, shared by all images.
        gt_boxes: float32 [B, G, 4].
        gt_valid: bool [B, G], False in padded slots.
        convention: of the IoU, `"legacy_plus_one"` (default) or `"continuous"`.
        box_valid: bool [B, N], or [1, N], False for boxes that take no part. None: all do.

    Returns:
        Matches.

    Source: SimpleDet operator_cxx/proposal_target.cc, SampleROI.
    """
    return Matches(*_match(boxes, gt_boxes, gt_valid, None, box_valid, convention, ties=False)[:2])


def _match(boxes, gt_boxes, gt_valid, gt_crowd, box_valid, convention: str, ties: bool) -> BoxMatches:
    """`match_boxes`; without `ties`, `nearest`, `nearest_index` and `gt_iou` are [0, 0]."""
    extra_pixel(convention)  # names a convention that is unknown
    boxes, gt_boxes = (tf.stop_gradient(t) for t in to_float32(boxes, gt_boxes))
    gt_valid = tf.cast(gt_valid, tf.bool)
    gt_crowd = tf.zeros_like(gt_valid) if gt_crowd is None else tf.cast(gt_crowd, tf.bool)
    box_valid = tf.ones(tf.shape(boxes)[:2], tf.bool) if box_valid is None else tf.cast(box_valid, tf.bool)
    arguments = (boxes, box_valid, gt_boxes, gt_valid, gt_crowd)
    if native.in_use():
        found = native.library().tfdet_match_boxes(*arguments, convention=convention, ties=ties)
    else:
        found = matching_portable.match_boxes(*arguments, convention=convention, ties=ties)
    iou, index, nearest_index, gt_iou, crowd_overlap = found
    return BoxMatches(iou, index, nearest_index >= 0, nearest_index, gt_iou, crowd_overlap)
