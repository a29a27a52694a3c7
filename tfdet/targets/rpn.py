"""What every anchor of the region proposal network should say."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from tfdet.ops.box_coding import encode
from tfdet.ops.boxes import area, to_float32
from tfdet.ops.iou import pairwise_iou
from tfdet.ops.matching import match_with_ties
from tfdet.ops.sampling import random_subset, split_seed

FOREGROUND, BACKGROUND, IGNORED = 1, 0, -1
NOWHERE = -1e6  # pixels; no ground-truth box is there


class RpnTargets(NamedTuple):
    """Labels and offsets of every anchor."""

    labels: tf.Tensor  # int32 [B, N]: 1 foreground, 0 background, -1 ignored
    box_targets: tf.Tensor  # float32 [B, N, 4], offsets from the anchor; zeros where not foreground


def rpn_targets(
    anchors,
    image_info,
    boxes,
    classes,
    seed,
    batch_per_image: int = 256,
    fg_fraction: float = 0.5,
    positive_iou: float = 0.7,
    negative_iou: float = 0.3,
    allowed_border: float = 0.0,
    area_ranges=None,
    ignored_iou: float = 0.3,
) -> RpnTargets:
    """Labels anchors by their IoU with the ground truth and draws a batch of them.

    An anchor is background below `negative_iou`; foreground from `positive_iou` on, or when no anchor has a larger
    IoU with some ground-truth box (all of them, when several tie); otherwise ignored. Anchors that cross the border
    of the image content are ignored throughout. Then foreground beyond `fg_fraction * batch_per_image` and background
    beyond the rest of `batch_per_image` are ignored at random. An image without boxes is all background. With
    feature pyramids pass the anchors of all levels at once: the draw is over the image.

    Args:
        anchors: float32 [N, 4] in pixels of the network input.
        image_info: float32 [B, 3], height and width of the image content first.
        boxes: float32 [B, G, 4].
        classes: int32 [B, G], -1 in padded slots.
        seed: int32 [2]; the result is a function of it and of the other arguments.
        batch_per_image: anchors drawn per image.
        fg_fraction: largest share of foreground.
        positive_iou: least IoU of foreground.
        negative_iou: least IoU that is not background.
        allowed_border: pixels by which an anchor may cross the border.
        area_ranges: float32 [B, K, 2], (smallest, largest) side of the boxes, the root of their area in pixels of the
            network input, that each of K branches is responsible for; or None. Before the draw, which each branch
            makes for itself, anchors that overlap another box are ignored.
        ignored_iou: the overlap above which they are.

    Returns:
        RpnTargets; with `area_ranges` of K B rows, image-major.

    Source: SimpleDet core/detection_input.py, AnchorTarget2D; models/FPN/input.py, PyramidAnchorTarget2D;
    models/tridentnet/input.py, TridentAnchorTarget2D.
    """
    anchors, image_info, boxes = (tf.stop_gradient(t) for t in to_float32(anchors, image_info, boxes))
    classes = tf.cast(classes, tf.int32)
    branches = 1 if area_ranges is None else area_ranges.shape[1]
    ranges = tf.zeros([tf.shape(boxes)[0], 1, 2]) if area_ranges is None else to_float32(area_ranges)

    def label_image(inputs):
        """One image: only its real boxes are matched, which are few against the slots of a batch."""
        info, gt_boxes, gt_classes, own_ranges = inputs
        gt_boxes = tf.boolean_mask(gt_boxes, gt_classes >= 0)
        inside = _inside(anchors, info, allowed_border)
        labels, matched = _label(anchors, inside, gt_boxes, positive_iou, negative_iou)
        matched_boxes = tf.gather(tf.pad(gt_boxes, [[1, 0], [0, 0]]), matched + 1)
        targets = tf.where((labels == FOREGROUND)[:, None], matched_boxes, anchors)
        labels = tf.tile(labels[None], [branches, 1])
        if area_ranges is not None:
            labels = tf.where(_near_others(anchors, gt_boxes, own_ranges, ignored_iou), IGNORED, labels)
        return labels, targets

    # One image at a time bounds the memory: anchors x boxes of float32 is 100 MB for a pyramid and 100 boxes.
    labels, matched_boxes = tf.map_fn(
        label_image,
        (image_info, boxes, classes, ranges),
        fn_output_signature=(
            tf.TensorSpec([branches, *anchors.shape[:1]], tf.int32),
            tf.TensorSpec(anchors.shape, tf.float32),
        ),
        parallel_iterations=1,
    )
    labels = tf.reshape(labels, [-1, tf.shape(anchors)[0]])
    labels = _draw(labels, seed, batch_per_image, int(fg_fraction * batch_per_image))
    targets = encode(anchors, matched_boxes)
    if branches > 1:
        targets = tf.repeat(targets, branches, axis=0)
    targets = tf.where((labels == FOREGROUND)[..., None], targets, 0.0)
    return RpnTargets(labels, targets)


def _inside(anchors: tf.Tensor, info: tf.Tensor, border: float) -> tf.Tensor:
    x1, y1, x2, y2 = tf.unstack(anchors, 4, axis=-1)
    return (x1 >= -border) & (y1 >= -border) & (x2 < info[1] + border) & (y2 < info[0] + border)


def _label(anchors, inside, gt_boxes, positive_iou: float, negative_iou: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Labels int32 [N] before the draw, and the index int32 [N] of the best box, -1 where there is none."""
    # An anchor outside the image takes no part: moved far away it neither is nor hides the nearest one.
    anchors = tf.where(inside[:, None], anchors, NOWHERE)
    matches, nearest = match_with_ties(anchors[None], gt_boxes[None], tf.ones_like(gt_boxes[None, :, 0], tf.bool))
    iou, nearest = matches.iou[0], nearest[0]
    labels = tf.where(iou < negative_iou, BACKGROUND, IGNORED)
    labels = tf.where(nearest | (iou >= positive_iou), FOREGROUND, labels)
    return tf.where(inside, labels, IGNORED), matches.index[0]


def _near_others(anchors, gt_boxes, ranges, ignored_iou: float) -> tf.Tensor:
    """Bool [K, N]: the anchor overlaps a box outside the branch's range by more than `ignored_iou`."""
    near = pairwise_iou(anchors[None], gt_boxes[None])[0] > ignored_iou
    size, low, high = area(gt_boxes), tf.square(ranges[:, 0, None]), tf.square(ranges[:, 1, None])
    others = (size < low) | (size > high)
    return tf.stack([tf.reduce_any(near & row, axis=1) for row in tf.unstack(others, ranges.shape[0])])


def _draw(labels: tf.Tensor, seed, total: int, max_foreground: int) -> tf.Tensor:
    fg_seed, bg_seed = split_seed(seed, 2)
    foreground, background = labels == FOREGROUND, labels == BACKGROUND
    limit = tf.fill(tf.shape(labels)[:1], max_foreground)
    foreground = random_subset(foreground, limit, fg_seed, max_foreground)
    room = total - tf.reduce_sum(tf.cast(foreground, tf.int32), axis=1)
    background = random_subset(background, room, bg_seed, total)
    return tf.where(foreground, FOREGROUND, tf.where(background, BACKGROUND, IGNORED))
