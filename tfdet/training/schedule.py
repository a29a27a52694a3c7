"""The learning rate as a function of the step."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Annotated, Literal

import tensorflow as tf

from tfdet.config import configurable
from tfdet.config.ranges import Fraction, NonNegativeInt, OpenFraction, PositiveFloat, PositiveInt, Range
from tfdet.errors import UserError

_RESTART = 0.1  # of the base rate: where a cosine begins that goes on behind its end


class LearningRate:
    """A schedule made concrete for one total batch: warm-up, then a step function or half a cosine.

    For update n (the first update is n = 1), with the base rate b and W warm-up steps:
    n <= W: `b0 + (b - b0) * n / W`, or with n - 1 in place of n where the warm-up counts from 0; later
    `b * factor ** (number of boundaries below n)`, or, where `cosine_end` is given as (the last update T, the rate e
    then), `e + (b - e) * (1 + cos(pi * (n - W) / (T - W))) / 2`, and e after T.

    Sources: SimpleDet utils/lr_scheduler.py, `WarmupMultiFactorScheduler` and `AdvancedLRScheduler`; Detectron2
    solver/lr_scheduler.py, `WarmupParamScheduler`, and torch.optim.lr_scheduler.LinearLR, which torchvision's recipe
    uses, for the warm-up from 0; Loshchilov and Hutter, SGDR: Stochastic Gradient Descent with Warm Restarts, ICLR
    2017, without restarts.
    """

    def __init__(
        self,
        base: float,
        warmup_from: float,
        warmup_steps: int,
        boundaries: tuple[int, ...],
        factor: float,
        cosine_end: tuple[int, float] | None = None,
        warmup_counts_from: int = 1,
        cosine_from: tuple[int, float] | None = None,
    ):
        self.base = base
        self.warmup_from = warmup_from
        self.warmup_steps = warmup_steps
        self.boundaries = boundaries
        self.factor = factor
        self.cosine_end = cosine_end
        self.warmup_counts_from = warmup_counts_from
        self.cosine_from = (warmup_steps, base) if cosine_from is None else cosine_from

    def __call__(self, update: tf.Tensor | int) -> tf.Tensor:
        """Args: update, integer scalar, 1-based. Returns: the learning rate, float32 scalar."""
        n = tf.cast(update, tf.float64)
        rate = tf.constant(self.base, tf.float64)
        if self.cosine_end is not None:
            (last, end), (first, top) = self.cosine_end, self.cosine_from
            done = tf.clip_by_value((n - first) / max(last - first, 1), 0.0, 1.0)
            rate = end + (tf.constant(top, tf.float64) - end) * (1.0 + tf.cos(math.pi * done)) / 2.0
        for boundary in self.boundaries:
            rate = tf.where(n > boundary, rate * self.factor, rate)
        if self.warmup_steps:
            done = n - 1.0 + self.warmup_counts_from
            ramp = self.warmup_from + (self.base - self.warmup_from) * done / self.warmup_steps
            rate = tf.where(n <= self.warmup_steps, ramp, rate)
        return tf.cast(rate, tf.float32)

    def at(self, update: int) -> float:
        """The same in Python's numbers, for messages and for where one curve goes on from another."""
        if update <= self.warmup_steps:
            done = update - 1.0 + self.warmup_counts_from
            return self.warmup_from + (self.base - self.warmup_from) * done / self.warmup_steps
        rate = self.base
        if self.cosine_end is not None:
            (last, end), (first, top) = self.cosine_end, self.cosine_from
            done = min(max((update - first) / max(last - first, 1), 0.0), 1.0)
            rate = end + (top - end) * (1.0 + math.cos(math.pi * done)) / 2.0
        return rate * self.factor ** sum(update > boundary for boundary in self.boundaries)

    def continued(self, step: int, other: LearningRate, finished: bool) -> LearningRate:
        """The rate of a run that gets another length when `step` of its updates are done.

        What was passed stays passed, and there is no jump back to the first rate: the warm-up is not repeated, decays
        that came are not taken back, and a cosine goes on from where it was down to its end. Behind its end it begins
        again, at a tenth of the base rate.

        Args:
            step: updates that are done.
            other: of a run that had the new length from the start.
            finished: the old length was done.
        """
        if step < self.warmup_steps:
            return other
        cosine_from = None
        if other.cosine_end is not None:
            cosine_from = (step, max(self.at(step), _RESTART * self.base if finished else 0.0))
        pairs = zip(self.boundaries, other.boundaries, strict=True)
        boundaries = tuple(old if old <= step else new for old, new in pairs)
        shape = (self.base, self.warmup_from, self.warmup_steps, boundaries, self.factor, other.cosine_end)
        return LearningRate(*shape, self.warmup_counts_from, cosine_from)


