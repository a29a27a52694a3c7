"""Precision, recall and F1 by score, the score from which each class is best shown, and how far scores can be trusted.

All at IoU 0.5, by COCO's matching; what lies in a crowd of its class does not count.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tfdet.report.analysis.matching import IGNORED, TRUE, Matches, by_class
from tfdet.report.analysis.scene import Scene

SCORES = np.arange(101) / 100
"""Where curves over the score are read."""

NO_THRESHOLD = 0.5
"""For data on which nothing was found: there is nothing to choose by."""

SHOWN_FROM = 0.3
"""The score from which `predict` shows detections: those that the calibration error is of."""

_BINS = 10
_DECIMALS = 4  # of a threshold, where they are enough to tell its detections from the next


class ScoreCurve(NamedTuple):
    """What is shown of one class, or of all together, at each score, and where it is best."""

    precision: np.ndarray  # float64 [101], at SCORES; NaN where nothing is shown
    recall: np.ndarray  # float64 [101]; NaN where there is no object
    f1: np.ndarray  # float64 [101]
    best: float | None  # the threshold of the highest F1; None where nothing that is found is right
    best_f1: float
    best_precision: float
    best_recall: float
    num_objects: int


class Calibration(NamedTuple):
    """Detections by their score: how many of them are right."""

    counts: np.ndarray  # int64 [10], detections with a score from k / 10 on
    scores: np.ndarray  # float64 [10], their mean score; NaN where there are none
    precision: np.ndarray  # float64 [10], the share that is right; NaN where there are none
    error: float | None  # expected calibration error of detections scored SHOWN_FROM and more, 0..1
    error_of_all: float | None  # of all


def score_curves(scene: Scene, matches: Matches) -> tuple[list[ScoreCurve], ScoreCurve]:
    """The curve of each class, and of all detections whatever their class."""
    groups = by_class(scene.found, len(scene.classes))
    state = matches.state[:, 0, 0]
    curves = [_curve(scene.found.score[own], state[own], int(count)) for own, count in zip(groups, matches.counts[0])]
    order = np.argsort(-scene.found.score, kind="stable")
    return curves, _curve(scene.found.score[order], state[order], int(matches.counts[0].sum()))


def best_thresholds(curves: list[ScoreCurve], together: ScoreCurve) -> np.ndarray:
    """The threshold of each class, float64 [C]; that of all classes together where a class has none of its own."""
    common = NO_THRESHOLD if together.best is None else together.best
    return np.array([common if curve.best is None else curve.best for curve in curves], np.float64)


def _curve(scores: np.ndarray, state: np.ndarray, count: int) -> ScoreCurve:
    """Of detections in the order of their scores, best first, and the number of objects."""
    scores, right = scores[state != IGNORED], state[state != IGNORED] == TRUE
    true = np.concatenate([[0], np.cumsum(right)])
    shown = np.searchsorted(-scores, -SCORES, side="right")
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = true[shown] / shown
        recall = true[shown] / count if count else np.full(len(SCORES), np.nan)
        f1 = 2 * true[shown] / (shown + count) if count else np.full(len(SCORES), np.nan)
    if not count or not right.any():
        return ScoreCurve(precision, recall, f1, None, 0.0, 0.0, 0.0, count)
    # Detections of one score are shown together: a cut lies behind the last of them.
    cuts = np.flatnonzero(np.diff(scores, append=-np.inf) < 0) + 1
    values = 2 * true[cuts] / (cuts + count)
    cut = int(cuts[np.argmax(values)])
    lowest = float(scores[cut - 1])
    following = float(scores[cut]) if cut < len(scores) else min(lowest, 0.0)
    return ScoreCurve(
        precision,
        recall,
        f1,
        _between(following, lowest),
        float(values.max()),
        float(true[cut] / cut),
        float(true[cut] / count),
        count,
    )


def _between(below: float, above: float) -> float:
    """A short number from which on `above` is shown and `below` is not."""
    middle = round((below + above) / 2, _DECIMALS)
    return middle if below < middle <= above else above


def calibrate(scene: Scene, matches: Matches) -> Calibration:
    """Sets scores against the share of detections that are right.

    Source of the error: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, in 10 bins of equal width.
    """
    counted = matches.state[:, 0, 0] != IGNORED
    scores, right = scene.found.score[counted], matches.state[counted, 0, 0] == TRUE
    bins = np.clip((scores * _BINS).astype(int), 0, _BINS - 1)
    counts = np.bincount(bins, minlength=_BINS)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(bins, scores, minlength=_BINS) / counts
        precision = np.bincount(bins, right, minlength=_BINS) / counts
    shown = scores >= SHOWN_FROM
    return Calibration(counts, mean, precision, _error(scores[shown], right[shown]), _error(scores, right))


def _error(scores: np.ndarray, right: np.ndarray) -> float | None:
    if not len(scores):
        return None
    bins = np.clip((scores * _BINS).astype(int), 0, _BINS - 1)
    return float(np.abs(np.bincount(bins, scores - right, minlength=_BINS)).sum() / len(scores))
