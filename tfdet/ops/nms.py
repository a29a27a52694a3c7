"""Greedy non-maximum suppression of one class, and of every class of a detector's output."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfdet.errors import UserError
from tfdet.ops.boxes import LEGACY, extra_pixel, to_float32
from tfdet.structures import Detections


class NmsResult(NamedTuple):
    """What survives, best first."""

    indices: tf.Tensor  # int32 [B, K], into the boxes; -1 where fewer survive
    num_valid: tf.Tensor  # int32 [B]


def nms(
    boxes,
    scores,
    iou_threshold: float,
    max_output_size: int,
    inclusive: bool = False,
    convention: str = LEGACY,
    score_threshold: float | None = None,
) -> NmsResult:
    """Keeps the best box, drops those that overlap it too much, and goes on with the best of the rest.

    Equal scores are taken in the order of their index. A box with a coordinate or score that is not a number is
    never kept, nor is one of score minus infinity.

    Args:
        boxes: float32 [B, N, 4].
        scores: float32 [B, N].
        iou_threshold: in [0, 1]; boxes with a larger IoU are dropped.
        max_output_size: K.
        inclusive: drop also at an IoU equal to the threshold (SimpleDet's Proposal_v3); threshold above 0 then.
        convention: of the IoU, `"legacy_plus_one"` (default) or `"continuous"`.
        score_threshold: keep only boxes with a score above it; None for no bound.

    Returns:
        NmsResult with indices int32 [B, K] and num_valid int32 [B].

    Raises:
        UserError: when `iou_threshold` is out of range.

    Source: SimpleDet operator_py/nms.py, py_nms; operator_cxx/contrib/proposal.cu, _nms.
    """
    threshold = _threshold(iou_threshold, inclusive)
    boxes, scores = to_float32(boxes, scores)
    scores = tf.where(_is_number(boxes) & ~tf.math.is_nan(scores), scores, -np.inf)
    lowest = np.finfo(np.float32).min if score_threshold is None else score_threshold
    boxes = _as_edges(boxes, convention)

    def one_image(inputs):
        return _kernel(*inputs, max_output_size, threshold, lowest)

    indices, num_valid = tf.map_fn(
        one_image,
        (boxes, scores),
        fn_output_signature=(tf.TensorSpec([max_output_size], tf.int32), tf.TensorSpec([], tf.int32)),
    )
    kept = tf.range(max_output_size) < num_valid[:, None]
    return NmsResult(tf.where(kept, indices, -1), num_valid)


def multiclass_nms(
    boxes,
    scores,
    score_threshold: float,
    iou_threshold: float,
    max_detections: int,
    convention: str = LEGACY,
) -> Detections:
    """Suppression inside every class, then the best detections over all classes.

    Of one class no more than `max_detections` can be among the best, so bounding each class by it loses nothing.
    Equal scores are taken in the order class, then box. Runs on the CPU: a few boxes a class pass the score
    threshold, for which a GPU is slower.

    Args:
        boxes: float32 [B, N, C or 1, 4]; with 1 all classes share the boxes of a row.
        scores: float32 [B, N, C], without background.
        score_threshold: keep only scores above it.
        iou_threshold: in [0, 1]; a larger IoU inside a class suppresses.
        max_detections: D.
        convention: of the IoU, `"legacy_plus_one"` (default) or `"continuous"`.

    Returns:
        Detections padded to D with zero boxes, score 0 and class -1, in the pixels of `boxes`.

    Raises:
        UserError: when `iou_threshold` is out of range.

    Source: SimpleDet detection_test.py (per-class NMS, then the best max_det_per_image).
    """
    threshold = _threshold(iou_threshold, inclusive=False)
    with tf.device("CPU:0"):
        boxes, scores = to_float32(boxes, scores)
        scores = tf.where(_is_number(boxes) & ~tf.math.is_nan(scores), scores, -np.inf)
        shape = tf.shape(scores)
        batch, num_boxes, num_classes = shape[0], shape[1], shape[2]
        box_sets = tf.shape(boxes)[2]  # 1 or C
        by_class = tf.reshape(tf.transpose(scores, [0, 2, 1]), [batch * num_classes, num_boxes])
        edges = tf.reshape(tf.transpose(_as_edges(boxes, convention), [0, 2, 1, 3]), [batch * box_sets, num_boxes, 4])

        def one_class(index):
            box_set = index // num_classes * box_sets + tf.minimum(index % num_classes, box_sets - 1)
            return _kernel(edges[box_set], by_class[index], max_detections, threshold, score_threshold)

        indices, counts = tf.map_fn(
            one_class,
            tf.range(batch * num_classes),
            fn_output_signature=(tf.TensorSpec([max_detections], tf.int32), tf.TensorSpec([], tf.int32)),
        )
        kept = tf.range(max_detections) < counts[:, None]
        # One more box, so that the padding of `indices` can be gathered when there is no box at all.
        kept_scores = tf.gather(tf.pad(by_class, [[0, 0], [0, 1]]), indices, batch_dims=1)
        kept_scores = tf.where(kept, kept_scores, -np.inf)

        # Over all classes. One more row of candidates keeps the top-k valid when there is no class at all.
        kept_scores = tf.reshape(kept_scores, [batch, num_classes * max_detections])
        kept_scores = tf.pad(kept_scores, [[0, 0], [0, max_detections]], constant_values=-np.inf)
        best_scores, position = tf.math.top_k(kept_scores, max_detections)
        valid = best_scores > -np.inf
        position = tf.where(valid, position, 0)
        classes = position // max_detections
        box_index = tf.gather(
            tf.pad(tf.reshape(indices, [batch, num_classes * max_detections]), [[0, 0], [0, max_detections]]),
            position,
            batch_dims=1,
        )
        which = tf.stack([box_index, tf.minimum(classes, box_sets - 1)], axis=-1)
        best_boxes = tf.gather_nd(tf.pad(boxes, [[0, 0], [0, 1], [0, 0], [0, 0]]), which, batch_dims=1)
        return Detections(
            boxes=tf.where(valid[..., None], best_boxes, 0.0),
            scores=tf.where(valid, best_scores, 0.0),
            classes=tf.where(valid, classes, -1),
            num_valid=tf.reduce_sum(tf.cast(valid, tf.int32), axis=1),
        )


def _threshold(iou_threshold: float, inclusive: bool) -> float:
    """The threshold for a kernel that suppresses strictly above it."""
    if not 0.0 <= iou_threshold <= 1.0 or (inclusive and iou_threshold == 0.0):
        raise UserError(f"nms: iou_threshold must be in [0, 1], above 0 if inclusive. Received: {iou_threshold}")
    threshold = np.float32(iou_threshold)
    return float(np.nextafter(threshold, np.float32(-1.0)) if inclusive else threshold)


def _is_number(boxes: tf.Tensor) -> tf.Tensor:
    return tf.reduce_all(tf.math.is_finite(boxes), axis=-1)


def _as_edges(boxes: tf.Tensor, convention: str) -> tf.Tensor:
    """Boxes whose plain x2 - x1 is the width: TensorFlow's kernels know no other."""
    extra = extra_pixel(convention)
    return boxes + tf.constant([0.0, 0.0, extra, extra])


def _kernel(edges, scores, max_output_size: int, threshold: float, score_threshold: float):
    """TensorFlow's NMS of one set: strict on both thresholds, first index on ties. IoU is symmetric in x and y."""
    indices, count = tf.raw_ops.NonMaxSuppressionV4(
        boxes=edges,
        scores=scores,
        max_output_size=max_output_size,
        iou_threshold=threshold,
        score_threshold=score_threshold,
        pad_to_max_output_size=True,
    )
    return tf.ensure_shape(indices, [max_output_size]), count
