"""`tfdet.train`: from a model to a run, for Python and for the command."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfdet import arguments, config
from tfdet.config.files import RUN_FILE
from tfdet.config.lines import Line, Settings, gin_lines
from tfdet.errors import UserError
from tfdet.exported_model import DetectingModel, ExportedModel
from tfdet.files import at_home, read_regular
from tfdet.model import Model, build
from tfdet.run_start import EVAL_DATA, TRAIN_DATA, automatic_batch_of, fetch_missing, find_weights

if TYPE_CHECKING:
    from rich.console import Console

    from tfdet.cluster import Workers
    from tfdet.config import Configuration
    from tfdet.training.loop import Run
    from tfdet.training.observer import Observer
    from tfdet.weights import LoadReport


def train(
    model: DetectingModel | None = None,
    train_data: str | os.PathLike | Sequence[str | os.PathLike] | None = None,
    eval_data: str | os.PathLike | None = None,
    model_dir: str | os.PathLike | None = None,
    *,
    resume: str | os.PathLike | None = None,
    steps: int | None = None,
    epochs: float | None = None,
    batch: int | str | None = None,
    lr: float | None = None,
    image_size: int | str | tuple[int, int] | None = None,
    classes: Sequence[str] | None = None,
    seed: int | None = None,
    patience: int | None = None,
    sinks: Sequence[str] | None = None,
    evaluate: bool = True,
    init_weights: str | os.PathLike | None = None,
    bindings: Settings = None,
    change: bool = False,
    allow_imports: bool = False,
    observers: Sequence[Observer] = (),
    console: Console | None = None,
    quiet: bool = False,
    start_time: float | None = None,
) -> Run:
    """Trains a model, or continues the run in `model_dir`; afterwards the model has the weights of the run: those of
    its best checkpoint, else of its last, as `tfdet.load` gives them.

    A model that was loaded starts from its weights. One that was built starts from `init_weights`, from what its row
    names, or at random. The classes become those of the data.

    Args:
        model: of `build` or `load`; None with `resume`.
        train_data: folder or address (gs://bucket/coco) of the data set to train on, or several to mix; None: what the
            configuration names.
        eval_data: folder or address of the one to evaluate on; None: what the configuration names, if anything.
        model_dir: folder of the run; None: runs/NAME for a model that was built of the row NAME.
        resume: folder of a run that goes on, in place of `model` and `model_dir`: its configuration and its data are
            known. `train_data` and `eval_data` say where these lie now, if elsewhere.
        steps: updates of the run in all. It and the next ones set values of the configuration, docs/training.md.
        epochs: passes over the training data, mirrored copies among them; not beside `steps`.
        batch: images of an update, over all replicas and micro-batches; "auto": as many as the GPU has memory for,
            which is tried out in other processes (docs/training.md).
        lr: the learning rate, at the batch of the run.
        image_size: longest side, such as 512, or the short and the long one: (800, 1333) or "800x1333".
        classes: names of the classes to train on and to measure, in this order; objects of others are background.
        seed: of the initial weights, the data order and the sampling.
        patience: evaluations in a row without a better one after which the run is complete.
        sinks: where figures go besides the console, of "tensorboard", "csv", "wandb", "mlflow"; None: the first two.
        evaluate: False does not evaluate, even where a data set for it is named.
        init_weights: weights to start from, a path or the name of published ones, such as "detectron2/R-50", which are
            fetched once.
        bindings: values in place of the configuration's, as in `build`: {"Trainer.epochs": 12}.
        change: a run that is continued takes over data and values that differ from its own; False refuses them, but for
            those of docs/training.md that differ freely, such as Trainer.steps. Other classes are refused always.
        allow_imports: as in `tfdet.load`, of the run to resume.
        observers: told what happens, beside console and TensorBoard.
        console: where to show it; None: standard output.
        quiet: shows nothing.
        start_time: `time.perf_counter()` when the program began, for the time to the first step; None: now.

    Returns:
        How it ended. After SIGINT or SIGTERM (`stopped_by`) the state is saved, and the same call continues.

    Raises:
        DivergedError: the loss is not finite.
        UserError: data, configuration, weights or folder are not as they should be, or another process trains there.

    Example:
        >>> import tfdet
        >>> model = tfdet.build("tiny.gin", bindings={"Trainer.steps": 2})
        >>> run = tfdet.train(model, "data/train", "data/val", "runs/tiny", quiet=True)
        >>> run.step, model.classes
        (2, ['circle', 'square', 'triangle'])
    """
    start_time = time.perf_counter() if start_time is None else start_time
    from tfdet.training.everyday import Everyday, ignored_epochs
    from tfdet.training.run_paths import check_still_there, with_whole_paths
    from tfdet.training.teamwork import taking_part

    if isinstance(train_data, Sequence) and not isinstance(train_data, str):
        train_data = tuple(train_data)
    if isinstance(batch, str) and batch != arguments.AUTO:
        raise UserError(f"batch must be a whole number, or {arguments.AUTO!r}. Received: {batch!r}")
    given = None if isinstance(batch, str) else batch
    everyday = Everyday(steps, epochs, given, lr, image_size, classes, seed, patience, sinks)
    with taking_part() as workers:
        if resume is not None:
            if not (model is None and model_dir is None and init_weights is None):
                raise UserError(
                    "a run that is resumed has its model, folder and weights: leave model, model_dir and init_weights "
                    "out"
                )
            model, model_dir = _of_run(resume, allow_imports, workers), resume
        if not isinstance(model, (Model, ExportedModel)):
            raise UserError(f"train takes a model that tfdet.build or tfdet.load gave. Received: {model!r}")
        if not isinstance(model, Model):
            raise UserError("an exported model cannot be trained: load the run or the weights that it is of")
        if model.weights is not None and init_weights is not None:
            raise UserError(
                f"the model has the weights of {model.weights.path}: leave init_weights out, or build its row"
            )
        if model.weights is not None and model_dir is None:
            raise UserError("model_dir is missing: a new folder, or that of the run itself, which is then continued")
        folder = arguments.path("model_dir", model_dir) if model_dir is not None else str(Path("runs") / model.name)
        goes_on = workers.of_chief("is a run", lambda: _is_run(folder))
        starts_from = model.weights is not None and not goes_on
        if starts_from and model.weights is not None:
            init_weights = model.weights.path
        settings = (
            ("train_data", TRAIN_DATA, train_data),
            ("eval_data", EVAL_DATA, eval_data),
            ("init_weights", "Trainer.init_weights", init_weights),
        )
        named = [Line.setting(name, value, f"--{flag}") for flag, name, value in settings if value is not None]
        configuration = model.configured([*gin_lines(bindings), *named])
        lines, notes = everyday.settle(
            configuration, continues=resume is not None or goes_on and model.weights is not None
        )
        configuration = config.extended(configuration, lines) if lines else configuration
        from tfdet.predict.restore import RunWeights
        from tfdet.report.console import ConsoleReport
        from tfdet.training.run_dir import RunDirectory

        workers.of_chief("folder", RunDirectory(folder).check)
        report = None if quiet or not workers.is_chief else ConsoleReport(console)
        if report is not None:
            for note in notes:
                report.noted(note)
            for warning in ignored_epochs(configuration):
                report.warned(warning)
        if resume is not None:
            check_still_there(configuration, evaluate)
        if report is not None and model_dir is None:
            what = "goes on with the run in" if goes_on else "a new run, in"
            report.noted(f"{what} {folder}, by the name of the row; --model_dir names another folder")
        begins = workers.is_chief and not starts_from and not goes_on
        fetch_missing(configuration, evaluate, begins, None if report is None else report.console)
        configuration = with_whole_paths(configuration)
        if batch == arguments.AUTO and workers.count > 1:
            raise UserError(
                f"--batch {arguments.AUTO} tries out the batch of one machine: give a number to several workers"
            )
        if batch == arguments.AUTO:
            said: Callable[[str], None] = (lambda _: None) if report is None else report.noted
            images = automatic_batch_of(configuration, folder if goes_on else None, said)
            lines, notes = Everyday(batch=images, lr=lr).settle(configuration, continues=goes_on)
            configuration = config.extended(configuration, lines)
            for note in notes:
                said(note)
        with configuration.active(), _globals_as_before():
            run = _train(
                model, configuration, folder, evaluate, starts_from, change, report, observers, start_time, workers
            )
        if _is_run(folder):
            model.trained(configuration, RunWeights(folder))
        return run


def _train(
    model: Model,
    configuration: Configuration,
    folder: str,
    may_evaluate: bool,
    starts_from: bool,
    change: bool,
    report: Any,
    observers: Sequence[Observer],
    start_time: float,
    workers: Workers,
) -> Run:
    """A run by the active configuration; `starts_from`: from the model's weights; the rest as in `train`."""
    import keras

    from tfdet import weights
    from tfdet.data.inputs import EvalInput, TrainInput
    from tfdet.detectors import build_detector
    from tfdet.evaluate.classes import match_classes
    from tfdet.evaluate.during_training import EvaluationDuringTraining, EvaluationReport
    from tfdet.evaluate.validation import Validation
    from tfdet.report.sinks import make_sinks
    from tfdet.report.weights_table import load_table
    from tfdet.training.chosen import choose
    from tfdet.training.loop import train as train_detector
    from tfdet.training.run_dir import RunDirectory
    from tfdet.training.run_record import RunRecord
    from tfdet.training.schedule import Schedule
    from tfdet.training.trainer import Trainer
    from tfdet.weights.load import load_arrays

    trainer, schedule = configuration.build(Trainer), configuration.build(Schedule)
    files = RunDirectory(folder)
    warn = warnings.warn if report is None else report.warned
    note = (lambda text: None) if report is None else report.noted
    sinks = make_sinks(trainer.sinks, files, warn, note) if workers.is_chief else []
    strategy = trainer.prepare(workers.cluster)
    workers.worker_timeout = trainer.worker_timeout
    if not configuration.is_bound(TRAIN_DATA):
        raise UserError("no data set to train on: give train_data, or --train_data on the command line")
    train_input = configuration.build(TrainInput)
    _check_classes(model, train_input.manifest)
    evaluates = may_evaluate and configuration.is_bound(EVAL_DATA)
    eval_input = configuration.build(EvalInput) if evaluates else None
    validation = configuration.build(Validation) if evaluates else None
    classes = list(train_input.manifest.classes)
    if eval_input is not None:
        match_classes(classes, eval_input.manifest.classes, "the training data", "the evaluation data")
    own: dict[str, Any] = {}
    if starts_from:
        own = {variable.path: variable.numpy() for variable in model.detector.variables}
        keras.utils.set_random_seed(trainer.seed)  # as if nothing had been drawn for the model's own weights
    with strategy.scope():
        detector = configuration.build(build_detector, num_classes=len(train_input.manifest.classes))
    configuration.check_all_bindings_used(not_built=("EvalInput", "Validation") if eval_input is None else ())
    if report is not None and not evaluates and may_evaluate:
        report.noted(
            "no evaluation: neither --eval_data nor EvalInput.data_dir names a data set (a row's own goes with its own "
            "training data)"
        )

    def load_weights(detector: Any, path: str) -> LoadReport:
        if starts_from:
            loaded, _ = load_arrays(detector, own, path)
        elif _is_run(path):
            chosen = choose(path)
            if report is not None:
                report.noted(f"starts from {path}: {chosen.describe()}")
                if (known := RunDirectory(path).read_classes()) is not None and known[0] != classes:
                    report.warned(f"{path} is of {_named(known[0])}; these data are of {_named(classes)}")
            loaded, _ = load_arrays(detector, chosen.read().weights(chosen.raw), path)
        else:
            loaded = weights.load(detector, find_weights(path))
        if report is not None:
            report.console.print(load_table(loaded))
        return loaded

    evaluation = None
    if eval_input is not None and validation is not None:
        pictures = None
        if "tensorboard" in trainer.sinks and workers.is_chief:
            pictures = EvaluationReport(files.eval_events, eval_input.manifest.classes, warn)
        console = None if report is None else report.console
        devices = list(strategy.extended.worker_devices) if strategy.num_replicas_in_sync > 1 else None
        parts = validation.of(detector, train_input, eval_input, trainer.seed, devices)
        evaluation = EvaluationDuringTraining(
            detector, eval_input, pictures, console, classes=classes, validation=parts, devices=devices, workers=workers
        )
    shown = [] if report is None else [report]
    return train_detector(
        detector,
        train_input,
        strategy,
        folder,
        trainer,
        schedule,
        load_weights=load_weights,
        evaluate=evaluation,
        observers=[*shown, *sinks, *observers],
        start_time=start_time,
        record=RunRecord.of(train_input.manifest, configuration, change),
        workers=workers,
    )


def _of_run(resume: str | os.PathLike, allow_imports: bool, workers: Workers) -> Model:
    """The model of the configuration that a run left in its folder: of several workers, in that of worker 0."""
    folder = at_home(arguments.path("resume", resume))

    def read() -> str:
        written = folder / RUN_FILE
        if not os.path.isfile(written):
            raise UserError(f"{folder} is no training run that could go on: it has no {RUN_FILE}")
        return "" if workers.count == 1 else read_regular(written).decode(errors="replace")

    text = workers.of_chief("configuration of the run", read)
    if workers.is_chief:
        model = build(folder / RUN_FILE, allow_imports=allow_imports)
    else:
        with tempfile.TemporaryDirectory(prefix="tfdet-worker-") as own:
            copy = Path(own, RUN_FILE)
            copy.write_text(text, encoding="utf-8")
            model = build(copy, allow_imports=allow_imports)
    model.name = folder.name
    return model


def _named(classes: Sequence[str]) -> str:
    return f"{len(classes)} classes ({', '.join(classes[:10])}{', ...' if len(classes) > 10 else ''})"


def _is_run(folder: str) -> bool:
    """Whether training in the folder would continue from a checkpoint."""
    from tfdet.training.checkpoint import latest_step

    return latest_step(folder) is not None


def _check_classes(model: Model, manifest: Any) -> None:
    """`UserError` where a person built the model for other classes than those of the data."""
    if model.weights is not None:
        return
    has = f"the data set {manifest.name!r} has {len(manifest.classes)}"
    if model.num_classes not in (None, len(manifest.classes)):
        raise UserError(
            f"the model was built for {model.num_classes} classes, {has}: build it without num_classes, or with those"
        )
    if model.given_classes is not None and model.given_classes != list(manifest.classes):
        raise UserError(f"the model was built for {_others(model.given_classes, manifest)}; build it without classes")


def _others(classes: Sequence[str], manifest: Any) -> str:
    first = next(pair for pair in zip(classes, manifest.classes) if pair[0] != pair[1])
    place = f"{first[0]!r} in place of {first[1]!r}"
    return f"other classes than those of the data set {manifest.name!r}, or in another order: {place}"


@contextlib.contextmanager
def _globals_as_before() -> Iterator[None]:
    """What `Trainer.prepare` sets is behind it what it was; seeds alone stay set."""
    from tensorflow.python.framework import config as determinism  # the way back is not public

    from tfdet.predict.float32 import numerics_as_before

    was_deterministic = determinism.is_op_determinism_enabled()
    try:
        with numerics_as_before():
            yield
    finally:
        if not was_deterministic:
            determinism.disable_op_determinism()
