"""The hyper-parameters of training, and the function that trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import keras
import tensorflow as tf

from tfdet import config
from tfdet.errors import UserError
from tfdet.training import distribution, precision
from tfdet.training.observer import Observer
from tfdet.training.run import Run
from tfdet.training.run_dir import RunDirectory
from tfdet.training.schedule import Schedule
from tfdet.training.stopping import Stopped, StopSignals

if TYPE_CHECKING:
    from tfdet.weights.load import LoadReport


@config.configurable
@dataclass(frozen=True)
class Trainer:
    """Hyper-parameters of a run; the learning rate has its own: `Schedule`.

    Args:
        epochs: passes over the training set, each image plain and flipped as the input has it; unless
            `steps` is set.
        steps: updates in all, or None.
        replicas: replicas of the detector; None for every GPU, or one CPU. See `distribution.make_strategy`.
        precision: "float32", "mixed_float16" or "mixed_bfloat16".
        loss_scale: with mixed_float16 "dynamic", or a number (SimpleDet's float16 rows: 128); else not used.
        momentum: of the update.
        weight_decay: of the update, for the variables in `decayed`.
        decayed: last parts of the paths of decayed variables. SimpleDet's SyncBN row decays "beta" too.
        undecayed: parts of the paths of variables that are not decayed all the same.
        clip: limit of each gradient element, after the mean over replicas, before the decay; None for none.
        clip_norm: limit of the L2 norm of all gradients together, after that mean and after `clip`; None for none.
        lr_factors: parts of the paths of variables -> factor of their learning rate; None for none.
        accumulate: micro-batches per update. Each is what one more replica would have had: its own images, random
            draws, normalisers and BN statistics. 1 GPU with 8 runs a recipe for 8 GPUs. Not with BN of mode "sync".
        ema_decay: in (0, 1), keeps a moving average of the weights, which evaluation, export and prediction then use;
            None keeps none.
        evaluate_raw: evaluations during training use the weights as trained, not their average.
        frozen: parts of the paths of variables that stay as they are.
        init_weights: file with weights to start from; not read when the run continues from a checkpoint.
        seed: of the initial weights, the data order and the sampling.
        log_every: steps between two reports; also between two looks whether the loss is finite.
        checkpoint_every: steps between two checkpoints; one more is written at the end.
        keep_checkpoints: how many of the newest stay.
        evaluate_every: steps between two evaluations; None for one at the end.
        best_metric: of the evaluation; the checkpoint with the highest value is kept in `best/`.
        deterministic: makes TensorFlow choose deterministic kernels, and fail where there is none.
        graph: writes the graph of the step for TensorBoard.
    """

    epochs: float = 6.0
    steps: int | None = None
    replicas: int | None = None
    precision: str = "float32"
    loss_scale: str | float = "dynamic"
    momentum: float = 0.9
    weight_decay: float = 1e-4
    decayed: tuple[str, ...] = ("kernel", "gamma")
    undecayed: tuple[str, ...] = ()
    clip: float | None = None
    clip_norm: float | None = None
    lr_factors: dict[str, float] | None = None
    accumulate: int = 1
    ema_decay: float | None = None
    evaluate_raw: bool = False
    frozen: tuple[str, ...] = ()
    init_weights: str | None = None
    seed: int = 0
    log_every: int = 20
    checkpoint_every: int = 1000
    keep_checkpoints: int = 5
    evaluate_every: int | None = None
    best_metric: str = "AP"
    deterministic: bool = False
    graph: bool = False

    def __post_init__(self):
        for name in ("steps", "accumulate", "log_every", "checkpoint_every", "keep_checkpoints", "evaluate_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"Trainer.{name} must be at least 1. Received: {value}")
        if self.steps is None and not self.epochs > 0:
            raise UserError(f"Trainer.epochs must be above 0. Received: {self.epochs}")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise UserError(f"Trainer.ema_decay must be between 0 and 1, or None. Received: {self.ema_decay}")

    def prepare(self) -> tf.distribute.MirroredStrategy:
        """Sets seeds, determinism and dtype policy, chooses the devices; call it before building a detector.

        Returns:
            The strategy under whose scope the detector is built.
        """
        precision.set_policy(self.precision)
        strategy = distribution.make_strategy(self.replicas)
        keras.utils.set_random_seed(self.seed)
        if self.deterministic:
            tf.config.experimental.enable_op_determinism()
        return strategy

    def make_loss_scale(self) -> precision.LossScale:
        """The loss scale: there is one with mixed_float16 only, where small gradients would vanish."""
        return precision.LossScale(self.loss_scale if self.precision == "mixed_float16" else None)

    def total_steps(self, steps_per_epoch: int, length_factor: float = 1.0) -> int:
        """Updates of the run.

        Args:
            steps_per_epoch: of the input at the run's total batch.
            length_factor: of the schedule.
        """
        steps = self.steps if self.steps is not None else self.epochs * steps_per_epoch
        return max(1, round(steps * length_factor))


@dataclass(frozen=True)
class TrainResult:
    """How a run ended."""

    step: int  # steps done in all
    stopped_by: str | None  # name of the signal that ended it early, or None
    metrics: Mapping[str, float]  # of the last evaluation; empty without one


def train(
    detector,
    train_input,
    strategy: tf.distribute.Strategy,
    model_dir: str,
    trainer: Trainer | None = None,
    schedule: Schedule | None = None,
    load_weights: Callable[[object, str], LoadReport] | None = None,
    evaluate: Callable[[int], Mapping[str, float] | None] | None = None,
    observers: Sequence[Observer] = (),
    start_time: float | None = None,
) -> TrainResult:
    """Trains to the last step, from the newest checkpoint in `model_dir` where there is one.

    Args:
        detector: Keras model built under `strategy.scope()`, with `losses(batch, seed)` and `num_classes`.
        train_input: a `TrainInput`.
        strategy: from `Trainer.prepare`.
        model_dir: the run's directory.
        trainer, schedule: hyper-parameters; by default what gin says.
        load_weights: loads `Trainer.init_weights` into the detector; returns what it did.
        evaluate: called with the step; returns metrics, or None where there are none.
        observers: told what happens.
        start_time: `time.perf_counter()` when the program began, for the time to the first step; default now.

    Returns:
        How it ended. After a signal the state is saved, and the same call continues.

    Raises:
        DivergedError: a loss or a gradient is not finite. The weights of the last checkpoint are good.
        UserError: something a person can put right: data, disk, memory, configuration.
    """
    trainer, schedule = trainer or Trainer(), schedule or Schedule()
    from tfdet.training.inner_loop import InputError  # imports orbit

    run = Run(detector, train_input, strategy, RunDirectory(model_dir), trainer, schedule, observers, start_time)
    with StopSignals() as stop:
        try:
            run.initialize(load_weights)  # not to be interrupted: half restored is worse than not saved
            stop.check()
            run.execute(stop, evaluate)
        except Stopped:
            run.save_after_signal(stop)
        except InputError:
            run.save_after_input_error()
            raise
        finally:
            run.tell("closed")
    return TrainResult(run.step, stop.requested, run.metrics)
