"""Saving and restoring: everything a run needs to continue, and detectors out of a run.

A checkpoint maps names to tensors; the names are the Keras paths of the variables, not positions in an
object graph, so that what is missing or has another shape can be named, and a detector restores however it
was put together. It is read whole, checksums included, before the first variable changes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import tensorflow as tf

from tfdet.cluster import Workers
from tfdet.errors import UserError
from tfdet.files import literal, replacing
from tfdet.training.average import WeightAverage
from tfdet.training.best_metric import BestMetric
from tfdet.training.checkpoint_file import OTHER_RUN, PREFIX, CheckpointFile, read_newest, saved_steps
from tfdet.training.chosen import choose
from tfdet.training.optimizer import SLOT_GROUPS, Optimizer
from tfdet.training.run_dir import RunDirectory
from tfdet.training.run_record import RunRecord, lines_of
from tfdet.training.step import StepState

_logger = logging.getLogger("tfdet")
_LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.DeadlineExceededError)
_AVERAGES = "averages"
_BATCH = "images of an update"


class CheckpointStore:
    """The checkpoints of a training run.

    Holds the detector, what the optimizer keeps, the loss scale, the step counters, the seed, the total batch, the
    class count and the `RunRecord`. Make it under the scope of the strategy. The files themselves say which checkpoints
    there are, so none is forgotten that a killed process wrote.

    Args:
        run: the files of the run.
        detector: Keras model with `num_classes`.
        optimizer: over the trained variables.
        state: the counters.
        record: what the run is.
        seed: of the run.
        total_batch: images per update over all replicas.
        keep: how many of the newest checkpoints stay.
        warn: receives one line about each thing that does not fit but is no error.
        average: of the weights, where the run keeps one.
        workers: that train together: all of them take part in a save, for some variables are read by all.

    Attributes:
        saved_step: of the newest checkpoint that this object wrote or restored; None before.
        lengths: of the run that was restored (`RunRecord.lengths`); empty where none was, or where it goes on with
            another schedule.
        free_changes: what differs from the run that was restored and may, a line each.
    """

    def __init__(
        self,
        run: RunDirectory,
        detector,
        optimizer: Optimizer,
        state: StepState,
        record: RunRecord,
        seed: int,
        total_batch: int,
        keep: int = 5,
        warn: Callable[[str], None] = _logger.warning,
        average: WeightAverage | None = None,
        workers: Workers | None = None,
    ):
        def constant(value: int) -> tf.Variable:
            return tf.Variable(value, dtype=tf.int64, trainable=False)

        self._run = run
        self._workers = workers or Workers()
        self._warn = warn
        self._keep = keep
        self._facts = {"seed": seed, "total_batch": total_batch, "num_classes": detector.num_classes}
        self._detector = detector
        self._progress = {
            "global_step": state.global_step,
            "skipped_steps": state.skipped_steps,
            "consecutive_skips": state.consecutive_skips,
            "loss_scale": optimizer.loss_scale.scale,
            "loss_scale_good_steps": optimizer.loss_scale.good_steps,
        }
        self._rule, self._slots = optimizer.rule, optimizer.slots
        self._average = average
        self._record = record
        self._scale_mode, self._text = optimizer.loss_scale.mode, _Text(record.json())
        self._checkpoint = tf.train.Checkpoint(
            detector=_variables_by_path(detector),
            progress=dict(self._progress),
            facts={name: constant(value) for name, value in self._facts.items()},
            **{group: dict(variables) for group, variables in self._slots.items()},
            **({} if average is None else {_AVERAGES: dict(average.values)}),
            record=self._text,
        )
        self.saved_step: int | None = None
        self.lengths: list[tuple[int, int]] = []
        self.free_changes: list[str] = []

    @property
    def variables(self) -> dict[str, tf.Variable]:
        """Everything that a checkpoint holds and a run changes, by names of their own."""
        groups = {"detector": _variables_by_path(self._detector), "progress": self._progress, **self._slots}
        if self._average is not None:
            groups[_AVERAGES] = self._average.values
        return {f"{group}/{name}": variable for group, known in groups.items() for name, variable in known.items()}

    def note_lengths(self, lengths: Sequence[tuple[int, int]]) -> None:
        """What the checkpoints from now on keep as `RunRecord.lengths`."""
        self._text.text = dataclasses.replace(self._record, lengths=list(lengths)).json()

    def save(self, step: int) -> None:
        """Writes `checkpoints/ckpt-<step>`, then drops the oldest beyond `keep`.

        Raises:
            UserError: the disk is full or cannot be written, or another process trains in the folder; older checkpoints
                are as they were.
        """
        if step != self.saved_step:
            if not self._run.still_there():
                self._warn(f"{self._run.path} was removed while the run went on: it is made again at step {step}")
            self._write(self._run.checkpoints, step)
            self.saved_step = step
            if not self._workers.is_chief:
                return
            # Those of later steps are none of this run's: it went on from before them, for they are damaged.
            kept = [old for old in saved_steps(self._run.checkpoints) if old <= step]
            self._tidy(self._run.checkpoints, kept[-self._keep :], kept[: -self._keep])

    def save_if_best(self, step: int, metric: BestMetric, value: float, data: str = "", raw: bool = False) -> bool:
        """Writes `best/ckpt-<step>` in place of the best one so far, where it is better.

        First the checkpoint, then the note that names it, then the old one goes: whenever the process is killed, the
        note names a checkpoint that is whole.

        Args:
            step: of the checkpoint.
            metric: the figure.
            value: of the figure.
            data: fingerprint of what it was measured on; figures of other data are not compared.
            raw: the weights as trained were measured, and not their average.

        Returns:
            Whether it is.
        """
        if not self._workers.of_chief(f"best at {step}", lambda: self._is_best(metric, value, data)):
            return False
        self._write(self._run.best, step)
        if self._workers.is_chief:
            self._run.note_best(step, metric.key, float(value), data, raw)
            self._tidy(self._run.best, [step], [other for other in saved_steps(self._run.best) if other != step])
        return True

    def _is_best(self, metric: BestMetric, value: float, data: str) -> bool:
        best = self._run.read_best()
        if best and best["data"] in (data, "") and best["step"] in saved_steps(self._run.best):
            known = best["value"]
            if best["metric"] != metric.key:  # of a run that goes on with another one
                known = (self._run.read_evaluations() or {}).get(best["step"], {}).get(metric.key)
            return known is None or metric.is_better(value, known)
        return True

    def _write(self, folder: Path, step: int) -> None:
        """On worker 0 into the folder, on the others into one that goes at once; all learn of a full disk."""
        failed = None
        try:
            if self._workers.is_chief:
                folder.mkdir(parents=True, exist_ok=True)
                with literal(folder) as name:
                    self._checkpoint.write(f"{name}/{PREFIX}-{step}")
            else:
                with tempfile.TemporaryDirectory(prefix="tfdet-worker-") as name:
                    self._checkpoint.write(f"{name}/{PREFIX}-{step}")
        except (tf.errors.OpError, OSError) as error:
            if isinstance(error, _LOST):  # a collective's, for a worker is lost
                raise
            self._run.remove_leftovers()
            reason = str(getattr(error, "message", error)).splitlines()[0]
            failed = UserError(
                f"Cannot write the checkpoint of step {step} to {folder} ({reason}): free space "
                "or choose another --model_dir; the same command continues from the last checkpoint"
            )

        def tell() -> None:
            if failed is not None:
                raise failed

        if failed is not None and not self._workers.is_chief:
            raise failed
        self._workers.of_chief(f"{folder.name} of {step}", tell)

    def _tidy(self, folder: Path, kept: list[int], dropped: list[int]) -> None:
        """Removes the checkpoints that are dropped, and notes those that are kept for `tf.train.latest_checkpoint`."""
        for step in dropped:
            # The index first: without it what is left is no checkpoint.
            for path in [folder / f"{PREFIX}-{step}.index", *folder.glob(f"{PREFIX}-{step}.data-*")]:
                with contextlib.suppress(OSError):
                    path.unlink()
        names = [f'"{PREFIX}-{step}"' for step in kept]
        lines = [f"model_checkpoint_path: {names[-1]}", *(f"all_model_checkpoint_paths: {name}" for name in names)]
        with contextlib.suppress(UserError), replacing(folder / "checkpoint") as temporary:
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def restore(self) -> int | None:
        """Restores the newest usable checkpoint into every variable of the run; changes no file.

        What differs from the run that wrote it and may differ is one warning line each.

        Returns:
            The step, or None where there is no checkpoint.

        Raises:
            UserError: the checkpoint belongs to another detector, or to data or values that the run does not go on with
                (`RunRecord`), or none is usable. Nothing is restored then.
        """
        if not saved_steps(self._run.checkpoints):
            return None
        saved = read_newest(self._run.checkpoints, self._warn)
        step, saved_record = saved.step, RunRecord.parse(saved.record)
        (saved_record or self._record_of_old(step)).check_classes(self._record, self._run.path)
        _check_detector(self._detector, saved)
        for name in self._progress:
            saved.number("progress", name)
        saved.check("progress", self._progress)
        for group, variables in self._slots.items():
            saved.check(group, variables)
        self._check_changes(saved_record, saved)
        _assign_detector(self._detector, saved)
        progress = dict(self._progress)
        if self._scale_mode != "dynamic":  # the scale is then an option of the run, not a part of its state
            del progress["loss_scale"], progress["loss_scale_good_steps"]
        for name, variable in progress.items():
            variable.assign(saved.get("progress", name))
        self._restore_average(saved)
        self._restore_slots(saved)
        self.saved_step = step
        return step

    def _restore_slots(self, saved: CheckpointFile) -> None:
        fresh: dict[str, None] = {}
        for group, variables in self._slots.items():
            for path, variable in variables.items():
                value = saved.get(group, path)
                if value is None:
                    fresh[path] = None
                else:
                    variable.assign(value)
        if not fresh:
            return
        first = next(iter(fresh))
        others = [rule for rule, group in SLOT_GROUPS.items() if saved.get(group, first) is not None]
        if others and self._rule not in others:
            self._warn(
                f"the checkpoint of step {saved.step} was trained with Trainer.update_rule = {others[0]!r}, whose "
                "momenta mean nothing to this run's rule: all start at zero"
            )
        else:
            self._warn(
                f"{len(fresh)} trained variable(s), first {first}, were frozen in the checkpoint of step "
                f"{saved.step} and start without momentum"
            )

    def _record_of_old(self, step: int) -> RunRecord:
        """What can be said of a run whose checkpoint has no record: an older tfdet wrote it."""
        known = self._run.read_classes()
        compared = "not even with manifest.json" if known is None else "but for the names in manifest.json"
        self._warn(
            f"the checkpoint of step {step} holds no class names, data set and configuration (an older tfdet wrote "
            f"it): they could not be compared, {compared}"
        )
        return RunRecord(*(known or (self._record.classes, self._record.category_ids)))

    def _check_changes(self, record: RunRecord | None, saved: CheckpointFile) -> None:
        changes = {} if record is None else record.differences(self._record)
        for name, shown in (("seed", "Trainer.seed"), ("total_batch", _BATCH)):
            value = saved.number("facts", name)
            if value != self._facts[name]:
                changes[shown] = (str(value), str(self._facts[name]))
        for line in self._record.check_changes(changes, self._run.path):
            self._warn(f"not as in the checkpoint of step {saved.step}: {line}")
        if record is not None:
            self.free_changes = lines_of(record.differences(self._record, free=True))
            another = any(name == _BATCH or name.startswith("Schedule.") for name in changes)
            self.lengths = [] if another else list(record.lengths)

    def _restore_average(self, saved: CheckpointFile) -> None:
        if self._average is None:
            return
        self._average.reset()
        missing = 0
        for path, variable in self._average.values.items():
            value = saved.get(_AVERAGES, path)
            if value is None:
                missing += 1
            else:
                variable.assign(value)
        if missing:
            self._warn(
                f"the average of {missing} variable(s) is not in the checkpoint of step {saved.step}: it starts there"
            )


def restore_detector(detector, model_dir: str | os.PathLike, step: int | str | None = None, raw: bool = False) -> int:
    """Loads the weights of a training run into a detector of the same configuration.

    Args:
        detector: Keras model with `num_classes`, already built.
        model_dir: the run's directory.
        step: of the checkpoint, "best" or "last"; None: see `choose`.
        raw: the weights as trained, also where the checkpoint has their moving average (`Trainer.ema_decay`).

    Returns:
        The step of the checkpoint.

    Raises:
        UserError: no such checkpoint, a damaged one, or one of another detector, class count or classes than those that
            `manifest.json` names.
    """
    chosen = choose(model_dir, step)
    saved = chosen.read()
    run = RunDirectory(model_dir)
    record, named = RunRecord.parse(saved.record), run.read_classes()
    if record is not None and named not in (None, (list(record.classes), list(record.category_ids))):
        raise UserError(
            f"{run.manifest} names other classes than the checkpoint of step {saved.step} in {saved.source.parent} was "
            f"trained on ({record.listed()}): put back the manifest.json of that run"
        )
    _check_detector(detector, saved)
    _assign_detector(detector, saved, averaged=not (raw or chosen.raw))
    return saved.step


def latest_step(model_dir: str | os.PathLike) -> int | None:
    """The step of the newest checkpoint of a run, None where there is none."""
    steps = saved_steps(RunDirectory(model_dir).checkpoints)
    return steps[-1] if steps else None


def _variables_by_path(detector) -> dict[str, tf.Variable]:
    by_path = {}
    for variable in detector.variables:
        if variable.path in by_path:
            raise ValueError(f"Two variables of the detector share the path {variable.path}: name the layers apart")
        by_path[variable.path] = variable.value
    return by_path


def _check_detector(detector, saved: CheckpointFile) -> None:
    """`UserError` where the checkpoint is not of this detector."""
    trained_for = saved.number("facts", "num_classes")
    if trained_for != detector.num_classes:
        raise UserError(
            f"The checkpoint {saved.source} was trained for {trained_for} classes but the data set gives the "
            f"detector {detector.num_classes}: use the data set it was trained on, or another --model_dir"
        )
    variables = _variables_by_path(detector)
    missing = [path for path in variables if saved.get("detector", path) is None]
    if missing:
        raise UserError(
            f"The checkpoint {saved.source} lacks {len(missing)} of the detector's {len(variables)} variables, "
            f"first {missing[0]}: {OTHER_RUN}"
        )
    saved.check("detector", variables)
    saved.check(_AVERAGES, variables, tf.float32)


def _assign_detector(detector, saved: CheckpointFile, averaged: bool = False) -> None:
    for path, variable in _variables_by_path(detector).items():
        average = saved.get(_AVERAGES, path) if averaged else None
        variable.assign(saved.get("detector", path) if average is None else average)


class _Text(tf.train.experimental.PythonState):
    """A text in a checkpoint; a variable of strings would want a device that has them."""

    def __init__(self, text: str):
        self.text = text

    def serialize(self) -> str:
        return self.text

    def deserialize(self, string_value: str) -> None:
        pass  # read by name, see `CheckpointFile.record`
