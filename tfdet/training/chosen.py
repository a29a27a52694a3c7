"""Which checkpoint of a run others take: evaluate, export, predict, `tfdet.load`, a run that starts from it."""

from __future__ import annotations

import logging
import numbers
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tfdet.errors import UserError
from tfdet.training.best_metric import BestMetric
from tfdet.training.checkpoint_file import CheckpointFile, read_checkpoint, read_newest, saved_steps
from tfdet.training.run_dir import RunDirectory

_logger = logging.getLogger("tfdet")


@dataclass(frozen=True)
class Chosen:
    """A checkpoint of a run; nothing of it was read yet.

    Attributes:
        model_dir: the run.
        folder: where it lies: `checkpoints/` or `best/`.
        step: of it.
        which: why this one.
        asked: a person asked for it: then no other takes its place where it is damaged.
        last: step of the newest checkpoint; None where there is none but the best.
        figure: what it was measured at, such as "box AP 41.2"; None where that is not known.
        raw: the weights as trained were measured and not their average: they are the ones to take.
    """

    model_dir: str
    folder: Path
    step: int
    which: Literal["best", "last", "step"]
    asked: bool
    last: int | None
    figure: str | None = None
    raw: bool = False

    def describe(self) -> str:
        """One line: `best checkpoint, step 800 (box AP 41.2); the last is of step 1000`."""
        figure = f" ({self.figure})" if self.figure else ""
        if self.which == "best":
            other = ", which is the last" if self.last == self.step else f"; the last is of step {self.last}"
            return f"best checkpoint, step {self.step}{figure}" + (other if self.last is not None else "")
        if self.which == "last":
            none = "" if self.asked else "; none is known to be the best"
            return f"last checkpoint, step {self.step}{figure}{none}"
        return f"checkpoint of step {self.step}{figure}"

    def read(self) -> CheckpointFile:
        """Its numbers. Where it was not asked for and is damaged, those of the newest that is whole, with a warning.

        Raises:
            UserError: it is damaged, or no checkpoint is whole.
        """
        if self.which == "last":
            return read_newest(self.folder, _logger.warning)
        found = read_checkpoint(self.folder, self.step)
        if found is not None:
            return found
        checkpoints = RunDirectory(self.model_dir).checkpoints
        if self.asked or not saved_steps(checkpoints):
            others = ", ".join(map(str, saved_steps(checkpoints))) or "none"
            raise UserError(
                f"The checkpoint of step {self.step} in {self.folder} is damaged: choose another one; steps in "
                f"{checkpoints}: {others}"
            )
        _logger.warning("the best checkpoint, of step %d, is damaged: the last one is taken", self.step)
        return read_newest(checkpoints, _logger.warning)


def choose(model_dir: str | os.PathLike, checkpoint: int | str | None = None) -> Chosen:
    """The one rule by which a checkpoint of a run is taken: the best, else the last.

    The best is that of the best evaluation during training by `Trainer.best_metric`, on the run's evaluation data.

    Args:
        model_dir: the run's folder.
        checkpoint: a step, "best", "last", or None for the rule.

    Raises:
        UserError: it is none of these, or there is no such checkpoint.
    """
    is_step = isinstance(checkpoint, numbers.Integral) and not isinstance(checkpoint, bool)
    if not (checkpoint in (None, "best", "last") or is_step):
        raise UserError(f"checkpoint {checkpoint!r}: give best, last or the step of a checkpoint")
    run = RunDirectory(model_dir)
    steps, best_steps, note = saved_steps(run.checkpoints), saved_steps(run.best), run.read_best()
    if not steps and not best_steps:
        raise UserError(f"No checkpoint in {run.checkpoints}: give the --model_dir of a training run")
    last = steps[-1] if steps else None
    # Beside the noted one may lie another that a killed process did not get to note.
    noted = note["step"] if note and note["step"] in best_steps else None
    place = os.fspath(model_dir)
    if noted is not None and note is not None and (checkpoint in (None, "best") or checkpoint == noted):
        which: Literal["best", "step"] = "step" if is_step else "best"
        figure = BestMetric.of(note["metric"]).describe(note["value"])
        return Chosen(place, run.best, noted, which, checkpoint is not None, last, figure, note["raw"])
    if checkpoint == "best":
        if not best_steps:
            advice = f"; --checkpoint=last is that of step {last}" if last is not None else ""
            raise UserError(f"No checkpoint in {run.best}: the run was not evaluated (--eval_data){advice}")
        return Chosen(place, run.best, best_steps[-1], "best", True, last)
    if is_step:
        if checkpoint not in steps:
            there = ", ".join(map(str, sorted({*steps, *best_steps})))
            raise UserError(f"No checkpoint of step {checkpoint} in {run.checkpoints}. There are: {there}")
        return Chosen(place, run.checkpoints, int(checkpoint), "step", True, last)  # type: ignore[arg-type]
    if last is None:
        return Chosen(place, run.best, best_steps[-1], "best", checkpoint is not None, None)
    return Chosen(place, run.checkpoints, last, "last", checkpoint is not None, last, _figure(run, last))


def _figure(run: RunDirectory, step: int) -> str | None:
    """What the evaluation of a step gave, by the metric that the run goes by."""
    note = run.read_best()
    metric = BestMetric.of(note["metric"] if note else "box AP")
    value = metric.of_figures((run.read_evaluations() or {}).get(step, {}))
    return None if value is None else metric.describe(value)
