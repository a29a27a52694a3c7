"""The speed and memory of a training step, and what its parts take."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfdet.bench.measure import process_peak
from tfdet.detectors import Detector
from tfdet.structures import Batch
from tfdet.training import distribution
from tfdet.training.optimizer import Optimizer
from tfdet.training.schedule import Schedule
from tfdet.training.trainer import Trainer
from tfdet.training.update import make_parts, make_step

_PROPOSALS = 2000  # of an image: what most rows keep in training


class TrainingSpeed(NamedTuple):
    """What a benchmark of training found. Times are medians, in seconds."""

    images_per_second: float  # over all replicas, waiting for data included
    step: float
    cpu: float  # of all threads of the process, a step: the same beside other work, unlike the others
    data_wait: float  # part of the time, 0..1
    memory_peak: int  # bytes: of the fullest GPU; without GPUs of the process
    parts: dict[str, float]  # of one replica: "forward", "backward", "targets" (a part of forward), ...
    losses: dict[str, float]  # of the last step: finite, or the figures mean nothing


def synthetic_batches(images: int, height: int, width: int, num_classes: int, num_boxes: int = 8) -> tf.data.Dataset:
    """One random batch for ever, so that nothing waits for data.

    Args:
        images: in a batch.
        height, width: of the canvas, which the content fills.
        num_classes: C.
        num_boxes: in an image; COCO's images have 7 on average.

    Returns:
        A dataset of `Batch`.
    """
    rng = np.random.default_rng(0)
    sides = rng.uniform(0.1, 0.5, [images, num_boxes, 2]) * [width, height]
    corners = rng.uniform(0, 1, [images, num_boxes, 2]) * ([width, height] - sides)
    boxes = np.concatenate([corners, corners + sides - 1], axis=-1).astype(np.float32)
    left, top, right, bottom = np.moveaxis(boxes, -1, 0)
    points = [(left, top), (right, top), (right, bottom), (left, bottom)]
    ring = [a + b for a, b in zip(points, points[1:] + points[:1])]
    batch = Batch(
        images=rng.integers(0, 256, [images, height, width, 3], np.uint8),
        image_info=np.tile(np.float32([height, width, 1]), [images, 1]),
        boxes=boxes,
        classes=rng.integers(0, num_classes, [images, num_boxes], np.int32),
        image_ids=np.arange(images, dtype=np.int64),
        edges=np.stack([np.stack(edge, axis=-1) for edge in ring], axis=2).reshape(images, -1, 4),
        edge_owners=np.tile(np.int32([[number, 0] for number in range(num_boxes) for _ in ring]), [images, 1, 1]),
    )
    return tf.data.Dataset.from_tensors(batch).repeat()


def tame_random_weights(detector: Detector) -> None:
    """Halves every gamma: frozen statistics around random kernels normalise nothing, and 33 units overflow float16."""
    for variable in detector.variables:
        if variable.path.endswith("gamma"):
            variable.assign(0.5 * variable)


def measure_training(
    detector: Detector,
    strategy: tf.distribute.Strategy,
    trainer: Trainer,
    schedule: Schedule,
    dataset: Callable[[tf.distribute.InputContext], tf.data.Dataset],
    images_per_replica: int,
    steps: int,
    warm_up: int = 3,
    progress: Callable[[str], None] = lambda _: None,
    with_parts: bool = True,
) -> TrainingSpeed:
    """Trains for some steps and measures them, then the parts of a step alone.

    Args:
        detector: built under `strategy.scope()`.
        strategy, trainer, schedule: as in training.
        dataset: gives the endless per-replica batches for an input context.
        images_per_replica: in those batches.
        steps: measured steps, at least 1, after `warm_up` ones that trace and fill caches.
        progress: is told what is being measured.
        with_parts: measure the parts of a step too; without, there are none.

    Returns:
        What was found.
    """
    total_batch = images_per_replica * strategy.num_replicas_in_sync * trainer.accumulate
    parts = make_parts(strategy, detector, trainer)
    rate = schedule.for_batch(total_batch, warm_up + steps)
    step = make_step(strategy, detector, parts, rate, trainer)
    iterator = iter(strategy.distribute_datasets_from_function(dataset))
    train = step.compile(iterator.element_spec)
    progress(f"training step of {total_batch} images")
    seconds, cpu, waits, losses = _run_steps(train, iterator, step.parts, warm_up, steps)
    memory = distribution.gpu_memory_peak(strategy) or process_peak()
    seconds_of_parts = {}
    if with_parts:
        batch = strategy.experimental_local_results(next(iterator))[0]
        seconds_of_parts = _measure_parts(detector, strategy, parts.optimizer, batch, steps, progress)
    return TrainingSpeed(
        total_batch / statistics.mean(seconds),
        statistics.median(seconds),
        statistics.median(cpu),
        sum(waits) / sum(seconds),
        memory,
        seconds_of_parts,
        losses,
    )


def _run_steps(train, iterator: Iterator, parts: int, warm_up: int, steps: int):
    """Seconds of each measured step of `parts` batches, of CPU time, waiting for data, and the last losses."""
    seconds, cpu, waits, metrics = [], [], [], {}
    for number in range(warm_up + steps):
        start, cpu_start, waited = time.perf_counter(), time.process_time(), 0.0
        for _ in range(parts):
            asked = time.perf_counter()
            batch = next(iterator)
            waited += time.perf_counter() - asked
            results = train(batch)  # of the last part alone
        metrics = {name: float(value) for name, value in results.items()}  # waits for the device
        if number >= warm_up:
            seconds.append(time.perf_counter() - start)
            cpu.append(time.process_time() - cpu_start)
            waits.append(waited)
    return seconds, cpu, waits, metrics


def _measure_parts(detector, strategy, optimizer, batch: Batch, repeats: int, progress) -> dict[str, float]:
    """Seconds of the parts of a step; the backward pass is what a gradient takes beyond the forward pass."""
    seed = tf.constant([0, 0])
    gradient = gradients_of(detector, optimizer, seed)

    def forward(batch):
        return _loss(detector, batch, seed)

    def zeros():
        return [tf.zeros(variable.shape) for variable in optimizer.variables_to_train]

    def reduce():
        # One number of each, so that nothing is cut from the graph as unused.
        return tf.add_n([tf.reduce_sum(g[..., :1]) for g in optimizer.reduce(zeros())])

    def update():
        optimizer.apply(zeros(), tf.constant(0.0), tf.constant(True))

    def assign(batch):
        return assign_targets(detector, batch, seed)

    one = {"forward": (forward, batch), "gradient": (gradient, batch), "targets": (assign, batch)}
    took = {}
    for name, (function, argument) in one.items():
        progress(name)
        compiled = tf.function(function, autograph=False)
        took[name] = _median(functools.partial(compiled, argument), repeats)
    for name, function in {"all-reduce": reduce, "update": update}.items():
        progress(name)
        took[name] = _median(tf.function(functools.partial(strategy.run, function), autograph=False), repeats)
    backward = max(0.0, took.pop("gradient") - took["forward"])
    return {"forward": took["forward"], "backward": backward} | {k: v for k, v in took.items() if k != "forward"}


def _loss(detector: Detector, batch: Batch, seed: tf.Tensor) -> tf.Tensor:
    return tf.add_n(list(detector.losses(batch, seed).values()))


def gradients_of(detector: Detector, optimizer: Optimizer, seed: tf.Tensor) -> Callable[[Batch], list[tf.Tensor]]:
    """What gives the gradients of a batch's losses by the weights that are trained, times the loss scale."""
    trained = [variable.value for variable in optimizer.variables_to_train]

    def gradient(batch: Batch) -> list[tf.Tensor]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(trained)
            loss = _loss(detector, batch, seed) * optimizer.loss_scale.scale
        return tape.gradient(loss, trained)

    return gradient


def assign_targets(detector: Detector, batch: Batch, seed: tf.Tensor):
    """The labels and box targets of a batch alone, with random proposals for a second stage."""
    images, height, width = batch.images.shape[:3]
    maps = [tf.zeros([images, -(-height // s), -(-width // s), 1]) for s in detector.anchors.strides]
    corners = tf.random.stateless_uniform([images, _PROPOSALS, 4], seed) * [width / 2, height / 2, 0, 0]
    sides = tf.random.stateless_uniform([images, _PROPOSALS, 2], seed) * [width / 2, height / 2]
    rois = corners + tf.concat([tf.zeros_like(sides), corners[..., :2] + sides], axis=-1)
    return detector.assign_targets(maps, rois, batch, seed)


def _median(run: Callable[[], object], repeats: int) -> float:
    run()  # traces
    seconds = []
    for _ in range(repeats):
        tf.test.experimental.sync_devices()
        start = time.perf_counter()
        run()
        tf.test.experimental.sync_devices()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)
