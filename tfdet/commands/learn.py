"""Train a small detector of every family from random weights on drawn shapes, and say what each has learnt.

Minutes a family on two CPU cores, more in half precision, which CPUs are slow at. A run that was stopped is continued
by the same command.
"""

from __future__ import annotations

import argparse

from tfdet.errors import EXIT_CHECK_FAILED, EXIT_OK


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="configurations of gin_configs/learn, such as retina (default: all)"
    )
    parser.add_argument("--folder", default="runs/learn", help="data and runs go here (default: %(default)s)")
    parser.add_argument(
        "--results", metavar="FILE.jsonl", help="append the figures to this file (default: FOLDER/results.jsonl)"
    )
    parser.add_argument("--write", metavar="FILE.md", help="write the table to this markdown file as well")
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="configurations at work at once, each with a log (default 1)"
    )
    parser.add_argument("--steps", type=int, metavar="N", help="train N steps only: shows that it runs, no more")
    parser.add_argument(
        "--min_ap", type=float, default=0.6, metavar="X", help="box and mask AP below this fail (default 0.6)"
    )


def run(args: argparse.Namespace) -> int:
    """Trains, evaluates, prints the table."""
    from pathlib import Path

    from rich.console import Console

    from tfdet.bench import learning
    from tfdet.bench.results import read_results
    from tfdet.config.files import did_you_mean
    from tfdet.errors import UserError

    known = learning.families()
    for name in args.names:
        if name not in known:
            raise UserError(f"there is no gin_configs/learn/{name}.gin.{did_you_mean(name, known)}")
    if args.steps is not None and args.steps < 1:
        raise UserError(f"--steps {args.steps} must be at least 1")
    if args.jobs < 1:
        raise UserError(f"--jobs {args.jobs} must be at least 1")
    results = args.results or Path(args.folder) / "results.jsonl"
    console, names = Console(soft_wrap=True), args.names or known
    learnt = learning.learn(names, args.folder, results, args.steps, args.jobs, console.print)
    failed = [
        record["row"] for record in learnt if min(record[k] for k in ("AP", "mask_AP") if k in record) < args.min_ap
    ]
    if args.steps:  # a shortened run is not asked to have learnt
        failed = []
    records = read_results(results)
    console.print(learning.table(records))
    if args.write:
        learning.write_markdown(args.write, records)
        console.print(f"written to {args.write}", highlight=False)
    if failed:
        console.print(f"[red]AP below {args.min_ap:g}: {', '.join(failed)}")
    return EXIT_CHECK_FAILED if failed else EXIT_OK
