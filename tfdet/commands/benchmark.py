"""Measure speed and memory: the custom ops beside TensorFlow's own.

`ops` runs each op at a detector's sizes, by the custom op, by TensorFlow's own ops, and where torch and torchvision are
installed by torchvision's CPU operator.
"""

from __future__ import annotations

import argparse
import contextlib
import sys

from tfdet.errors import EXIT_OK


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    what = parser.add_subparsers(dest="what", required=True, metavar="WHAT", help="what to measure")
    ops = what.add_parser("ops", help="the custom ops", allow_abbrev=False)
    ops.add_argument("--repeats", type=int, default=15, metavar="N", help="runs of each, in turn (default 15)")
    ops.add_argument("--only", metavar="TEXT", help="only cases whose name contains this, such as RoIAlign")
    ops.add_argument("--output", metavar="FILE.md", help="write the table to this markdown file as well")


def run(args: argparse.Namespace) -> int:
    """Measures, prints a table and writes it where asked to."""
    from tfdet.errors import UserError

    if args.repeats < 1:
        raise UserError(f"--repeats {args.repeats} must be at least 1")
    return {"ops": _ops}[args.what](args)


def _ops(args: argparse.Namespace) -> int:
    _load_torchvision()
    import platform
    import shlex

    import numpy as np
    import tensorflow as tf
    from rich.console import Console
    from rich.markup import escape

    from tfdet import __version__
    from tfdet.bench import ops, report
    from tfdet.bench.measure import measure
    from tfdet.errors import UserError

    console = Console(soft_wrap=True)
    cases = ops.cases(ops.FULL)
    chosen = [case for case in cases if not args.only or args.only.lower() in case.name.lower()]
    if not chosen:
        raise UserError(f"--only {args.only}: no such case. There are: {'; '.join(case.name for case in cases)}")
    notes = ops.notes()
    for note in notes:
        console.print(f"[yellow]{escape(note)}")
    measurements = measure(chosen, args.repeats, lambda name: console.print(f"measuring {name}", highlight=False))
    title = "Custom ops beside TensorFlow's own"
    for table in report.tables(measurements):
        console.print(table)
    console.print(report.LEGEND)
    console.print(report.machine(), highlight=False)
    if args.output:
        only = ["--only", args.only] if args.only else []
        flags = ["--repeats", str(args.repeats), *only, "--output", args.output]
        command = shlex.join(["python", "scripts/benchmark.py", "ops", *flags])
        versions = {"tfdet": __version__, "TensorFlow": tf.__version__, "NumPy": np.__version__}
        versions |= ops.torch_versions() | {"Python": platform.python_version()}
        report.write_markdown(args.output, title, command, measurements, versions, notes)
        console.print(f"written to {escape(args.output)}")
    return EXIT_OK


def _load_torchvision() -> None:
    # Before TensorFlow or not at all: loaded after it, it ends the process (torchvision 0.29, TensorFlow 2.20).
    if "tensorflow" not in sys.modules:
        with contextlib.suppress(ImportError):
            import torchvision  # noqa: F401
