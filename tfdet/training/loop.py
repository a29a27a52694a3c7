"""`train`: a run from its first line to its last."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import tensorflow as tf

from tfdet.cluster import Workers
from tfdet.errors import UserError
from tfdet.training import checks, variables
from tfdet.training.average import WeightAverage
from tfdet.training.best_metric import BestMetric
from tfdet.training.checkpoint import CheckpointStore
from tfdet.training.checkpoint_file import PREFIX
from tfdet.training.controller import QuietController
from tfdet.training.evaluation import Evaluation
from tfdet.training.inner_loop import InnerLoop, InputError
from tfdet.training.observer import Best, Ending, Observer
from tfdet.training.overfitting import overfitting
from tfdet.training.patience import EarlyStop, out_of_patience
from tfdet.training.plan import RunPlan
from tfdet.training.progress import ProgressReport, check_finite
from tfdet.training.run_record import RunRecord
from tfdet.training.schedule import Schedule
from tfdet.training.start_table import start_table
from tfdet.training.stopping import Stopped
from tfdet.training.teamwork import agree, files_of, share_state, stop_signals
from tfdet.training.trainer import Trainer
from tfdet.training.update import make_parts, make_step
from tfdet.weights import LoadReport

_STEPS_TO_A_PACE = 5  # the first report that says how long the run takes comes after so many


@dataclass(frozen=True)
class Run:
    """How a run of training ended."""

    model_dir: str  # its folder
    step: int  # steps done in all
    stopped_by: str | None  # name of the signal that ended it early, or None
    metrics: Mapping[str, float]  # of the last evaluation; empty without one
    stopped_early: bool = False  # complete by `Trainer.patience`


def train(
    detector,
    train_input,
    strategy: tf.distribute.Strategy,
    model_dir: str,
    trainer: Trainer | None = None,
    schedule: Schedule | None = None,
    load_weights: Callable[[object, str], LoadReport] | None = None,
    evaluate: Evaluation | None = None,
    observers: Sequence[Observer] = (),
    start_time: float | None = None,
    record: RunRecord | None = None,
    workers: Workers | None = None,
) -> Run:
    """Trains to the last step, from the newest checkpoint in `model_dir` where there is one.

    Args:
        detector: Keras model built under `strategy.scope()`, with `losses(batch, seed)`, `num_classes`, `convention`.
        train_input: a `TrainInput`.
        strategy: from `Trainer.prepare`.
        model_dir: the run's directory.
        trainer, schedule: hyper-parameters; by default what gin says.
        load_weights: loads `Trainer.init_weights` into the detector; returns what it did.
        evaluate: measures the detector during training; None does not.
        observers: told what happens.
        start_time: `time.perf_counter()` when the program began, for the time to the first step; default now.
        record: what the run is, kept in its checkpoints and its folder, and compared with those of a run that goes on;
            None: that of the data alone.
        workers: of `teamwork.taking_part`, where several processes train together: each of them calls this, and worker
            0 alone writes the folder and tells the observers. `evaluate` is called by all, and its figures count there.

    Returns:
        How it ended. After a signal the state is saved, and the same call continues.

    Raises:
        DivergedError: a loss or a gradient is not finite. The weights of the last checkpoint are good.
        UserError: something a person can put right: data, disk, memory, configuration; another process trains in the
            folder, or it is that of another run.
        WorkerLostError: another worker ended or does not answer; the same calls continue from the last checkpoint.
    """
    start = time.perf_counter() if start_time is None else start_time
    trainer, schedule, workers = trainer or Trainer(), schedule or Schedule(), workers or Workers()
    observers = observers if workers.is_chief else ()

    def tell(event: str, *args) -> None:
        for observer in observers:
            getattr(observer, event)(*args)

    def warn(text: str) -> None:
        tell("warned", text)

    # What does not go together is refused before there is a directory.
    files = files_of(workers, model_dir)
    checks.check_boxes(detector, train_input)
    warnings = checks.check_best_metric(trainer, evaluate)
    record = record or RunRecord.of(train_input.manifest)
    plan = RunPlan.make(train_input, strategy, trainer, schedule)
    agree(workers, model_dir, strategy, record, plan, evaluate)
    parts = make_parts(strategy, detector, trainer)
    state = parts.state
    progress, metric = ProgressReport(plan, strategy, state), BestMetric.of(trainer.best_metric)

    metrics: Mapping[str, float] = {}

    def measure(step: int) -> None:
        nonlocal metrics
        averaged, before = parts.average is not None and not trainer.evaluate_raw, time.perf_counter()
        figures: dict[str, float] | None = None  # of an evaluation that a signal ended
        with parts.average.in_place() if averaged else contextlib.nullcontext():
            with contextlib.suppress(Stopped), stop.interruptible():
                figures = dict(evaluate(step))
        figures = workers.of_chief(f"figures of {step}", lambda: figures)
        if figures is None:
            raise Stopped(stop.requested)
        metrics = figures
        progress.evaluated(time.perf_counter() - before)
        value = metric.of_figures(metrics)
        try:
            if value is None:
                warn(f"this data set has nothing to measure {metric.name} on: no best checkpoint is kept")
            elif store.save_if_best(step, metric, value, evaluate.data, raw=trainer.evaluate_raw):
                tell("best", best())
        finally:  # the figures are told even where the disk is full
            tell("evaluated", step, metrics)
        try:
            files.note_evaluation(step, metrics)
        except UserError as error:  # the figures were told: they are worth more than the list of them
            warn(str(error))
        for text in overfitting(files.read_evaluations() or {}, step):
            warn(text)

    def stop_if_no_better(step: int) -> None:
        reason = workers.of_chief(f"patience at {step}", lambda: out_of_patience(trainer, files, step))
        if reason is not None and step < plan.total_steps:
            raise EarlyStop(reason)

    def best() -> Best | None:
        note = files.read_best()
        if note is None:
            return None
        return Best(
            note["step"], BestMetric.of(note["metric"]), note["value"], str(files.best / f"{PREFIX}-{note['step']}")
        )

    def end(step: int, early: str | None, seconds: float | None) -> Run:
        tell("ended", Ending(str(files.path), step, early, best(), seconds))
        stopped_by = workers.of_chief("ended", lambda: stop.requested)
        return Run(model_dir, step, stopped_by, metrics, early is not None)

    with stop_signals(workers) as stop, files.locked():
        try:
            with strategy.scope():
                store = CheckpointStore(
                    files,
                    detector,
                    parts.optimizer,
                    state,
                    record,
                    trainer.seed,
                    plan.total_batch,
                    trainer.keep_checkpoints,
                    warn=warn,
                    average=parts.average,
                    workers=workers,
                )

                def restore() -> dict:
                    done, origin, left = _restore(store, detector, trainer, parts.average, load_weights)
                    return {
                        "step": done,
                        "origin": origin,
                        "left": left,
                        "lengths": store.lengths,
                        "is": store.saved_step,
                    }

                # Restore. Not to be interrupted: half restored is worse than not saved.
                restored = workers.of_chief("restored", restore)
                share_state(workers, strategy, store.variables)
            first_step, origin, left = restored["step"], restored["origin"], restored["left"]
            store.lengths, store.saved_step = restored["lengths"], first_step or None
            stop.start_at(first_step)
            plan = plan.continued(first_step, store.lengths)
            store.note_lengths(plan.lengths)
            run = detector, train_input, strategy, files.path, trainer, schedule
            tell("started", start_table(*run, plan, parts, origin))
            warnings += train_input.warnings(plan.virtual_replicas)
            warnings += [] if evaluate is None else evaluate.warnings
            warnings += schedule.warnings(plan.total_batch, plan.total_steps)
            if first_step == 0:
                warnings += variables.frozen_at_random(detector, parts.optimizer.variables_to_train, left)
            for text in warnings:
                tell("warned", text)
            if store.free_changes:
                tell("noted", f"goes on with {'; '.join(store.free_changes)}")
            stop.check()
            # An evaluation of the step that is restored, which was due and was not made.
            made_up = evaluate is not None and plan.evaluates(first_step) and files.lacks_evaluation(first_step)
            is_short = evaluate is not None and not made_up and first_step < plan.total_steps
            early = out_of_patience(trainer, files, first_step) if is_short else None
            made_up, early = workers.of_chief("how it goes on", lambda: (made_up, early))
            if early is not None:
                tell("noted", f"finished early, at step {first_step}: {early}")
                tell("noted", f"for more: --resume {files.path} --patience N, N larger than {trainer.patience}")
                return end(first_step, early, None)
            if first_step >= plan.total_steps and not made_up:
                tell("noted", f"finished: {first_step} of {plan.total_steps} steps are done, nothing is left to train")
                tell("noted", f"for more steps: --resume {files.path} --steps N, N the new length of the run")
                tell("noted", f"for another run from these weights: --init_weights={files.path} and a new --model_dir")
                return end(first_step, None, None)

            # Make what the steps need. A wrong value in `detect` shows now, not at the first evaluation.
            def after_first_step() -> None:
                tell("first_step", time.perf_counter() - start)
                if trainer.graph:
                    tell("traced", inner.graph)

            with stop.preparing():
                if evaluate is not None:
                    evaluate.prepare()
                rate = schedule.for_batch(plan.total_batch, plan.total_steps, plan.lengths)
                if first_step and plan.lengths[-1][0] == first_step:
                    tell("noted", plan.length_change(rate))
                step = make_step(strategy, detector, parts, rate, trainer)
                # Per-replica batches: the strategy hands them out in turn, and must not cut a global batch.
                dataset = strategy.distribute_datasets_from_function(
                    lambda context: train_input.dataset(
                        plan.virtual_replicas, first_step, trainer.seed, context, plan.total_steps
                    )
                )
                inner = InnerLoop(
                    step,
                    iter(dataset),
                    first_step,
                    stop,
                    warn,
                    after_first_step,
                    train_input.explain,
                    looks_in=workers.count == 1,
                )

            # All fits: from here on the directory is that of this run.
            manifest = train_input.manifest
            selected = manifest if getattr(train_input, "selects_classes", False) else None
            files.begin(manifest.folder, record.config, record.operative_config, selected)
            if record.operative_config is not None:
                tell("configured", record.operative_config)
            tell("begun", first_step)
            if made_up:
                tell("noted", f"the evaluation of step {first_step} was not finished: it is made up for")
                measure(first_step)
                stop_if_no_better(first_step)

            # Train. After each inner loop orbit's Controller calls, in this order:
            def report(_) -> None:
                check_finite(inner.metrics, state, parts.optimizer.loss_scale, store.saved_step)
                tell("progressed", progress(inner.metrics, inner.seconds, inner.wait_seconds))

            def save_if_due(_) -> None:
                if plan.saves(state.step):
                    store.save(state.step)
                    if evaluate is None or not plan.evaluates(state.step):  # else the evaluation's line says as much
                        tell("noted", f"saved the checkpoint of step {state.step}")

            def stop_if_asked(_) -> None:
                stop.check()

            def evaluate_if_due(_) -> None:
                if evaluate is not None and plan.evaluates(state.step):
                    measure(state.step)
                    stop_if_no_better(state.step)

            def steps_per_loop(step: int) -> int:
                if step == first_step:
                    return 1  # the step that is traced is measured alone
                soon = first_step + _STEPS_TO_A_PACE - step
                return min(plan.steps_to_next_event(step), soon) if soon > 0 else plan.steps_to_next_event(step)

            controller = QuietController(
                global_step=state.global_step,
                trainer=inner,
                strategy=strategy,
                steps_per_loop=steps_per_loop,
                train_actions=[report, save_if_due, stop_if_asked, evaluate_if_due],
            )
            if first_step < plan.total_steps:
                controller.train(plan.total_steps, checkpoint_at_completion=False)
            return end(state.step, None, time.perf_counter() - start)
        except EarlyStop as reason:
            return end(state.step, str(reason), time.perf_counter() - start)
        except Stopped:
            if state.step > 0:
                store.save(state.step)
            saved = "the state is saved" if state.step > 0 else "nothing was trained yet"
            tell("noted", f"stopped by {stop.requested} at step {state.step}: {saved}, the same command continues")
        except InputError:
            # The steps since the last checkpoint are good, unless their loss was not finite.
            # Of several workers the others are in a step that this one cannot take.
            if workers.count == 1 and state.step > 0 and int(state.consecutive_skips.numpy()) == 0:
                store.save(state.step)
                tell("noted", f"saved the checkpoint of step {state.step}; with whole data the same command continues")
            raise
        finally:
            tell("closed")
    return Run(model_dir, state.step, stop.requested, metrics)


def _restore(
    store: CheckpointStore,
    detector,
    trainer: Trainer,
    average: WeightAverage | None,
    load_weights: Callable[[object, str], LoadReport] | None,
) -> tuple[int, str, Sequence[str] | None]:
    """Gives every variable its value for the first step, under the scope of the strategy.

    Returns:
        Steps that are done; where the weights are from, in words; paths of the variables that `Trainer.init_weights`
        did not fill, None where it was not read.
    """
    restored = store.restore()
    if restored is not None:
        return restored, f"checkpoint of step {restored}", None
    origin, left = "initial values", None
    if trainer.init_weights:
        if load_weights is None:
            raise UserError("Trainer.init_weights is set, but nothing here can load weights: unset it")
        report = load_weights(detector, trainer.init_weights)
        origin, left = report.summary(), report.left
    if average is not None:
        average.reset()
    return 0, origin, left
