"""Writes the table of published weights into its page.

    python -m tools.weights_table docs/weights.md

Parameters and multiply-adds are those that `tfdet zoo --sizes ROW` counted, of the row that a file is for.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfdet.bench.results import latest, read_results
from tfdet.errors import EXIT_OK, UserError
from tfdet.files import replacing
from tfdet.weights.published import TITLES, Published, everything
from tools import markdown

BEGIN, END = "<!-- python -m tools.weights_table docs/weights.md -->", "<!-- end of the table -->"
_DETECTORS = ("detector", "box AP", "mask AP", "parameters", "multiply-adds", "source")
_BACKBONES = ("backbone", "source")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags."""
    parser.add_argument("page", metavar="FILE.md", help="the page")
    parser.add_argument("--results", default="docs/results.jsonl", metavar="FILE.jsonl", help="what was counted")


def run(args: argparse.Namespace) -> int:
    """Writes the table."""
    path = Path(args.page)
    text = with_table(path.read_text(encoding="utf-8"), read_results(args.results), path)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"written to {path}")
    return EXIT_OK


def with_table(text: str, records: Sequence[dict[str, Any]], page: str | os.PathLike = "the page") -> str:
    """The text of a page with the table between its marks.

    Raises:
        UserError: it has no marks.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UserError(f"{page}: there is no place for the table between {BEGIN} and {END}")
    listed = list(everything().values())
    detectors = [_detector(one, records) for one in listed if one.is_detector]
    backbones = [[_linked(one), _source(one)] for one in listed if not one.is_detector]
    lines = [
        *markdown.table(_DETECTORS, detectors, left=(0, len(_DETECTORS) - 1)),
        "",
        *markdown.table(_BACKBONES, backbones, left=(0, 1)),
    ]
    return f"{before}{BEGIN}\n\n" + "\n".join(lines) + f"\n\n{END}{after}"


def _detector(one: Published, records: Sequence[dict[str, Any]]) -> list[str]:
    row = one.gin_files[0].removesuffix(".gin")
    size = None if any("DEPTH" in line for line in one.bindings) else latest(records, "model", row)
    return [
        _linked(one),
        "" if one.box_ap is None else f"{one.box_ap:.1f}",
        "" if one.mask_ap is None else f"{one.mask_ap:.1f}",
        f"{size['parameters'] / 1e6:.1f}M" if size else "",
        f"{size['multiply_adds'] / 1e9:.0f}G" if size else "",
        f"{_source(one)}, {one.data}",
    ]


def _linked(one: Published) -> str:
    return f"[`{one.name}`]({one.addresses[0]})"


def _source(one: Published) -> str:
    return f"{TITLES[one.program]}, {one.source}"


if __name__ == "__main__":
    from tfdet.commands import run_module

    sys.exit(run_module(sys.modules[__name__], "weights_table.py"))
