"""The model zoo as a table: published figures beside measured ones."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from tfdet.bench.results import latest
from tfdet.config.zoo import Row
from tfdet.files import replacing
from tfdet.report import markdown

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
    "two steps checked",
)

_LEGEND = """\
Box AP, mask AP, GPU memory and img/s (over 8 GPUs) were published by SimpleDet: MODEL_ZOO.md of its first release, COCO
minival (the images of val2017); 1080Ti, in half precision Titan V. The columns after them were measured with tfdet, and
are empty where nobody did. Parameters are all numbers of all variables, statistics of BN included. Multiply-adds are
those of convolutions and matrix products of one image of 800x1333 in testing. "Two steps checked": the full-size model
took two training steps on small images with finite losses, had as many tensors as SimpleDet's checkpoint and the same
frozen, was restored, exported and verified (`python -m tools.check_rows ROW`).
"""


def cells(row: Row, records: Sequence[dict[str, Any]]) -> list[str]:
    """The cells of `COLUMNS`; empty where nothing was published or measured."""
    model, evaluated, trains, detects, checked = (
        latest(records, kind, row.name) for kind in ("model", "evaluate", "train speed", "inference speed", "check")
    )
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
        checked["date"] if checked else "",
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
    for row in filled:
        shown.add_row(*(row[number] for number in kept))
    return shown


def write_markdown(path: str | os.PathLike, rows: Sequence[Row], records: Sequence[dict[str, Any]]) -> None:
    """Writes the table with what its figures mean, then every measurement with its device, date and command.

    Raises:
        UserError: the file cannot be written.
    """
    names, filled = {row.name for row in rows}, [cells(row, records) for row in rows]
    lines = [
        "# Model zoo",
        "",
        "    tfdet zoo --write docs/model_zoo.md",
        "",
        *_LEGEND.splitlines(),
        "",
        *markdown.table(COLUMNS, map(_linked, filled)),
    ]
    measured = [r for r in records if r["row"] in names and r["kind"] != "model"]
    if measured:
        columns = ("row", "what", "figures", "date, device", "command")
        lines += ["", "## Measurements", ""]
        lines += markdown.table(columns, map(_measurement, measured), left=range(len(columns)))
    with replacing(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _linked(row: list[str]) -> list[str]:
    first, *others = row
    return [f"[`{first}`](../gin_configs/{first}.gin)", *others]


def _measurement(record: dict[str, Any]) -> list[str]:
    apart = ("kind", "row", "date", "device", "command")
    figures = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in record.items() if name not in apart)
    return [record["row"], record["kind"], figures, f"{record['date']}, {record['device']}", f"`{record['command']}`"]


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
