"""Proposals with TensorFlow's own ops, which any program can load: `tfdet.ops.proposals` without custom ops."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfdet.ops import native, nms_exchange, nms_portable
from tfdet.ops.anchors import grid_anchors
from tfdet.ops.box_coding import MAX_LOG_RATIO, decode
from tfdet.ops.boxes import CONTINUOUS, LEGACY, area, clip_to_image, sizes
from tfdet.structures import Proposals


def foreground_probability(logits: tf.Tensor) -> tf.Tensor:
    """Softmax over background and foreground: [B, H, W, 2A] in SimpleDet's order -> [B, H, W, A]."""
    shape = tf.shape(logits)
    anchors = logits.shape[-1] // 2
    blocks = tf.reshape(logits, [shape[0], shape[1], shape[2], 2, anchors])
    return tf.nn.softmax(tf.transpose(blocks, [0, 1, 2, 4, 3]))[..., 1]


def one_level(
    scores: tf.Tensor,
    deltas: tf.Tensor,
    cell_anchors,
    stride: int,
    image_info: tf.Tensor,
    pre_nms_top_n: int,
    post_nms_top_n: int,
    strict_threshold: float,
    min_size: float,
    variant: str,
    area_range: tf.Tensor | None,
) -> Proposals:
    """`tfdet.ops.proposals.generate_proposals` of one feature map, from probabilities."""
    shape = tf.shape(scores)
    batch, height, width = shape[0], shape[1], shape[2]
    if variant != "v3":
        scores = _mask_padding(scores, image_info, stride)
    scores = tf.reshape(scores, [batch, height * width * scores.shape[-1]])
    anchors = grid_anchors(cell_anchors, stride, height, width)
    deltas = tf.reshape(deltas, [batch, tf.shape(scores)[1], 4])
    boxes = decode(anchors, deltas, max_log_ratio=MAX_LOG_RATIO if variant == "v3" else None)
    boxes = clip_to_image(boxes, image_info)
    if variant == "v2" and area_range is not None:
        bounds = tf.square(area_range)
        areas = area(boxes)
        scores = tf.where((bounds[:, :1] <= areas) & (areas <= bounds[:, 1:]), scores, -1.0)
    if variant in ("v1", "v2") and min_size > 0:
        smallest = min_size * image_info[:, 2, None]
        boxes, scores = _grow_small(boxes, scores, smallest, 1.0, min_size * image_info[:, 2, None, None])

    convention = CONTINUOUS if variant == "symbolic" else LEGACY
    usable = nms_portable.is_number(boxes, convention) & ~tf.math.is_nan(scores)
    scores = tf.where(usable, scores, -np.inf)
    top_n = tf.minimum(pre_nms_top_n, tf.shape(scores)[1])
    scores, order = tf.math.top_k(scores, top_n)  # stable: the lower index first
    boxes = tf.gather(boxes, order, batch_dims=1)
    usable = scores > -np.inf
    if variant == "v3":
        smallest = max(min_size, 1.0)
        boxes, scores = _grow_small(boxes, scores, smallest, image_info[:, 2, None], smallest)
    elif variant == "symbolic":
        usable &= scores > 0

    # Suppression goes down the sorted rows, not the scores: a box that fell to -1 after sorting keeps its turn.
    turn = tf.where(usable, -tf.cast(tf.range(top_n), tf.float32), -np.inf)
    lowest = float(np.finfo(np.float32).min)
    twin = nms_exchange if native.exchanged() else nms_portable
    indices, _ = twin.nms(boxes, turn, strict_threshold, post_nms_top_n, convention, lowest)
    return _take(boxes, scores, indices, -1.0 if variant == "symbolic" else 0.0)


def _mask_padding(scores: tf.Tensor, image_info: tf.Tensor, stride: int) -> tf.Tensor:
    """Scores [B, H, W, A] with -1 in the cells that lie, even in part, beyond the image content."""
    live = tf.floor(image_info[:, :2] / float(stride))
    row = tf.cast(tf.range(tf.shape(scores)[1]), tf.float32)[None, :] < live[:, 0, None]
    column = tf.cast(tf.range(tf.shape(scores)[2]), tf.float32)[None, :] < live[:, 1, None]
    return tf.where(row[:, :, None, None] & column[:, None, :, None], scores, -1.0)


def _grow_small(boxes, scores, smallest, scale, growth):
    """SimpleDet's FilterBox: boxes whose side / scale is below `smallest` grow by `growth` and score -1."""
    width, height = sizes(boxes)
    width, height = (width - 1.0) / scale + 1.0, (height - 1.0) / scale + 1.0
    small = (width < smallest) | (height < smallest)
    half = growth / 2.0 * tf.constant([-1.0, -1.0, 1.0, 1.0])
    return tf.where(small[..., None], boxes + half, boxes), tf.where(small, -1.0, scores)


def _take(boxes, scores, indices, missing: float) -> Proposals:
    kept = indices >= 0
    # One more row, so that an index exists even when there was no candidate at all.
    boxes, scores = tf.pad(boxes, [[0, 0], [0, 1], [0, 0]]), tf.pad(scores, [[0, 0], [0, 1]])
    indices = tf.maximum(indices, 0)
    return Proposals(
        boxes=tf.where(kept[..., None], tf.gather(boxes, indices, batch_dims=1), missing),
        scores=tf.where(kept, tf.gather(scores, indices, batch_dims=1), missing),
    )
