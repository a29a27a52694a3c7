"""Greedy non-maximum suppression of one class, and greedy or soft one of every class of a detector's output."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import numpy as np
import tensorflow as tf

from tfdet.errors import UserError
from tfdet.ops import native, nms_exchange, nms_portable
from tfdet.ops.boxes import LEGACY, extra_pixel, to_float32
from tfdet.structures import Detections

NmsMethod = Literal["hard", "linear", "gaussian"]
METHODS = get_args(NmsMethod)

tf.no_gradient("TfdetBatchedNms")


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
    never kept, nor is one of score minus infinity, or one whose area overflows float32.

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
        UserError: when `iou_threshold` is out of range, or `convention` unknown.

    Source: SimpleDet operator_py/nms.py, py_nms; operator_cxx/contrib/proposal.cu, _nms.
    """
    check_nms(iou_threshold, inclusive, convention)
    boxes, scores = to_float32(boxes, scores)
    lowest = float(np.finfo(np.float32).min) if score_threshold is None else score_threshold
    if native.in_use():
        found = native.library().tfdet_batched_nms(
            boxes[:, :, None],
            scores[:, :, None],
            max_detections=max_output_size,
            iou_threshold=iou_threshold,
            score_threshold=lowest,
            inclusive=inclusive,
            convention=convention,
        )
        return NmsResult(found.indices, found.num_valid)
    threshold = strict_threshold(iou_threshold, inclusive)
    twin = nms_exchange if native.exchanged() else nms_portable
    return NmsResult(*twin.nms(boxes, scores, threshold, max_output_size, convention, lowest))


def multiclass_nms(
    boxes,
    scores,
    score_threshold: float,
    iou_threshold: float,
    max_detections: int,
    convention: str = LEGACY,
    method: NmsMethod = "hard",
    sigma: float = 0.5,
) -> Detections:
    """Suppression inside every class, then the best detections over all classes. No gradient flows through it.

    Of one class no more than `max_detections` can be among the best, so bounding each class by it loses nothing.
    Equal scores are taken in the order class, then box. The soft methods drop no box: each kept one multiplies the
    scores of the rest of its class by a weight that falls with their IoU, and those above `score_threshold` remain.

    Args:
        boxes: float32 [B, N, C or 1, 4]; with 1 all classes share the boxes of a row.
        scores: float32 [B, N, C], without background.
        score_threshold: keep only scores above it.
        iou_threshold: in [0, 1]; a larger IoU inside a class suppresses. Not used by `"gaussian"`.
        max_detections: D.
        convention: of the IoU, `"legacy_plus_one"` (default) or `"continuous"`.
        method: `"hard"` drops boxes (default); `"linear"` multiplies scores by 1 - IoU above `iou_threshold`;
            `"gaussian"` multiplies them by exp(-IoU^2 / sigma).
        sigma: above 0; of `"gaussian"`.

    Returns:
        Detections padded to D with zero boxes, score 0 and class -1, in the pixels of `boxes`. Scores of the soft
        methods are the lowered ones.

    Raises:
        UserError: when `iou_threshold` or `sigma` is out of range, or `convention` or `method` unknown.

    Source: SimpleDet detection_test.py (per-class NMS, then the best max_det_per_image) and operator_py/nms.py; Bodla
    et al., Soft-NMS: Improving Object Detection With One Line of Code, ICCV 2017.
    """
    check_nms(iou_threshold, convention=convention, method=method, sigma=sigma)
    boxes, scores = (tf.stop_gradient(t) for t in to_float32(boxes, scores))
    if native.in_use():
        found = native.library().tfdet_batched_nms(
            boxes,
            scores,
            max_detections=max_detections,
            iou_threshold=iou_threshold,
            score_threshold=score_threshold,
            convention=convention,
            method=method,
            sigma=sigma,
        )
        return Detections(found.detected_boxes, found.detected_scores, found.detected_classes, found.num_valid)
    threshold = strict_threshold(iou_threshold, False)
    twin = nms_exchange if native.exchanged() else nms_portable
    return twin.multiclass_nms(boxes, scores, score_threshold, threshold, max_detections, convention, method, sigma)


def strict_threshold(iou_threshold: float, inclusive: bool) -> float:
    """The threshold for a kernel that suppresses strictly above it."""
    threshold = np.float32(iou_threshold)
    return float(np.nextafter(threshold, np.float32(-1.0)) if inclusive else threshold)


def check_nms(
    iou_threshold: float, inclusive: bool = False, convention: str = LEGACY, method: str = "hard", sigma: float = 0.5
) -> None:
    """`UserError` where an argument of suppression is out of range or unknown."""
    if not 0.0 <= iou_threshold <= 1.0 or (inclusive and iou_threshold == 0.0):
        raise UserError(f"nms: iou_threshold must be in [0, 1], above 0 if inclusive. Received: {iou_threshold}")
    extra_pixel(convention)
    if method not in METHODS:
        raise UserError(f"nms: method must be one of {METHODS}. Received: {method!r}")
    if not 0.0 < sigma < np.inf:
        raise UserError(f"nms: sigma must be above 0. Received: {sigma}")
