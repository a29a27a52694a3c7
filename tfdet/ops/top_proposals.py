"""Region proposals as Detectron2 and torchvision take them: boxes in continuous coordinates, sorted by their logits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfdet.errors import UserError
from tfdet.ops.box_coding import MAX_LOG_RATIO, decode
from tfdet.ops.boxes import CONTINUOUS, clip_to_image, sizes, to_float32
from tfdet.ops.nms import nms
from tfdet.structures import Proposals


def top_proposals(
    logits: Sequence[tf.Tensor],
    deltas: Sequence[tf.Tensor],
    anchors: Sequence[tf.Tensor],
    image_info,
    pre_nms_top_n: int,
    post_nms_top_n: int,
    iou_threshold: float = 0.7,
    min_size: float = 0.0,
) -> Proposals:
    """The best boxes of several feature maps after suppression within each. No gradient flows through it.

    Of every map the `pre_nms_top_n` largest logits are decoded, dw and dh at most ln(1000 / 16), clipped to the image
    content, dropped where a side is 0 or below `min_size`, and suppressed at an IoU above the threshold; then the best
    of all maps are taken. Suppression by batched NMS over the levels, as both programs write it, is the same.

    Args:
        logits: of each map [B, H, W, A], any float dtype; the score is their sigmoid, which keeps the order.
        deltas: of each map [B, H, W, 4 * A], channel 4 * a + k.
        anchors: of each map float32 [H * W * A, 4].
        image_info: float32 [B, 3], height and width of the image content first.
        pre_nms_top_n: candidates kept before suppression, per map.
        post_nms_top_n: P, rows of the result.
        iou_threshold: in [0, 1].
        min_size: smallest side in pixels of the network input (torchvision: 1e-3).

    Returns:
        Proposals with P rows, best first; the scores are logits. Missing ones are zero boxes of score minus infinity.

    Raises:
        UserError: when the lists differ in length, or `iou_threshold` is out of range.

    Source: Detectron2 modeling/proposal_generator/proposal_utils.py, find_top_rpn_proposals; torchvision
    models/detection/rpn.py, filter_proposals.
    """
    if not len(logits) == len(deltas) == len(anchors) or not logits:
        raise UserError(
            "top_proposals: expected one entry a level. "
            f"Received: {len(logits)} logits, {len(deltas)} deltas, {len(anchors)} anchors"
        )
    image_info = to_float32(image_info)
    found = []
    for level_logits, level_deltas, level_anchors in zip(logits, deltas, anchors, strict=True):
        level_logits, level_deltas = (tf.stop_gradient(t) for t in to_float32(level_logits, level_deltas))
        found.append(
            _one_level(
                level_logits,
                level_deltas,
                level_anchors,
                image_info,
                pre_nms_top_n,
                post_nms_top_n,
                iou_threshold,
                min_size,
            )
        )
    boxes, scores = (tf.concat(parts, axis=1) for parts in zip(*found, strict=True))
    missing = tf.maximum(0, post_nms_top_n - tf.shape(scores)[1])
    boxes = tf.pad(boxes, [[0, 0], [0, missing], [0, 0]])
    scores = tf.pad(scores, [[0, 0], [0, missing]], constant_values=-np.inf)
    scores, order = tf.math.top_k(scores, post_nms_top_n)
    return Proposals(tf.gather(boxes, order, batch_dims=1), scores)


def _one_level(logits, deltas, anchors, image_info, pre_nms_top_n, post_nms_top_n, iou_threshold, min_size):
    batch, count = tf.shape(logits)[0], tf.shape(anchors)[0]
    logits = tf.reshape(logits, [batch, count])
    logits = tf.where(tf.math.is_nan(logits), -np.inf, logits)
    logits, order = tf.math.top_k(logits, tf.minimum(pre_nms_top_n, count))
    deltas = tf.gather(tf.reshape(deltas, [batch, count, 4]), order, batch_dims=1)
    boxes = decode(tf.gather(anchors, order), deltas, convention=CONTINUOUS, max_log_ratio=MAX_LOG_RATIO)
    finite = tf.reduce_all(tf.math.is_finite(boxes), axis=-1)
    boxes = clip_to_image(boxes, image_info, CONTINUOUS)
    width, height = sizes(boxes, CONTINUOUS)
    large = (width > 0.0) & (height > 0.0) & (width >= min_size) & (height >= min_size)
    logits = tf.where(large & finite, logits, -np.inf)
    kept, _ = nms(boxes, logits, iou_threshold, post_nms_top_n, convention=CONTINUOUS)
    exists, kept = kept >= 0, tf.maximum(kept, 0)
    # One more row, so that an index exists even when there was no candidate at all.
    boxes, logits = tf.pad(boxes, [[0, 0], [0, 1], [0, 0]]), tf.pad(logits, [[0, 0], [0, 1]])
    return (
        tf.where(exists[..., None], tf.gather(boxes, kept, batch_dims=1), 0.0),
        tf.where(exists, tf.gather(logits, kept, batch_dims=1), -np.inf),
    )
