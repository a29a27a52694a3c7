"""Saving and restoring: everything a run needs to continue, and detectors out of a run.

A checkpoint maps names to tensors; the names are the Keras paths of the variables, not positions in an
object graph, so that what is missing or has another shape can be named, and a detector restores however it
was put together. It is read whole, checksums included, before the first variable changes.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfdet.errors import UserError
from tfdet.files import literal, replacing
from tfdet.training.average import WeightAverage
from tfdet.training.optimizer import MomentumSGD
from tfdet.training.run_dir import RunDirectory
from tfdet.training.run_record import RunRecord
from tfdet.training.step import StepState
from tfdet.weights.formats.tf_index import check_index

_logger = logging.getLogger("tfdet")
_PREFIX = "ckpt"
_AVERAGES = "averages"
_RECORD = "record/.ATTRIBUTES/py_state"  # the name in the file of the `PythonState` called "record"
# A checkpoint that says this is perhaps whole: it is not passed over for an older one.
_UNREADABLE = (tf.errors.PermissionDeniedError, tf.errors.ResourceExhaustedError, tf.errors.UnavailableError)
_MOMENTA = {"mxnet": "momenta", "torch": "momenta_torch"}  # by the rule, whose momenta mean nothing to the other


class CheckpointStore:
    """The checkpoints of a training run.

    Holds the detector, the momenta, the loss scale, the step counters, the seed, the total batch, the class count and
    the `RunRecord`. Make it under the scope of the strategy. The files themselves say which checkpoints there are, so
    none is forgotten that a killed process wrote.

    Args:
        run: the files of the run.
        detector: Keras model with `num_classes`.
        optimizer: over the trained variables.
        state: the counters.
        seed: of the run.
        total_batch: images per update over all replicas.
        keep: how many of the newest checkpoints stay.
        warn: receives one line about each thing that does not fit but is no error.
        average: of the weights, where the run keeps one.
        record: what the run is; None keeps and compares none.
    """

    def __init__(
        self,
        run: RunDirectory,
        detector,
        optimizer: MomentumSGD,
        state: StepState,
        seed: int,
        total_batch: int,
        keep: int = 5,
        warn: Callable[[str], None] = _logger.warning,
        average: WeightAverage | None = None,
        record: RunRecord | None = None,
    ):
        def constant(value: int) -> tf.Variable:
            return tf.Variable(value, dtype=tf.int64, trainable=False)

        self._run = run
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
        self._momenta, self._momenta_group = optimizer.momenta, _MOMENTA[optimizer.rule]
        self._average = average
        self._record = record
        self._scale_mode = optimizer.loss_scale.mode
        self._checkpoint = tf.train.Checkpoint(
            detector=_variables_by_path(detector),
            progress=dict(self._progress),
            facts={name: constant(value) for name, value in self._facts.items()},
            **{self._momenta_group: dict(self._momenta)},
            **({} if average is None else {_AVERAGES: dict(average.values)}),
            **({} if record is None else {"record": _Text(record.json())}),
        )
        self.saved_step: int | None = None

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
            # Those of later steps are none of this run's: it went on from before them, for they are damaged.
            kept = [old for old in _steps(self._run.checkpoints) if old <= step]
            self._tidy(self._run.checkpoints, kept[-self._keep :], kept[: -self._keep])

    def save_if_best(self, step: int, metric: str, value: float, data: str = "") -> bool:
        """Writes `best/ckpt-<step>` in place of the best one so far, where it is better by the same metric.

        Args:
            step: of the checkpoint.
            metric: name of the figure.
            value: of the figure.
            data: fingerprint of what it was measured on; figures of other data are not compared.

        Returns:
            Whether it is.
        """
        best = self._run.read_best()
        if best and best["metric"] == metric and best["data"] in (data, "") and best["value"] >= value:
            return False
        self._write(self._run.best, step)
        self._run.note_best(step, metric, float(value), data)
        self._tidy(self._run.best, [step], [other for other in _steps(self._run.best) if other != step])
        return True

    def _write(self, folder: Path, step: int) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with literal(folder) as name:
                self._checkpoint.write(f"{name}/{_PREFIX}-{step}")
        except (tf.errors.OpError, OSError) as error:
            self._run.remove_leftovers()
            reason = str(getattr(error, "message", error)).splitlines()[0]
            raise UserError(
                f"Cannot write the checkpoint of step {step} to {folder} ({reason}): free space "
                "or choose another --model_dir; the same command continues from the last checkpoint"
            ) from None

    def _tidy(self, folder: Path, kept: list[int], dropped: list[int]) -> None:
        """Removes the checkpoints that are dropped, and notes those that are kept for `tf.train.latest_checkpoint`."""
        for step in dropped:
            # The index first: without it what is left is no checkpoint.
            for path in [folder / f"{_PREFIX}-{step}.index", *folder.glob(f"{_PREFIX}-{step}.data-*")]:
                with contextlib.suppress(OSError):
                    path.unlink()
        names = [f'"{_PREFIX}-{step}"' for step in kept]
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
        if not _steps(self._run.checkpoints):
            return None
        step, tensors = _read_newest(self._run.checkpoints, self._warn)
        source = self._run.checkpoints / f"{_PREFIX}-{step}"
        saved_record = RunRecord.parse(tensors.get(_RECORD))
        if self._record is not None:
            (saved_record or self._record_of_old(step)).check_classes(self._record, self._run.path)
        _check_detector(self._detector, tensors, source)
        self._check_changes(saved_record, tensors, step)
        _assign_detector(self._detector, tensors)
        progress = dict(self._progress)
        if self._scale_mode != "dynamic":  # the scale is then an option of the run, not a part of its state
            del progress["loss_scale"], progress["loss_scale_good_steps"]
        for name, variable in progress.items():
            variable.assign(tensors[_key("progress", name)])
        self._restore_average(tensors, step)
        self._restore_momenta(tensors, step)
        self.saved_step = step
        return step

    def _restore_momenta(self, tensors: Mapping[str, np.ndarray], step: int) -> None:
        other, *_ = (rule for rule, group in _MOMENTA.items() if group != self._momenta_group)
        fresh = []
        for path, variable in self._momenta.items():
            saved = tensors.get(_key(self._momenta_group, path))
            if saved is None:
                fresh.append(path)
            else:
                variable.assign(saved)
        if fresh and _key(_MOMENTA[other], fresh[0]) in tensors:
            self._warn(
                f"the checkpoint of step {step} was trained with Trainer.update_rule = {other!r}, whose momenta mean "
                "nothing to this run's rule: all start at zero"
            )
        elif fresh:
            self._warn(
                f"{len(fresh)} trained variable(s), first {fresh[0]}, were frozen in the checkpoint of step "
                f"{step} and start without momentum"
            )

    def _record_of_old(self, step: int) -> RunRecord:
        """What can be said of a run whose checkpoint has no record: an older tfdet wrote it."""
        assert self._record is not None
        known = self._run.read_classes()
        compared = "not even with manifest.json" if known is None else "but for the names in manifest.json"
        self._warn(
            f"the checkpoint of step {step} holds no class names, data set and configuration (an older tfdet wrote "
            f"it): they could not be compared, {compared}"
        )
        return RunRecord(*(known or (self._record.classes, self._record.category_ids)))

    def _check_changes(self, saved: RunRecord | None, tensors: Mapping[str, np.ndarray], step: int) -> None:
        own, changes = self._record, {}
        for name in ("seed", "total_batch"):
            value = int(tensors[_key("facts", name)])
            if value != self._facts[name]:
                shown = {"seed": "Trainer.seed", "total_batch": "images of an update"}[name]
                changes[shown] = (str(value), str(self._facts[name]))
        if own is None:
            lines = [f"{name} {old} -> {new}" for name, (old, new) in changes.items()]
        else:
            lines = own.check_changes((saved.differences(own) if saved else {}) | changes, self._run.path)
        for line in lines:
            self._warn(f"not as in the checkpoint of step {step}: {line}")

    def _restore_average(self, tensors: Mapping[str, np.ndarray], step: int) -> None:
        if self._average is None:
            return
        self._average.reset()
        missing = 0
        for path, variable in self._average.values.items():
            saved = tensors.get(_key(_AVERAGES, path))
            if saved is None:
                missing += 1
            else:
                variable.assign(saved)
        if missing:
            self._warn(f"the average of {missing} variable(s) is not in the checkpoint of step {step}: it starts there")


def restore_detector(detector, model_dir: str | os.PathLike, step: int | str | None = None, raw: bool = False) -> int:
    """Loads the weights of a training run into a detector of the same configuration.

    Args:
        detector: Keras model with `num_classes`, already built.
        model_dir: the run's directory.
        step: of the checkpoint; None for the newest usable, "best" for that of the best evaluation.
        raw: the weights as trained, also where the checkpoint has their moving average (`Trainer.ema_decay`).

    Returns:
        The step of the checkpoint.

    Raises:
        UserError: no such checkpoint, a damaged one, or one of another detector, class count or classes than those that
            `manifest.json` names.
    """
    run = RunDirectory(model_dir)
    folder = run.best if step == "best" else run.checkpoints
    steps = _steps(folder)
    if not steps:
        raise UserError(f"No checkpoint in {folder}: give the --model_dir of a training run")
    if step == "best":
        note = run.read_best()  # beside it may lie a better one that a killed process did not get to note
        step = note["step"] if note and note["step"] in steps else None
    if step is None:
        step, tensors = _read_newest(folder, _logger.warning)
    else:
        if step not in steps:
            raise UserError(f"No checkpoint of step {step} in {folder}. There are: {', '.join(map(str, steps))}")
        tensors = _read(folder, int(step))
        if tensors is None:
            raise UserError(f"The checkpoint of step {step} in {folder} is damaged: choose another step of {steps}")
    record, named = RunRecord.parse(tensors.get(_RECORD)), run.read_classes()
    if record is not None and named not in (None, (list(record.classes), list(record.category_ids))):
        raise UserError(
            f"{run.manifest} names other classes than the checkpoint of step {step} in {folder} was trained on "
            f"({record.listed()}): put back the manifest.json of that run"
        )
    _check_detector(detector, tensors, folder / f"{_PREFIX}-{step}")
    _assign_detector(detector, tensors, averaged=not raw)
    return int(step)


def latest_step(model_dir: str | os.PathLike) -> int | None:
    """The step of the newest checkpoint of a run, None where there is none."""
    steps = _steps(RunDirectory(model_dir).checkpoints)
    return steps[-1] if steps else None


def _variables_by_path(detector) -> dict[str, tf.Variable]:
    by_path = {}
    for variable in detector.variables:
        if variable.path in by_path:
            raise ValueError(f"Two variables of the detector share the path {variable.path}: name the layers apart")
        by_path[variable.path] = variable.value
    return by_path


def _key(group: str, name: str) -> str:
    """The name of a variable inside the checkpoint file; TensorFlow escapes dots and slashes of dict keys."""
    return f"{group}/{name.replace('.', '..').replace('/', '.S')}/.ATTRIBUTES/VARIABLE_VALUE"


def _steps(folder: Path) -> list[int]:
    """Steps of the complete checkpoints, ascending. The index is written last, so it marks a complete one."""
    names = [path.stem.removeprefix(f"{_PREFIX}-") for path in folder.glob(f"{_PREFIX}-*.index")]
    return sorted(int(name) for name in names if name.isdigit())


def _read_newest(folder: Path, warn: Callable[[str], None]) -> tuple[int, Mapping[str, np.ndarray]]:
    for step in reversed(_steps(folder)):
        tensors = _read(folder, step)
        if tensors is not None:
            return step, tensors
        warn(f"the checkpoint of step {step} in {folder} is damaged; trying an older one")
    raise UserError(
        f"Every checkpoint in {folder} is damaged: put back a copy of one, or choose another --model_dir to start again"
    )


def _read(folder: Path, step: int) -> Mapping[str, np.ndarray] | None:
    """Every tensor of a checkpoint, or None where a file of it is missing, cut short or corrupt."""
    try:
        for path in [folder / f"{_PREFIX}-{step}.index", *folder.glob(f"{_PREFIX}-{step}.data-*")]:
            path.open("rb").close()
        check_index(folder / f"{_PREFIX}-{step}")  # a run may be anyone's, and TensorFlow ends the process on some
        with literal(folder) as name:
            reader = tf.train.load_checkpoint(f"{name}/{_PREFIX}-{step}")
            tensors = {key: reader.get_tensor(key) for key in reader.get_variable_to_shape_map()}
    except (*_UNREADABLE, PermissionError) as error:
        reason = str(getattr(error, "message", error)).splitlines()[0]
        raise UserError(f"Cannot read the checkpoint of step {step} in {folder} ({reason}): free it first") from None
    except (UserError, tf.errors.OpError, OSError, ValueError, RuntimeError, IndexError):
        return None
    return tensors if _key("progress", "global_step") in tensors else None


def _check_detector(detector, tensors: Mapping[str, np.ndarray], source: Path) -> None:
    trained_for = int(tensors[_key("facts", "num_classes")])
    if trained_for != detector.num_classes:
        raise UserError(
            f"The checkpoint {source} was trained for {trained_for} classes but the data set gives the "
            f"detector {detector.num_classes}: use the data set it was trained on, or another --model_dir"
        )
    variables = _variables_by_path(detector)
    hint = "use the gin file of that run (config.gin in its directory), or another --model_dir"
    missing = [path for path in variables if _key("detector", path) not in tensors]
    if missing:
        raise UserError(
            f"The checkpoint {source} lacks {len(missing)} of the detector's {len(variables)} variables, "
            f"first {missing[0]}: {hint}"
        )
    for path, variable in variables.items():
        saved = tensors[_key("detector", path)].shape
        if saved != tuple(variable.shape):
            raise UserError(
                f"The checkpoint {source} holds {path} with shape {list(saved)} but the detector's is "
                f"{list(variable.shape)}: {hint}"
            )


def _assign_detector(detector, tensors: Mapping[str, np.ndarray], averaged: bool = False) -> None:
    for path, variable in _variables_by_path(detector).items():
        average = tensors.get(_key(_AVERAGES, path)) if averaged else None
        variable.assign(tensors[_key("detector", path)] if average is None else average)


class _Text(tf.train.experimental.PythonState):
    """A text in a checkpoint; a variable of strings would want a device that has them."""

    def __init__(self, text: str):
        self._text = text

    def serialize(self) -> str:
        return self._text

    def deserialize(self, string_value: str) -> None:
        pass  # read by name, see `_RECORD`
