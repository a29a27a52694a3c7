"""Trains a small detector of every family from random weights on drawn shapes, and says what each has learnt.

    python scripts/learn.py [NAME...] [--folder=runs/learn] [--jobs=2]        # or: make learn

The configurations are those of gin_configs/learn. Minutes a family on two CPU cores, more in half precision, which CPUs
are slow at. A run that was stopped is continued by the same command.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rich.table import Table

from tfdet.bench.results import append_result, latest, read_results
from tfdet.config.files import did_you_mean, gin_configs_folder
from tfdet.errors import EXIT_CHECK_FAILED, EXIT_OK, UserError
from tfdet.files import replacing
from tools import markdown

COLUMNS = ("configuration", "steps", "minutes", "box AP", "AP50", "mask AP", "date, device")
_SHARED = "small"  # gin file that the others include


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
    from rich.console import Console

    known = families()
    for name in args.names:
        if name not in known:
            raise UserError(f"there is no gin_configs/learn/{name}.gin.{did_you_mean(name, known)}")
    if args.steps is not None and args.steps < 1:
        raise UserError(f"--steps {args.steps} must be at least 1")
    if args.jobs < 1:
        raise UserError(f"--jobs {args.jobs} must be at least 1")
    results = args.results or Path(args.folder) / "results.jsonl"
    console, names = Console(soft_wrap=True), args.names or known
    learnt = learn(names, args.folder, results, args.steps, args.jobs, console.print)
    failed = [
        record["row"] for record in learnt if min(record[k] for k in ("AP", "mask_AP") if k in record) < args.min_ap
    ]
    if args.steps:  # a shortened run is not asked to have learnt
        failed = []
    records = read_results(results)
    console.print(table(records))
    if args.write:
        write_markdown(args.write, records)
        console.print(f"written to {args.write}", highlight=False)
    if failed:
        console.print(f"[red]AP below {args.min_ap:g}: {', '.join(failed)}")
    return EXIT_CHECK_FAILED if failed else EXIT_OK


def families() -> list[str]:
    """Names of the configurations."""
    return sorted(path.stem for path in gin_configs_folder().glob("learn/*.gin") if path.stem != _SHARED)


def learn(
    names: Sequence[str],
    folder: str | os.PathLike,
    results: str | os.PathLike,
    steps: int | None,
    jobs: int,
    tell: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Trains configurations on the drawn shapes, and evaluates them on drawn images that they have not seen.

    Training and evaluation are the commands that a user would call, each in a process of its own.

    Args:
        names: of the configurations.
        folder: gets the data set and the runs. A run that is there already is continued.
        results: file that the figures are appended to.
        steps: of training, in place of the configuration's; such figures say that it runs, not that it learns.
        jobs: configurations at work at once. With several each writes what it says to FOLDER/NAME.log.
        tell: shows a line.

    Returns:
        The records of the results file, one a name.

    Raises:
        UserError: a command failed.
    """
    folder = Path(folder)
    data = folder / "data"
    if not (data / "val" / "manifest.json").is_file():
        _tfdet(None, "make_shapes", f"--output={data}", "--overwrite")

    def one(name: str) -> dict[str, Any]:
        log = folder / f"{name}.log" if jobs > 1 else None
        tell(f"training {name}" + (f", log in {log}" if log else ""))
        return _train_and_evaluate(name, folder, steps, log)

    # The pool's own order: results come as they are named, and an error as soon as its turn is there.
    with ThreadPoolExecutor(jobs) as pool:
        try:
            return [append_result(results, "learn", name, **found) for name, found in zip(names, pool.map(one, names))]
        finally:
            pool.shutdown(cancel_futures=True)


def _train_and_evaluate(name: str, folder: Path, steps: int | None, log: Path | None) -> dict[str, Any]:
    started, data, run = time.perf_counter(), folder / "data", folder / name
    shorter = [f"--gin_param=Trainer.steps = {steps}"] if steps else []
    _tfdet(
        log,
        "train",
        f"--gin_file=learn/{name}.gin",
        f"--model_dir={run}",
        f"--train_data={data / 'train'}",
        "--no_eval",
        *shorter,
    )
    minutes = (time.perf_counter() - started) / 60
    found = run / "evaluation.jsonl"
    _tfdet(log, "evaluate", f"--model_dir={run}", f"--eval_data={data / 'val'}", f"--results={found}")
    measured = latest(read_results(found), "evaluate", name)
    apart = ("kind", "row", "date", "device", "command")
    return {key: value for key, value in measured.items() if key not in apart} | {"minutes": round(minutes, 1)}


def table(records: Sequence[dict[str, Any]]) -> Table:
    """The latest figures of every configuration, for the console."""
    shown = Table(title="Learnt from random weights on the drawn shapes")
    for number, column in enumerate(COLUMNS):
        shown.add_column(column, justify="right" if 0 < number < 6 else "left")
    for name in families():
        shown.add_row(*cells(name, records))
    return shown


def cells(name: str, records: Sequence[dict[str, Any]]) -> list[str]:
    """The cells of `COLUMNS`, empty where nothing was measured."""
    record = latest(records, "learn", name)
    if record is None:
        return [name] + [""] * (len(COLUMNS) - 1)
    percents = [f"{100 * record[key]:.1f}" if key in record else "" for key in ("AP", "AP50", "mask_AP")]
    return [name, f"{record['step']}", f"{record['minutes']:.1f}", *percents, f"{record['date']}, {record['device']}"]


def write_markdown(path: str | os.PathLike, records: Sequence[dict[str, Any]]) -> None:
    """Writes the latest figures of every configuration.

    Raises:
        UserError: the file cannot be written.
    """
    lines = [
        "# What the families learn from random weights",
        "",
        "    python scripts/learn.py --results docs/results.jsonl --write docs/learn.md",
        "",
        "Small detectors of every family on 400 drawn images of circles, squares and triangles (`tfdet make_shapes`),",
        "evaluated on 100 others. Minutes are of training alone, on a machine that did other work as well.",
        "`make learn` prints the table of a run of your own.",
        "",
        *markdown.table(COLUMNS, (_linked(*cells(name, records)) for name in families()), left=(0, 6)),
    ]
    with replacing(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _linked(name: str, *others: str) -> list[str]:
    return [f"[`learn/{name}.gin`](../gin_configs/learn/{name}.gin)", *others]


def _tfdet(log: Path | None, *words: str) -> None:
    """Runs a command; what it says goes to the console, or is added to `log`."""
    command = [sys.executable, "-m", "tfdet", *words]
    if log is None:
        done = subprocess.run(command, check=False)
    else:
        with open(log, "a", encoding="utf-8") as file:
            done = subprocess.run(command, check=False, stdout=file, stderr=subprocess.STDOUT)
    if done.returncode:
        raise UserError(f"`tfdet {' '.join(words)}` ended with exit code {done.returncode}, see {log or 'above'}")
