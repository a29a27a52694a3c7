"""Measure speed and memory of training, of detection, and of the custom ops beside TensorFlow's own.

`train` takes steps as training would, on random pictures or on a data set, and then measures the parts of a step;
`inference` detects on random pictures or on a data set. Both take the configuration of a gin file, or of a run.
`ops` runs each op at a detector's sizes, by the custom op, by TensorFlow's own ops, and where torch and torchvision are
installed by torchvision's CPU operator.
"""

from __future__ import annotations

import argparse
import contextlib
import sys

from tfdet.commands import flags
from tfdet.errors import EXIT_OK


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    what = parser.add_subparsers(dest="what", required=True, metavar="WHAT", help="what to measure")
    ops = what.add_parser("ops", help="the custom ops", allow_abbrev=False)
    ops.add_argument("--repeats", type=int, default=15, metavar="N", help="runs of each, in turn (default 15)")
    ops.add_argument("--only", metavar="TEXT", help="only cases whose name contains this, such as RoIAlign")
    ops.add_argument("--output", metavar="FILE.md", help="write the table to this markdown file as well")
    train = what.add_parser("train", help="training steps: img/s, memory, what the parts take", allow_abbrev=False)
    flags.add_config(train)
    train.add_argument("--train_data", metavar="FOLDER", help="data set to read; default: one random batch")
    train.add_argument("--num_classes", type=int, default=80, metavar="C", help="without a data set (default 80)")
    train.add_argument("--no_parts", action="store_true", help="do not measure the parts of a step")
    _add_measuring(train, "steps")
    inference = what.add_parser("inference", help="detection: img/s, latency, memory", allow_abbrev=False)
    flags.add_config(inference)
    flags.add_model_dir(inference, required=False)
    inference.add_argument("--eval_data", metavar="FOLDER", help="data set to read; default: random pictures")
    inference.add_argument("--num_classes", type=int, default=80, metavar="C", help="without a run (default 80)")
    inference.add_argument("--batch", type=int, default=1, metavar="N", help="images in a batch (default 1)")
    _add_measuring(inference, "batches")


def _add_measuring(parser: argparse.ArgumentParser, unit: str) -> None:
    parser.add_argument("--repeats", type=int, default=20, metavar="N", help=f"measured {unit} (default 20)")
    parser.add_argument(
        "--results", metavar="FILE.jsonl", help="append the figures to this file (tfdet zoo reads docs/results.jsonl)"
    )


def run(args: argparse.Namespace) -> int:
    """Measures, prints a table and writes it where asked to."""
    from tfdet.errors import UserError

    for flag in ("repeats", "batch", "num_classes"):
        if getattr(args, flag, 1) < 1:
            raise UserError(f"--{flag} {getattr(args, flag)} must be at least 1")
    return {"ops": _ops, "train": _train, "inference": _inference}[args.what](args)


def _train(args: argparse.Namespace) -> int:
    configuration = flags.configure(args)
    from rich.console import Console

    from tfdet.bench import speed

    console = Console(soft_wrap=True)
    figures = speed.benchmark_training(
        configuration,
        bool(args.train_data),
        args.num_classes,
        args.repeats,
        lambda name: console.print(f"measuring {name}", highlight=False),
        not args.no_parts,
    )
    return _show(console, "train speed", flags.row_name(args), figures, args.results)


def _inference(args: argparse.Namespace) -> int:
    configuration = flags.configure(args, from_run=True)
    from rich.console import Console

    from tfdet.bench import speed

    figures = speed.benchmark_inference(
        configuration, args.model_dir, bool(args.eval_data), args.num_classes, args.batch, args.repeats
    )
    return _show(Console(soft_wrap=True), "inference speed", flags.row_name(args), figures, args.results)


def _show(console, kind: str, row: str, figures: dict, results: str | None) -> int:
    from rich.table import Table

    from tfdet.bench import report
    from tfdet.bench.results import append_result, device

    table = Table(title=f"{row}: {kind}", title_justify="left", show_header=False)
    for name, value in figures.items():
        table.add_row(name.replace("_", " "), f"{value:,.4g}" if isinstance(value, float) else str(value))
    table.add_row("device", device())
    console.print(table)
    console.print(report.machine(), highlight=False)
    if results:
        append_result(results, kind, row, **figures)
        console.print(f"appended to {results}", highlight=False)
    return EXIT_OK


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
