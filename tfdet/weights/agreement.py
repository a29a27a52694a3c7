"""Whether two lists of detections of one image are the same, in NumPy: by their best ones, by number, by class.

A share of pairs alone would hide the detection that matters most: a list of a hundred without its best has 99 %.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

MIN_IOU, MAX_SCORE_GAP = 0.99, 1e-3
"""Of two detections that count as one."""

BEST = 20
"""So many detections with the highest scores must be on the other side, of either list."""

MAX_UNMATCHED, MAX_COUNT_GAP = 0.02, 0.02
"""Shares of the larger list: without counterpart, and by which the lengths may differ."""


class Rows(NamedTuple):
    """Boxes of one image; scores, classes and masks where they have them."""

    boxes: np.ndarray  # float [N, 4]
    scores: np.ndarray | None = None  # float [N]
    classes: np.ndarray | None = None  # int [N]
    masks: np.ndarray | None = None  # bool [N, H, W], of the image's size

    def best(self) -> np.ndarray:
        """Indices of the rows with the highest scores, at most `BEST`; the first rows where there are no scores."""
        count = len(self.boxes)
        order = np.arange(count) if self.scores is None else np.argsort(-self.scores, kind="stable")
        return order[:BEST]


class Measure(NamedTuple):
    """A share or a count of rows, and how large it may be."""

    name: str
    value: float
    limit: float

    @property
    def passed(self) -> bool:
        """Whether it is within its limit; what is not a number is not."""
        return bool(self.value <= self.limit)


def matched_pairs(theirs: Rows, ours: Rows, max_score_gap: float = MAX_SCORE_GAP) -> list[tuple[int, int]]:
    """Greedy pairs (their row, our row): same class, IoU above 0.99, scores at most so far apart; best of theirs first.

    What passes through top-k and NMS has no fixed order. What either side lacks is not compared.
    """
    iou = pairwise_iou(theirs.boxes, ours.boxes)
    usable = iou > MIN_IOU
    if theirs.scores is not None and ours.scores is not None:
        usable &= np.abs(theirs.scores[:, None] - ours.scores[None]) < max_score_gap
    if theirs.classes is not None and ours.classes is not None:
        usable &= theirs.classes[:, None] == ours.classes[None]
    iou = np.where(usable, iou, -1.0)
    pairs = []
    order = np.arange(len(iou)) if theirs.scores is None else np.argsort(-theirs.scores, kind="stable")
    for row in order.tolist():
        best = int(iou[row].argmax()) if iou.shape[1] else -1
        if best >= 0 and iou[row, best] > 0:
            pairs.append((row, best))
            iou[:, best] = -1.0
    return pairs


def measures(theirs: Rows, ours: Rows, what: str = "detections", max_score_gap: float = MAX_SCORE_GAP) -> list[Measure]:
    """All that two lists must have in common, as figures with their limits.

    - rows without counterpart, of the larger list;
    - of the best rows of either side those without one. A row whose score is within `max_score_gap` of the last one of
      the other list, or below it, may have been cut off there, and is not asked for;
    - by how much the lengths differ;
    - rows whose counterpart is of another class;
    - masks of paired rows, where both sides have masks: see `mask_measures`.

    Boxes or scores that are not numbers match nothing.
    """
    count, own_count = len(theirs.boxes), len(ours.boxes)
    pairs = matched_pairs(theirs, ours, max_score_gap)
    larger = max(count, own_count, 1)
    matched, own_matched = ({pair[side] for pair in pairs} for side in (0, 1))
    result = [
        Measure(f"{what} without counterpart", (max(count, own_count) - len(pairs)) / larger, MAX_UNMATCHED),
        Measure(f"best {what} that are not here", _lost(theirs, matched, ours, max_score_gap), 0),
        Measure(f"best {what} that are only here", _lost(ours, own_matched, theirs, max_score_gap), 0),
        Measure(f"{what} more or fewer", abs(count - own_count) / larger, MAX_COUNT_GAP),
    ]
    if theirs.classes is not None:
        left, own_left = (
            Rows(side.boxes[rest], None if side.scores is None else side.scores[rest])
            for side, rest in ((theirs, _rest(count, matched)), (ours, _rest(own_count, own_matched)))
        )
        confused = len(matched_pairs(left, own_left, max_score_gap))
        result.append(Measure(f"{what} of another class", confused, 0))
    if theirs.masks is not None and ours.masks is not None:
        result += mask_measures(theirs.masks, ours.masks, pairs, theirs.best())
    return result


def pairwise_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU of continuous boxes [N, 4] and [M, 4], float64 [N, M]."""
    a, b = a.astype(np.float64)[:, None], b.astype(np.float64)[None]
    size = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None)
    shared = size[..., 0] * size[..., 1]
    areas = [(c[..., 2] - c[..., 0]) * (c[..., 3] - c[..., 1]) for c in (a, b)]
    return shared / np.maximum(areas[0] + areas[1] - shared, 1e-12)


def _lost(side: Rows, matched: set[int], other: Rows, gap: float) -> int:
    """The best rows without counterpart."""
    return sum(1 for row in _surely_kept(side, other, gap) if row not in matched)


def _surely_kept(side: Rows, other: Rows, gap: float) -> Iterator[int]:
    """The best rows that the other list cannot have cut off."""
    ends = side.scores is not None and other.scores is not None and len(other.scores) > BEST
    last = np.min(other.scores) + gap if ends else -np.inf
    for row in side.best():
        if side.scores is None or not side.scores[row] <= last:
            yield int(row)


def _rest(count: int, matched: set[int]) -> np.ndarray:
    return np.array([row for row in range(count) if row not in matched], np.int64)


# Masks

MAX_PIXELS = 0.02
"""Of all pixels inside the stored masks: how many may differ."""

_SMALL_MASK, _ONE_MASK = 6, 0.1
"""A mask differs where more pixels do than these, and than this share of its own."""


def mask_measures(theirs, ours, pairs: list[tuple[int, int]], best) -> list[Measure]:
    """What the masks of paired detections must have in common, as figures with their limits.

    A share of the image's pixels says nothing: most are outside every mask, and a mask that is gone is a few of them.

    Args:
        theirs, ours: bool [N, H, W] and [M, H, W], masks of the image's size.
        pairs: of `matched_pairs`.
        best: rows of `theirs` each of whose masks must be the same.
    """
    if theirs.shape[1:] != ours.shape[1:]:
        return [Measure(f"masks of {ours.shape[1:]} pixels, not {theirs.shape[1:]}", np.inf, 0)]
    differing, area, wrong = 0, 0, set()
    for row, own in pairs:
        pixels, size = int((theirs[row] ^ ours[own]).sum()), int(theirs[row].sum())
        differing, area = differing + pixels, area + size
        if pixels > max(_SMALL_MASK, _ONE_MASK * size) or bool(size) != bool(ours[own].any()):
            wrong.add(row)
    return [
        Measure("mask pixels that differ", differing / max(area, 1), MAX_PIXELS),
        Measure("masks that differ", len(wrong) / max(len(pairs), 1), MAX_UNMATCHED),
        Measure("masks of the best detections that differ", len(wrong & {int(row) for row in best}), 0),
    ]
