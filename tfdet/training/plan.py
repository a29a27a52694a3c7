"""How long a run is, and what is due after which of its steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import tensorflow as tf

from tfdet.training.schedule import LearningRate, Schedule
from tfdet.training.trainer import Trainer


@dataclass(frozen=True)
class RunPlan:
    """The size of a run, and its calendar. Steps are counted from 1 and number the whole run, not this call of it."""

    replicas: int  # in sync
    virtual_replicas: int  # of the whole recipe: micro-batches are what so many more replicas would have had
    total_batch: int  # images of an update
    steps_per_epoch: int
    total_steps: int
    log_every: int
    checkpoint_every: int
    evaluate_every: int | None
    lengths: tuple[tuple[int, int], ...] = ()  # of a run whose length was changed: see `Schedule.for_batch`

    @classmethod
    def make(cls, train_input, strategy: tf.distribute.Strategy, trainer: Trainer, schedule: Schedule) -> RunPlan:
        """The plan of a run; the arguments are those of `train`."""
        replicas = strategy.num_replicas_in_sync
        virtual_replicas = replicas * trainer.accumulate
        steps_per_epoch = train_input.steps_per_epoch(virtual_replicas)
        return cls(
            replicas,
            virtual_replicas,
            train_input.images_per_replica * virtual_replicas,
            steps_per_epoch,
            trainer.total_steps(steps_per_epoch, schedule.length_factor),
            trainer.log_every,
            trainer.checkpoint_every,
            trainer.evaluate_every,
        )

    def continued(self, step: int, lengths: Sequence[tuple[int, int]]) -> RunPlan:
        """The same with the lengths that the run had.

        Args:
            step: updates that are done.
            lengths: of the run's checkpoint; empty for a new run, and where they are not known.
        """
        found = [tuple(length) for length in lengths]
        if not found:
            found = [(0, self.total_steps)]
        elif found[-1][1] != self.total_steps:
            found.append((step, self.total_steps))
        return dataclasses.replace(self, lengths=tuple(found))

    def length_change(self, rate: LearningRate) -> str:
        """How the learning rate of a run goes on that has just got another length, in words."""
        step, total = self.lengths[-1]
        now, end = rate.at(step + 1), rate.at(total)
        on = f"goes on at {now:.3g}" + (f" and ends at {end:.3g}" if f"{end:.3g}" != f"{now:.3g}" else "")
        return f"{total} steps in place of {self.lengths[-2][1]}: the learning rate {on}"

    def steps_to_next_event(self, step: int) -> int:
        """Steps from `step` to the next one after which something is due; the end of the run is left out."""
        periods = (self.log_every, self.checkpoint_every, self.evaluate_every)
        return min(period - step % period for period in periods if period)

    def evaluations_left(self, step: int) -> int:
        """Evaluations that are due after `step`, where the run evaluates."""
        if step >= self.total_steps:
            return 0
        if not self.evaluate_every:
            return 1
        whole = self.total_steps // self.evaluate_every - step // self.evaluate_every
        return whole + (self.total_steps % self.evaluate_every > 0)

    def saves(self, step: int) -> bool:
        """Whether a checkpoint is due after `step`: also wherever an evaluation is, which may be interrupted."""
        return step % self.checkpoint_every == 0 or self.evaluates(step)

    def evaluates(self, step: int) -> bool:
        """Whether an evaluation is due after `step`."""
        return step >= self.total_steps or bool(self.evaluate_every and step % self.evaluate_every == 0)
