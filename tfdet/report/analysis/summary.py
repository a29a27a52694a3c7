"""All that is computed of one scene, and its figures for json."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from tfdet.report.analysis.images import ImageErrors, Outcome, at_thresholds, confusion, image_errors
from tfdet.report.analysis.matching import ALL, RECALLS, SHAPES, SIZES, Matches, Precision, match, precision
from tfdet.report.analysis.scene import Scene
from tfdet.report.analysis.thresholds import (
    SCORES,
    Calibration,
    ScoreCurve,
    best_thresholds,
    calibrate,
    score_curves,
)
from tfdet.report.analysis.tide import Tide, split_errors

_DECIMALS = 4  # of figures in json


@dataclasses.dataclass(frozen=True)
class Analysis:
    """What is behind the AP of a scene."""

    scene: Scene
    matches: Matches
    precision: Precision
    tide: Tide
    curves: list[ScoreCurve]  # of each class
    together: ScoreCurve  # of all detections, whatever their class
    thresholds: np.ndarray  # float64 [C], at which errors are counted
    calibration: Calibration
    outcome: Outcome
    confusion: np.ndarray  # int64 [C + 1, C + 1]
    errors: list[ImageErrors]  # of images that have some, the worst first

    @property
    def num_objects(self) -> int:
        """Objects that count."""
        return int(self.matches.counts[0].sum())

    def missed_by_size(self) -> dict[str, int]:
        """How many of the objects that nothing is near to are small, medium and large, as COCO has it."""
        missed = self.tide.missed
        return {size.name: int((missed & ~size.outside(self.scene.truth)).sum()) for size in SIZES}

    def missed_by_class(self) -> np.ndarray:
        """int64 [C]: of which classes the objects are that nothing is near to."""
        return np.bincount(self.scene.truth.label[self.tide.missed], minlength=len(self.scene.classes))

    def confused(self, most: int = 10) -> list[tuple[int, int, int]]:
        """True class, detected class and how often, the most frequent first."""
        table = self.confusion[:-1, :-1].copy()
        np.fill_diagonal(table, 0)
        order = np.argsort(-table, axis=None, kind="stable")[:most]
        pairs = [(int(place) // len(table), int(place) % len(table)) for place in order] if table.size else []
        return [(true, found, int(table[true, found])) for true, found in pairs if table[true, found]]


def analyse(scene: Scene, score_threshold: float | None = None) -> Analysis:
    """Computes everything.

    Args:
        scene: data and detections.
        score_threshold: from which score on a detection counts among the errors; None: that of the best F1 of its
            class.
    """
    matches = match(scene)
    curves, together = score_curves(scene, matches)
    best = best_thresholds(curves, together)
    thresholds = best if score_threshold is None else np.full(len(scene.classes), float(score_threshold))
    tide = split_errors(scene)
    outcome = at_thresholds(scene, matches, thresholds)
    return Analysis(
        scene=scene,
        matches=matches,
        precision=precision(scene, matches),
        tide=tide,
        curves=curves,
        together=together,
        thresholds=thresholds,
        calibration=calibrate(scene, matches),
        outcome=outcome,
        confusion=confusion(scene, outcome),
        errors=image_errors(scene, tide, outcome),
    )


def figures(analysis: Analysis) -> dict[str, Any]:
    """The figures of an analysis, ready for json: AP and shares 0..1, None where there is nothing to measure."""
    precision, scene, tide = analysis.precision, analysis.scene, analysis.tide
    classes = []
    for label, name in enumerate(scene.classes):
        curve = analysis.curves[label]
        classes.append(
            {
                "name": name,
                "objects": curve.num_objects,
                "AP": plain(precision.class_ap(label)),
                "AP50": plain(precision.class_ap(label, iou=0)),
                "AP75": plain(precision.class_ap(label, iou=5)),
                "threshold": float(analysis.thresholds[label]),
                "best_f1": plain(curve.best_f1) if curve.best is not None else None,
                "precision_at_best_f1": plain(curve.best_precision) if curve.best is not None else None,
                "recall_at_best_f1": plain(curve.best_recall) if curve.best is not None else None,
                "precision_at_iou50": plain(precision.precision[0, :, label, 0]),
                "scores": _curve(curve),
            }
        )
    return {
        "AP": plain(precision.ap()),
        "AP50": plain(precision.ap(iou=0)),
        "AP75": plain(precision.ap(iou=5)),
        "AR100": plain(precision.mean_recall()),
        "objects": analysis.num_objects,
        "detections": len(scene.found),
        "by_size": _ranges(analysis, SIZES, 1),
        "by_shape": _ranges(analysis, SHAPES, 1 + len(SIZES)),
        "errors": {
            "iou": 0.5,
            "AP50": plain(tide.ap / 100),
            "cost": {name: plain(value / 100) for name, value in tide.costs.items()},
            "cost_false_positives": plain(tide.false_positives / 100),
            "cost_false_negatives": plain(tide.false_negatives / 100),
            "count": tide.counts,
            "missed_by_size": analysis.missed_by_size(),
        },
        "recalls": plain(RECALLS),
        "classes": classes,
        "all_classes": {
            "threshold": analysis.together.best,
            "best_f1": plain(analysis.together.best_f1),
            "scores": _curve(analysis.together),
        },
        "confusion": {
            "rows": "true class, the last background",
            "columns": "detected class, the last missed",
            "names": [*scene.classes, None],
            "counts": analysis.confusion.tolist(),
        },
        "calibration": {
            "expected_error": plain(analysis.calibration.error),
            "expected_error_of_all": plain(analysis.calibration.error_of_all),
            "counts": analysis.calibration.counts.tolist(),
            "mean_scores": plain(analysis.calibration.scores),
            "precision": plain(analysis.calibration.precision),
        },
        "images_with_errors": len(analysis.errors),
    }


def plain(value: Any) -> Any:
    """A figure or an array of them for json, rounded; None for -1 and for what is no number."""
    if isinstance(value, np.ndarray):
        return [plain(entry) for entry in value.tolist()]
    if value is None or math.isnan(value) or value == -1:
        return None
    return round(float(value), _DECIMALS)


def _curve(curve: ScoreCurve) -> dict[str, Any]:
    return {
        "score": plain(SCORES),
        "precision": plain(curve.precision),
        "recall": plain(curve.recall),
        "f1": plain(curve.f1),
    }


def _ranges(analysis: Analysis, ranges: tuple, first: int) -> dict[str, Any]:
    assert analysis.matches.ranges[0] is ALL
    return {
        entry.name: {
            "AP": plain(analysis.precision.ap(first + number)),
            "AP50": plain(analysis.precision.ap(first + number, iou=0)),
            "objects": int(analysis.matches.counts[first + number].sum()),
        }
        for number, entry in enumerate(ranges)
    }
