"""Suppression in the few ops that TensorFlow, ONNX, LiteRT and OpenVINO share: what `tfdet.ops.nms` calls in an export.

TensorFlow's kernel in a loop over classes needs lists of tensors, of several lengths where each class has a list of its
own; LiteRT has neither. Here all classes are suppressed together: the best box of all is taken, those of its class that
overlap it are dropped, and so on until there are enough. That keeps the same boxes, for what a class gives never rises.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfdet.ops.nms_portable import as_edges, corners, decay, is_number, kernel, overlap
from tfdet.structures import Detections


def nms(
    boxes: tf.Tensor,
    scores: tf.Tensor,
    strict_threshold: float,
    max_output_size: int,
    convention: str,
    score_threshold: float,
) -> tuple[tf.Tensor, tf.Tensor]:
    """`tfdet.ops.nms.nms` of one image: float32 boxes [1, N, 4] and scores [1, N]."""
    usable = is_number(boxes, convention) & ~(scores != scores)
    scores = tf.where(usable, scores, -np.inf)
    indices, count = kernel(
        as_edges(boxes, convention)[0], scores[0], max_output_size, strict_threshold, score_threshold
    )
    kept = tf.range(max_output_size) < count
    return tf.where(kept, indices, -1)[None], count[None]


def multiclass_nms(
    boxes: tf.Tensor,
    scores: tf.Tensor,
    score_threshold: float,
    strict_threshold: float,
    max_detections: int,
    convention: str,
    method: str,
    sigma: float,
) -> Detections:
    """`tfdet.ops.nms.multiclass_nms` of float32 boxes [1, N, 1 or C, 4] and scores [1, N, C], shares of one softmax.

    No more classes of a box than 1 / `score_threshold` can then have a score above it, so that the best pairs of a box
    and a class hold all that count.
    """
    sets, classes = boxes.shape[2], scores.shape[2]
    number = tf.shape(scores)[1]
    scores = tf.where((scores > score_threshold) & is_number(boxes, convention), scores, 0.0)
    scores = tf.reshape(tf.transpose(scores, [0, 2, 1]), [1, -1])  # equal scores: by class, then by box
    above = classes if score_threshold <= 0.0 else min(classes, int(1.0 / score_threshold))
    best, order = tf.math.top_k(scores, above * number)
    class_of, box = order // number, order % number
    row = box if sets == 1 else box * sets + class_of
    flat = tf.gather(tf.reshape(boxes, [-1, 4]), row[0])[None]
    weigh = weights(method, strict_threshold, sigma)
    return suppress(flat, best, class_of, max_detections, convention, weigh, score_threshold)


def weights(method: str, strict_threshold: float, sigma: float) -> Callable[[tf.Tensor], tf.Tensor]:
    """The function from IoU to what scores of the same class are multiplied by; "hard" drops them."""
    if method == "hard":
        return lambda iou: tf.where(iou > strict_threshold, 0.0, 1.0)
    return decay(method, strict_threshold, sigma)


def suppress(
    boxes: tf.Tensor,
    scores: tf.Tensor,
    classes: tf.Tensor,
    max_detections: int,
    convention: str,
    weigh: Callable[[tf.Tensor], tf.Tensor],
    score_threshold: float = 0.0,
) -> Detections:
    """The best of a list in which each box has one class; of equal scores the first.

    Args:
        boxes: float32 [1, N, 4].
        scores: float32 [1, N], 0 for what takes no part.
        classes: int32 [1, N].
        max_detections: D.
        convention: of the boxes.
        weigh: of `weights`.
        score_threshold: at least 0; only lowered scores above it remain.

    Returns:
        Detections padded to D.
    """
    # A row to take when there is none.
    boxes = tf.pad(boxes, [[0, 0], [0, 1], [0, 0]])[0]
    scores, classes = (tf.pad(values, [[0, 0], [0, 1]])[0] for values in (scores, classes))
    edges = corners(as_edges(boxes, convention))
    places, slots = tf.range(tf.shape(scores)[0]), tf.range(max_detections)

    def step(row, scores, taken, taken_scores):
        highest = tf.reduce_max(scores)
        # Not argmax: of equal scores programs take one or another.
        best = tf.reduce_min(tf.where(scores == highest, places, tf.shape(scores)[0] - 1))
        one = [tf.gather(values, best) for values in edges]
        same = classes == tf.gather(classes, best)
        lowered = scores * tf.where(same, weigh(overlap(one, edges)), 1.0)
        lowered = tf.where((places == best) | (lowered != lowered), 0.0, lowered)
        here = slots == row
        return row + 1, lowered, tf.where(here, best, taken), tf.where(here, highest, taken_scores)

    count, _, taken, taken_scores = tf.while_loop(
        lambda row, scores, *_: (row < max_detections) & (tf.reduce_max(scores) > score_threshold),
        step,
        (0, scores, tf.zeros([max_detections], tf.int32), tf.zeros([max_detections])),
    )
    valid = slots < count
    return Detections(
        boxes=tf.where(valid[:, None], tf.gather(boxes, taken), 0.0)[None],
        scores=taken_scores[None],
        classes=tf.where(valid, tf.gather(classes, taken), -1)[None],
        num_valid=count[None],
    )
