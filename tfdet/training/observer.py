"""What a training run tells whoever watches it. The loop knows no console and no TensorBoard, only this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tfdet.training.best_metric import BestMetric

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class Progress:
    """The figures of the steps since the last report. Losses and norms are means over those steps."""

    step: int  # steps done
    total_steps: int
    losses: Mapping[str, float]  # every loss by name; means over replicas
    total: float  # sum of the losses
    learning_rate: float  # of the last step
    gradient_norm: float  # global L2 norm of the mean gradient, unscaled, before the clip
    loss_scale: float  # of the last step; 1 where there is none
    skipped_steps: int  # since the start of the run
    images_per_second: float | None  # None while the only step measured is the one that was traced
    data_wait: float | None  # share of the time spent waiting for the input, 0..1
    seconds_left: float | None
    gpu_memory_peak: int | None  # bytes; None without GPUs


@dataclass(frozen=True)
class Best:
    """The best evaluation of a run so far, whose checkpoint is kept."""

    step: int
    metric: BestMetric
    value: float
    checkpoint: str  # path of the checkpoint, without the endings of its files


@dataclass(frozen=True)
class Ending:
    """How a run came to its end."""

    model_dir: str
    step: int  # steps done in all
    early: str | None  # why it ended before its last step, in words; None where it did not
    best: Best | None  # None without an evaluation that measured it
    seconds: float | None  # since the program began; None where nothing was left to train


class Observer:
    """Receives the events of a run, the first ones in this order; every method does nothing here."""

    def started(self, table: Mapping[str, str]) -> None:
        """Before the first step. Args: table, the start-up table's rows."""

    def configured(self, operative_config: str) -> None:
        """Before the first step, where `train` was given it. Args: operative_config, gin's text of what was built."""

    def begun(self, step: int) -> None:
        """Before the first step: the folder is that of this run. Args: step, done already; 0 in a new run."""

    def first_step(self, seconds: float) -> None:
        """After the first step. Args: seconds since the start of the program, tracing included."""

    def traced(self, graph: tf.Graph) -> None:
        """Only where `Trainer.graph` asks for it. Args: graph of the training step."""

    def progressed(self, progress: Progress) -> None:
        """After every `Trainer.log_every` steps."""

    def best(self, best: Best) -> None:
        """Before `evaluated`, where the evaluation is the best so far."""

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        """After every evaluation. Args: metrics, by name; AP and its kin are 0..1."""

    def noted(self, text: str) -> None:
        """Something happened that a person wants to know: a checkpoint, a stop."""

    def warned(self, text: str) -> None:
        """Something is not as it should be, but training goes on."""

    def ended(self, ending: Ending) -> None:
        """The run is complete, by its last step or by `Trainer.patience`; not after a signal or an error."""

    def closed(self) -> None:
        """At the end, also after an error."""
