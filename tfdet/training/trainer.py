"""The hyper-parameters of training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import keras
import tensorflow as tf

from tfdet import config
from tfdet.errors import UserError
from tfdet.ops.tensor_float_32 import allow_tensor_float_32
from tfdet.training import distribution, precision

_COUNTS = ("steps", "replicas", "accumulate", "log_every", "checkpoint_every", "keep_checkpoints", "evaluate_every")


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
        tensor_float_32: lets GPUs from Ampere on round the factors of float32 products; see `ops.tensor_float_32`.
        loss_scale: with mixed_float16 "dynamic", or a number (SimpleDet's float16 rows: 128); else not used.
        momentum: of the update, in [0, 1).
        weight_decay: of the update, for the variables in `decayed`; not negative.
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
        seed: of the initial weights, the data order and the sampling; from 0 to 2**31 - 1.
        log_every: steps between two reports; also between two looks whether the loss is finite.
        checkpoint_every: steps between two checkpoints; one more is written at the end.
        keep_checkpoints: how many of the newest stay.
        evaluate_every: steps between two evaluations; one more comes at the end, and with None it is the only one.
        best_metric: of the evaluation; the checkpoint with the highest value is kept in `best/`. One of COCO's twelve
            figures ("AP", "AP50", ...), of masks with "mask_" in front, or "per_class/AP/<class name>".
        deterministic: makes TensorFlow choose deterministic kernels, and fail where there is none.
        graph: writes the graph of the step for TensorBoard.
    """

    epochs: float = 6.0
    steps: int | None = None
    replicas: int | None = None
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    tensor_float_32: bool = False
    loss_scale: Literal["dynamic"] | float = "dynamic"
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
        for name in _COUNTS:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"Trainer.{name} must be at least 1. Received: {value}")
        scale, factors = self.loss_scale, self.lr_factors or {}
        limits = {
            "epochs": (self.steps is not None or self.epochs > 0, "above 0"),
            "loss_scale": (scale == "dynamic" if isinstance(scale, str) else scale > 0, "'dynamic' or above 0"),
            "momentum": (0 <= self.momentum < 1, "in [0, 1)"),
            "weight_decay": (self.weight_decay >= 0, "at least 0"),
            "clip": (self.clip is None or self.clip > 0, "above 0, or None"),
            "clip_norm": (self.clip_norm is None or self.clip_norm > 0, "above 0, or None"),
            "lr_factors": (all(factor >= 0 for factor in factors.values()), "factors of at least 0"),
            "ema_decay": (self.ema_decay is None or 0 < self.ema_decay < 1, "between 0 and 1, or None"),
            "seed": (0 <= self.seed < 2**31, "from 0 to 2**31 - 1"),
        }
        for name, (fits, allowed) in limits.items():
            if not fits:
                raise UserError(f"Trainer.{name} must be {allowed}. Received: {getattr(self, name)!r}")

    def prepare(self) -> tf.distribute.MirroredStrategy:
        """Sets seeds, determinism, precision, chooses the devices; call it before building a detector.

        Returns:
            The strategy under whose scope the detector is built.
        """
        precision.set_policy(self.precision)
        allow_tensor_float_32(self.tensor_float_32)
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
