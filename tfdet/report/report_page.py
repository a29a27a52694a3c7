"""A report as one HTML page: figures become charts and tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tfdet.report import charts
from tfdet.report.analysis.advice import Advice, Context, advise, headline
from tfdet.report.analysis.matching import SHAPES, SIZES
from tfdet.report.analysis.summary import Analysis
from tfdet.report.error_pictures import error_pictures
from tfdet.report.page import figure_svg, render
from tfdet.report.run_logs import TRAIN_AP, OwnValues, RunLogs

_MATRIX_CLASSES = 16  # rows of a table that still can be looked at
_CONFUSED = 12

KIND_WORDS = {
    "classification": "the box is right, the class is not",
    "localisation": "the class is right, the box overlaps its object by 10 to 50%",
    "both": "wrong class and wrong place",
    "duplicate": "the object was found already, by a better detection",
    "background": "nothing is labelled there (overlap below 10%)",
    "missed": "no detection is near, of whatever class",
}


@dataclasses.dataclass(frozen=True)
class DataSide:
    """A data set, for the comparison of training and evaluation data."""

    name: str
    images: int
    counts: list[int]  # objects by class
    areas: np.ndarray  # float [n], of objects, or of a sample of them


@dataclasses.dataclass(frozen=True)
class Story:
    """What a report tells beside the analyses; what is not known is None or empty."""

    title: str
    made: str  # date and time
    model: Mapping[str, str]  # what was measured, line by line
    context: Context
    logs: RunLogs | None
    own: OwnValues | None
    train: DataSide | None
    data: DataSide
    versions: Mapping[str, str]
    notes: list[str]  # what was not measured as it is


def report_html(analyses: Mapping[str, Analysis], story: Story, read: Callable, num_worst: int) -> str:
    """The page.

    Args:
        analyses: by "boxes" and, where there are masks, "masks"; the last one's errors are drawn.
        story: what else is told.
        read: gives the picture of an image id; see `error_pictures`.
        num_worst: most images to draw.
    """
    drawn = list(analyses.values())[-1]
    return render(
        "report.html",
        story=story,
        headlines=[headline(analysis, what) for what, analysis in analyses.items()],
        advices=advices(analyses, story.context),
        parts=[_part(what, analysis) for what, analysis in analyses.items()],
        kind_words=KIND_WORDS,
        images=error_pictures(drawn, drawn.errors[:num_worst], read),
        num_wrong=len(drawn.errors),
        num_images=len(drawn.scene.image_ids),
        training=_training(story.logs),
        data=_data(story, drawn.scene.classes),
    )


def advices(analyses: Mapping[str, Analysis], context: Context) -> list[Advice]:
    """What the first screen says: of the boxes, and of masks what costs most there."""
    first, *others = analyses.items()
    said = advise(first[1], context)
    for what, analysis in others:
        own = advise(analysis, Context())[0]
        said.insert(1, Advice(f"In {what}: {own.what[:1].lower()}{own.what[1:]}", own.do))
    return said


def _part(what: str, analysis: Analysis) -> dict[str, Any]:
    scene = analysis.scene
    has_objects = analysis.num_objects > 0
    has_found = len(scene.found) > 0
    part: dict[str, Any] = {
        "what": what,
        "id": what,
        "tiles": _tiles(analysis),
        "tide": analysis.tide,
        "missed_by_size": analysis.missed_by_size(),
        "classes": _class_rows(analysis),
        "matrix": _matrix(analysis),
        "confused": _confused(analysis),
        "calibration": analysis.calibration,
        "together": analysis.together,
        "same_threshold": len(set(analysis.thresholds.tolist())) == 1,
        "charts": {},
    }
    sizes = [_range(analysis, 1 + number) for number in range(len(SIZES))]
    shapes = [_range(analysis, 1 + len(SIZES) + number) for number in range(len(SHAPES))]
    drawn: dict[str, tuple[Any, str]] = {}
    if has_objects:
        drawn["sizes"] = (
            charts.ranges([s.name for s in SIZES], *zip(*sizes), "AP (objects)"), "AP by size"
        )  # fmt: skip
        drawn["shapes"] = (
            charts.ranges([s.name for s in SHAPES], *zip(*shapes), "AP (objects)"), "AP by shape"
        )  # fmt: skip
        drawn["found_by_size"] = (charts.found_by_size(analysis), "objects found and missed by size")
        drawn["class_aps"] = (charts.class_aps(analysis), "AP by class")
    if has_objects and has_found:
        drawn["costs"] = (charts.error_costs(analysis), "what each kind of error costs")
        drawn["precision_recall"] = (charts.precision_recall(analysis), "precision over recall")
        drawn["scores"] = (charts.scores(analysis), "precision, recall and F1 over the score")
        drawn["class_scores"] = (charts.class_scores(analysis), "F1 over the score by class")
    if has_found and analysis.calibration.counts.any():
        drawn["reliability"] = (charts.reliability(analysis), "share of right detections over the score")
    part["charts"] = {name: figure_svg(figure, label) for name, (figure, label) in drawn.items()}
    return part


def _range(analysis: Analysis, which: int) -> tuple[float | None, int]:
    ap = analysis.precision.ap(which)
    return (None if ap < 0 else ap), int(analysis.matches.counts[which].sum())


def _tiles(analysis: Analysis) -> list[tuple[str, str]]:
    precision = analysis.precision
    figures = [
        ("AP", precision.ap()),
        ("AP50", precision.ap(iou=0)),
        ("AP75", precision.ap(iou=5)),
        *((f"AP {size.name}", precision.ap(1 + number)) for number, size in enumerate(SIZES)),
    ]
    tiles = [(_percent(value), name) for name, value in figures]
    error = analysis.calibration.error
    tiles.append((_percent(error), "calibration error, %"))
    return tiles


def _percent(value: float | None) -> str:
    return "–" if value is None or value < 0 else f"{100 * value:.1f}"


def _class_rows(analysis: Analysis) -> list[dict[str, Any]]:
    rows = []
    for label, name in enumerate(analysis.scene.classes):
        curve = analysis.curves[label]
        known = curve.best is not None
        rows.append(
            {
                "name": name,
                "objects": curve.num_objects,
                "ap": _percent(analysis.precision.class_ap(label)),
                "ap50": _percent(analysis.precision.class_ap(label, iou=0)),
                "threshold": f"{analysis.thresholds[label]:.3f}",
                "precision": _percent(curve.best_precision if known else None),
                "recall": _percent(curve.best_recall if known else None),
                "f1": _percent(curve.best_f1 if known else None),
            }
        )
    return rows


def _matrix(analysis: Analysis) -> dict[str, Any] | None:
    """The confusion of at most `_MATRIX_CLASSES` classes, those that are confused most; others together."""
    table, names = analysis.confusion, analysis.scene.classes
    count = len(names)
    if not table.any():
        return None
    chosen = np.arange(count)
    if count > _MATRIX_CLASSES:
        off = table[:count, :count].copy()
        np.fill_diagonal(off, 0)
        chosen = np.sort(np.argsort(-(off.sum(0) + off.sum(1)), kind="stable")[:_MATRIX_CLASSES])
    rest = np.setdiff1d(np.arange(count), chosen)
    groups = [*([index] for index in chosen), *([rest] if len(rest) else []), [count]]
    merged = np.array([[int(table[np.ix_(row, column)].sum()) for column in groups] for row in groups])
    labels = [*(names[index] for index in chosen), *([f"{len(rest)} other classes"] if len(rest) else [])]
    totals = np.maximum(merged.sum(axis=1, keepdims=True), 1)
    shares = np.round(100 * merged / totals).astype(int)
    rows = [
        {"name": name, "cells": [(int(n), int(share)) for n, share in zip(merged[index], shares[index])]}
        for index, name in enumerate([*labels, "background"])
    ]
    return {"columns": [*labels, "missed"], "rows": rows}


def _confused(analysis: Analysis) -> list[tuple[str, str, int]]:
    names = analysis.scene.classes
    return [(names[true], names[found], times) for true, found, times in analysis.confused(_CONFUSED)]


def _training(logs: RunLogs | None) -> list[tuple[str, Any]]:
    """The curves of a run: title and chart."""
    if logs is None:
        return []
    drawn = []
    if logs.losses:
        drawn.append(("Losses of training", charts.lines(logs.losses, "loss", log=True)))
    if logs.validation_losses:
        curves = {"evaluation data": next(iter(logs.validation_losses.values()))}
        if "total" in logs.losses:
            curves = {"training": logs.losses["total"], **curves}
        drawn.append(("Total loss, training against evaluation data", charts.lines(curves, "loss", log=True)))
    if logs.figures:
        percent = {name: {s: 100 * v for s, v in values.items()} for name, values in logs.figures.items()}
        chosen = {name: values for name, values in percent.items() if name in ("AP", "mask_AP", TRAIN_AP, "AP50")}
        drawn.append(("AP at each evaluation", charts.lines(chosen, "percent", points=True)))
    if logs.rate:
        drawn.append(("Learning rate", charts.lines({"learning rate": logs.rate}, "learning rate")))
    return [(title, figure_svg(figure, title)) for title, figure in drawn]


def _data(story: Story, classes: list[str]) -> dict[str, Any]:
    sides = {"training": story.train, "evaluation": story.data}
    known = {name: side for name, side in sides.items() if side is not None and sum(side.counts)}
    drawn = {}
    if known:
        drawn["counts"] = figure_svg(
            charts.class_counts(classes, {n: s.counts for n, s in known.items()}), "objects by class"
        )
    with_areas = {name: side.areas for name, side in known.items() if len(side.areas)}
    if with_areas:
        drawn["sizes"] = figure_svg(charts.size_shares(with_areas), "sizes of the objects")
    rows = [
        (name, [f"{side.counts[label]:,}" if side else "–" for side in sides.values()])
        for label, name in enumerate(classes)
    ]
    return {"charts": drawn, "rows": rows, "sides": sides}
