"""Measure speed and memory of training and of detection.

`train` takes steps as training would, on random pictures or on a data set, and then measures the parts of a step;
`inference` detects on random pictures or on a data set. Both take the configuration of a gin file, or of a run.
`limit` takes steps on random pictures, in turn with their convolutions and matrix products alone, the least that a step
can take. `peers` takes them in turn with those of torchvision and Detectron2. `input`, `evaluation` and `conversion`
measure what surrounds the network, `scaling` training by several processes of this machine.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from tfdet.commands import _benchmark_data, flags
from tfdet.errors import EXIT_OK


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    what = parser.add_subparsers(dest="what", required=True, metavar="WHAT", help="what to measure")
    train = what.add_parser("train", help="training steps: img/s, memory, what the parts take", allow_abbrev=False)
    flags.add_config(train)
    train.add_argument("--train_data", metavar="FOLDER", help="data set to read; default: one random batch")
    train.add_argument("--num_classes", type=int, default=80, metavar="C", help="without a data set (default 80)")
    train.add_argument("--no_parts", action="store_true", help="do not measure the parts of a step")
    _add_measuring(train, "steps")
    limit = what.add_parser("limit", help="a step beside its convolutions and products alone", allow_abbrev=False)
    flags.add_config(limit)
    limit.add_argument("--num_classes", type=int, default=80, metavar="C", help="classes (default 80)")
    limit.add_argument(
        "--threads", type=int, metavar="N", help="of TensorFlow (default: all); 1: what parts take adds up"
    )
    _add_measuring(limit, "steps")
    peers = what.add_parser("peers", help="a step beside torchvision's and Detectron2's, in turn", allow_abbrev=False)
    flags.add_config(peers)
    peers.add_argument("--inference", action="store_true", help="detection of one image in place of training steps")
    peers.add_argument("--num_classes", type=int, default=80, metavar="C", help="classes of tfdet's (default 80)")
    peers.add_argument("--threads", type=int, metavar="N", help="of each side (default: as each chooses)")
    _add_measuring(peers, "steps")
    inference = what.add_parser("inference", help="detection: img/s, latency, memory", allow_abbrev=False)
    flags.add_config(inference)
    flags.add_model_dir(inference, required=False)
    inference.add_argument("--eval_data", metavar="FOLDER", help="data set to read; default: random pictures")
    inference.add_argument("--num_classes", type=int, default=80, metavar="C", help="without a run (default 80)")
    inference.add_argument("--batch", type=int, default=1, metavar="N", help="images in a batch (default 1)")
    _add_measuring(inference, "batches")
    _benchmark_data.add_arguments(what, _add_results)


def _add_measuring(parser: argparse.ArgumentParser, unit: str) -> None:
    parser.add_argument("--repeats", type=int, default=20, metavar="N", help=f"measured {unit} (default 20)")
    _add_results(parser)


def _add_results(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--results", metavar="FILE.jsonl", help="append the figures to this file (tfdet zoo reads docs/results.jsonl)"
    )


def run(args: argparse.Namespace) -> int:
    """Measures, prints a table and writes it where asked to."""
    from tfdet.errors import UserError

    for flag in ("repeats", "batch", "num_classes", "threads"):
        if (getattr(args, flag, None) if getattr(args, flag, None) is not None else 1) < 1:
            raise UserError(f"--{flag} {getattr(args, flag)} must be at least 1")
    of_networks = {"train": _train, "limit": _limit, "peers": _peers, "inference": _inference}
    return of_networks[args.what](args) if args.what in of_networks else _benchmark_data.run(args, _show)


def _train(args: argparse.Namespace) -> int:
    configuration = flags.configure(args)
    from tfdet.bench import speed
    from tfdet.terminal import Console

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


def _limit(args: argparse.Namespace) -> int:
    configuration = flags.configure(args)
    from tfdet.bench import speed
    from tfdet.terminal import Console

    console = Console(soft_wrap=True)
    figures = speed.benchmark_limit(
        configuration, args.num_classes, args.repeats, lambda name: console.say(f"measuring {name}"), args.threads
    )
    _show_parts(console, figures)
    return _show(console, "step and limit", flags.row_name(args), figures, args.results)


def _peers(args: argparse.Namespace) -> int:
    configuration = flags.configure(args)
    from tfdet.bench import speed
    from tfdet.terminal import Console

    console = Console(soft_wrap=True)

    def say(name: str) -> None:
        console.say(f"measuring {name}")

    figures = speed.benchmark_peers(configuration, args.inference, args.num_classes, args.repeats, say, args.threads)
    kind = "inference beside peers" if args.inference else "step beside peers"
    return _show(console, kind, flags.row_name(args), figures, args.results)


def _show_parts(console, figures: dict) -> None:
    from rich.table import Table

    table = Table(title="seconds of the ops of a step, by part", title_justify="left")
    for column in ("part", "products alone", "in the step", "other ops", "between"):
        table.add_column(column, justify="left" if column == "part" else "right")
    fields = ("limit", "products", "others")
    rows = {name: [part[field] for field in fields] for name, part in figures["parts"].items()}
    rows["all"] = [sum(column) for column in zip(*rows.values(), strict=True)]
    for name, (limit, products, others) in rows.items():
        table.add_row(name, *(f"{seconds:.3f}" for seconds in (limit, products, others, products + others - limit)))
    console.print(table)


def _inference(args: argparse.Namespace) -> int:
    configuration = flags.configure(args, from_run=True)
    from tfdet.bench import speed
    from tfdet.terminal import Console

    figures = speed.benchmark_inference(
        configuration, args.model_dir, bool(args.eval_data), args.num_classes, args.batch, args.repeats
    )
    return _show(Console(soft_wrap=True), "inference speed", flags.row_name(args), figures, args.results)


def _show(console: Any, kind: str, row: str, figures: Mapping[str, Any], results: str | None) -> int:
    from rich.table import Table

    from tfdet.bench.results import append_result, device, machine

    table = Table(title=f"{row}: {kind}", title_justify="left", show_header=False)
    for name, value in figures.items():
        if isinstance(value, dict):
            continue
        table.add_row(name.replace("_", " "), f"{value:,.4g}" if isinstance(value, float) else str(value))
    table.add_row("device", device())
    console.print(table)
    console.print(machine(), highlight=False)
    if results:
        append_result(results, kind, row, **figures)
        console.print(f"appended to {results}", highlight=False)
    return EXIT_OK
