"""Saving and restoring: everything a run needs to continue, and detectors out of a run.

A checkpoint maps names to tensors; the names are the Keras paths of the variables, not positions in an
object graph, so that what is missing or has another shape can be named, and a detector restores however it
was put together. It is read whole, checksums included, before the first variable changes.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfdet.errors import UserError
from tfdet.files import check_no_pattern
from tfdet.training.average import WeightAverage
from tfdet.training.optimizer import MomentumSGD
from tfdet.training.run_dir import RunDirectory
from tfdet.training.step import StepState
from tfdet.weights.formats.tf_index import check_index

_logger = logging.getLogger("tfdet")
_PREFIX = "ckpt"
_AVERAGES = "averages"
_MOMENTA = {"mxnet": "momenta", "torch": "momenta_torch"}  # by the rule, whose momenta mean nothing to the other


class CheckpointStore:
    """The checkpoints of a training run.

    Holds the detector, the momenta, the loss scale, the step counters, the seed, the total batch and the
    class count. Make it under the scope of the strategy.

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
    ):
        def constant(value: int) -> tf.Variable:
            return tf.Variable(value, dtype=tf.int64, trainable=False)

        self._run = run
        self._warn = warn
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
        self._scale_mode = optimizer.loss_scale.mode
        checkpoint = tf.train.Checkpoint(
            detector=_variables_by_path(detector),
            progress=dict(self._progress),
            facts={name: constant(value) for name, value in self._facts.items()},
            **{self._momenta_group: dict(self._momenta)},
            **({} if average is None else {_AVERAGES: dict(average.values)}),
        )
        self._newest = tf.train.CheckpointManager(checkpoint, str(run.checkpoints), keep, checkpoint_name=_PREFIX)
        self._best = tf.train.CheckpointManager(checkpoint, str(run.best), 1, checkpoint_name=_PREFIX)
        self.saved_step: int | None = None

    def save(self, step: int) -> None:
        """Writes `checkpoints/ckpt-<step>`, then drops the oldest beyond `keep`.

        Raises:
            UserError: the disk is full or cannot be written; older checkpoints are as they were.
        """
        if step != self.saved_step:
            self._save(self._newest, step)
            self.saved_step = step

    def save_if_best(self, step: int, metric: str, value: float) -> bool:
        """Writes `best/ckpt-<step>` in place of the best one so far, where it is better by the same metric.

        Returns:
            Whether it is.
        """
        best = self._run.read_best()
        if best and best["metric"] == metric and best["value"] >= value:
            return False
        self._save(self._best, step)
        self._run.note_best(step, metric, float(value))
        return True

    def _save(self, manager: tf.train.CheckpointManager, step: int) -> None:
        try:
            manager.save(checkpoint_number=step, check_interval=False)
        except (tf.errors.OpError, OSError) as error:
            self._run.remove_leftovers()
            reason = str(getattr(error, "message", error)).splitlines()[0]
            raise UserError(
                f"Cannot write the checkpoint of step {step} to {manager.directory} ({reason}): free space "
                "or choose another --model_dir; the same command continues from the last checkpoint"
            ) from None

    def restore(self) -> int | None:
        """Restores the newest usable checkpoint into every variable of the run.

        Differences of seed, total batch or trained variables are one warning line each.

        Returns:
            The step, or None where there is no checkpoint.

        Raises:
            UserError: the checkpoint belongs to another detector, or none is usable.
        """
        self._run.remove_leftovers()
        if not _steps(self._run.checkpoints):
            return None
        step, tensors = _read_newest(self._run.checkpoints, self._warn)
        _assign_detector(self._detector, tensors, self._run.checkpoints / f"{_PREFIX}-{step}")
        progress = dict(self._progress)
        if self._scale_mode != "dynamic":  # the scale is then an option of the run, not a part of its state
            del progress["loss_scale"], progress["loss_scale_good_steps"]
        for name, variable in progress.items():
            variable.assign(tensors[_key("progress", name)])
        for name in ("seed", "total_batch"):
            saved = int(tensors[_key("facts", name)])
            if saved != self._facts[name]:
                self._warn(
                    f"the checkpoint of step {step} was trained with {name.replace('_', ' ')} {saved}, "
                    f"this run has {self._facts[name]}"
                )
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
        UserError: no such checkpoint, a damaged one, or one of another detector or class count.
    """
    run = RunDirectory(model_dir)
    folder = run.best if step == "best" else run.checkpoints
    steps = _steps(folder)
    if not steps:
        raise UserError(f"No checkpoint in {folder}: give the --model_dir of a training run")
    if step is None or step == "best":
        step, tensors = _read_newest(folder, _logger.warning)
    else:
        if step not in steps:
            raise UserError(f"No checkpoint of step {step} in {folder}. There are: {', '.join(map(str, steps))}")
        tensors = _read(folder, int(step))
        if tensors is None:
            raise UserError(f"The checkpoint of step {step} in {folder} is damaged: choose another step of {steps}")
    _assign_detector(detector, tensors, folder / f"{_PREFIX}-{step}", averaged=not raw)
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
    raise UserError(f"Every checkpoint in {folder} is damaged: delete the folder to start again")


def _read(folder: Path, step: int) -> Mapping[str, np.ndarray] | None:
    """Every tensor of a checkpoint, or None where a file of it is missing, cut short or corrupt."""
    check_no_pattern(folder)
    try:
        check_index(folder / f"{_PREFIX}-{step}")  # a run may be anyone's, and TensorFlow ends the process on some
        reader = tf.train.load_checkpoint(str(folder / f"{_PREFIX}-{step}"))
        tensors = {key: reader.get_tensor(key) for key in reader.get_variable_to_shape_map()}
    except (UserError, tf.errors.OpError, ValueError, RuntimeError, IndexError):
        return None
    return tensors if _key("progress", "global_step") in tensors else None


def _assign_detector(detector, tensors: Mapping[str, np.ndarray], source: Path, averaged: bool = False) -> None:
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
    for path, variable in variables.items():
        average = tensors.get(_key(_AVERAGES, path)) if averaged else None
        variable.assign(tensors[_key("detector", path)] if average is None else average)
