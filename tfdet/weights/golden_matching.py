"""Pairs boxes of two programs: what passes through top-k and NMS has no fixed order."""

from __future__ import annotations

import numpy as np

MIN_IOU, MAX_SCORE_GAP = 0.99, 1e-3


def matched_pairs(boxes, scores, classes, own_boxes, own_scores, own_classes) -> list[tuple[int, int]]:
    """Greedy pairs (stored row, our row): same class, IoU above 0.99, scores at most 1e-3 apart; best stored first.

    Args: boxes float32 [N, 4], scores float32 [N] or None, classes int [N] or None, of the stored and of our rows.
    """
    iou = pairwise_iou(boxes, own_boxes)
    usable = iou > MIN_IOU
    if scores is not None:
        usable &= np.abs(scores[:, None] - own_scores[None]) < MAX_SCORE_GAP
    if classes is not None:
        usable &= classes[:, None] == own_classes[None]
    iou = np.where(usable, iou, -1.0)
    pairs = []
    for row in range(len(boxes)):
        best = int(iou[row].argmax()) if iou.shape[1] else -1
        if best >= 0 and iou[row, best] > 0:
            pairs.append((row, best))
            iou[:, best] = -1.0
    return pairs


def pairwise_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU of continuous boxes [N, 4] and [M, 4], float64 [N, M]."""
    a, b = a.astype(np.float64)[:, None], b.astype(np.float64)[None]
    size = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None)
    shared = size[..., 0] * size[..., 1]
    areas = [(c[..., 2] - c[..., 0]) * (c[..., 3] - c[..., 1]) for c in (a, b)]
    return shared / np.maximum(areas[0] + areas[1] - shared, 1e-12)
