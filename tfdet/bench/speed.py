"""What `tfdet benchmark train` and `inference` measure, by the parsed configuration."""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tfdet.bench.training import synthetic_batches
from tfdet.data.inputs import EvalInput, TrainInput
from tfdet.data.manifest import Manifest
from tfdet.detectors import build_detector
from tfdet.errors import UserError
from tfdet.evaluate import restore

Figures = dict[str, Any]


def benchmark_training(args: argparse.Namespace, progress: Callable[[str], None]) -> tuple[str, Figures]:
    """Name of the row and its figures; `args` has `gin_file`, `train_data`, `num_classes`, `repeats`.

    Raises:
        UserError: the losses of the measured steps are not finite.
    """
    from tfdet.bench.training import measure_training
    from tfdet.train.loop import Trainer
    from tfdet.train.schedule import Schedule

    trainer, schedule = Trainer(), Schedule()
    strategy = trainer.prepare()
    images = restore.configured(TrainInput, "images_per_replica")
    short_side, long_side = _sides(TrainInput)
    if args.train_data:
        source = TrainInput()
        num_classes, data = len(source.manifest.classes), str(source.manifest.name)

        def dataset(context):
            return source.dataset(strategy.num_replicas_in_sync, input_context=context)
    else:
        num_classes, data = args.num_classes, "one random batch"

        def dataset(context):
            return synthetic_batches(images, short_side, long_side, num_classes)

    with strategy.scope():
        detector = build_detector(num_classes=num_classes)
    speed = measure_training(detector, strategy, trainer, schedule, dataset, images, args.repeats, progress=progress)
    if not math.isfinite(speed.losses["total"]):
        raise UserError(f"the loss is {speed.losses['total']}: such steps are no measure; lower Schedule.base_lr")
    return _row(args), {
        "images_per_second": round(speed.images_per_second, 3),
        "replicas": strategy.num_replicas_in_sync,
        "images_per_replica": images,
        "image": f"{short_side}x{long_side}",
        "precision": trainer.precision,
        "data": data,
        "step_seconds": round(speed.step, 4),
        "data_wait_percent": round(100 * speed.data_wait, 1),
        "memory_peak_gb": round(speed.memory_peak / 1e9, 2),
        **{f"{name.replace('-', '_')}_seconds": round(seconds, 4) for name, seconds in speed.parts.items()},
        "loss": round(speed.losses["total"], 4),
        "repeats": args.repeats,
    }


def benchmark_inference(args: argparse.Namespace) -> tuple[str, Figures]:
    """Name of the row and its figures; `args` has `gin_file`, `model_dir`, `eval_data`, `num_classes`, `batch`, ..."""
    from tfdet.bench.inference import measure_inference
    from tfdet.train import precision
    from tfdet.train.distribution import make_strategy
    from tfdet.train.loop import Trainer

    policy = Trainer().precision
    precision.set_policy(policy)
    strategy = make_strategy(1)
    short_side, long_side = _sides(EvalInput)
    with strategy.scope():
        if args.model_dir:
            detector = restore.restore(args.model_dir).detector
        else:
            detector = build_detector(num_classes=args.num_classes)
    if args.eval_data:
        source = EvalInput(images_per_batch=args.batch)
        batches = [
            (np.asarray(b.images), np.asarray(b.image_info)) for b in itertools.islice(source.dataset(), args.repeats)
        ]
        data = Manifest.load(args.eval_data).name
    else:
        (batch,) = synthetic_batches(args.batch, short_side, long_side, args.num_classes).take(1)
        batches, data = [(np.asarray(batch.images), np.asarray(batch.image_info))], "random pictures"
    speed = measure_inference(detector, strategy, batches, args.repeats)
    return _row(args), {
        "images_per_second": round(speed.images_per_second, 3),
        "latency_ms": round(1e3 * speed.latency, 1),
        "latency_90_percent_ms": round(1e3 * speed.latency_90, 1),
        "memory_peak_gb": round(speed.memory_peak / 1e9, 2),
        "images_per_batch": args.batch,
        "image": f"{short_side}x{long_side}",
        "precision": policy,
        "data": data,
        "weights": "of the run" if args.model_dir else "initial values",
        "detections_per_image": round(speed.detections, 1),
        "repeats": args.repeats,
    }


def _sides(source: type) -> tuple[int, int]:
    """The canvas of an input by the configuration; of several scales the largest."""
    short, long = (restore.configured(source, name) for name in ("short_side", "long_side"))
    return (max(short) if isinstance(short, (tuple, list)) else int(short)), int(long)


def _row(args: argparse.Namespace) -> str:
    if args.gin_file:
        return Path(args.gin_file[0]).stem
    return Path(args.model_dir).name if getattr(args, "model_dir", None) else "unnamed"
