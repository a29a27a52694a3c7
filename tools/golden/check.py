"""Compare detectors with stored outputs of SimpleDet, Detectron2 or torchvision, map by map.

Each folder's detector is the one that the gin files of its row build, with the widths of the folder's weights.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tfdet.errors import EXIT_CHECK_FAILED, EXIT_OK, EXIT_USER_ERROR, UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="golden folders; the family is in their meta.json")
    parser.add_argument(
        "--tolerance",
        type=float,
        default=1e-4,
        help="for SimpleDet: largest difference over a map's absolute maximum (default 1e-4). For the other programs "
        "the folder has the tolerances: ten times the program's own noise",
    )


def main(argv: Sequence[str]) -> int:
    """Runs the command with these arguments; an error that a person can put right is one line on stderr."""
    parser = argparse.ArgumentParser(
        prog="check_golden.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    args = parser.parse_args(argv)
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    try:
        return run(args)
    except UserError as error:
        print(f"check_golden: error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR


def run(args: argparse.Namespace) -> int:
    """Checks every folder; of SimpleDet with its folded and its un-folded checkpoint."""
    from rich.console import Console

    from tfdet.config import register_all
    from tfdet.ops.tensor_float_32 import allow_tensor_float_32
    from tools.golden import torch_folder

    register_all()
    allow_tensor_float_32(False)
    console, passed = Console(), True
    for folder in args.folders:
        if torch_folder.is_torch(_meta(folder)):
            passed &= _check_torch(folder, console)
        else:
            passed &= _check_simpledet(folder, args.tolerance, console)
    return EXIT_OK if passed else EXIT_CHECK_FAILED


def _meta(folder: str) -> dict:
    try:
        return json.loads((Path(folder) / "meta.json").read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: not a golden folder: its meta.json cannot be read ({error})") from error


def _check_simpledet(folder: str, tolerance: float, console) -> bool:
    from rich.table import Table

    from tools.golden import simpledet_check
    from tools.golden.simpledet_folder import read_golden

    golden = read_golden(folder)
    results = {
        "folded": simpledet_check.check(golden, golden.folded),
        "un-folded": simpledet_check.check(golden, golden.unfolded),
    }
    table = Table("map", "shape", *results, title=f"{golden.meta['row']}: largest error / absolute maximum")
    worst = 0.0
    for rows in zip(*results.values(), strict=True):
        worst = max(worst, *(row.error for row in rows))
        table.add_row(rows[0].name, _shape(rows[0].shape), *(_mark(row.error, tolerance) for row in rows))
    console.print(table)
    skipped = simpledet_check.unchecked(golden, results["folded"])
    console.print(f"{len(results['folded'])} maps compared; without a counterpart: {', '.join(skipped) or 'none'}")
    passed = worst <= tolerance
    console.print(f"{'agrees' if passed else 'DIFFERS'}: worst {worst:.2e}, tolerance {tolerance:.0e}")
    return passed


def _check_torch(folder: str, console) -> bool:
    from rich.table import Table

    from tools.golden import torch_check, torch_folder

    verdict = torch_check.check(torch_folder.read(folder))
    name = Path(folder).resolve().name
    table = Table("map", "shape", "error", "noise", "limit", title=f"{name}: largest error / absolute maximum")
    for row in verdict.maps:
        noise = "" if row.noise is None else f"{row.noise:.1e}"
        table.add_row(row.name, _shape(row.shape), _mark(row.error, row.limit), noise, f"{row.limit:.1e}")
    console.print(table)
    for row in verdict.shares:
        mark = "" if row.share >= row.limit else " [red]too few[/red]"
        console.print(f"{row.name}: {row.share:.2%} of {row.count} agree, at least {row.limit:.1%} must{mark}")
    if verdict.training:
        table = Table("training", "error", "limit", title=f"{name}: relative errors of losses and gradients")
        for row in _worth_showing(verdict.training):
            table.add_row(row.name, _mark(row.error, row.limit), f"{row.limit:.1e}")
        console.print(table)
    console.print(
        f"{len(verdict.maps)} maps and {len(verdict.training)} losses, norms and gradients compared; "
        f"without a counterpart: {', '.join(verdict.skipped) or 'none'}"
    )
    console.print(f"{name} {'agrees' if verdict.passed else 'DIFFERS'}")
    return verdict.passed


def _worth_showing(rows: list) -> list:
    """All losses, whatever is out of its limit, and of norms and gradients the one nearest to its limit."""
    shown = [row for row in rows if row.name.startswith("loss/") or not row.error <= row.limit]
    for kind in ("gradnorm/", "grad/", "gradsample/"):
        group = [row for row in rows if row.name.startswith(kind)]
        if group:
            shown.append(max(group, key=lambda row: row.error / row.limit))
    return list(dict.fromkeys(shown))


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _mark(error: float, tolerance: float) -> str:
    return f"{error:.1e}" if error <= tolerance else f"[red]{error:.1e}[/red]"
