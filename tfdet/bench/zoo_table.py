"""The model zoo as a table: published figures beside measured ones."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from tfdet.bench.results import latest
from tfdet.config.zoo import Row

COLUMNS = (
    "configuration",
    "box AP",
    "mask AP",
    "GPU memory",
    "img/s",
    "parameters",
    "multiply-adds",
    "box AP here",
    "train img/s here",
    "detect img/s here",
)


def cells(row: Row, records: Sequence[dict[str, Any]]) -> list[str]:
    """The cells of `COLUMNS`; empty where nothing was published or measured."""
    kinds = ("model", "evaluate", "train speed", "inference speed")
    model, evaluated, trains, detects = (latest(records, kind, row.name) for kind in kinds)
    return [
        row.name,
        _number(row.box_ap, ".1f"),
        _number(row.mask_ap, ".1f"),
        "" if row.memory_gb is None else f"{row.memory_gb:.1f}G",
        _number(row.images_per_second, ".0f"),
        f"{model['parameters'] / 1e6:.1f}M" if model else "",
        f"{model['multiply_adds'] / 1e9:.0f}G" if model else "",
        f"{100 * evaluated['AP']:.1f} ({evaluated['data']})" if evaluated else "",
        f"{trains['images_per_second']:.3g} ({trains['device']})" if trains else "",
        f"{detects['images_per_second']:.3g} ({detects['device']})" if detects else "",
    ]


def table(rows: Sequence[Row], records: Sequence[dict[str, Any]]) -> Table:
    """The table for the console."""
    programs = " and ".join(dict.fromkeys(row.program for row in rows))
    shown = Table(title=f"Model zoo: published by {programs}; from parameters on measured here")
    filled = [cells(row, records) for row in rows]
    # A column that is empty for every row would only take the others' width.
    kept = [number for number in range(len(COLUMNS)) if any(row[number] for row in filled)]
    for number in kept:
        shown.add_column(COLUMNS[number], justify="left" if number == 0 else "right", no_wrap=number == 0)
    for group, members in by_release(list(zip(rows, filled, strict=True))).items():
        if len(rows) > len(members):
            shown.add_section()
            shown.add_row(group, style="bold")
        for _, row in members:
            shown.add_row(*(row[number] for number in kept))
    return shown


def by_release(rows: Sequence[tuple[Row, Any]]) -> dict[str, list[tuple[Row, Any]]]:
    """Rows with something of each, by where their figures stand, in the order of these names.

    SimpleDet's by its release, Detectron2's by the folder of its configuration, others by their program.
    """
    groups: dict[str, list[tuple[Row, Any]]] = {}
    for row, own in rows:
        groups.setdefault(_release(row), []).append((row, own))
    return dict(sorted(groups.items()))


def _release(row: Row) -> str:
    if "later revision" in row.source:
        return f"{row.program}, later revision"
    if "first release" in row.source:
        return f"{row.program}, first release"
    folder = re.search(r"\b([A-Z][\w-]+)/[\w-]+\.yaml", row.source)
    return f"{row.program}, {folder[1]}" if folder else row.program


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
