"""Train a detector, or continue a training run: the same command does both."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from tfdet.commands import flags
from tfdet.errors import EXIT_INTERRUPTED, EXIT_OK, UserError

_FROM_SCRATCH = "give --gin_file=gin_configs/overlays/from_scratch.gin after the row's"

_NUM_PICTURES = 8


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
    from tfdet.ops.boxes import CONTINUOUS
    from tfdet.report.console import ConsoleReport
    from tfdet.report.tensorboard import TensorBoardReport
    from tfdet.report.weights_table import load_table
    from tfdet.training.loop import Trainer, train
    from tfdet.training.run_dir import RunDirectory
    from tfdet.training.schedule import Schedule

    trainer, schedule = Trainer(), Schedule()
    strategy = trainer.prepare()
    train_input = TrainInput()
    evaluates = not args.no_eval and configuration.is_bound("EvalInput.data_dir")
    eval_input = EvalInput() if evaluates else None
    files = RunDirectory(model_dir)
    files.create()
    with strategy.scope():
        detector = build_detector(num_classes=len(train_input.manifest.classes))
    continuous = detector.postprocess.convention == CONTINUOUS
    if continuous != (train_input.profile == "C"):
        wanted = "'C'" if continuous else "'S' or 'H'"
        raise UserError(
            f"TrainInput.profile is {train_input.profile!r}, but the detector's boxes are "
            f"{detector.postprocess.convention}: set it to {wanted}"
        )
    configuration.check_all_bindings_used(not_built=("EvalInput",) if eval_input is None else ())
    files.write_config(configuration.text())
    files.copy_manifest(train_input.manifest.folder)

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

    evaluation = eval_input and _Evaluation(detector, eval_input, files, console.console)
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
    )
    return EXIT_INTERRUPTED if result.stopped_by else EXIT_OK


class _Evaluation:
    """Evaluates at a step and writes scalars and pictures to `eval/` of the run."""

    def __init__(self, detector, eval_input, files, console):
        from tfdet.evaluate.run import detect_function
        from tfdet.report.tensorboard import EventWriter

        self._detector, self._input, self._console = detector, eval_input, console
        self._detect = detect_function(detector)  # traced once for all evaluations
        self._events = EventWriter(files.eval_events)

    def __call__(self, step: int) -> dict[str, float]:
        from tfdet.evaluate.run import evaluate
        from tfdet.report.drawing import draw_detections

        result = evaluate(
            self._detector, self._input, num_samples=_NUM_PICTURES, detect=self._detect, console=self._console
        )
        names = self._input.manifest.classes
        scalars = result.scalars()
        self._events.scalars(step, scalars)
        for index, sample in enumerate(result.samples):
            picture = draw_detections(
                sample.image,
                sample.boxes,
                sample.classes,
                sample.scores,
                names,
                score_threshold=0.3,
                gt_boxes=sample.gt_boxes,
                gt_classes=sample.gt_classes,
                masks=sample.masks,
            )
            self._events.images(step, f"detections/{index}", picture[None])
        self._events.flush()
        return scalars
