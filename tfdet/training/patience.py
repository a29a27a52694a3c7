"""Early stopping: a run that has not become better for some evaluations is complete."""

from __future__ import annotations

from tfdet.training.best_metric import BestMetric
from tfdet.training.run_dir import RunDirectory
from tfdet.training.trainer import Trainer


class EarlyStop(BaseException):
    """The run is complete before its last step. Not an error, and no `Exception`: see `stopping.Stopped`."""


def out_of_patience(trainer: Trainer, files: RunDirectory, step: int) -> str | None:
    """Whether a run ends after `step`, by what its folder says: the same before and after a kill, and ever after.

    Args:
        trainer: with `patience` and `best_metric`.
        files: of the run: `best.json` has its best evaluation, `evaluations.json` all of them.
        step: that was evaluated last.

    Returns:
        Why it ends, in words; None where it goes on.
    """
    best, evaluations, metric = files.read_best(), files.read_evaluations(), BestMetric.of(trainer.best_metric)
    if trainer.patience is None or best is None or evaluations is None or best["metric"] != metric.key:
        return None
    later = sum(best["step"] < number <= step for number in evaluations)
    if later < trainer.patience:
        return None
    times = "the evaluation after it" if later == 1 else f"{later} evaluations since"
    return f"{times} gave no better {metric.name} than that of step {best['step']}"
