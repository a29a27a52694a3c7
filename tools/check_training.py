"""Trains detectors side by side with stored runs of Detectron2 and torchvision, and compares step by step.

    python -m tools.check_training FOLDER...

Each folder is a stored run, with its data beside it: see `tools.golden.trajectory`.
"""

from __future__ import annotations

import argparse
import sys

from tfdet.commands import run_module
from tfdet.errors import EXIT_CHECK_FAILED, EXIT_OK


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="folders with meta.json and trajectory.npz")
    parser.add_argument("--steps", type=int, help="train so many of the run's steps; all by default")


def run(args: argparse.Namespace) -> int:
    """Trains beside each run and compares."""
    from rich.console import Console

    from tfdet.config import register_all
    from tfdet.ops.tensor_float_32 import allow_tensor_float_32

    register_all()
    allow_tensor_float_32(False)
    passed = [_check(folder, args.steps, Console()) for folder in args.folders]
    return EXIT_OK if all(passed) else EXIT_CHECK_FAILED


def _check(folder: str, steps: int | None, console) -> bool:
    from rich.table import Table

    from tools.golden import trajectory

    rows = trajectory.compare(trajectory.read(folder), steps, console.print)
    table = Table("what", "compared", "nearest to its limit", "error", "limit", title=folder)
    for kind in dict.fromkeys(_kind(row.name) for row in rows):
        group = [row for row in rows if _kind(row.name) == kind]
        worst = max(group, key=lambda row: row.error / row.limit if row.limit else row.error)
        within = [row for row in group if row.error <= row.limit]
        mark = "" if len(within) == len(group) else " [red]" if worst.decides else " "
        table.add_row(
            kind, f"{len(within)} of {len(group)} within{mark}", worst.name, f"{worst.error:.1e}", f"{worst.limit:.1e}"
        )
    console.print(table)
    passed = all(row.error <= row.limit for row in rows if row.decides)
    console.print(f"{folder} {'agrees' if passed else 'DIFFERS'}")
    return passed


def _kind(name: str) -> str:
    return name if name.startswith("loss/") else name.partition("/")[0]


if __name__ == "__main__":
    sys.exit(run_module(sys.modules[__name__], "check_training"))
