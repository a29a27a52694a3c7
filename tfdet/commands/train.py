"""Train a detector, or continue a training run: the same command does both."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from tfdet.commands import flags
from tfdet.errors import EXIT_INTERRUPTED, EXIT_OK, UserError

_FROM_SCRATCH = "give --gin_file=gin_configs/overlays/from_scratch.gin after the row's"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    flags.add_config(parser)
    parser.add_argument(
        "--model_dir", metavar="FOLDER", help="folder of the run (default: runs/NAME of the first gin file)"
    )
    flags.add_train_data(parser)
    flags.add_eval_data(parser)
    parser.add_argument(
        "--init_weights",
        metavar="FILE",
        help="weights to start from, a path or a short name such as resnet-v1-50: sets Trainer.init_weights",
    )
    parser.add_argument("--no_eval", action="store_true", help="do not evaluate, even where a data set for it is named")


def run(args: argparse.Namespace) -> int:
    """Trains. Exit code 75 after SIGTERM or SIGINT: the state is saved, and the same command continues."""
    start_time = time.perf_counter()
    configuration = flags.configure(args)
    with configuration.active():
        return _train(args, configuration, start_time)


def _train(args: argparse.Namespace, configuration, start_time: float) -> int:
    model_dir = args.model_dir or str(Path("runs") / flags.row_name(args))

    from tfdet import weights
    from tfdet.data.inputs import EvalInput, TrainInput
    from tfdet.detectors import build_detector
    from tfdet.evaluate.during_training import EvaluationDuringTraining
    from tfdet.report.console import ConsoleReport
    from tfdet.report.tensorboard import EvaluationReport, TensorBoardReport
    from tfdet.report.weights_table import load_table
    from tfdet.training.loop import train
    from tfdet.training.run_dir import RunDirectory
    from tfdet.training.schedule import Schedule
    from tfdet.training.trainer import Trainer

    trainer, schedule = Trainer(), Schedule()
    strategy = trainer.prepare()
    train_input = TrainInput()
    evaluates = not args.no_eval and configuration.is_bound("EvalInput.data_dir")
    eval_input = EvalInput() if evaluates else None
    files = RunDirectory(model_dir)
    with strategy.scope():
        detector = build_detector(num_classes=len(train_input.manifest.classes))
    configuration.check_all_bindings_used(not_built=("EvalInput",) if eval_input is None else ())

    console = ConsoleReport()
    if not evaluates and not args.no_eval:
        console.noted("no evaluation: neither --eval_data nor EvalInput.data_dir names a data set")

    def load_weights(detector, path: str) -> weights.LoadReport:
        try:
            file = weights.find_weights(path)
        except UserError as error:
            raise UserError(f"{error}; or train from random weights: {_FROM_SCRATCH}") from error
        report = weights.load(detector, file)
        console.console.print(load_table(report))
        return report

    evaluation = None
    if eval_input is not None:
        report = EvaluationReport(files.eval_events, eval_input.manifest.classes)
        evaluation = EvaluationDuringTraining(detector, eval_input, report, console.console)
    result = train(
        detector,
        train_input,
        strategy,
        model_dir,
        trainer,
        schedule,
        load_weights=load_weights,
        evaluate=evaluation,
        observers=[console, TensorBoardReport(files.train_events)],
        start_time=start_time,
        config=configuration.text(),
        operative_config=configuration.operative_text(),
    )
    return EXIT_INTERRUPTED if result.stopped_by else EXIT_OK
