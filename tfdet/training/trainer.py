"""The hyper-parameters of training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import keras
import tensorflow as tf

from tfdet.cluster import Cluster
from tfdet.cluster.team import WORKER_TIMEOUT
from tfdet.config import configurable
from tfdet.config.ranges import NonNegativeFloat, PositiveFloat, PositiveInt, Range
from tfdet.ops.replica_mean import sum_in_order
from tfdet.ops.tensor_float_32 import allow_tensor_float_32
from tfdet.training import distribution, precision
from tfdet.training.optimizer import UpdateRule

_Beta = Annotated[float, Range(least=0, below=1)]


@configurable
@dataclass(frozen=True)
class Trainer:
    """Hyper-parameters of a run; the learning rate has its own: `Schedule`.

    Args:
        epochs: passes over the training set, each image plain and flipped as the input has it; unless
            `steps` is set.
        steps: updates in all, or None.
        replicas: replicas of the detector on this machine; None for every GPU, or one CPU. See
            `distribution.make_strategy`.
        communication: between the machines of a cluster (docs/clusters.md): "nccl", "ring", or "auto".
        ordered_sums: gradients, statistics of BN over replicas and losses are summed in the order of the replicas, so
            that a run's numbers do not depend on how many machines and processes they are on. Slower; see
            `ops.replica_mean.sum_in_order`.
        worker_timeout: seconds without a word after which a worker of a cluster counts as lost.
        precision: "float32", "mixed_float16" or "mixed_bfloat16".
        tensor_float_32: lets GPUs from Ampere on round the factors of float32 products; see `ops.tensor_float_32`.
        loss_scale: with mixed_float16 "dynamic", or a number (SimpleDet's float16 rows: 128); else not used.
        momentum: of the update by SGD.
        update_rule: SGD, "mxnet" (SimpleDet) with the learning rate inside the momentum or "torch" (Detectron2,
            torchvision) outside of it, see `training.optimizer`, which differ where the rate changes; or "adamw", see
            `training.adamw`.
        betas, epsilon: of AdamW.
        weight_decay: of the update, for the variables in `decayed`.
        decayed: last parts of the paths of decayed variables. SimpleDet's SyncBN row decays "beta" too.
        undecayed: parts of the paths of variables that are not decayed all the same.
        clip: limit of each gradient element, after the mean over replicas, before the decay; None for none.
        clip_norm: limit of the L2 norm of all gradients together, after that mean and after `clip`; None for none.
        lr_factors: parts of the paths of variables -> factor of their learning rate; None for none.
        accumulate: micro-batches per update. Each is what one more replica would have had: its own images, random
            draws, normalisers and BN statistics. 1 GPU with 8 runs a recipe for 8 GPUs. Not with BN of mode "sync".
        ema_decay: keeps a moving average of the weights, which evaluation, export and prediction then use;
            None keeps none.
        evaluate_raw: evaluations during training use the weights as trained, not their average.
        frozen: parts of the paths of variables that stay as they are.
        init_weights: weights to start from, a path or the name of published ones (docs/weights.md); not read when the
            run continues from a checkpoint.
        seed: of the initial weights, the data order and the sampling.
        log_every: steps between two reports; also between two looks whether the loss is finite.
        checkpoint_every: steps between two checkpoints; one more is written at the end.
        keep_checkpoints: how many of the newest stay.
        evaluate_every: steps between two evaluations; one more comes at the end, and with None it is the only one.
        best_metric: of the evaluation; the checkpoint of the best value is kept in `best/`, and it is what a run gives
            to others. "box AP", "box AP50" and so on through COCO's twelve figures, "mask AP" and so on, "box AP of
            car" for one class, or "validation loss"; see `best_metric.BestMetric`.
        patience: evaluations in a row without a better `best_metric` after which the run is complete; None trains to
            the last step.
        deterministic: makes TensorFlow choose deterministic kernels, and fail where there is none.
        graph: writes the graph of the step for TensorBoard.
        sinks: where figures go besides the console: "tensorboard", "csv" (`metrics.csv`), "wandb", "mlflow".
    """

    epochs: PositiveFloat = 6.0
    steps: PositiveInt | None = None
    replicas: PositiveInt | None = None
    communication: distribution.Communication = "auto"
    ordered_sums: bool = False
    worker_timeout: PositiveFloat = WORKER_TIMEOUT
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    tensor_float_32: bool = False
    loss_scale: Literal["dynamic"] | PositiveFloat = "dynamic"
    momentum: _Beta = 0.9
    update_rule: UpdateRule = "mxnet"
    betas: tuple[_Beta, _Beta] = (0.9, 0.999)
    epsilon: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 1e-4
    decayed: tuple[str, ...] = ("kernel", "gamma")
    undecayed: tuple[str, ...] = ()
    clip: PositiveFloat | None = None
    clip_norm: PositiveFloat | None = None
    lr_factors: dict[str, NonNegativeFloat] | None = None
    accumulate: PositiveInt = 1
    ema_decay: Annotated[float, Range(above=0, below=1)] | None = None
    evaluate_raw: bool = False
    frozen: tuple[str, ...] = ()
    init_weights: str | None = None
    seed: Annotated[int, Range(least=0, most=2**31 - 1)] = 0
    log_every: PositiveInt = 20
    checkpoint_every: PositiveInt = 1000
    keep_checkpoints: PositiveInt = 5
    evaluate_every: PositiveInt | None = None
    best_metric: str = "box AP"
    patience: PositiveInt | None = None
    deterministic: bool = False
    graph: bool = False
    sinks: tuple[Literal["tensorboard", "csv", "wandb", "mlflow"], ...] = ("tensorboard", "csv")

    def prepare(self, cluster: Cluster | None = None) -> tf.distribute.Strategy:
        """Sets seeds, determinism, precision, chooses the devices; call it before building a detector.

        Args:
            cluster: the workers that train together; None: this process trains alone.

        Returns:
            The strategy under whose scope the detector is built.
        """
        precision.set_policy(self.precision)
        allow_tensor_float_32(self.tensor_float_32)
        strategy = distribution.make_strategy(self.replicas, cluster, self.communication)
        if self.ordered_sums:
            sum_in_order(strategy)
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
