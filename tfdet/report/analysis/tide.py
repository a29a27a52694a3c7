"""TIDE: which kind of error costs how much AP.

Source: Bolya, Foley, Hays, Hoffman, "TIDE: A General Toolbox for Identifying Object Detection Errors", ECCV 2020, and
their program tidecv 1.0.1, whose figures these are. One thing is otherwise: a class without any object does not count
in the mean, as in COCO; tidecv takes its AP for 0 where something was found of it.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tfdet.report.analysis.scene import BACKGROUND_IOU, MATCH_IOU, Instances, Pairs, Scene

CLASS, PLACE, BOTH, DUPLICATE, BACKGROUND, MISSED = range(6)
KINDS = ("classification", "localisation", "both", "duplicate", "background", "missed")
NO_ERROR = -1

_RECALLS = np.arange(101) / 100
_MAX_DETECTIONS = 100  # of an image, all classes together


@dataclasses.dataclass(frozen=True)
class Tide:
    """The errors of a scene at IoU 0.5, and what each kind costs.

    Attributes:
        ap: AP at IoU 0.5, percent.
        costs: by `KINDS`, how many points the AP would be higher without these errors. They do not add up to what is
            missing: one error can hide another.
        false_positives, false_negatives: points for no false detection at all, and for no object that is not found.
        kind: int8 [N], of each detection, an index of `KINDS` or `NO_ERROR`.
        target: int64 [N], the object that a detection of another class or place is of; -1 where there is none.
        ignored: bool [N], detections that lie in a crowd of their class, or behind the best 100 of their image: no
            errors that count.
        missed: bool [G], objects that no detection is near to, whatever its class.
        counts: by `KINDS`, how many errors there are, without ignored ones.
    """

    ap: float
    costs: dict[str, float]
    false_positives: float
    false_negatives: float
    kind: np.ndarray
    target: np.ndarray
    ignored: np.ndarray
    missed: np.ndarray
    counts: dict[str, int]


def split_errors(scene: Scene) -> Tide:
    """Finds the errors and what each kind costs: the AP after repairing all of it, less the AP."""
    truth, found = scene.truth, scene.found
    counted = np.arange(len(found)) - found.starts[found.image] < _MAX_DETECTIONS
    pairs = scene.pairs.where(counted[scene.pairs.found] & ~truth.crowd[scene.pairs.truth])
    correct, used = _match(truth, found, pairs)
    in_crowd = _in_crowd(scene) & ~correct
    kind, target = _kinds(truth, found, pairs, correct, used)
    kind[~counted] = NO_ERROR
    points = _Points(truth, found, counted, correct, in_crowd, kind, target, used, len(scene.classes))
    ap = points.ap()
    costs = {name: max(points.without(number) - ap, 0.0) for number, name in enumerate(KINDS)}
    counts = {name: int(((kind == number) & ~in_crowd).sum()) for number, name in enumerate(KINDS)}
    counts[KINDS[MISSED]] = int(points.missed.sum())
    return Tide(
        ap=ap,
        costs=costs,
        false_positives=points.all_true_first() - ap,
        false_negatives=points.all_found() - ap,
        kind=kind,
        target=target,
        ignored=in_crowd | ~counted,
        missed=points.missed,
        counts=counts,
    )


def _match(truth: Instances, found: Instances, pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    """Which detections are correct, and which objects are found: the best first, each the free one it overlaps most."""
    near = pairs.where((pairs.iou >= MATCH_IOU) & (found.label[pairs.found] == truth.label[pairs.truth]))
    order = np.lexsort((near.truth, -near.iou, near.found))  # of equal overlaps the earlier object
    correct, used = np.zeros(len(found), bool), np.zeros(len(truth), bool)
    for detection, thing in zip(near.found[order].tolist(), near.truth[order].tolist()):
        if not correct[detection] and not used[thing]:
            correct[detection] = used[thing] = True
    return correct, used


def _in_crowd(scene: Scene) -> np.ndarray:
    truth, found, pairs = scene.truth, scene.found, scene.pairs
    inside = truth.crowd[pairs.truth] & (pairs.iou > MATCH_IOU)
    inside &= found.label[pairs.found] == truth.label[pairs.truth]
    lies = np.zeros(len(found), bool)
    lies[pairs.found[inside]] = True
    return lies


def _kinds(
    truth: Instances, found: Instances, pairs: Pairs, correct: np.ndarray, used: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The kind of each detection's error, and the object that it is of. The first kind that fits counts."""
    same = found.label[pairs.found] == truth.label[pairs.truth]
    same_iou, same_object = _best(pairs.where(same), len(found))
    other_iou, other_object = _best(pairs.where(~same), len(found))
    used_iou, _ = _best(pairs.where(same & used[pairs.truth]), len(found))
    any_iou = np.maximum(same_iou, other_iou)
    tests = (
        (PLACE, (same_iou >= BACKGROUND_IOU) & (same_iou <= MATCH_IOU)),
        (CLASS, other_iou >= MATCH_IOU),
        (DUPLICATE, used_iou >= MATCH_IOU),
        (BACKGROUND, any_iou <= BACKGROUND_IOU),
        (BOTH, np.ones(len(found), bool)),
    )
    kind = np.full(len(found), NO_ERROR, np.int8)
    for number, fits in tests:
        kind[fits & (kind == NO_ERROR) & ~correct] = number
    target = np.where(kind == PLACE, same_object, np.where(kind == CLASS, other_object, -1))
    return kind, target


