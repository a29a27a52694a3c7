"""`tfdet benchmark` of what surrounds a network: `input`, `evaluation`, `conversion` and `scaling`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

from tfdet.commands import flags
from tfdet.errors import UserError

Shown = Callable[[Any, str, str, Mapping[str, Any], str | None], int]
"""Shows figures: console, kind, row, figures, and the file that they are appended to."""

_DRAWN = {"images": 5000, "detections": 100, "classes": 80, "objects": 35000}


def add_arguments(what: Any, add_results: Callable[[argparse.ArgumentParser], None]) -> None:
    """Adds the sub-commands.

    Args:
        what: of `add_subparsers`.
        add_results: adds `--results`.
    """
    read = what.add_parser("input", help="images that the training input gives", allow_abbrev=False)
    flags.add_config(read)
    read.add_argument("--train_data", required=True, metavar="FOLDER", help="data set to read")
    read.add_argument("--images", type=int, default=200, metavar="N", help="of each measurement (default 200)")
    read.add_argument("--repeats", type=int, default=5, metavar="N", help="measurements (default 5)")
    evaluation = what.add_parser(
        "evaluation", help="an evaluation by part; without a model, COCO's figures of drawn boxes", allow_abbrev=False
    )
    flags.add_model_dir(evaluation, required=False)
    flags.add_weights(evaluation)
    flags.add_config(evaluation)
    flags.add_eval_data(evaluation)
    flags.add_checkpoint(evaluation)
    evaluation.add_argument("--max_images", type=int, metavar="N", help="of the data set (default all)")
    evaluation.add_argument("--max_detections", type=int, default=100, metavar="N", help="that count (default 100)")
    for name, number in _DRAWN.items():
        each = " in each image" if name == "detections" else ""
        evaluation.add_argument(
            f"--drawn_{name}", type=int, default=number, metavar="N", help=f"drawn {name}{each} (default {number})"
        )
    conversion = what.add_parser("conversion", help="convert_data: images/s, memory", allow_abbrev=False)
    conversion.add_argument("source", metavar="PATH", help="folder of images with annotations")
    conversion.add_argument("--num_workers", type=int, metavar="N", help="processes (default: all processors)")
    scaling = what.add_parser("scaling", help="training by 1, 2, 4 processes of this machine", allow_abbrev=False)
    flags.add_config(scaling)
    scaling.add_argument("--train_data", required=True, metavar="FOLDER", help="data set to train on")
    scaling.add_argument(
        "--processes", type=int, nargs="+", default=[1, 2, 4], metavar="N", help="how many (default 1 2 4)"
    )
    scaling.add_argument("--steps", type=int, default=20, metavar="N", help="of each run (default 20)")
    for parser in (read, evaluation, conversion, scaling):
        add_results(parser)


def run(args: argparse.Namespace, show: Shown) -> int:
    """Measures and shows. Args: show, see `Shown`."""
    for flag in ("images", "repeats", "steps", "num_workers", "max_images", *(f"drawn_{name}" for name in _DRAWN)):
        if (value := getattr(args, flag, None)) is not None and value < 1:
            raise UserError(f"--{flag} {value} must be at least 1")
    return {"input": _input, "evaluation": _evaluation, "conversion": _conversion, "scaling": _scaling}[args.what](
        args, show
    )


def _input(args: argparse.Namespace, show: Shown) -> int:
    configuration = flags.configure(args)
    from tfdet.bench.data_speed import benchmark_input
    from tfdet.terminal import Console

    console = Console(soft_wrap=True)
    figures = benchmark_input(configuration, args.images, args.repeats, lambda name: console.say(f"measuring {name}"))
    return show(console, "input speed", flags.row_name(args), figures, args.results)


def _evaluation(args: argparse.Namespace, show: Shown) -> int:
    from tfdet.bench import data_speed
    from tfdet.terminal import Console

    console = Console(soft_wrap=True)
    if args.model_dir or args.weights:
        figures = data_speed.benchmark_evaluation(flags.load(args), None, args.max_images, args.max_detections)
        return show(console, "evaluation speed", flags.row_name(args), figures, args.results)
    if args.gin_file or args.eval_data:
        raise UserError("benchmark evaluation: give --model_dir of a run or --weights; without, boxes are drawn")
    drawn = {name: getattr(args, f"drawn_{name}") for name in _DRAWN}
    figures = data_speed.benchmark_figures(**drawn, max_detections=args.max_detections)
    return show(console, "COCO's figures", "drawn boxes", figures, args.results)


def _conversion(args: argparse.Namespace, show: Shown) -> int:
    from tfdet.bench.data_speed import benchmark_conversion
    from tfdet.terminal import Console

    figures = benchmark_conversion(args.source, args.num_workers)
    return show(Console(soft_wrap=True), "conversion speed", str(args.source), figures, args.results)


def _scaling(args: argparse.Namespace, show: Shown) -> int:
    if min(args.processes) < 1 or args.steps < 2:
        raise UserError("benchmark scaling: --processes must be at least 1, and --steps at least 2")
    configuration = flags.configure(args)
    from rich.table import Table

    from tfdet.bench.data_speed import benchmark_scaling
    from tfdet.bench.speed import reduced_bytes
    from tfdet.terminal import Console

    console = Console(soft_wrap=True)
    given = [f"--gin_file={name}" for name in args.gin_file] + [f"--gin_param={text}" for text in args.gin_param]
    given += [f"--train_data={args.train_data}"] + (["--allow_imports"] if args.allow_imports else [])
    size, images = reduced_bytes(configuration), configuration.value("TrainInput.images_per_replica")
    rows = list(
        benchmark_scaling(
            given, args.processes, args.steps, size, images, lambda name: console.say(f"training by {name}")
        )
    )
    table = Table(title=f"{flags.row_name(args)}: scaling on this machine", title_justify="left")
    for name in ("processes", "batch", "img/s", "of linear", "MB sent by each in a step"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*map(str, row.values()))
    console.print(table)
    by_count = {str(row["processes"]): row for row in rows}
    figures = {"reduced_mb": round(size / 1e6, 2), "steps": args.steps, "by_processes": by_count}
    return show(console, "scaling", flags.row_name(args), figures, args.results)
