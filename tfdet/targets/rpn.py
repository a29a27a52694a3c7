"""What every anchor of the region proposal network should say."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from tfdet.ops.box_coding import encode
from tfdet.ops.boxes import LEGACY, area, to_float32
from tfdet.ops.matching import match_best, match_boxes
from tfdet.ops.sampling import random_subset, split_seed
from tfdet.targets.extent import Extent, centred_within

FOREGROUND, BACKGROUND, IGNORED = 1, 0, -1


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
    convention: str = LEGACY,
    extent: Extent = "canvas",
    size_divisor: int = 1,
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
        allowed_border: pixels by which an anchor may cross the border; infinity lets all take part (Detectron2,
            torchvision).
        area_ranges: float32 [B, K, 2], (smallest, largest) side of the boxes, the root of their area in pixels of the
            network input, that each of K branches is responsible for; or None. Before the draw, which each branch
            makes for itself, anchors that overlap another box are ignored.
        ignored_iou: the overlap above which they are.
        convention: of boxes, `"legacy_plus_one"` (default) or `"continuous"`.
        extent: where the centres of anchors must lie, or the anchors are ignored throughout: see `centred_within`.
        size_divisor: of the extent "batch".

    Returns:
        RpnTargets; with `area_ranges` of K B rows, image-major.

    Source: SimpleDet core/detection_input.py, AnchorTarget2D; models/FPN/input.py, PyramidAnchorTarget2D;
    models/tridentnet/input.py, TridentAnchorTarget2D.
    """
    anchors, image_info, boxes = (tf.stop_gradient(t) for t in to_float32(anchors, image_info, boxes))
    classes = tf.cast(classes, tf.int32)
    valid = classes >= 0
    inside = _inside(anchors, image_info, allowed_border)
    within = centred_within(anchors, image_info, extent, size_divisor)
    inside = inside if within is None else inside & within
    labels, matched = _label(anchors, inside, boxes, valid, positive_iou, negative_iou, convention)
    if area_ranges is not None:
        near = _near_others(anchors, boxes, valid, to_float32(area_ranges), ignored_iou, convention)
        labels = tf.reshape(tf.where(near, IGNORED, labels[:, None]), [-1, tf.shape(anchors)[0]])
        matched, boxes = (tf.repeat(t, area_ranges.shape[1], axis=0) for t in (matched, boxes))
    labels = _draw(labels, seed, batch_per_image, int(fg_fraction * batch_per_image))
    foreground = (labels == FOREGROUND)[..., None]
    # Slot 0 stands for "no ground truth": index -1.
    matched_boxes = tf.gather(tf.pad(boxes, [[0, 0], [1, 0], [0, 0]]), matched + 1, batch_dims=1)
    matched_boxes = tf.where(foreground, matched_boxes, anchors)  # padding has no size to take a logarithm of
    targets = tf.where(foreground, encode(anchors, matched_boxes, convention=convention), 0.0)
    return RpnTargets(labels, targets)


def _label(anchors, inside, boxes, valid, positive_iou: float, negative_iou: float, convention):
    """Labels int32 [B, N] before the draw, and the index int32 [B, N] of the best box, -1 where there is none."""
    # An anchor outside the image takes no part: it neither is nor hides the nearest one.
    matches = match_boxes(anchors[None], boxes, valid, box_valid=inside, convention=convention)
    labels = tf.where(matches.iou < negative_iou, BACKGROUND, IGNORED)
    labels = tf.where(matches.nearest | (matches.iou >= positive_iou), FOREGROUND, labels)
    return tf.where(inside, labels, IGNORED), matches.index


def _inside(anchors: tf.Tensor, info: tf.Tensor, border: float) -> tf.Tensor:
    x1, y1, x2, y2 = tf.unstack(anchors, 4, axis=-1)
    height, width = info[:, :1], info[:, 1:2]
    return (x1 >= -border) & (y1 >= -border) & (x2 < width + border) & (y2 < height + border)


def _near_others(anchors, boxes, valid, ranges, ignored_iou: float, convention: str) -> tf.Tensor:
    """Bool [B, K, N]: the anchor overlaps a box outside the branch's range by more than `ignored_iou`."""
    size = area(boxes, convention)
    near = []
    for low, high in (tf.unstack(own, axis=-1) for own in tf.unstack(tf.square(ranges), axis=1)):
        others = valid & ((size < low[:, None]) | (size > high[:, None]))
        near.append(match_best(anchors[None], boxes, others, convention).iou > ignored_iou)
    return tf.stack(near, axis=1)


def _draw(labels: tf.Tensor, seed, total: int, max_foreground: int) -> tf.Tensor:
    fg_seed, bg_seed = split_seed(seed, 2)
    foreground, background = labels == FOREGROUND, labels == BACKGROUND
    limit = tf.fill(tf.shape(labels)[:1], max_foreground)
    foreground = random_subset(foreground, limit, fg_seed, max_foreground)
    room = total - tf.reduce_sum(tf.cast(foreground, tf.int32), axis=1)
    background = random_subset(background, room, bg_seed, total)
    return tf.where(foreground, FOREGROUND, tf.where(background, BACKGROUND, IGNORED))
