"""COCO's matching and precision of every class, IoU and range of sizes or shapes at once; equal to pycocotools'."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from tfdet.report.analysis.scene import Instances, Scene

IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)

FALSE, TRUE, IGNORED = 0, 1, 2
"""What a detection is at one IoU: found nothing, found an object, or not counted."""

_NEARLY_ONE = 1 - 1e-10  # COCO's: an overlap of 1 less rounding is 1


class Range(NamedTuple):
    """Objects that are measured alone: others are ignored, and detections beyond it that found nothing."""

    name: str
    by: str  # "area" in pixels, or "ratio": width by height of the box
    low: float
    high: float

    def outside(self, instances: Instances) -> np.ndarray:
        """bool [N]: which instances the range leaves out."""
        if self.by == "area":
            value = instances.area
        else:
            value = instances.box[:, 2] / np.maximum(instances.box[:, 3], 1e-9)
        return (value < self.low) | (value > self.high)


ALL = Range("all", "area", 0.0, 1e10)
SIZES = (
    Range("small", "area", 0.0, 32.0**2),
    Range("medium", "area", 32.0**2, 96.0**2),
    Range("large", "area", 96.0**2, 1e10),
)
SHAPES = (
    Range("very tall", "ratio", 0.0, 1 / 3),
    Range("tall", "ratio", 1 / 3, 3 / 4),
    Range("square", "ratio", 3 / 4, 4 / 3),
    Range("wide", "ratio", 4 / 3, 3.0),
    Range("very wide", "ratio", 3.0, np.inf),
)
RANGES = (ALL, *SIZES, *SHAPES)


@dataclasses.dataclass(frozen=True)
class Matches:
    """What became of every detection and object.

    Attributes:
        ranges: R of them, the first is `ALL`.
        state: int8 [N, R, 10], `FALSE`, `TRUE` or `IGNORED` for each detection, range and IoU.
        object_of: int64 [N], the object that a detection found at IoU 0.5; -1 for none, a crowd or an ignored one.
        counts: int64 [R, C], objects that are measured.
    """

    ranges: tuple[Range, ...]
    state: np.ndarray
    object_of: np.ndarray
    counts: np.ndarray


class Precision(NamedTuple):
    """Precision and recall as `COCOeval.eval` has them; -1 where a class has no object."""

    precision: np.ndarray  # float64 [10, 101, C, R]
    recall: np.ndarray  # float64 [10, C, R]

    def ap(self, which: int = 0, iou: int | None = None) -> float:
        """Mean AP over the classes, 0..1; -1 where there is none. Args: which, index of the range; iou, of the IoU."""
        values = self.precision[:, :, :, which] if iou is None else self.precision[iou, :, :, which]
        return _mean(values)

    def class_ap(self, label: int, which: int = 0, iou: int | None = None) -> float:
        """AP of a class, 0..1; -1 where it has no object."""
        values = self.precision[:, :, label, which] if iou is None else self.precision[iou, :, label, which]
        return _mean(values)

    def mean_recall(self, which: int = 0) -> float:
        """COCO's AR of 100 detections."""
        return _mean(self.recall[:, :, which])


def _mean(values: np.ndarray) -> float:
    valid = values[values > -1]
    return float(valid.mean()) if valid.size else -1.0


def match(scene: Scene, ranges: tuple[Range, ...] = RANGES) -> Matches:
    """Assigns detections to objects by COCO's rule: the best first, each to the free object it overlaps most.

    Source: pycocotools cocoeval.py, `evaluateImg`: an object that counts goes before one that is ignored, of equal
    overlaps the later one; crowds are found any number of times.
    """
    truth, found, pairs = scene.truth, scene.found, scene.pairs
    limits = np.minimum(IOUS, _NEARLY_ONE)
    ignored = np.stack([truth.crowd | limit.outside(truth) for limit in ranges])
    state = np.zeros([len(found), len(ranges), len(IOUS)], np.int8)
    object_of = np.full(len(found), -1, np.int64)
    taken = np.zeros([len(truth), len(ranges), len(IOUS)], bool)
    near = pairs.where((pairs.iou >= limits[0]) & (found.label[pairs.found] == truth.label[pairs.truth]))
    above = near.iou[:, None] >= limits
    begins = np.flatnonzero(np.diff(near.found, prepend=-1))
    for begin, end in zip(begins.tolist(), [*begins[1:].tolist(), len(near.found)]):
        detection, objects = near.found[begin], near.truth[begin:end]
        free = ~taken[objects] | truth.crowd[objects, None, None]  # [objects, R, 10]
        free &= above[begin:end, None, :]
        if end == begin + 1:
            hit, place = free[0], np.zeros(free.shape[1:], np.int64)
        else:
            rank = np.where(free, near.iou[begin:end, None, None], -1.0)
            rank += np.where(free & ~ignored[:, objects].T[:, :, None], 2.0, 0.0)
            place = len(objects) - 1 - np.argmax(rank[::-1], axis=0)
            hit = free.any(axis=0)
        chosen = objects[place]
        is_ignored = np.take_along_axis(ignored, chosen, axis=1)
        state[detection][hit] = np.where(is_ignored, IGNORED, TRUE)[hit]
        which, iou = np.nonzero(hit)
        taken[chosen[which, iou], which, iou] = True
        if hit[0, 0] and not is_ignored[0, 0]:
            object_of[detection] = chosen[0, 0]
    outside = np.stack([limit.outside(found) for limit in ranges], axis=1)
    state[(state == FALSE) & outside[:, :, None]] = IGNORED
    counts = np.stack([np.bincount(truth.label[~skip], minlength=len(scene.classes)) for skip in ignored])
    return Matches(ranges, state, object_of, counts)


def precision(scene: Scene, matches: Matches) -> Precision:
    """COCO's precision at 101 recalls. Source: pycocotools cocoeval.py, `accumulate`."""
    num_classes, num_ranges = len(scene.classes), len(matches.ranges)
    values = np.full([len(IOUS), len(RECALLS), num_classes, num_ranges], -1.0)
    recalls = np.full([len(IOUS), num_classes, num_ranges], -1.0)
    for label, which_ones in enumerate(by_class(scene.found, num_classes)):
        for which in range(num_ranges):
            count = matches.counts[which, label]
            if count == 0:
                continue
            state = matches.state[which_ones, which].T  # [10, n]
            true = np.cumsum(state == TRUE, axis=1, dtype=float)
            false = np.cumsum(state == FALSE, axis=1, dtype=float)
            share = true / (false + true + np.spacing(1))
            share = np.maximum.accumulate(share[:, ::-1], axis=1)[:, ::-1]
            recalls[:, label, which] = true[:, -1] / count if true.shape[1] else 0.0
            for iou in range(len(IOUS)):
                places = np.searchsorted(true[iou] / count, RECALLS, side="left")
                reached = places < share.shape[1]
                values[iou, reached, label, which] = share[iou, places[reached]]
                values[iou, ~reached, label, which] = 0.0
    return Precision(values, recalls)


def by_class(found: Instances, num_classes: int) -> list[np.ndarray]:
    """The detections of each class, best first; of equal scores those of earlier images first."""
    order = np.lexsort((-found.score, found.label))
    bounds = np.searchsorted(found.label[order], np.arange(num_classes + 1))
    return [order[begin:end] for begin, end in zip(bounds[:-1], bounds[1:])]
