"""Box voting: a detection takes the mean place of all boxes that agree with it."""

from __future__ import annotations

import tensorflow as tf

from tfdet.ops.boxes import LEGACY, to_float32
from tfdet.ops.iou import pairwise_iou
from tfdet.structures import Candidates, Detections


def vote_boxes(
    detections: Detections,
    candidates: Candidates,
    iou_threshold: float,
    score_threshold: float = 0.0,
    convention: str = LEGACY,
) -> Detections:
    """Moves each detection to the mean of the boxes of its class near it, weighted by their scores.

    Near is an IoU of at least `iou_threshold` with the detection as suppression left it. Scores, classes and order
    stay. Boxes that suppression would not keep either (a coordinate or score that is not a number) do not vote.

    Args:
        detections: of suppression, from `candidates`.
        candidates: what was suppressed, in the pixels of the detections.
        iou_threshold: in (0, 1].
        score_threshold: only boxes with a higher score vote.
        convention: of the IoU, `"legacy_plus_one"` (default) or `"continuous"`.

    Returns:
        Detections with other boxes. Padded rows stay zero.

    Source: Gidaris and Komodakis, Object Detection via a Multi-Region and Semantic Segmentation-Aware CNN Model,
    ICCV 2015.
    """
    boxes, scores = to_float32(candidates.boxes, candidates.scores)
    is_list = candidates.classes is not None
    by_class = not is_list and boxes.shape[2] > 1
    classes = tf.maximum(detections.classes, 0)
    if is_list:
        same = classes[:, :, None] == candidates.classes[:, None]
        own_scores = tf.where(same, scores[:, None], 0.0)  # [B, D, N]
    else:
        own_scores = tf.gather(tf.transpose(scores, [0, 2, 1]), classes, batch_dims=1)
    if by_class:
        voters = tf.gather(tf.transpose(boxes, [0, 2, 1, 3]), classes, batch_dims=1)  # [B, D, N, 4]
    else:
        voters = boxes[:, None] if is_list else boxes[:, None, :, 0]  # [B, 1, N, 4]: all detections see the same boxes
    finite = tf.reduce_all(tf.math.is_finite(voters), axis=-1)
    voters = tf.where(finite[..., None], voters, 0.0)
    if by_class:
        iou = pairwise_iou(detections.boxes[:, :, None], voters, convention)[:, :, 0]
    else:
        iou = pairwise_iou(detections.boxes, voters[:, 0], convention)
    votes = finite & (iou >= iou_threshold) & (own_scores > score_threshold) & tf.math.is_finite(own_scores)
    weights = tf.where(votes, own_scores, 0.0)
    total = tf.reduce_sum(weights, axis=-1, keepdims=True)
    # No matmul: a GPU may round its factors to TF32, which at 1000 pixels is half a pixel.
    summed = tf.stack([tf.reduce_sum(weights * voters[..., k], axis=-1) for k in range(4)], axis=-1)
    # Nobody votes for a box without area: it stays.
    moved = (total > 0.0) & (detections.classes >= 0)[..., None]
    return detections._replace(boxes=tf.where(moved, tf.math.divide_no_nan(summed, total), detections.boxes))
