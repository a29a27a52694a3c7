"""List the model zoo: what SimpleDet, or another program, published of each row, and what was measured with tfdet.

Measured figures come from a results file that `tfdet evaluate --results`, `tfdet benchmark ... --results` and the flags
--sizes and --check of this command append to. What nobody measured stays empty.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from tfdet.errors import EXIT_CHECK_FAILED, EXIT_OK

_RESULTS = "docs/results.jsonl"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument("rows", nargs="*", metavar="ROW", help="rows by name, such as faster_r50v1_c4 (default: all)")
    parser.add_argument(
        "--program",
        choices=("SimpleDet", "Detectron2", "torchvision"),
        default="SimpleDet",
        help="whose rows (default: %(default)s; --check and --write are for SimpleDet's)",
    )
    parser.add_argument(
        "--results", default=_RESULTS, metavar="FILE.jsonl", help="the results file (default: %(default)s)"
    )
    parser.add_argument(
        "--sizes", action="store_true", help="count parameters and multiply-adds first: builds each model"
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="check each row first: two training steps of the full-size model on small drawn images, frozen tensors "
        "compared with SimpleDet's, restored, exported, verified",
    )
    parser.add_argument("--write", metavar="FILE.md", help="write the table to this markdown file as well")


def run(args: argparse.Namespace) -> int:
    """Measures what is asked for, lists, writes."""
    from rich.console import Console

    from tfdet.config.files import did_you_mean
    from tfdet.config.zoo import zoo_rows
    from tfdet.errors import UserError

    if args.program != "SimpleDet" and (args.check or args.write):
        raise UserError(f"--check and --write are for SimpleDet's rows, not for {args.program}'s.")
    rows = zoo_rows(program=args.program)
    names = [row.name for row in rows]
    for name in args.rows:
        if name not in names:
            raise UserError(f"there is no zoo row {name}.{did_you_mean(name, names)} There are: {', '.join(names)}")
    chosen = [row for row in rows if not args.rows or row.name in args.rows]
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    failed = []
    if args.sizes or args.check:
        failed = _measure(args, [row.name for row in chosen], console)

    from tfdet.bench import zoo_table
    from tfdet.bench.results import read_results

    records = read_results(args.results)
    console.print(zoo_table.table(chosen, records))
    if args.write:
        zoo_table.write_markdown(args.write, chosen, records)
        console.print(f"written to {args.write}", highlight=False)
    return EXIT_CHECK_FAILED if failed else EXIT_OK


def _measure(args: argparse.Namespace, names: list[str], console) -> list[str]:
    """Measures rows, each of several in a process of its own to free memory; the names of those that failed."""
    if len(names) > 1:
        flags = [flag for flag in ("--sizes", "--check") if getattr(args, flag[2:])]
        command = [sys.executable, "-m", "tfdet", "zoo", "--program", args.program, "--results", args.results, *flags]
        return [name for name in names if subprocess.run([*command, name], check=False).returncode]
    from tfdet.bench.results import append_result
    from tfdet.errors import UserError

    (name,) = names
    if args.sizes:
        append_result(args.results, "model", name, **_size(name))
    if args.check:
        from tfdet.bench.row_check import check_row
        from tfdet.config import register_all

        register_all()
        try:
            figures = check_row(name)
        except UserError as error:
            console.print(f"[red]{name}: FAILED: {error}", highlight=False)
            return [name]
        append_result(args.results, "check", name, **figures)
        console.print(f"{name}: {figures}", highlight=False)
    return []


def _size(name: str) -> dict:
    from tfdet import config
    from tfdet.bench.model import model_size
    from tfdet.detectors import build_detector

    config.register_all()
    height, width = 800, 1333
    size = model_size(config.parse([f"{name}.gin"]).build(build_detector, num_classes=80), height, width)
    return {
        "parameters": size.parameters,
        "multiply_adds": size.total_multiply_adds,
        "multiply_adds_by_part": size.multiply_adds,
        "image": f"{height}x{width}",
    }