def _best(pairs: Pairs, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each detection the largest overlap (0 where there is none) and the first object that has it (-1)."""
    order = np.lexsort((-pairs.truth, pairs.iou, pairs.found))  # what is written last stays
    iou, thing = np.zeros(count), np.full(count, -1, np.int64)
    iou[pairs.found[order]], thing[pairs.found[order]] = pairs.iou[order], pairs.truth[order]
    return iou, thing


class _Points:
    """Detections as points of precision-recall curves, and what becomes of them where errors are repaired."""

    def __init__(self, truth, found, counted, correct, in_crowd, kind, target, used, num_classes):
        self._truth, self._found, self._correct, self._kind = truth, found, correct, kind
        self._counts = np.bincount(truth.label[~truth.crowd], minlength=num_classes)
        self._unused = np.bincount(truth.label[~truth.crowd & ~used], minlength=num_classes)
        self._pushed = counted & ~in_crowd  # is a point as it is
        self._errors = np.flatnonzero(kind != NO_ERROR)
        # An object that is not found can be repaired once: by the best of the errors that are about it.
        about = self._errors[np.isin(kind[self._errors], (CLASS, PLACE))]
        about = about[~used[target[about]]]
        best = about[np.unique(target[about], return_index=True)[1]]  # detections are sorted by score
        self._repaired = np.zeros(len(found), bool)
        self._repaired[best] = True
        self._target = target
        self.missed = ~truth.crowd & ~used
        self.missed[target[best]] = False

    def ap(self) -> float:
        keep = np.flatnonzero(self._pushed)
        return self._mean(self._found.label[keep], self._found.score[keep], self._correct[keep], self._counts)

    def without(self, number: int) -> float:
        """The AP with all errors of a kind repaired."""
        if number == MISSED:
            lost = np.bincount(self._truth.label[self.missed], minlength=len(self._counts))
            return self._with_counts(self._counts - lost)
        errors = self._errors
        fixed = self._kind[errors] == number
        stays = np.where(fixed, self._repaired[errors] if number in (CLASS, PLACE) else False, self._pushed[errors])
        errors, fixed = errors[stays.astype(bool)], fixed[stays.astype(bool)]
        labels = self._found.label[errors]
        if number == CLASS:
            labels = np.where(fixed, self._truth.label[self._target[errors]], labels)
        return self._of(errors, fixed, labels, self._counts)

    def all_true_first(self) -> float:
        """The AP where every false detection had score 0."""
        keep = np.flatnonzero(self._pushed)
        correct = self._correct[keep]
        return self._mean(self._found.label[keep], correct.astype(float), correct, self._counts)

    def all_found(self) -> float:
        """The AP where nothing was there that was not found."""
        return self._with_counts(self._counts - self._unused)

    def _with_counts(self, counts: np.ndarray) -> float:
        errors = self._errors[self._pushed[self._errors]]
        return self._of(errors, np.zeros(len(errors), bool), self._found.label[errors], counts)

    def _of(self, errors: np.ndarray, are_true: np.ndarray, labels: np.ndarray, counts: np.ndarray) -> float:
        """Of errors as they are after a repair, and of what was correct, which tidecv adds behind them."""
        right = np.flatnonzero(self._correct)
        return self._mean(
            np.concatenate([labels, self._found.label[right]]),
            np.concatenate([self._found.score[errors], self._found.score[right]]),
            np.concatenate([are_true, np.ones(len(right), bool)]),
            counts,
        )

    def _mean(self, labels: np.ndarray, scores: np.ndarray, correct: np.ndarray, counts: np.ndarray) -> float:
        order = np.lexsort((-scores, labels))
        bounds = np.searchsorted(labels[order], np.arange(len(counts) + 1))
        aps = []
        for label in np.flatnonzero(self._counts):
            own = correct[order[bounds[label] : bounds[label + 1]]]
            if counts[label] > 0:
                aps.append(_average_precision(own, counts[label]))
            elif len(own):
                aps.append(0.0)  # of what is left of the class everything is wrong
        return 100.0 * float(np.mean(aps)) if aps else 0.0


def _average_precision(correct: np.ndarray, count: int) -> float:
    """AP of a class at 101 recalls. Args: correct, bool [n], best first; count, of objects."""
    true = np.cumsum(correct)
    precision = np.maximum.accumulate((true / np.arange(1, len(correct) + 1))[::-1])[::-1]
    places = np.searchsorted(true / count, _RECALLS, side="left")
    return float(precision[places[places < len(precision)]].sum() / len(_RECALLS))
