"""Measurements as a table on the console and as a markdown file."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table

from tfdet.bench.measure import Measurement
from tfdet.files import replacing
from tfdet.report import markdown

COLUMNS = ("case", "implementation", "wall ms", "CPU ms", "wall, times", "CPU, times", "peak MB", "difference")
LEGEND = (
    "Medians, all implementations of a case run in turn in one process. CPU: of all threads. Times: of the first "
    "implementation of the case. Peak: growth of the process while one call runs, its results included. Difference: "
    "largest, from the first implementation's results."
)


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


def machine() -> str:
    """Processor, CPUs this process may use, memory, system and load: what a figure depends on."""
    name = platform.processor() or platform.machine()
    parts = []
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        parts.append(f"{memory / 2**30:.0f} GB memory")
        parts.append(f"load {os.getloadavg()[0]:.1f} at the end")
    except (OSError, ValueError, AttributeError):
        pass
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return ", ".join([f"{name}, {cpus} CPUs", *parts, f"{platform.system()} {platform.machine()}"])


def _significant(value: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
