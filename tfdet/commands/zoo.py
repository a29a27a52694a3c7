"""List the model zoo: what SimpleDet, or another program, published of each row, and what was measured with tfdet.

Measured figures come from a results file that `tfdet evaluate --results`, `tfdet benchmark ... --results` and the flag
--sizes of this command append to. What nobody measured stays empty.
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
        choices=("SimpleDet", "Detectron2", "torchvision", "MMDetection"),
        default="SimpleDet",
        help="whose rows, where none are named (default: %(default)s)",
    )
    parser.add_argument(
        "--results", default=_RESULTS, metavar="FILE.jsonl", help="the results file (default: %(default)s)"
    )
    parser.add_argument(
        "--sizes", action="store_true", help="count parameters and multiply-adds first: builds each model"
    )


def run(args: argparse.Namespace) -> int:
    """Counts what is asked for, and lists."""
    from tfdet.config.files import did_you_mean
    from tfdet.config.zoo import zoo_rows
    from tfdet.errors import UserError
    from tfdet.terminal import Console

    rows = zoo_rows(program=None if args.rows else args.program)
    names = [row.name for row in rows]
    for name in args.rows:
        if name not in names:
            raise UserError(f"there is no zoo row {name}.{did_you_mean(name, names)} There are: {', '.join(names)}")
    chosen = [row for row in rows if not args.rows or row.name in args.rows]
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    failed = []
    if args.sizes:
        failed = _measure(args.results, [row.name for row in chosen])

    from tfdet.bench import zoo_table
    from tfdet.bench.results import read_results

    records = read_results(args.results)
    console.print(zoo_table.table(chosen, records))
    return EXIT_CHECK_FAILED if failed else EXIT_OK


def _measure(results: str, names: list[str]) -> list[str]:
    """Counts rows, each of several in a process of its own to free memory; the names of those that failed."""
    if len(names) > 1:
        command = [sys.executable, "-m", "tfdet", "zoo", "--results", results, "--sizes"]
        return [name for name in names if subprocess.run([*command, name], check=False).returncode]
    from tfdet.bench.results import append_result

    (name,) = names
    append_result(results, "model", name, **_size(name))
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
