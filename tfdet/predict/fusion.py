"""Boxes that several looks at one image gave -> one box an object: suppression and weighted box fusion, in numpy."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Fused(NamedTuple):
    """Boxes made of several.

    Attributes:
        boxes: float64 [N, 4], edges `[x1, y1, x2, y2]`, best first.
        scores: float64 [N].
        classes: int64 [N].
        members: N arrays of the numbers of the boxes that each is made of, best first.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    members: list[np.ndarray]


def intersections(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """The area that a box [4] shares with each of boxes [N, 4], edges `[x1, y1, x2, y2]`: float64 [N]."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    return np.prod(np.maximum(high - low, 0.0), axis=1)


def areas(boxes: np.ndarray) -> np.ndarray:
    """Of boxes [N, 4], edges: float64 [N]."""
    return np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0), axis=1)


def intersection_over_union(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Of a box [4] and each of boxes [N, 4], edges: float64 [N]; 0 of boxes without an area."""
    shared = intersections(box, boxes)
    union = areas(box[None])[0] + areas(boxes) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def suppress(boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, iou_threshold: float = 0.5) -> np.ndarray:
    """Greedy non-maximum suppression, each class for itself.

    Args:
        boxes: float [N, 4], edges `[x1, y1, x2, y2]`.
        scores: float [N].
        classes: int [N].
        iou_threshold: a box that overlaps a better one by more is left out.

    Returns:
        int64 [K], the boxes that are kept, best first; of equal scores the first comes first.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    kept = []
    for kind in np.unique(classes):
        waiting = order[classes[order] == kind]
        while len(waiting):
            best, rest = waiting[0], waiting[1:]
            kept.append(best)
            waiting = rest[intersection_over_union(boxes[best], boxes[rest]) <= iou_threshold]
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return np.array(sorted(kept, key=lambda index: rank[index]), np.int64)


def weighted_box_fusion(
    boxes: np.ndarray,
    scores: np.ndarray,
    classes: np.ndarray,
    iou_threshold: float = 0.55,
    num_models: int | None = None,
) -> Fused:
    """Weighted box fusion: boxes that overlap become their mean, weighted by score, in place of the best of them.

    Of each class, best first, a box joins the cluster whose mean it overlaps most and by more than the threshold, or
    begins one. A cluster's score is the mean of its boxes' scores.

    Args:
        boxes: float [N, 4], edges `[x1, y1, x2, y2]`, of all models; those without an area are left out.
        scores: float [N].
        classes: int [N].
        iou_threshold: from which overlap on a box belongs to a cluster.
        num_models: T, by how many models the boxes were found: the score of a cluster of n < T boxes is then lowered
            to n/T of it. None: it is not, for looks that do not all see the same.

    Returns:
        The clusters, best first.

    Source: Solovyev, Wang and Gabruseva, "Weighted boxes fusion", Image and Vision Computing 107 (2021), equations
    1 to 5.
    """
    boxes, scores = np.asarray(boxes, np.float64).reshape(-1, 4), np.asarray(scores, np.float64)
    order = np.argsort(-scores, kind="stable")
    order = order[areas(boxes[order]) > 0]
    means: list[np.ndarray] = []
    members: list[list[int]] = []
    kinds: list[int] = []
    for kind in np.unique(classes):
        first = len(means)
        for index in order[classes[order] == kind]:
            overlap = intersection_over_union(boxes[index], np.reshape(means[first:], (-1, 4)))
            place = int(np.argmax(overlap)) if len(overlap) else -1
            if place < 0 or overlap[place] <= iou_threshold:
                means.append(boxes[index])
                members.append([index])
                kinds.append(int(kind))
                continue
            members[first + place].append(index)
            means[first + place] = _mean(boxes, scores, members[first + place])
    own = np.array([scores[cluster].mean() for cluster in members])
    if num_models is not None:
        own = own * [min(num_models, len(cluster)) / num_models for cluster in members]
    ranked = np.argsort(-own, kind="stable")
    return Fused(
        np.reshape(means, (-1, 4))[ranked],
        own[ranked],
        np.array(kinds, np.int64)[ranked],
        [np.array(members[place]) for place in ranked],
    )


def _mean(boxes: np.ndarray, scores: np.ndarray, members: list[int]) -> np.ndarray:
    weights = scores[members]
    if weights.sum() <= 0:
        return boxes[members].mean(axis=0)
    return weights @ boxes[members] / weights.sum()


def moved_mask(mask: np.ndarray, box: np.ndarray, new_box: np.ndarray) -> np.ndarray:
    """A mask of one box's inside as it is within another box, sampled bilinearly, zero where the first does not reach.

    Args:
        mask: float32 [M, M], probabilities.
        box: float [4], edges `[x1, y1, x2, y2]` that it fills.
        new_box: float [4], of the result.

    Returns:
        float32 [M, M].
    """
    padded = np.pad(np.asarray(mask, np.float32), 1)
    rows, columns = (_taps(len(mask), box[axis::2], new_box[axis::2]) for axis in (1, 0))
    across = padded[:, columns[0]] * (1 - columns[1]) + padded[:, columns[0] + 1] * columns[1]
    return across[rows[0]] * (1 - rows[1][:, None]) + across[rows[0] + 1] * rows[1][:, None]


def _taps(size: int, span: np.ndarray, new_span: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each of `size` new cells: the first of the two padded cells it lies between, and the share of the second."""
    centres = new_span[0] + (np.arange(size) + 0.5) / size * (new_span[1] - new_span[0])
    place = (centres - span[0]) / max(float(span[1] - span[0]), 1e-6) * size + 0.5  # of the padded cells' centres
    place = np.clip(place, 0, size + 1)
    low = np.minimum(place.astype(np.int64), size)
    return low, (place - low).astype(np.float32)
