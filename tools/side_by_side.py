"""Times and memory of things that do the same, side by side in one process: as tables and as a markdown file."""

from __future__ import annotations

import datetime
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from rich.table import Table

from tfdet.bench.results import machine
from tfdet.files import replacing
from tools import markdown
from tools.peak_memory import peak_memory

COLUMNS = ("case", "implementation", "wall ms", "CPU ms", "wall, times", "CPU, times", "peak MB", "difference")
LEGEND = (
    "Medians, all implementations of a case run in turn in one process. CPU: of all threads. Times: of the first "
    "implementation of the case. Peak: growth of the process while one call runs, its results included. Difference: "
    "largest, from the first implementation's results."
)


class Side(NamedTuple):
    """One way of doing what a case is about."""

    name: str
    run: Callable[[], object]  # returns the results: a nest of tensors or arrays


class Case(NamedTuple):
    """What is measured; the first side is what the others are compared with."""

    name: str
    sides: tuple[Side, ...]


class Measurement(NamedTuple):
    """What one side of a case took."""

    case: str
    side: str
    wall: float  # seconds, median
    cpu: float  # seconds of all threads of the process, median
    memory: int | None  # bytes at the peak beyond what was there before, results included; None: not known here
    difference: float  # largest absolute difference from the first side's results


def measure(cases: Sequence[Case], repeats: int, progress: Callable[[str], None] = lambda _: None) -> list[Measurement]:
    """Runs every side of every case `repeats` times, in turn, after once to warm up.

    Memory is measured last: what it asks of the allocator would slow the times.

    Args:
        cases: what to measure.
        repeats: at least 1.
        progress: is told the name of each case before it is run.

    Returns:
        A measurement of every side, in order.
    """
    times, differences = {}, {}
    for case in cases:
        progress(case.name)
        first = _flat(case.sides[0].run())
        for side in case.sides:
            differences[case.name, side.name] = _difference(first, _flat(side.run()))
        runs = [[_time(side.run) for side in case.sides] for _ in range(repeats)]
        for side, pairs in zip(case.sides, zip(*runs)):
            times[case.name, side.name] = tuple(statistics.median(values) for values in zip(*pairs))
    return [
        Measurement(case.name, side.name, *times[key], peak_memory(side.run), differences[key])
        for case in cases
        for side in case.sides
        for key in [(case.name, side.name)]
    ]


def rows(measurements: Sequence[Measurement]) -> list[tuple[str, ...]]:
    """The cells of `COLUMNS`; a case is named in its first row alone."""
    cells, first = [], None
    for m in measurements:
        new = first is None or m.case != first.case
        first = m if new else first
        memory = "not known" if m.memory is None else f"{m.memory / 2**20:.0f}"
        times = (_significant(m.wall / first.wall), _significant(m.cpu / first.cpu) if first.cpu else "")
        cells.append(
            (
                m.case if new else "",
                m.side,
                _significant(1e3 * m.wall),
                _significant(1e3 * m.cpu),
                *(("", "") if new else times),
                memory,
                "" if new else f"{m.difference:.1g}",
            )
        )
    return cells


def tables(measurements: Sequence[Measurement]) -> list[Table]:
    """A table for each case, for the console."""
    found = []
    for cells in rows(measurements):
        if cells[0]:
            shown = Table(title=cells[0], title_justify="left")
            shown.add_column(COLUMNS[1], min_width=14)
            for column in COLUMNS[2:]:
                shown.add_column(column, justify="right")
            found.append(shown)
        found[-1].add_row(*cells[1:])
    return found


def write_markdown(
    path: str | os.PathLike,
    title: str,
    command: str,
    measurements: Sequence[Measurement],
    versions: Mapping[str, str],
    notes: Sequence[str] = (),
) -> None:
    """Writes what was measured, when, where and how.

    Args:
        path: the file; its folder is made where it is missing.
        title: the heading.
        command: what measures this again.
        measurements: one a row.
        versions: of what took part.
        notes: further lines, such as what is missing.

    Raises:
        UserError: the file cannot be written.
    """
    lines = [f"# {title}", "", f"    {command}", ""]
    lines += [f"- {datetime.date.today().isoformat()}, {machine()}"]
    lines += [f"- {', '.join(f'{name} {version}' for name, version in versions.items())}"]
    lines += [f"- {note}" for note in notes]
    lines += ["", LEGEND, "", *markdown.table(COLUMNS, rows(measurements), left=(0, 1))]
    with replacing(path) as temporary:
        Path(temporary).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _significant(value: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _time(run: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    results = run()
    spent = time.perf_counter() - wall, time.process_time() - cpu
    del results
    return spent


def _flat(results) -> list[np.ndarray]:
    return [np.asarray(value) for value in tf.nest.flatten(results)]


def _difference(first: list[np.ndarray], other: list[np.ndarray]) -> float:
    shapes = [[a.shape for a in arrays] for arrays in (first, other)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"the sides of a case give results of shapes {shapes[0]} and {shapes[1]}")
    pairs = [(a.astype(np.float64), b.astype(np.float64)) for a, b in zip(first, other) if a.size]
    return max((float(np.max(np.abs(a - b))) for a, b in pairs), default=0.0)
