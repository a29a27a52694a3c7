"""What every anchor of RetinaNet should say: a class, and where its box is."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from tfdet.config import configurable
from tfdet.ops.box_coding import encode
from tfdet.ops.boxes import to_float32
from tfdet.ops.iou import pairwise_iou
from tfdet.ops.matching import match_with_ties

BACKGROUND, IGNORED = -1, -2


class RetinaTargets(NamedTuple):
    """Classes and offsets of every anchor."""

    labels: tf.Tensor  # int32 [B, N]: class 0..C-1, -1 background, -2 ignored
    box_targets: tf.Tensor  # float32 [B, N, 4], offsets from the anchor; zeros where there is no class


def retina_targets(anchors, boxes, classes, positive_iou: float = 0.5, negative_iou: float = 0.4) -> RetinaTargets:
    """Gives every anchor a class by its IoU with the ground truth; none is drawn, none left out.

    An anchor is background below `negative_iou`. From `positive_iou` on it has the class of the box of its best IoU.
    An anchor that no other surpasses for some ground-truth box has that box's class, whatever the IoU (of several such
    boxes the last one's). Between the two, it is ignored. The offsets always lead to the box of the anchor's best IoU,
    so a low-quality anchor can learn the class of one box and the place of another: SimpleDet trained its zoo so.
    Anchors in the padding and beyond the border take part. An image without boxes is all background.

    Args:
        anchors: float32 [N, 4] of all levels, in pixels of the network input.
        boxes: float32 [B, G, 4].
        classes: int32 [B, G], -1 in padded slots.
        positive_iou: least IoU that suffices for a class.
        negative_iou: least IoU that is not background.

    Returns:
        RetinaTargets.

    Source: SimpleDet models/retinanet/input.py, PyramidAnchorTarget2DBase._assign_label_to_anchor.
    """
    anchors, boxes = (tf.stop_gradient(t) for t in to_float32(anchors, boxes))
    classes = tf.cast(classes, tf.int32)

    def label_image(inputs):
        """One image: only its real boxes are matched, which are few against the slots of a batch."""
        gt_boxes, gt_classes = inputs
        real = gt_classes >= 0
        gt_boxes, gt_classes = tf.boolean_mask(gt_boxes, real), tf.boolean_mask(gt_classes, real)
        matches, nearest = match_with_ties(anchors[None], gt_boxes[None], tf.ones_like(gt_classes[None], tf.bool))
        iou, best, nearest = matches.iou[0], matches.index[0], nearest[0]
        # Slot 0 stands for "no ground truth": index -1.
        best_class = tf.gather(tf.pad(gt_classes, [[1, 0]], constant_values=BACKGROUND), best + 1)
        labels = tf.where(iou < negative_iou, BACKGROUND, IGNORED)
        where = tf.where(nearest)
        surpassed = last_nearest_to(tf.gather(anchors, where[:, 0]), gt_boxes, tf.gather(best, where[:, 0]))
        labels = tf.tensor_scatter_nd_update(labels, where, tf.gather(gt_classes, surpassed))
        labels = tf.where(iou >= positive_iou, best_class, labels)
        best_box = tf.gather(tf.pad(gt_boxes, [[1, 0], [0, 0]]), best + 1)
        return labels, tf.where((labels >= 0)[:, None], encode(anchors, best_box), 0.0)

    # One image at a time bounds the memory: anchors x boxes of float32 is 80 MB for a pyramid and 100 boxes.
    return RetinaTargets(
        *tf.map_fn(
            label_image,
            (boxes, classes),
            fn_output_signature=(
                tf.TensorSpec(anchors.shape[:1], tf.int32),
                tf.TensorSpec(anchors.shape, tf.float32),
            ),
            parallel_iterations=1,
        )
    )


def last_nearest_to(nearest_anchors: tf.Tensor, gt_boxes: tf.Tensor, otherwise: tf.Tensor) -> tf.Tensor:
    """The last ground-truth box to which each anchor is the nearest, or one of the nearest.

    Args:
        nearest_anchors: float32 [K, 4], all anchors that are nearest to some box (`match_with_ties`): the largest IoU
            of every box is among theirs.
        gt_boxes: float32 [G, 4].
        otherwise: int32 [K], the answer for an anchor whose equality is lost in rounding.

    Returns:
        int32 [K], indices into `gt_boxes`.
    """
    iou = pairwise_iou(nearest_anchors[None], gt_boxes[None])[0]
    nearest = iou == tf.reduce_max(iou, axis=0)
    last = tf.reduce_max(tf.where(nearest, tf.range(tf.shape(gt_boxes)[0]), -1), axis=1)
    return tf.where(last >= 0, last, otherwise)


@configurable
class RetinaTargetAssigner:
    """`retina_targets` with the numbers of a zoo row.

    Args:
        positive_iou: least IoU that suffices for a class.
        negative_iou: least IoU that is not background.
    """

    def __init__(self, positive_iou: float = 0.5, negative_iou: float = 0.4):
        self.positive_iou, self.negative_iou = positive_iou, negative_iou

    def __call__(self, anchors: tf.Tensor, boxes: tf.Tensor, classes: tf.Tensor) -> RetinaTargets:
        """See `retina_targets`."""
        return retina_targets(anchors, boxes, classes, self.positive_iou, self.negative_iou)
