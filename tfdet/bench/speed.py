"""What `tfdet benchmark train` and `inference` measure, by a configuration."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tfdet.bench.training import synthetic_batches
from tfdet.config import Configuration
from tfdet.data.inputs import EvalInput, TrainInput
from tfdet.detectors import build_detector
from tfdet.errors import UserError
from tfdet.ops.tensor_float_32 import allow_tensor_float_32


def benchmark_training(
    configuration: Configuration,
    has_data: bool,
    num_classes: int,
    repeats: int,
    progress: Callable[[str], None],
    with_parts: bool = True,
) -> dict[str, Any]:
    """The figures of the training that is configured.

    Args:
        configuration: of the row.
        has_data: read the data set of the configuration; otherwise one random batch.
        num_classes: where there is no data set to say.
        repeats: measured steps.
        progress: is told what is being measured.
        with_parts: measure the parts of a step too.

    Raises:
        UserError: the losses of the measured steps are not finite.
    """
    from tfdet.bench.training import measure_training, tame_random_weights
    from tfdet.training.schedule import Schedule
    from tfdet.training.trainer import Trainer

    trainer, schedule = configuration.build(Trainer), configuration.build(Schedule)
    strategy = trainer.prepare()
    images = configuration.value("TrainInput.images_per_replica")
    short_side, long_side = sides(configuration, "TrainInput")
    if has_data:
        source = configuration.build(TrainInput)
        num_classes, data = len(source.manifest.classes), str(source.manifest.name)

        def dataset(context):
            return source.dataset(strategy.num_replicas_in_sync * trainer.accumulate, input_context=context)
    else:
        data = "one random batch"

        def dataset(context):
            return synthetic_batches(images, short_side, long_side, num_classes)

    with strategy.scope():
        detector = configuration.build(build_detector, num_classes=num_classes)
    tame_random_weights(detector)
    speed = measure_training(
        detector, strategy, trainer, schedule, dataset, images, repeats, progress=progress, with_parts=with_parts
    )
    if not math.isfinite(speed.losses["total"]):
        raise UserError(f"the loss is {speed.losses['total']}: such steps are no measure; lower Schedule.base_lr")
    return {
        "images_per_second": round(speed.images_per_second, 3),
        "replicas": strategy.num_replicas_in_sync,
        "images_per_replica": images,
        "image": f"{short_side}x{long_side}",
        "precision": trainer.precision,
        "data": data,
        "step_seconds": round(speed.step, 4),
        "step_cpu_seconds": round(speed.cpu, 3),
        "data_wait_percent": round(100 * speed.data_wait, 1),
        "memory_peak_gb": round(speed.memory_peak / 1e9, 2),
        **{f"{name.replace('-', '_')}_seconds": round(seconds, 4) for name, seconds in speed.parts.items()},
        "loss": round(speed.losses["total"], 4),
        "repeats": repeats,
    }


def benchmark_limit(
    configuration: Configuration,
    num_classes: int,
    repeats: int,
    progress: Callable[[str], None],
    threads: int | None = None,
) -> dict[str, Any]:
    """The figures of a training step beside those of its convolutions and matrix products alone, on one random batch.

    Args:
        configuration: of the row.
        num_classes: C, without background.
        repeats: measured steps, in turn with the products.
        progress: is told what is being measured.
        threads: that TensorFlow computes with; None: as in training. With one, ops do not overlap, and what the parts
            take adds up.

    Returns:
        The figures; "parts" has those of every part, what takes most beyond its products first.

    Raises:
        UserError: the step is one of several replicas, or of several batches; TensorFlow has begun with other threads.
    """
    from tfdet.bench.limit import measure_limit

    step = _one_step(configuration, num_classes, threads)
    limit = measure_limit(step.gradients, step.run, repeats, progress)
    return {
        **step.described,
        "threads": threads or "as in training",
        "products": limit.products,
        "step_cpu_seconds": round(limit.step.cpu, 3),
        "limit_cpu_seconds": round(limit.limit.cpu, 3),
        "step_of_limit": round(limit.step.cpu / limit.limit.cpu, 3),
        "step_seconds": round(limit.step.wall, 3),
        "limit_seconds": round(limit.limit.wall, 3),
        "step_of_limit_by_the_clock": round(limit.step.wall / limit.limit.wall, 3),
        "memory_peak_gb": round(limit.memory_peak / 1e9, 2),
        "repeats": repeats,
        "parts": {
            name: {field: round(seconds, 4) for field, seconds in part._asdict().items()}
            for name, part in limit.parts.items()
        },
    }


def benchmark_peers(
    configuration: Configuration,
    inference: bool,
    num_classes: int,
    repeats: int,
    progress: Callable[[str], None],
    threads: int | None = None,
) -> dict[str, Any]:
    """The figures of a training step, or of a detection of one image, beside other programs' of the same family.

    Args:
        configuration: of the row.
        inference: detect; otherwise train.
        num_classes: C, without background; the other programs have 80.
        repeats: of each side, in turn.
        progress: is told what is being measured.
        threads: of each side; None: as each chooses.

    Raises:
        UserError: no other program has the family or is installed; otherwise as `benchmark_limit`.
    """
    from tfdet.bench.peers import family_of, measure_peers

    if inference:
        work = _one_detection(configuration, num_classes, threads)
    else:
        work = _one_step(configuration, num_classes, threads)
    family, what = family_of(work.detector), "inference" if inference else "train"
    sides = measure_peers(work.run, family, what, work.image, work.images, repeats, threads, progress)
    own = sides["tfdet"]
    figures = {**work.described, "family": family, "threads": threads or "as each program chooses"}
    for name, side in sides.items():
        figures[f"{name}_cpu_seconds"] = round(side.took.cpu, 3)
        figures[f"{name}_seconds"] = round(side.took.wall, 3)
        figures[f"{name}_memory_peak_gb"] = round(side.memory_peak / 1e9, 2)
        figures[f"{name}_versions"] = side.versions
        if name != "tfdet":
            figures[f"tfdet_of_{name}_cpu"] = round(own.took.cpu / side.took.cpu, 3)
            figures[f"tfdet_of_{name}_clock"] = round(own.took.wall / side.took.wall, 3)
            figures[f"tfdet_of_{name}_memory"] = round(own.memory_peak / side.memory_peak, 3) if side.memory_peak else 0
    return figures | {"repeats": repeats}


class _Work(NamedTuple):
    """A training step, or a detection, that can be taken again and again."""

    run: Callable[[], object]
    detector: Any
    image: tuple[int, int]  # height and width in pixels
    images: int
    described: dict[str, Any]
    gradients: Callable[[], object] | None = None  # of a step, without the update


def _described(image: tuple[int, int], images: int, precision: str) -> dict[str, Any]:
    return {"images": images, "image": f"{image[0]}x{image[1]}", "precision": precision}


def _one_step(configuration: Configuration, num_classes: int, threads: int | None) -> _Work:
    """A training step on one random batch. Raises: as `benchmark_limit`."""
    import tensorflow as tf

    from tfdet.bench.training import gradients_of, tame_random_weights
    from tfdet.training.trainer import Trainer
    from tfdet.training.update import make_parts, make_step

    if threads is not None:
        set_threads(threads)
    trainer = configuration.build(Trainer)
    strategy = trainer.prepare()
    if strategy.num_replicas_in_sync * trainer.accumulate > 1:
        raise UserError(
            "this benchmark measures a step of one batch: give --gin_param='Trainer.replicas = 1' and "
            "--gin_param='Trainer.accumulate = 1'"
        )
    images, image = configuration.value("TrainInput.images_per_replica"), sides(configuration, "TrainInput")
    with strategy.scope():
        detector = configuration.build(build_detector, num_classes=num_classes)
    tame_random_weights(detector)
    parts = make_parts(strategy, detector, trainer)
    gradient = gradients_of(detector, parts.optimizer, tf.constant([0, 0]))
    dataset = synthetic_batches(images, *image, num_classes)
    (batch,) = dataset.take(1)
    # A rate of zero: each step has as many objects among its RoIs as the one whose products are counted.
    step = make_step(strategy, detector, parts, lambda _: tf.constant(0.0), trainer)
    iterator = iter(strategy.distribute_datasets_from_function(lambda _: dataset))
    train = step.compile(iterator.element_spec)
    described = _described(image, images, trainer.precision)
    return _Work(lambda: train(next(iterator)), detector, image, images, described, lambda: gradient(batch))


def _one_detection(configuration: Configuration, num_classes: int, threads: int | None) -> _Work:
    """A detection of one random picture with initial weights."""
    import tensorflow as tf

    from tfdet.predict.predictors import detect_function
    from tfdet.training import precision
    from tfdet.training.trainer import Trainer

    if threads is not None:
        set_threads(threads)
    trainer, image = configuration.build(Trainer), sides(configuration, "EvalInput")
    precision.set_policy(trainer.precision)
    detector = configuration.build(build_detector, num_classes=num_classes)
    detect = detect_function(detector)
    (batch,) = synthetic_batches(1, *image, num_classes).take(1)
    given = tf.constant(batch.images), tf.constant(batch.image_info)
    return _Work(lambda: detect(*given), detector, image, 1, _described(image, 1, trainer.precision))


def set_threads(threads: int) -> None:
    """Makes TensorFlow compute with so many threads. Call it before anything is computed.

    Raises:
        UserError: TensorFlow has begun already.
    """
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError as error:
        raise UserError("--threads: TensorFlow computes already, and keeps the threads that it began with") from error


def reduced_bytes(configuration: Configuration, num_classes: int = 80) -> int:
    """Bytes of the gradients, float32, that a replica gives to the mean over replicas in a step.

    Args:
        configuration: of the row.
        num_classes: C.
    """
    from tfdet.training.trainer import Trainer
    from tfdet.training.variables import select_trained

    detector = configuration.build(build_detector, num_classes=num_classes)
    trained = select_trained(detector, configuration.build(Trainer).frozen)
    return 4 * sum(int(np.prod(variable.shape)) for variable in trained)


def benchmark_inference(
    configuration: Configuration,
    model_dir: str | None,
    has_data: bool,
    num_classes: int,
    images_per_batch: int,
    repeats: int,
) -> dict[str, Any]:
    """The figures of the detector that is configured.

    Args:
        configuration: of the row or run.
        model_dir: a run, whose weights are taken; None: initial values.
        has_data: read the data set of the configuration; otherwise random pictures.
        num_classes: where there is no run to say.
        images_per_batch: images in a batch.
        repeats: measured batches.
    """
    from tfdet.bench.inference import measure_inference
    from tfdet.predict.restore import RunWeights
    from tfdet.training import precision
    from tfdet.training.distribution import make_strategy
    from tfdet.training.trainer import Trainer

    trainer = configuration.build(Trainer)
    precision.set_policy(trainer.precision)
    strategy = make_strategy(1)
    short_side, long_side = sides(configuration, "EvalInput")
    weights = RunWeights(model_dir) if model_dir else None
    with strategy.scope():
        count = len(weights.classes) if weights else num_classes
        detector = configuration.build(build_detector, num_classes=count)
        if weights:
            weights.fill(detector)
    allow_tensor_float_32(trainer.tensor_float_32)
    if has_data:
        source = configuration.build(EvalInput, images_per_batch=images_per_batch)
        batches = [
            (np.asarray(b.images), np.asarray(b.image_info)) for b in itertools.islice(source.dataset(), repeats)
        ]
        data, rule = source.manifest.name, source.resize.rule
    else:
        (batch,) = synthetic_batches(images_per_batch, short_side, long_side, num_classes).take(1)
        batches, data = [(np.asarray(batch.images), np.asarray(batch.image_info))], "random pictures"
        rule = "simpledet"
    speed = measure_inference(detector, strategy, batches, repeats, rule=rule)
    return {
        "images_per_second": round(speed.images_per_second, 3),
        "latency_ms": round(1e3 * speed.latency, 1),
        "latency_90_percent_ms": round(1e3 * speed.latency_90, 1),
        "cpu_seconds": round(speed.cpu, 3),
        "memory_peak_gb": round(speed.memory_peak / 1e9, 2),
        "images_per_batch": images_per_batch,
        "image": f"{short_side}x{long_side}",
        "precision": trainer.precision,
        "data": data,
        "weights": "of the run" if model_dir else "initial values",
        "detections_per_image": round(speed.detections, 1),
        "repeats": repeats,
    }


def sides(configuration: Configuration, source: str) -> tuple[int, int]:
    """Height and width in pixels of the canvas of an input, by its name; of several scales the largest."""
    short, long = (configuration.value(f"{source}.{name}") for name in ("short_side", "long_side"))
    return (max(short) if isinstance(short, (tuple, list)) else int(short)), int(long)
