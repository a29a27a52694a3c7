"""Start several workers of one training run on this machine: to try a cluster, or one process for each GPU."""

from __future__ import annotations

import argparse

from tfdet.errors import UserError

_EXAMPLE = "tfdet launch --workers=2 -- train --gin_file=... --train_data=..."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes to start (default: 2)")
    parser.add_argument(
        "command", nargs=argparse.REMAINDER, help=f"what each of them runs, with its flags, after `--`: {_EXAMPLE}"
    )


def run(args: argparse.Namespace) -> int:
    """Starts the workers on loopback and waits for them. Returns the exit code of the one that was the cause."""
    from tfdet.arguments import whole_number
    from tfdet.cluster.local import launch

    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if command[:1] != ["train"]:
        raise UserError(f"launch starts train, and takes its flags after two dashes: {_EXAMPLE}")
    return launch(command, whole_number("--workers", args.workers, 1))
