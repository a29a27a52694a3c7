"""What a run is, in a table for people."""

from __future__ import annotations

import os

import tensorflow as tf

from tfdet.ops import native
from tfdet.training import distribution, variables
from tfdet.training.plan import RunPlan
from tfdet.training.schedule import Schedule
from tfdet.training.trainer import Trainer
from tfdet.training.update import UpdateParts


def start_table(
    detector,
    train_input,
    strategy: tf.distribute.Strategy,
    model_dir: str | os.PathLike,
    trainer: Trainer,
    schedule: Schedule,
    plan: RunPlan,
    parts: UpdateParts,
    origin: str,
) -> dict[str, str]:
    """The rows that are shown before the first step.

    Args:
        detector, train_input, strategy, model_dir, trainer, schedule: as in `train`.
        plan: of the run.
        parts: of its update.
        origin: where the weights are from.

    Returns:
        The value of each row by its name.
    """
    data, batch = train_input.manifest, plan.total_batch
    accumulated = "" if trainer.accumulate == 1 else f" x {trainer.accumulate} accumulated"
    precision = trainer.precision
    if trainer.precision == "mixed_float16":
        precision += f", {parts.optimizer.loss_scale.describe()}"
    if trainer.tensor_float_32:
        precision += ", TensorFloat-32 allowed"
    limits = [] if trainer.clip is None else [f"{trainer.clip:g} an element"]
    limits += [] if trainer.clip_norm is None else [f"norm {trainer.clip_norm:g}"]
    average = "" if parts.average is None else f", average of decay {parts.average.decay:g}"
    steps = f"{plan.total_steps}"
    if trainer.steps is None:
        steps += f" = {trainer.epochs:g} epochs x {plan.steps_per_epoch}"
        if schedule.length_factor != 1:
            steps += f" x {schedule.length_factor:g}"
    own = distribution.device_names(strategy)
    workers = strategy.num_replicas_in_sync // len(own)
    return {
        "devices": ", ".join(own) + (f" on each of {workers} workers" if workers > 1 else ""),
        "batch": f"{batch} images = {plan.replicas} replica(s) x {train_input.images_per_replica}{accumulated}",
        "precision": precision,
        "ops": native.describe(),
        "data set": f"{data.name}: {data.num_images} images, {data.num_boxes} boxes, {len(data.classes)} classes",
        **variables.describe(detector, parts.optimizer.variables_to_train),
        "start": origin,
        **schedule.describe(batch, plan.total_steps, plan.lengths),
        "update": f"{_rule(trainer)}, weight decay {trainer.weight_decay:g}, "
        f"clip {', '.join(limits) or 'none'}{average}",
        "steps": steps,
        "model directory": str(model_dir),
    }


def _rule(trainer: Trainer) -> str:
    if trainer.update_rule == "adamw":
        return "AdamW, betas {:g} and {:g}".format(*trainer.betas)
    return f"{trainer.update_rule}'s rule, momentum {trainer.momentum:g}"
