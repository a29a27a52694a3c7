"""Writes the page of the model zoo: published figures beside measured ones, and every measurement.

    python -m tools.zoo_page docs/model_zoo.md

`tfdet zoo` prints the same table without the last column.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from tfdet.bench import zoo_table
from tfdet.bench.results import latest, read_results
from tfdet.config.zoo import Row, zoo_rows
from tfdet.errors import EXIT_OK
from tfdet.files import replacing
from tools import markdown

_LEGEND = """\
Box AP, mask AP, GPU memory and img/s (over 8 GPUs) were published by SimpleDet: MODEL_ZOO.md of its first release and
of its later revision, COCO minival (the images of val2017); 1080Ti, in half precision Titan V. The columns after them
were measured with tfdet, and are empty where nobody did. Parameters are counted without the moving statistics of BN.
Multiply-adds are those of convolutions and matrix products of one image of 800x1333 in testing. "Two steps checked":
the full-size model took two training steps on small images with finite losses, had as many tensors as SimpleDet's
checkpoint and the same frozen, was restored, exported and verified (`python -m tools.check_rows ROW`).
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags."""
    parser.add_argument("output", metavar="FILE.md", help="the page")
    parser.add_argument("--results", default="docs/results.jsonl", metavar="FILE.jsonl", help="what was measured")


def run(args: argparse.Namespace) -> int:
    """Writes the page."""
    write_markdown(args.output, zoo_rows(), read_results(args.results))
    print(f"written to {args.output}")
    return EXIT_OK


def write_markdown(path: str | os.PathLike, rows: Sequence[Row], records: Sequence[dict[str, Any]]) -> None:
    """Writes the table with what its figures mean, then every measurement with its device, date and command.

    Raises:
        UserError: the file cannot be written.
    """
    names = {row.name for row in rows}
    filled = [(row, [*zoo_table.cells(row, records), _checked(row, records)]) for row in rows]
    lines = [
        "# Model zoo",
        "",
        "    python -m tools.zoo_page docs/model_zoo.md",
        "",
        *_LEGEND.splitlines(),
    ]
    for release, members in zoo_table.by_release(filled).items():
        lines += ["", f"## {release}", ""]
        lines += markdown.table((*zoo_table.COLUMNS, "two steps checked"), [_linked(row) for _, row in members])
    measured = [r for r in records if r["row"] in names and r["kind"] != "model"]
    if measured:
        columns = ("row", "what", "figures", "date, device", "command")
        lines += ["", "## Measurements", ""]
        lines += markdown.table(columns, map(_measurement, measured), left=range(len(columns)))
    with replacing(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _checked(row: Row, records: Sequence[dict[str, Any]]) -> str:
    """When `tools.check_rows` last passed; empty where it did not."""
    record = latest(records, "check", row.name)
    return record["date"] if record else ""


def _linked(row: list[str]) -> list[str]:
    first, *others = row
    return [f"[`{first}`](../gin_configs/{first}.gin)", *others]


def _measurement(record: dict[str, Any]) -> list[str]:
    apart = ("kind", "row", "date", "device", "command")
    figures = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in record.items() if name not in apart)
    return [record["row"], record["kind"], figures, f"{record['date']}, {record['device']}", f"`{record['command']}`"]


if __name__ == "__main__":
    from tfdet.commands import run_module

    sys.exit(run_module(sys.modules[__name__], "zoo_page.py"))
