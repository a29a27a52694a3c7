"""Train a detector, or continue a training run: the same command does both."""

from __future__ import annotations

import argparse
import time

from tfdet.commands import flags
from tfdet.errors import EXIT_INTERRUPTED, EXIT_OK, UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    flags.add_config(parser)
    parser.add_argument(
        "--model_dir", metavar="FOLDER", help="folder of the run (default: runs/NAME of the first gin file)"
    )
    parser.add_argument(
        "--resume",
        metavar="RUN",
        help="go on with the run in this folder, which knows its configuration and its data: no --gin_file is needed",
    )
    flags.add_train_data(parser)
    flags.add_eval_data(parser)
    parser.add_argument(
        "--init_weights",
        metavar="NAME",
        help="weights to start from: a run's folder, a file, or the name of published ones such as detectron2/R-50, "
        "which are fetched (`tfdet weights`): sets Trainer.init_weights",
    )
    flags.add_everyday(parser)
    parser.add_argument(
        "--change",
        action="store_true",
        help="continue a run with data or values that differ from its own, which are listed; without, they are refused",
    )
    parser.add_argument("--no_eval", action="store_true", help="do not evaluate, even where a data set for it is named")


def run(args: argparse.Namespace) -> int:
    """Trains. Exit code 75 after SIGTERM or SIGINT: the state is saved, and the same command continues."""
    start_time = time.perf_counter()
    if args.resume:
        for flag in ("gin_file", "model_dir", "init_weights"):
            if getattr(args, flag):
                raise UserError(
                    f"--resume goes on with a run as its folder says: leave out --{flag}, or, for another run, --resume"
                )
        files, lines = [], flags.lines_of(args)
    else:
        files, lines = flags.row_and_lines(args)

    from tfdet.model import build
    from tfdet.run import train

    run = train(
        None if args.resume else build(files, bindings=lines, allow_imports=args.allow_imports),
        model_dir=args.model_dir,
        resume=args.resume,
        **flags.everyday(args),
        bindings=lines if args.resume else None,
        evaluate=not args.no_eval,
        init_weights=args.init_weights,
        change=args.change,
        allow_imports=args.allow_imports,
        start_time=start_time,
    )
    return EXIT_INTERRUPTED if run.stopped_by else EXIT_OK
