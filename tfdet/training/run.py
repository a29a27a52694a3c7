"""The parts of one training run, and what happens between two inner loops."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import gin
import numpy as np

from tfdet.errors import DivergedError, UserError
from tfdet.ops import native
from tfdet.training import distribution, variables
from tfdet.training.checkpoint import CheckpointStore
from tfdet.training.observer import Progress
from tfdet.training.run_dir import RunDirectory
from tfdet.training.step import TrainStep
from tfdet.training.stopping import StopSignals
from tfdet.training.update import make_parts, make_step

if TYPE_CHECKING:
    from tfdet.training.loop import Trainer

_NOT_LOSSES = ("total", "gradient_norm", "learning_rate", "loss_scale", "finite")


class Run:
    """The state of one call of `train`; the arguments are those of `train`.

    Attributes:
        metrics: of the last evaluation.
    """

    def __init__(
        self,
        detector,
        train_input,
        strategy,
        files: RunDirectory,
        trainer: Trainer,
        schedule,
        observers,
        start_time,
    ):
        self._start = time.perf_counter() if start_time is None else start_time
        self._strategy, self._input, self._files, self._trainer = strategy, train_input, files, trainer
        self._observers = observers
        self._detector = detector
        files.create()
        self._replicas = strategy.num_replicas_in_sync
        # Of the whole recipe: micro-batches are what so many more replicas would have had.
        self._virtual_replicas = self._replicas * trainer.accumulate
        self._total_batch = train_input.images_per_replica * self._virtual_replicas
        self._steps_per_epoch = train_input.steps_per_epoch(self._virtual_replicas)
        self._total_steps = trainer.total_steps(self._steps_per_epoch, schedule.length_factor)
        self._schedule = schedule
        self._parts = make_parts(strategy, detector, trainer)
        self._optimizer, self._average, self._state = self._parts
        with strategy.scope():
            self._store = CheckpointStore(
                files,
                detector,
                self._optimizer,
                self._state,
                trainer.seed,
                self._total_batch,
                trainer.keep_checkpoints,
                warn=lambda text: self.tell("warned", text),
                average=self._average,
            )
        self.metrics: Mapping[str, float] = {}
        self._seconds_per_step: float | None = None
        self._inner = None

    def tell(self, event: str, *args) -> None:
        """Calls the method `event` of every observer."""
        for observer in self._observers:
            getattr(observer, event)(*args)

    @property
    def step(self) -> int:
        """Steps done."""
        return int(self._state.global_step.numpy())

    def initialize(self, load_weights) -> None:
        """Gives every variable its value for the first step, and shows the start-up table."""
        with self._strategy.scope():
            restored = self._store.restore()
            origin, left = "initial values", None
            if restored is not None:
                origin = f"checkpoint of step {restored}"
            elif self._trainer.init_weights:
                if load_weights is None:
                    raise UserError("Trainer.init_weights is set, but nothing here can load weights: unset it")
                report = load_weights(self._detector, self._trainer.init_weights)
                origin, left = report.summary(), report.left
            if restored is None and self._average is not None:
                self._average.reset()
        self._first_step = restored or 0
        self.tell("started", self._table(origin))
        warnings = self._schedule.warnings(self._total_batch, self._total_steps)
        if restored is None:
            warnings += variables.frozen_at_random(self._detector, self._optimizer.variables_to_train, left)
        for text in warnings:
            self.tell("warned", text)

    def execute(self, stop: StopSignals, evaluate) -> None:
        """Runs orbit's Controller to the last step."""
        import orbit

        from tfdet.training.inner_loop import InnerLoop

        if self.step >= self._total_steps:
            self.tell(
                "noted",
                f"step {self.step} of {self._total_steps} is done already: raise Trainer.steps or .epochs to go on",
            )
            return
        with stop.interruptible():
            step = self._make_step()
            # Per-replica batches: the strategy hands them out in turn, and must not cut a global batch.
            dataset = self._strategy.distribute_datasets_from_function(
                lambda context: self._input.dataset(
                    self._virtual_replicas, start_step=self.step, seed=self._trainer.seed, input_context=context
                )
            )
            self._inner = InnerLoop(
                step,
                iter(dataset),
                stop,
                lambda text: self.tell("warned", text),
                self._after_first_step,
                self._input.explain,
            )
        with _quiet_orbit():
            controller = orbit.Controller(
                global_step=self._state.global_step,
                trainer=self._inner,
                strategy=self._strategy,
                steps_per_loop=self._steps_to_next_event,
                train_actions=[
                    self._report,
                    self._save_if_due,
                    lambda output: stop.check(),
                    lambda output: self._evaluate_if_due(stop, evaluate),
                ],
            )
            controller.train(steps=self._total_steps, checkpoint_at_completion=False)

    def _make_step(self) -> TrainStep:
        rate = self._schedule.for_batch(self._total_batch, self._total_steps)
        return make_step(self._strategy, self._detector, self._parts, rate, self._trainer)

    def save_after_input_error(self) -> None:
        """After the input failed: the steps since the last checkpoint are good, unless their loss was not finite."""
        if self.step > 0 and int(self._state.consecutive_skips.numpy()) == 0:
            self._save(self.step)
            self.tell("noted", f"saved the checkpoint of step {self.step}; with whole data the same command continues")

    def save_after_signal(self, stop: StopSignals) -> None:
        """After a signal: saves what is not saved yet."""
        step = self.step
        if step > 0:
            self._save(step)
        saved = "the state is saved" if step > 0 else "nothing was trained yet"
        self.tell("noted", f"stopped by {stop.requested} at step {step}: {saved}, the same command continues")

    def _steps_to_next_event(self, step: int) -> int:
        if step == self._first_step:
            return 1  # the step that is traced is measured alone
        trainer = self._trainer
        periods = [trainer.log_every, trainer.checkpoint_every, trainer.evaluate_every]
        return int(min(period - step % period for period in periods if period))

    def _after_first_step(self) -> None:
        self.tell("first_step", time.perf_counter() - self._start)
        self.tell("configured", self._save_operative_config())
        if self._trainer.graph:
            self.tell("traced", self._inner.graph)

    def _report(self, output) -> None:
        step, inner = self.step, self._inner
        metrics = inner.metrics
        count = len(metrics["finite"])
        self._check_finite(step - count, metrics)
        good = metrics["finite"] if metrics["finite"].any() else np.ones(count, bool)
        means = {name: float(values[good].mean()) for name, values in metrics.items()}
        first = step == self._first_step + 1
        if not first:
            latest = inner.seconds / count
            before = self._seconds_per_step
            self._seconds_per_step = latest if before is None else 0.8 * before + 0.2 * latest
        seconds = self._seconds_per_step
        progress = Progress(
            step=step,
            total_steps=self._total_steps,
            losses={name: value for name, value in means.items() if name not in _NOT_LOSSES},
            total=means["total"],
            learning_rate=float(metrics["learning_rate"][-1]),
            gradient_norm=means["gradient_norm"],
            loss_scale=float(metrics["loss_scale"][-1]),
            skipped_steps=int(self._state.skipped_steps.numpy()),
            images_per_second=None if first else self._total_batch * count / inner.seconds,
            data_wait=None if first else inner.wait_seconds / inner.seconds,
            seconds_left=None if seconds is None else seconds * (self._total_steps - step),
            gpu_memory_peak=distribution.gpu_memory_peak(self._strategy),
        )
        self.tell("progressed", progress)

    def _check_finite(self, before: int, metrics: Mapping[str, np.ndarray]) -> None:
        """Raises where a step after `before` diverged. Its update was left out: the weights are good."""
        bad = np.flatnonzero(~metrics["finite"])
        scale = self._optimizer.loss_scale
        if not len(bad):
            return
        if scale.tolerates_overflow:
            skips = int(self._state.consecutive_skips.numpy())
            if not scale.exhausted(skips, float(scale.scale.numpy())):
                return
            reason = f"after {skips} skipped updates in a row, at loss scale {float(metrics['loss_scale'][-1]):g}"
            index = int(bad[-1])
        else:
            reason, index = "", int(bad[0])
        terms = ", ".join(
            f"{name} {values[index]:.6g}"
            for name, values in metrics.items()
            if name not in ("finite", "learning_rate", "loss_scale")
        )
        what = "the loss" if not np.isfinite(metrics["total"][index]) else "the gradient"
        kept = self._store.saved_step
        raise DivergedError(
            f"Step {before + index + 1}: {what} is not finite {reason and reason + ' '}({terms}); the last "
            f"good checkpoint is {'that of step ' + str(kept) if kept else 'none yet'}: lower "
            "Schedule.base_lr, lengthen Schedule.warmup_steps or set Trainer.clip"
        )

    def _save_if_due(self, output) -> None:
        step, trainer = self.step, self._trainer
        evaluates = trainer.evaluate_every and step % trainer.evaluate_every == 0
        if step % trainer.checkpoint_every == 0 or step >= self._total_steps or evaluates:
            self._save(step)
            self.tell("noted", f"saved the checkpoint of step {step}")

    def _save(self, step: int) -> None:
        self._save_operative_config()
        self._store.save(step)

    def _save_operative_config(self) -> str:
        text = gin.operative_config_str(max_line_length=110)
        self._files.write_operative_config(text)
        return text

    def _evaluate_if_due(self, stop: StopSignals, evaluate) -> None:
        step, every = self.step, self._trainer.evaluate_every
        if evaluate is None or not (step >= self._total_steps or (every and step % every == 0)):
            return
        averaged = self._average is not None and not self._trainer.evaluate_raw
        with self._average.in_place() if averaged else contextlib.nullcontext(), stop.interruptible():
            metrics = evaluate(step)
        if not metrics:
            return
        self.metrics = metrics
        self.tell("evaluated", step, metrics)
        name = self._trainer.best_metric
        best = self._files.read_best()
        if name in metrics and not (best and best["metric"] == name and best["value"] >= metrics[name]):
            self._store.save_best(step)
            self._files.note_best(step, name, float(metrics[name]))
            self.tell("noted", f"best {name} so far: {metrics[name]:.4f} at step {step}")

    def _table(self, origin: str) -> dict[str, str]:
        """The start-up table."""
        data, trainer, batch = self._input.manifest, self._trainer, self._total_batch
        replicas, per_replica = self._replicas, self._input.images_per_replica
        optimizer = self._optimizer
        steps = f"{self._total_steps}"
        if trainer.steps is None:
            steps += f" = {trainer.epochs:g} epochs x {self._steps_per_epoch}"
            if self._schedule.length_factor != 1:
                steps += f" x {self._schedule.length_factor:g}"
        scale = f", {optimizer.loss_scale.describe()}" if trainer.precision == "mixed_float16" else ""
        limits = [] if trainer.clip is None else [f"{trainer.clip:g} an element"]
        limits += [] if trainer.clip_norm is None else [f"norm {trainer.clip_norm:g}"]
        average = "" if self._average is None else f", average of decay {self._average.decay:g}"
        accumulated = "" if trainer.accumulate == 1 else f" x {trainer.accumulate} accumulated"
        images = f"{data.num_images} images, {data.num_boxes} boxes, {len(data.classes)} classes"
        return {
            "devices": ", ".join(distribution.device_names(self._strategy)),
            "batch": f"{batch} images = {replicas} replica(s) x {per_replica}{accumulated}",
            "precision": trainer.precision + scale,
            "ops": native.describe(),
            "data set": f"{data.name}: {images}",
            **variables.describe(self._detector, optimizer.variables_to_train),
            "start": origin,
            **self._schedule.describe(batch, self._total_steps),
            "update": f"momentum {trainer.momentum:g}, weight decay {trainer.weight_decay:g}, "
            f"clip {', '.join(limits) or 'none'}{average}",
            "steps": steps,
            "model directory": str(self._files.path),
        }


@contextlib.contextmanager
def _quiet_orbit():
    """orbit prints a line for every inner loop, and warns of a loop that a signal cut short; here observers report.

    There is no switch for either in orbit.
    """
    from absl import logging
    from orbit import controller

    printing, verbosity = controller._log, logging.get_verbosity()
    controller._log = lambda message: None
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        controller._log = printing
        logging.set_verbosity(verbosity)
