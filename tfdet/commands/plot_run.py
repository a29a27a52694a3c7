"""Draw the losses and COCO figures of a run as one picture, or those of several runs beside each other."""

from __future__ import annotations

import argparse

from tfdet.commands import flags
from tfdet.errors import EXIT_OK


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    flags.add_model_dir(parser)
    parser.add_argument(
        "--compare", nargs="+", default=[], metavar="FOLDER", help="other runs: total loss, AP and AP50 of each"
    )
    parser.add_argument("--output", default="curves.png", metavar="FILE", help="picture to write (default: curves.png)")


def run(args: argparse.Namespace) -> int:
    """Reads the run's event files and writes the picture."""
    from tfdet.report.curves import plot_run, plot_runs
    from tfdet.terminal import Console

    if args.compare:
        plot_runs([args.model_dir, *args.compare], args.output)
    else:
        plot_run(args.model_dir, args.output)
    Console(soft_wrap=True).print(f"{args.output} written", highlight=False)
    return EXIT_OK
