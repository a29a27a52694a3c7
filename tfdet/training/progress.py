"""What the figures of some steps say: how the run goes on, or that it diverged."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from tfdet.errors import DivergedError
from tfdet.training import distribution
from tfdet.training.observer import Progress
from tfdet.training.plan import RunPlan
from tfdet.training.precision import LossScale
from tfdet.training.step import StepState

_NOT_LOSSES = ("total", "gradient_norm", "learning_rate", "loss_scale", "finite")
_KEPT = 0.8  # of the seconds a step so far, at each report


class ProgressReport:
    """Makes the `Progress` of a run, report by report: the time that is left is an average over them.

    The evaluations that are still to come count with the time that the latest one took.

    Args:
        plan: of the run.
        strategy: of the run.
        state: its counters.
    """

    def __init__(self, plan: RunPlan, strategy: tf.distribute.Strategy, state: StepState):
        self._plan, self._strategy, self._state = plan, strategy, state
        self._seconds_per_step: float | None = None
        self._first = True
        self._seconds_per_evaluation = 0.0

    def evaluated(self, seconds: float) -> None:
        """Args: seconds, that an evaluation took."""
        self._seconds_per_evaluation = seconds

    def __call__(self, metrics: Mapping[str, np.ndarray], seconds: float, wait_seconds: float) -> Progress:
        """The report after some steps; the very first are traced, and their time is no measure.

        Args:
            metrics: one element a step, at least one; "finite" is bool, the rest float32.
            seconds: that the steps took.
            wait_seconds: of them waiting for data.
        """
        count, step = len(metrics["finite"]), self._state.step
        good = metrics["finite"] if metrics["finite"].any() else np.ones(count, bool)
        means = {name: float(values[good].mean()) for name, values in metrics.items()}
        timed, self._first = not self._first, False
        if timed:
            latest, before = seconds / count, self._seconds_per_step
            self._seconds_per_step = latest if before is None else _KEPT * before + (1.0 - _KEPT) * latest
        left, pace = self._plan.total_steps - step, self._seconds_per_step
        evaluations = self._seconds_per_evaluation * self._plan.evaluations_left(step - 1)
        return Progress(
            step=step,
            total_steps=self._plan.total_steps,
            losses={name: value for name, value in means.items() if name not in _NOT_LOSSES},
            total=means["total"],
            learning_rate=float(metrics["learning_rate"][-1]),
            gradient_norm=means["gradient_norm"],
            loss_scale=float(metrics["loss_scale"][-1]),
            skipped_steps=int(self._state.skipped_steps.numpy()),
            images_per_second=self._plan.total_batch * count / seconds if timed else None,
            data_wait=wait_seconds / seconds if timed else None,
            seconds_left=None if pace is None else pace * left + evaluations,
            gpu_memory_peak=distribution.gpu_memory_peak(self._strategy),
        )


def check_finite(metrics: Mapping[str, np.ndarray], state: StepState, scale: LossScale, saved_step: int | None) -> None:
    """`DivergedError` where one of the latest steps diverged. Its update was left out: the weights are good.

    Args:
        metrics: of the latest steps, as in `ProgressReport`.
        state: the counters after them.
        scale: of the loss.
        saved_step: of the newest checkpoint, or None.
    """
    bad = np.flatnonzero(~metrics["finite"])
    if not len(bad):
        return
    if scale.tolerates_overflow:
        skips = int(state.consecutive_skips.numpy())
        if not scale.exhausted(skips, float(scale.scale.numpy())):
            return
        reason = f"after {skips} skipped updates in a row, at loss scale {float(metrics['loss_scale'][-1]):g} "
        index = int(bad[-1])
    else:
        reason, index = "", int(bad[0])
    terms = ", ".join(
        f"{name} {values[index]:.6g}"
        for name, values in metrics.items()
        if name not in ("finite", "learning_rate", "loss_scale")
    )
    what = "the loss" if not np.isfinite(metrics["total"][index]) else "the gradient"
    step = state.step - len(metrics["finite"]) + index + 1
    raise DivergedError(
        f"Step {step}: {what} is not finite {reason}({terms}); the last good checkpoint is "
        f"{f'that of step {saved_step}' if saved_step else 'none yet'}: lower Schedule.base_lr, lengthen "
        "Schedule.warmup_steps or set Trainer.clip"
    )
