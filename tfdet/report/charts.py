"""The charts of a report: small figures that stay readable on a phone."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tfdet.report.analysis.matching import RECALLS
from tfdet.report.analysis.summary import Analysis
from tfdet.report.analysis.thresholds import SCORES
from tfdet.report.page import chart_text

# Hues of middle lightness, which stand out from white and from black, and which most people tell apart.
COLORS = ("#2d7dd2", "#d9782d", "#1f9e83", "#b957a6", "#8c7ae6", "#b59a1d", "#5f9ea0", "#d1495b", "#6b8e23", "#7f8896")
_WIDTH = 4.6  # inches; letters are as large as beside the chart where this fills a phone's width
_MOST_LINES = 8
_MOST_BARS = 30
_LONGEST_NAME = 20
_STYLE = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "grid.color": "#888888",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "legend.handlelength": 1.4,
    "lines.linewidth": 1.6,
}


def _chart(draw: Callable[..., Any]) -> Callable[..., Any]:
    """Draws in the style of the charts, whatever that of the process is."""

    @functools.wraps(draw)
    def styled(*args: Any, **options: Any) -> Any:
        import matplotlib
        from cycler import cycler

        style = {**matplotlib.rcParamsDefault, **_STYLE, "axes.prop_cycle": cycler(color=COLORS)}
        style.pop("backend", None)  # to set it would choose one
        with matplotlib.rc_context(style):
            return draw(*args, **options)

    return styled


def _figure(height: float = 3.3) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # a figure of its own: no window, no global state

    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def _legend(figure: Any, axes: Any) -> None:
    """The names of the lines above the chart, where they hide nothing."""
    handles, labels = axes.get_legend_handles_labels()
    columns = 2 if max(map(len, labels), default=0) > 13 else 3
    rows = -(-len(labels) // columns)
    figure.set_figheight(figure.get_figheight() + 0.22 * rows)
    figure.legend(handles, labels, loc="outside upper left", ncols=columns, columnspacing=1.2)


def _named(name: str) -> str:
    return chart_text(name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…")


def _bars(labels: Sequence[str], values: Sequence[float], texts: Sequence[str], xlabel: str, colors=COLORS[0]) -> Any:
    """Horizontal bars from top to bottom, each with its figure at its end."""
    figure, axes = _figure(0.8 + 0.3 * max(len(labels), 2))
    places = np.arange(len(labels))
    axes.barh(places, values, color=colors, height=0.68)
    highest = max([*values, 1e-9])
    for place, value, text in zip(places, values, texts):
        axes.text(max(value, 0) + 0.015 * highest, place, text, va="center", ha="left", fontsize=10)
    axes.set_yticks(places, labels)
    axes.set(xlabel=xlabel, xlim=(0, 1.3 * highest), ylim=(len(labels) - 0.4, -0.6))
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure


@_chart
def error_costs(analysis: Analysis) -> Any:
    """What each kind of error costs."""
    costs = {**analysis.tide.costs}
    return _bars(list(costs), list(costs.values()), [f"{value:.1f}" for value in costs.values()], "points of AP50")


@_chart
def ranges(names: Sequence[str], values: Sequence[float | None], counts: Sequence[int], xlabel: str) -> Any:
    """AP of sizes or shapes, 0..1 or None, with the number of objects."""
    shown = [100 * (value or 0.0) for value in values]
    texts = [
        f"{100 * value:.1f} ({count:,})" if value is not None else f"– ({count:,})"
        for value, count in zip(values, counts)
    ]
    return _bars(list(names), shown, texts, xlabel)


@_chart
def class_aps(analysis: Analysis) -> Any:
    """AP of each class that has objects, worst first; of many the worst."""
    aps = [
        (analysis.precision.class_ap(label), name)
        for label, name in enumerate(analysis.scene.classes)
        if analysis.curves[label].num_objects
    ]
    aps = sorted(aps)[:_MOST_BARS]
    return _bars([_named(n) for _, n in aps], [100 * ap for ap, _ in aps], [f"{100 * ap:.1f}" for ap, _ in aps], "AP")


def _common(analysis: Analysis) -> list[int]:
    """The classes with the most objects, for charts with a line each."""
    counts = np.array([curve.num_objects for curve in analysis.curves])
    chosen = np.argsort(-counts, kind="stable")[:_MOST_LINES]
    return sorted(int(label) for label in chosen if counts[label])


@_chart
def precision_recall(analysis: Analysis) -> Any:
    """Precision over recall at IoU 0.5, of the commonest classes and in the mean of all."""
    figure, axes = _figure(3.6)
    values = analysis.precision.precision[0, :, :, 0]
    for place, label in enumerate(_common(analysis)):
        color = COLORS[place % len(COLORS)]
        axes.plot(RECALLS, values[:, label], color=color, linewidth=1.1, label=_named(analysis.scene.classes[label]))
    valid = values[0] > -1
    if valid.any():
        axes.plot(RECALLS, values[:, valid].mean(axis=1), color="black", linewidth=2.4, label="mean of all classes")
    axes.set(xlabel="recall", ylabel="precision at IoU 0.5", xlim=(0, 1), ylim=(0, 1.02))
    _legend(figure, axes)
    return figure


@_chart
def scores(analysis: Analysis) -> Any:
    """Precision, recall and F1 over the score, all classes together."""
    figure, axes = _figure()
    curve = analysis.together
    for name in ("precision", "recall", "f1"):
        axes.plot(SCORES, getattr(curve, name), label={"f1": "F1"}.get(name, name))
    if curve.best is not None:
        axes.axvline(curve.best, color="black", linewidth=0.9, linestyle=":", label=f"best F1 at {curve.best:.2f}")
    axes.set(xlabel="shown from score", xlim=(0, 1), ylim=(0, 1.02))
    _legend(figure, axes)
    return figure


@_chart
def class_scores(analysis: Analysis) -> Any:
    """F1 over the score of the commonest classes, with a point where it is best."""
    figure, axes = _figure()
    for place, label in enumerate(_common(analysis)):
        curve, color = analysis.curves[label], COLORS[place % len(COLORS)]
        axes.plot(SCORES, curve.f1, color=color, label=_named(analysis.scene.classes[label]), linewidth=1.3)
        if curve.best is not None:
            axes.plot([curve.best], [curve.best_f1], "o", color=color, markersize=4)
    axes.set(xlabel="shown from score", ylabel="F1", xlim=(0, 1), ylim=(0, 1.02))
    _legend(figure, axes)
    return figure


@_chart
def reliability(analysis: Analysis) -> Any:
    """The share of detections that are right, over their score."""
    figure, axes = _figure()
    found = analysis.calibration
    lows = np.arange(len(found.counts)) / len(found.counts)
    width = 1 / len(found.counts)
    has = found.counts > 0
    axes.bar(
        lows[has] + width / 2, found.precision[has], width=0.88 * width, color=COLORS[0], label="share that is right"
    )
    axes.plot([0, 1], [0, 1], color="black", linewidth=0.9, linestyle=":", label="as the score says")
    axes.plot(found.scores[has], found.scores[has], "o", color=COLORS[1], markersize=4, label="mean score")
    axes.set(xlabel="score", ylabel="right at IoU 0.5", xlim=(0, 1), ylim=(0, 1.12))
    _legend(figure, axes)
    return figure


@_chart
def found_by_size(analysis: Analysis) -> Any:
    """Objects by their size in pixels, found and not found at the thresholds of the classes."""
    figure, axes = _figure()
    truth = analysis.scene.truth
    counted = ~truth.crowd
    sides = np.sqrt(np.maximum(truth.area[counted], 1.0))
    edges = 2.0 ** np.arange(np.floor(np.log2(sides.min())), np.ceil(np.log2(sides.max() + 1)) + 0.5, 0.5)
    found = analysis.outcome.found[counted]
    groups, labels = [sides[found], sides[~found]], ["found", "missed"]
    axes.hist(groups, bins=edges, stacked=True, color=[COLORS[2], COLORS[7]], label=labels, rwidth=0.9)
    _logarithmic(axes, edges)
    axes.set(xlabel="size: square root of the area, pixels", ylabel="objects")
    _legend(figure, axes)
    return figure


def _logarithmic(axes: Any, edges: np.ndarray) -> None:
    axes.set_xscale("log", base=2)
    ticks = [2.0**power for power in range(int(np.ceil(np.log2(edges[0]))), int(np.log2(edges[-1])) + 1)]
    ticks = ticks[:: max(1, len(ticks) // 6)]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()


@_chart
def class_counts(names: Sequence[str], sets: Mapping[str, Sequence[int]]) -> Any:
    """Objects of each class, in percent of each data set; of many classes the commonest."""
    first = np.array(next(iter(sets.values())), float)
    order = np.argsort(-first, kind="stable")[:_MOST_BARS]
    figure, axes = _figure(0.9 + 0.34 * max(len(order), 2))
    height = 0.8 / len(sets)
    for number, (label, counts) in enumerate(sets.items()):
        share = 100 * np.array(counts, float)[order] / max(sum(counts), 1)
        places = np.arange(len(order)) + (number - (len(sets) - 1) / 2) * height
        axes.barh(places, share, height=0.92 * height, color=COLORS[number], label=f"{label} ({sum(counts):,})")
    axes.set_yticks(np.arange(len(order)), [_named(names[index]) for index in order])
    axes.set(xlabel="percent of the objects", ylim=(len(order) - 0.4, -0.6))
    axes.grid(axis="y", visible=False)
    _legend(figure, axes)
    return figure


@_chart
def size_shares(sets: Mapping[str, np.ndarray]) -> Any:
    """How large objects are in each data set. Args: sets, areas in pixels by name."""
    figure, axes = _figure()
    sides = {name: np.sqrt(np.maximum(areas, 1.0)) for name, areas in sets.items() if len(areas)}
    low, high = min(s.min() for s in sides.values()), max(s.max() for s in sides.values())
    edges = 2.0 ** np.arange(np.floor(np.log2(low)), np.ceil(np.log2(high + 1)) + 0.5, 0.5)
    for number, (name, values) in enumerate(sides.items()):
        shares = 100 * np.histogram(values, edges)[0] / len(values)
        axes.stairs(shares, edges, color=COLORS[number], label=chart_text(name), linewidth=1.8)
    _logarithmic(axes, edges)
    axes.set(xlabel="size: square root of the area, pixels", ylabel="percent of the objects")
    axes.set_ylim(bottom=0)
    _legend(figure, axes)
    return figure


@_chart
def lines(curves: Mapping[str, Mapping[int, float]], ylabel: str, log: bool = False, points: bool = False) -> Any:
    """Curves over the steps of a run. Args: curves, step -> value by name."""
    from matplotlib.ticker import MaxNLocator

    figure, axes = _figure()
    for number, (name, values) in enumerate(curves.items()):
        steps = sorted(values)
        marker = {"marker": "o", "markersize": 3.5} if points or len(steps) < 3 else {}
        numbers = [values[step] for step in steps]
        steps, numbers = _thinned(steps, numbers)
        axes.plot(steps, numbers, color=COLORS[number % len(COLORS)], label=_named(name), linewidth=1.3, **marker)
    positive = all(value > 0 for values in curves.values() for value in values.values())
    axes.set(xlabel="step", ylabel=ylabel, yscale="log" if log and positive else "linear")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if log and positive:  # the first steps of a loss may be far below what follows
        axes.set_ylim(bottom=0.7 * min(np.percentile(list(values.values()), 5) for values in curves.values()))
    else:
        axes.set_ylim(bottom=0)
    if len(curves) > 1:
        _legend(figure, axes)
    return figure


def _thinned(steps: list, values: list, most: int = 400) -> tuple[list, list]:
    """At most so many points: the mean of neighbours."""
    if len(steps) <= most:
        return steps, values
    parts = np.array_split(np.arange(len(steps)), most)
    return [steps[part[-1]] for part in parts], [float(np.mean(np.array(values)[part])) for part in parts]
