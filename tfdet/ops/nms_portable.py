"""Suppression with TensorFlow's own ops, which any program can load: what `tfdet.ops.nms` calls without custom ops."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfdet.ops.boxes import extra_pixel
from tfdet.structures import Detections


def is_number(boxes: tf.Tensor, convention: str) -> tf.Tensor:
    """Whether the coordinates of float32 boxes [..., 4], and their area, are finite; bool [...]."""
    edges = as_edges(boxes, convention)
    area = (edges[..., 2] - edges[..., 0]) * (edges[..., 3] - edges[..., 1])
    return tf.reduce_all(tf.math.is_finite(boxes), axis=-1) & tf.math.is_finite(area)


def nms(
    boxes: tf.Tensor,
    scores: tf.Tensor,
    strict_threshold: float,
    max_output_size: int,
    convention: str,
    score_threshold: float,
) -> tuple[tf.Tensor, tf.Tensor]:
    """`tfdet.ops.nms.nms` of float32 boxes [B, N, 4] and scores [B, N]: indices and their number."""
    scores = _usable_scores(boxes, scores, convention)
    boxes = as_edges(boxes, convention)

    def one_image(inputs):
        return kernel(*inputs, max_output_size, strict_threshold, score_threshold)

    indices, num_valid = tf.map_fn(
        one_image,
        (boxes, scores),
        fn_output_signature=(tf.TensorSpec([max_output_size], tf.int32), tf.TensorSpec([], tf.int32)),
    )
    kept = tf.range(max_output_size) < num_valid[:, None]
    return tf.where(kept, indices, -1), num_valid


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
    """`tfdet.ops.nms.multiclass_nms` of float32 boxes [B, N, 1 or C, 4] and scores [B, N, C].

    Runs on the CPU: a few boxes a class pass the score threshold, for which TensorFlow's kernel is slower on a GPU.
    """
    with tf.device("CPU:0"):
        scores = _usable_scores(boxes, scores, convention)
        shape = tf.shape(scores)
        batch, num_boxes, num_classes = shape[0], shape[1], shape[2]
        by_class = tf.reshape(tf.transpose(scores, [0, 2, 1]), [batch * num_classes, num_boxes])
        arguments = as_edges(boxes, convention), by_class, num_classes, max_detections
        if method == "hard":
            indices, kept_scores = _hard_by_class(*arguments, strict_threshold, score_threshold)
        else:
            lowered = decay(method, strict_threshold, sigma)
            indices, kept_scores = _soft_by_class(*arguments, lowered, score_threshold)

        # Over all classes. One more row of candidates keeps the top-k valid when there is no class at all.
        kept_scores = tf.reshape(kept_scores, [batch, num_classes * max_detections])
        kept_scores = tf.pad(kept_scores, [[0, 0], [0, max_detections]], constant_values=-np.inf)
        best_scores, position = tf.math.top_k(kept_scores, max_detections)
        valid = best_scores > -np.inf
        position = tf.where(valid, position, 0)
        classes = position // max(max_detections, 1)
        box_index = tf.gather(
            tf.pad(tf.reshape(indices, [batch, num_classes * max_detections]), [[0, 0], [0, max_detections]]),
            position,
            batch_dims=1,
        )
        box_set = tf.where(tf.shape(boxes)[2] > 1, classes, 0)
        padded = tf.pad(boxes, [[0, 0], [0, 1], [0, 1], [0, 0]])
        best_boxes = tf.gather_nd(padded, tf.stack([box_index, box_set], axis=-1), batch_dims=1)
        return Detections(
            boxes=tf.where(valid[..., None], best_boxes, 0.0),
            scores=tf.where(valid, best_scores, 0.0),
            classes=tf.where(valid, classes, -1),
            num_valid=tf.reduce_sum(tf.cast(valid, tf.int32), axis=1),
        )


def _usable_scores(boxes: tf.Tensor, scores: tf.Tensor, convention: str) -> tf.Tensor:
    """Scores, minus infinity for what must not be kept; the leading dimensions of both broadcast."""
    return tf.where(is_number(boxes, convention) & ~tf.math.is_nan(scores), scores, -np.inf)


def _hard_by_class(edges, by_class, num_classes, max_detections: int, threshold: float, score_threshold: float):
    """Indices and scores [B * C, D] of what is kept in each class; unused ones have score minus infinity."""
    shape = tf.shape(edges)
    num_boxes, box_sets = shape[1], shape[2]  # 1 or C sets
    sets = tf.reshape(tf.transpose(edges, [0, 2, 1, 3]), [shape[0] * box_sets, num_boxes, 4])

    def one_class(index):
        box_set = index // num_classes * box_sets + tf.minimum(index % num_classes, box_sets - 1)
        return kernel(sets[box_set], by_class[index], max_detections, threshold, score_threshold)

    indices, counts = tf.map_fn(
        one_class,
        tf.range(tf.shape(by_class)[0]),
        fn_output_signature=(tf.TensorSpec([max_detections], tf.int32), tf.TensorSpec([], tf.int32)),
    )
    kept = tf.range(max_detections) < counts[:, None]
    # One more box, so that the padding of `indices` can be gathered when there is no box at all.
    kept_scores = tf.gather(tf.pad(by_class, [[0, 0], [0, 1]]), indices, batch_dims=1)
    return indices, tf.where(kept, kept_scores, -np.inf)


def decay(method: str, strict_threshold: float, sigma: float):
    """The function from IoU to what a soft method multiplies scores by."""
    if method == "gaussian":
        return lambda iou: tf.exp(-(iou * iou) / sigma)
    return lambda iou: tf.where(iou > strict_threshold, 1.0 - iou, 1.0)


def corners(edges: tf.Tensor) -> list[tf.Tensor]:
    """x1, y1, x2, y2 in order and the area, float32 [...] each, of `as_edges` [..., 4]; 0 where not finite."""
    edges = tf.where(tf.math.is_finite(edges), edges, 0.0)
    low, high = tf.minimum(edges[..., :2], edges[..., 2:]), tf.maximum(edges[..., :2], edges[..., 2:])
    x1, y1, x2, y2 = tf.unstack(tf.concat([low, high], axis=-1), 4, axis=-1)
    return [x1, y1, x2, y2, (x2 - x1) * (y2 - y1)]


def overlap(one: list[tf.Tensor], other: list[tf.Tensor]) -> tf.Tensor:
    """IoU of boxes that are given by `corners`; 0 where neither has an area."""
    (ax1, ay1, ax2, ay2, a_area), (bx1, by1, bx2, by2, b_area) = one, other
    width = tf.maximum(tf.minimum(ax2, bx2) - tf.maximum(ax1, bx1), 0.0)
    height = tf.maximum(tf.minimum(ay2, by2) - tf.maximum(ay1, by1), 0.0)
    intersection = width * height
    return tf.math.divide_no_nan(intersection, a_area + b_area - intersection)


def _soft_by_class(edges, by_class, num_classes, max_detections: int, lowered, score_threshold: float):
    """As `_hard_by_class`, but every kept box multiplies the scores of the rest of its class by `lowered(IoU)`."""
    edges = tf.pad(edges, [[0, 0], [0, 1], [0, 0], [0, 0]])  # a box to take when there is none
    scores = tf.pad(by_class, [[0, 0], [0, 1]], constant_values=-np.inf)
    problems, num_boxes = tf.shape(scores)[0], tf.shape(scores)[1]
    sets = tf.transpose(edges, [0, 2, 1, 3])  # [B, 1 or C, N, 4]
    sets = tf.broadcast_to(sets, tf.stack([tf.shape(edges)[0], num_classes, num_boxes, 4]))
    boxes = corners(tf.reshape(sets, [problems, num_boxes, 4]))

    def step(row, scores, indices, kept_scores):
        best = tf.argmax(scores, axis=1, output_type=tf.int32)  # the first of equals
        best_score = tf.gather(scores, best, batch_dims=1)
        live = best_score > score_threshold
        taken = [tf.gather(values, best[:, None], batch_dims=1) for values in boxes]
        decayed = scores * lowered(overlap(taken, boxes))
        gone = (tf.range(num_boxes) == best[:, None]) | tf.math.is_nan(decayed)
        return (
            row + 1,
            tf.ensure_shape(tf.where(gone, -np.inf, decayed), scores.shape),
            indices.write(row, tf.where(live, best, 0)),
            kept_scores.write(row, tf.where(live, best_score, -np.inf)),
        )

    rows = [tf.TensorArray(dtype, max_detections, element_shape=[None]) for dtype in (tf.int32, tf.float32)]
    _, _, indices, kept_scores = tf.while_loop(lambda row, *_: row < max_detections, step, (0, scores, *rows))
    return tf.transpose(indices.stack()), tf.transpose(kept_scores.stack())


def as_edges(boxes: tf.Tensor, convention: str) -> tf.Tensor:
    """Boxes whose plain x2 - x1 is the width: TensorFlow's kernels know no other."""
    extra = extra_pixel(convention)
    return boxes + tf.constant([0.0, 0.0, extra, extra])


def kernel(edges, scores, max_output_size: int, threshold: float, score_threshold: float, pad: bool = True):
    """TensorFlow's NMS of one set: strict on both thresholds, first index on ties. IoU is symmetric in x and y.

    Args:
        edges: of `as_edges`, float32 [N, 4].
        scores: float32 [N].
        max_output_size, threshold, score_threshold: K and the two thresholds.
        pad: fill the result up to K.

    Returns:
        Indices int32 [K or fewer], and how many count.
    """
    indices, count = tf.raw_ops.NonMaxSuppressionV4(
        boxes=edges,
        scores=scores,
        max_output_size=max_output_size,
        iou_threshold=threshold,
        score_threshold=score_threshold,
        pad_to_max_output_size=pad,
    )
    return tf.ensure_shape(indices, [max_output_size if pad else None]), count
