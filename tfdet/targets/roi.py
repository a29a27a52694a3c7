"""Which proposals the second stage learns from, and what it should say about each."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from tfdet.errors import UserError
from tfdet.ops.box_coding import BOX_STD, encode
from tfdet.ops.boxes import CONTINUOUS, LEGACY, area, to_float32
from tfdet.ops.matching import match_best
from tfdet.ops.sampling import random_order, random_subset, split_seed
from tfdet.structures import RoiSamples


def roi_targets(
    proposals,
    boxes,
    classes,
    seed,
    num_rois: int | None = 512,
    fg_fraction: float = 0.25,
    fg_threshold: float = 0.5,
    bg_high: float = 0.5,
    bg_low: float = 0.0,
    append_gt: bool = True,
    box_std: Sequence[float] = BOX_STD,
    pad: str = "resize",
    keep_missing: bool = False,
    area_range=None,
    convention: str = LEGACY,
) -> RoiSamples:
    """Draws RoIs for the second stage: foreground first, then background.

    A proposal is foreground from an IoU of `fg_threshold` on, background from `bg_low` on and below `bg_high`.
    At most `fg_fraction * num_rois` foreground is drawn, and background for the rest. Where an image has too few, the
    gap is filled with proposals below `fg_threshold`, as background:
    `pad="resize"` puts each of them once, in random order, and repeats the first proposal for what is left (the
    revision of SimpleDet that the zoo's figures belong to); `pad="repeat"` repeats all of them (the later revision).
    Rows that even so have no proposal are zero boxes. `pad="ignore"` fills nothing: such rows are zero boxes of class
    -2, which no loss counts (Detectron2, torchvision).

    Proposals with y2 <= 0 (the missing ones; see `keep_missing`), or with a coordinate that is not a number, take no
    part; nor do, with continuous boxes, those without an area.

    Args:
        proposals: float32 [B, P, 4] in pixels of the network input.
        boxes: float32 [B, G, 4], ground truth.
        classes: int32 [B, G], -1 in padded slots.
        seed: int32 [2]; the result is a function of it and of the other arguments.
        num_rois: R, rows per image. None keeps every proposal, in whatever share, foreground first: R is P then
            (the later stages of a cascade, `image_rois = -1`).
        fg_fraction: largest share of foreground, in [0, 1].
        fg_threshold: least IoU of foreground.
        bg_high: IoU that background stays below.
        bg_low: least IoU of background.
        append_gt: let ground-truth boxes be drawn too.
        box_std: four floats that box targets are divided by.
        pad: `"resize"` (default), `"repeat"` or `"ignore"`.
        keep_missing: let missing proposals be drawn as background, as ProposalTarget_v2 of the first release does.
        area_range: float32 [B, 2], smallest and largest side, the root of the area in pixels of the network input, of
            the ground-truth boxes that `append_gt` lets be drawn; both included. All boxes are matched all the same.
        convention: of boxes, `"legacy_plus_one"` (default) or `"continuous"`.

    Returns:
        RoiSamples of R rows per image.

    Raises:
        UserError: when `pad` is unknown.

    Source: SimpleDet operator_cxx/proposal_target.cc, SampleROI; proposal_target-inl.h; proposal_target_v2-inl.h.
    """
    if pad not in ("resize", "repeat", "ignore"):
        raise UserError(f'roi_targets: pad must be "resize", "repeat" or "ignore". Received: {pad!r}')
    proposals, boxes = (tf.stop_gradient(t) for t in to_float32(proposals, boxes))
    classes = tf.cast(classes, tf.int32)
    gt_valid = classes >= 0
    if num_rois is None:
        num_rois, fg_fraction, append_gt = proposals.shape[1], 1.0, False
    candidates = tf.where(tf.math.is_finite(proposals), proposals, 0.0)
    valid = tf.reduce_all(tf.math.is_finite(proposals), axis=-1)
    if not keep_missing:
        valid &= candidates[..., 3] > 0.0
    if convention == CONTINUOUS:
        valid &= area(candidates, convention) > 0.0
    if append_gt:
        candidates = tf.concat([candidates, boxes], axis=1)
        joins = gt_valid
        if area_range is not None:
            low, high = tf.unstack(tf.square(to_float32(area_range))[:, None], axis=-1)
            joins &= (area(boxes, convention) >= low) & (area(boxes, convention) <= high)
        valid = tf.concat([valid, joins], axis=1)
    # At least R columns, so that R of them can be picked; and one that is a missing proposal for certain.
    extra = tf.maximum(1, num_rois - tf.shape(candidates)[1])
    candidates = tf.pad(candidates, [[0, 0], [0, extra], [0, 0]])
    valid = tf.pad(valid, [[0, 0], [0, extra]])

    matches = match_best(candidates, boxes, gt_valid, convention, box_valid=valid)
    foreground = valid & (matches.iou >= fg_threshold)
    background = valid & (matches.iou >= bg_low) & (matches.iou < bg_high)
    negative = valid & (matches.iou < fg_threshold)

    fg_seed, bg_seed, pad_seed = split_seed(seed, 3)
    max_foreground = int(num_rois * fg_fraction)
    limit = tf.fill(tf.shape(valid)[:1], max_foreground)
    foreground = random_subset(foreground, limit, fg_seed, max_foreground)
    num_foreground = tf.reduce_sum(tf.cast(foreground, tf.int32), axis=1)
    background = random_subset(background & ~foreground, num_rois - num_foreground, bg_seed, num_rois)
    num_drawn = num_foreground + tf.reduce_sum(tf.cast(background, tf.int32), axis=1)

    drawn = _in_order(foreground, background, num_rois)
    if pad == "ignore":
        filler = tf.shape(valid)[1] - 1  # the missing proposal
    else:
        filler = _fillers(valid, negative, num_drawn, pad_seed, num_rois, pad)
    row = tf.range(num_rois)[None, :]
    picked = tf.where(row < num_drawn[:, None], drawn, filler)
    is_foreground = row < num_foreground[:, None]

    rois = tf.gather(candidates, picked, batch_dims=1)
    matched = tf.where(tf.gather(valid, picked, batch_dims=1), tf.gather(matches.index, picked, batch_dims=1), -1)
    # Slot 0 stands for "no ground truth": index -1.
    own_boxes = tf.gather(tf.pad(boxes, [[0, 0], [1, 0], [0, 0]]), matched + 1, batch_dims=1)
    own_classes = tf.gather(tf.pad(classes, [[0, 0], [1, 0]], constant_values=-1), matched + 1, batch_dims=1)
    targets = encode(rois, own_boxes, std=box_std, convention=convention)
    other = tf.where(row < num_drawn[:, None], -1, -2) if pad == "ignore" else -1
    return RoiSamples(
        boxes=rois,
        classes=tf.where(is_foreground, own_classes, other),
        box_targets=tf.where(is_foreground[..., None], targets, 0.0),
        matched=matched,
    )


def _in_order(foreground: tf.Tensor, background: tf.Tensor, length: int) -> tf.Tensor:
    """Positions int32 [B, R]: the foreground by index, then the background by index, then anything."""
    size = tf.shape(foreground)[1]
    group = tf.where(foreground, 0, tf.where(background, 1, 2))
    rank = group * size + tf.range(size)  # below 2^24: exact in float32, which top_k handles on every device
    return tf.math.top_k(-tf.cast(rank, tf.float32), length).indices


def _fillers(valid, negative, num_drawn, seed, length: int, pad: str) -> tf.Tensor:
    """Positions int32 [B, R] for the rows from `num_drawn` on. The last column of `valid` is a missing proposal."""
    order, num_negative = random_order(negative, seed, length)
    num_negative = num_negative[:, None]
    turn = tf.maximum(tf.range(length)[None, :] - num_drawn[:, None], 0)  # of the gap
    missing = tf.shape(valid)[1] - 1
    if pad == "repeat":
        position = tf.gather(order, turn % tf.maximum(num_negative, 1), batch_dims=1)
        return tf.where(num_negative > 0, position, missing)
    first = tf.argmax(valid, axis=1, output_type=tf.int32)
    first = tf.where(tf.reduce_any(valid, axis=1), first, missing)[:, None]
    return tf.where(turn < num_negative, tf.gather(order, turn, batch_dims=1), first)
