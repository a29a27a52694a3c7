"""What is refused before a run begins: values that fit their own part and not each other."""

from __future__ import annotations

from tfdet.errors import UserError
from tfdet.ops.boxes import CONTINUOUS
from tfdet.training.best_metric import BestMetric
from tfdet.training.evaluation import Evaluation
from tfdet.training.trainer import Trainer


def check_boxes(detector, train_input) -> None:
    """`UserError` where the boxes of the training data are not what the detector takes them for.

    Args:
        detector: with `convention`, one of `ops.boxes`.
        train_input: with `profile`, by which boxes are clipped: "continuous" leaves continuous ones.
    """
    continuous = detector.convention == CONTINUOUS
    if continuous != (train_input.profile == "continuous"):
        wanted = "'continuous'" if continuous else "'first_release' or 'later_revision'"
        raise UserError(
            f"TrainInput.profile is {train_input.profile!r}, but the detector's boxes are {detector.convention}: "
            f"set it to {wanted}"
        )


def check_best_metric(trainer: Trainer, evaluation: Evaluation | None) -> list[str]:
    """`UserError` where no evaluation will ever give `Trainer.best_metric`, or `Trainer.patience` has none to count.

    Args:
        trainer: the hyper-parameters.
        evaluation: of the run; None where it does not evaluate.

    Returns:
        Warnings: without an evaluation the name is not looked up, and a changed one is a wish that is not met.
    """
    metric = BestMetric.of(trainer.best_metric)
    if evaluation is None:
        changed = metric != BestMetric.of(Trainer.best_metric)
        wishes = {"best_metric": metric.name if changed else None, "patience": trainer.patience}
        wishes = {wish: value for wish, value in wishes.items() if value is not None}
        return [
            f"Trainer.{wish} = {value!r} does nothing: this run does not evaluate" for wish, value in wishes.items()
        ]
    if trainer.patience is not None and trainer.evaluate_every is None:
        raise UserError(
            f"Trainer.patience = {trainer.patience} counts evaluations, and this run makes one alone, at its end: set "
            "Trainer.evaluate_every, the steps between two"
        )
    metric.check(evaluation.metric_names)
    return []
