"""What updates a detector, made from the hyper-parameters: for a run, and for the benchmark of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from tfdet.training import variables
from tfdet.training.accumulate import AccumulatingStep
from tfdet.training.adamw import AdamW
from tfdet.training.average import WeightAverage
from tfdet.training.optimizer import MomentumSGD, Optimizer
from tfdet.training.step import StepState, TrainStep
from tfdet.training.trainer import Trainer


class UpdateParts(NamedTuple):
    """What an update changes besides the detector."""

    optimizer: Optimizer
    average: WeightAverage | None
    state: StepState


def make_parts(strategy: tf.distribute.Strategy, detector, trainer: Trainer) -> UpdateParts:
    """Makes the parts as `trainer` asks for them. The detector was built under `strategy.scope()`."""
    trained = variables.select_trained(detector, trainer.frozen)
    with strategy.scope():
        optimizer = _make_optimizer(trained, trainer)
        average = None
        if trainer.ema_decay is not None:
            moving = variables.moving_statistics(detector)
            average = WeightAverage(strategy, [*trained, *moving], trainer.ema_decay)
        return UpdateParts(optimizer, average, StepState())


def _make_optimizer(trained: Sequence[keras.Variable], trainer: Trainer) -> Optimizer:
    shared = {
        "weight_decay": trainer.weight_decay,
        "decayed": trainer.decayed,
        "undecayed": trainer.undecayed,
        "clip": trainer.clip,
        "clip_norm": trainer.clip_norm,
        "lr_factors": trainer.lr_factors,
    }
    loss_scale = trainer.make_loss_scale()
    if trainer.update_rule == "adamw":
        return AdamW(trained, loss_scale, trainer.betas, trainer.epsilon, **shared)
    return MomentumSGD(trained, loss_scale, trainer.momentum, rule=trainer.update_rule, **shared)


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
