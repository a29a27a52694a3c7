"""What updates a detector, made from the hyper-parameters: for a run, and for the benchmark of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from tfdet.training import variables
from tfdet.training.accumulate import AccumulatingStep
from tfdet.training.average import WeightAverage
from tfdet.training.optimizer import MomentumSGD
from tfdet.training.step import StepState, TrainStep
from tfdet.training.trainer import Trainer


class UpdateParts(NamedTuple):
    """What an update changes besides the detector."""

    optimizer: MomentumSGD
    average: WeightAverage | None
    state: StepState


def make_parts(strategy: tf.distribute.Strategy, detector, trainer: Trainer) -> UpdateParts:
    """Makes the parts as `trainer` asks for them. The detector was built under `strategy.scope()`."""
    trained = variables.select_trained(detector, trainer.frozen)
    with strategy.scope():
        optimizer = MomentumSGD(
            trained,
            trainer.make_loss_scale(),
            trainer.momentum,
            trainer.weight_decay,
            trainer.decayed,
            trainer.clip,
            trainer.undecayed,
            trainer.clip_norm,
            trainer.lr_factors,
            trainer.update_rule,
        )
        average = None
        if trainer.ema_decay is not None:
            moving = variables.moving_statistics(detector)
            average = WeightAverage(strategy, [*trained, *moving], trainer.ema_decay)
        return UpdateParts(optimizer, average, StepState())


def make_step(
    strategy: tf.distribute.Strategy,
    detector,
    parts: UpdateParts,
    learning_rate: Callable[[tf.Tensor], tf.Tensor],
    trainer: Trainer,
) -> TrainStep:
    """The training step over `parts`, of one batch a replica or of `Trainer.accumulate`."""
    arguments = (strategy, detector, parts.optimizer, learning_rate, parts.state, trainer.seed, parts.average)
    if trainer.accumulate == 1:
        return TrainStep(*arguments)
    return AccumulatingStep(*arguments, accumulate=trainer.accumulate)