@configurable
class Schedule:
    """SimpleDet's recipe: stated for a reference batch, scaled to the total batch of the run.

    With the total batch B (images per update over all replicas) and the reference batch R:
    base rate = base_lr * B / R, decay steps = decay_steps * R // B and, where `scale_warmup` says so,
    warm-up steps = warmup_steps * R // B. The FPN and Retina rows keep 500 warm-up steps at any batch. An update is one
    change of the weights: B counts the images of all its micro-batches (`Trainer.accumulate`).

    Args:
        base_lr: learning rate at the reference batch.
        reference_batch: images per update of the recipe: 16 in SimpleDet (8 GPUs x 2). None scales nothing.
        warmup_steps: length of the linear warm-up at the reference batch; 0 for none.
        warmup_from: start of the warm-up as a fraction of the base rate: 0 for C4 rows, 1/3 for FPN rows.
        scale_warmup: whether the warm-up grows as the batch shrinks.
        warmup_counts_from: what the warm-up calls the first update: 1 (SimpleDet: it is one step up the ramp, the last
            one at the base rate) or 0 (Detectron2, torchvision: it is at the start, the first one after the warm-up at
            the base rate). Decays do not depend on it.
        decay_steps: updates after which the rate is multiplied by `decay_factor`, at the reference batch.
        decay_factor: what a decay multiplies the rate by.
        decay: "steps" for the above, or "cosine": half a cosine from the base rate at the end of the warm-up to
            `end_lr` at the last update; `decay_steps` is then not used.
        end_lr: where the cosine ends, as a fraction of the base rate.
        scale_lr: whether the base rate is scaled to the batch; False: `base_lr` is the rate at any batch, as `--lr`
            says it.
        decay_at: when the rate decays, as shares of the run however long it is, in place of `decay_steps`, such as
            (0.67, 0.89).
        warmup_at_most: the largest share of the run that the warm-up takes; None for no limit.
        length_factor: multiplies the run's length (`Trainer.epochs` or `Trainer.steps`) and `decay_steps`, not the
            warm-up: 2 is the "2x" schedule of a row.

    Raises:
        UserError: the decay steps do not increase.

    Source: SimpleDet config/faster_r50v1c4_c5_512roi_1x.py, `OptimizeParam`.
    """

    def __init__(
        self,
        base_lr: PositiveFloat = 0.02,
        reference_batch: PositiveInt | None = 16,
        warmup_steps: NonNegativeInt = 750,
        warmup_from: Fraction = 0.0,
        scale_warmup: bool = True,
        decay_steps: tuple[PositiveInt, ...] = (60000, 80000),
        decay_factor: Annotated[float, Range(above=0, most=1)] = 0.1,
        decay: Literal["steps", "cosine"] = "steps",
        end_lr: Fraction = 0.0,
        length_factor: PositiveFloat = 1.0,
        warmup_counts_from: Literal[0, 1] = 1,
        scale_lr: bool = True,
        decay_at: tuple[OpenFraction, ...] | None = None,
        warmup_at_most: Fraction | None = None,
    ):
        if decay_at is not None and list(decay_at) != sorted(set(decay_at)):
            raise UserError(f"Schedule.decay_at must increase. Received: {tuple(decay_at)}")
        if list(decay_steps) != sorted(set(decay_steps)):
            raise UserError(f"Schedule.decay_steps must increase. Received: {tuple(decay_steps)}")
        self.decay, self.end_lr, self.length_factor = decay, float(end_lr), float(length_factor)
        self.base_lr = float(base_lr)
        self.reference_batch = reference_batch
        self.warmup_steps = int(warmup_steps)
        self.warmup_from = float(warmup_from)
        self.scale_warmup = scale_warmup
        self.warmup_counts_from = int(warmup_counts_from)
        self.decay_steps = tuple(int(step) for step in decay_steps)
        self.decay_factor = float(decay_factor)
        self.scale_lr, self.warmup_at_most = scale_lr, warmup_at_most
        self.decay_at = None if decay_at is None else tuple(float(share) for share in decay_at)

    def for_batch(
        self, total_batch: int, total_steps: int | None = None, lengths: Sequence[tuple[int, int]] = ()
    ) -> LearningRate:
        """The learning rate of a run with `total_batch` images per update over all replicas.

        Args:
            total_batch: images per update, micro-batches included.
            total_steps: updates of the whole run, `length_factor` included; a curve that follows its length needs it.
            lengths: in its place, of a run whose length was changed: (updates that were done, length from then on), of
                which the first is (0, length).
        """
        if not lengths:
            return self._of_length(total_batch, total_steps)
        rate = self._of_length(total_batch, lengths[0][1])
        for (_, before), (step, total) in itertools.pairwise(lengths):
            rate = rate.continued(step, self._of_length(total_batch, total), finished=step >= before)
        return rate

    def _of_length(self, total_batch: int, total_steps: int | None) -> LearningRate:
        reference = self.reference_batch or total_batch
        base = self.base_lr * (total_batch / reference) if self.scale_lr else self.base_lr
        warmup = self._unlimited_warmup(total_batch)
        follows = self.decay == "cosine" or self.decay_at is not None or self.warmup_at_most is not None
        if follows and total_steps is None:
            raise ValueError("Expected total_steps with a schedule that follows the run's length. Received: None")
        if self.warmup_at_most is not None:
            warmup = min(warmup, int(self.warmup_at_most * (total_steps or 0)))
        if self.decay == "cosine":
            return self._rate(base, warmup, (), (total_steps, base * self.end_lr))
        if self.decay_at is not None:
            return self._rate(base, warmup, tuple(round(share * (total_steps or 0)) for share in self.decay_at))
        lengthened = (round(step * self.length_factor) for step in self.decay_steps)
        boundaries = tuple(step * reference // total_batch for step in lengthened)
        return self._rate(base, warmup, boundaries)

    def _rate(self, base: float, warmup: int, boundaries: tuple[int, ...], cosine_end=None) -> LearningRate:
        start = base * self.warmup_from
        return LearningRate(base, start, warmup, boundaries, self.decay_factor, cosine_end, self.warmup_counts_from)

    def warnings(self, total_batch: int, total_steps: int) -> list[str]:
        """What of the schedule a run of so many updates never comes to: zoo rows are made for COCO's 118,000 images.

        Args: as in `for_batch`.
        """
        rate = self.for_batch(total_batch, total_steps)
        found = []
        if rate.warmup_steps >= total_steps:
            advice = "lower Schedule.warmup_steps"
            if self.warmup_steps < min(rate.warmup_steps, total_steps):
                advice += f", or set Schedule.scale_warmup = False: then it takes {self.warmup_steps} at any batch"
            found.append(
                f"the warm-up of {rate.warmup_steps} steps{self._warmup_formula(total_batch)} leaves nothing of this "
                f"run's {total_steps}: {advice}"
            )
        if rate.boundaries and rate.boundaries[0] >= total_steps:
            found.append(
                f"the learning rate first decays after {rate.boundaries[0]} steps, this run has {total_steps}: "
                "set Schedule.decay = 'cosine', or lower Schedule.decay_steps"
            )
        return found

    def describe(
        self, total_batch: int, total_steps: int | None = None, lengths: Sequence[tuple[int, int]] = ()
    ) -> dict[str, str]:
        """The formula and its result, as rows of the start-up table. Args: as in `for_batch`."""
        rate = self.for_batch(total_batch, total_steps, lengths)
        scaled = self.reference_batch is not None and self.scale_lr
        formula = f" = {self.base_lr:g} x {total_batch} / {self.reference_batch}" if scaled else ""
        warmup = "none"
        if rate.warmup_steps:
            unit = "step" if rate.warmup_steps == 1 else "steps"
            warmup = f"{rate.warmup_steps} {unit} from {rate.warmup_from:.6g}"
            limited = self.warmup_at_most is not None and rate.warmup_steps < self._unlimited_warmup(total_batch)
            warmup += f" ({self.warmup_at_most:.0%} of the run)" if limited else self._warmup_formula(total_batch)
        decay = "none"
        if rate.cosine_end is not None:
            decay = "cosine to {1:g} at step {0}".format(*rate.cosine_end)
            if rate.cosine_from[0] != rate.warmup_steps:
                decay += ", from {1:.3g} at step {0}".format(*rate.cosine_from)
        if rate.boundaries:
            decay = f"x {rate.factor:g} after " + ", ".join(str(step) for step in rate.boundaries)
        return {"learning rate": f"{rate.base:.6g}{formula}", "warm-up": warmup, "decay": decay}

    def _unlimited_warmup(self, total_batch: int) -> int:
        reference = self.reference_batch or total_batch
        return self.warmup_steps * reference // total_batch if self.scale_warmup else self.warmup_steps

    def _warmup_formula(self, total_batch: int) -> str:
        scaled = self.reference_batch is not None and self.scale_warmup
        return f" ({self.warmup_steps} x {self.reference_batch} // {total_batch})" if scaled else ""
