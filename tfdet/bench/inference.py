"""The speed and memory of detection."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfdet.bench.measure import process_peak
from tfdet.data.resize import Rule
from tfdet.detectors import Detector
from tfdet.predict.predictors import detect_function
from tfdet.training.distribution import gpu_memory_peak


class InferenceSpeed(NamedTuple):
    """What a benchmark of detection found."""

    images_per_second: float
    latency: float  # seconds of a batch, median
    latency_90: float  # seconds that nine of ten batches stay below
    cpu: float  # of all threads of the process, a batch, median
    memory_peak: int  # bytes: of the GPU; without GPUs of the process
    detections: float  # an image, mean: what suppression and sorting had to do depends on it


def measure_inference(
    detector: Detector,
    strategy: tf.distribute.Strategy,
    batches: list[tuple[np.ndarray, np.ndarray]],
    repeats: int,
    warm_up: int = 2,
    rule: Rule = "simpledet",
) -> InferenceSpeed:
    """Detects on batches in turn, from pixels to boxes, on one device.

    Args:
        detector: built under `strategy.scope()`.
        strategy: of one replica.
        batches: pairs of images [B, H, W, 3] and image_info [B, 3 or 4], as in `Batch`.
        repeats: measured calls, at least 1, after `warm_up` ones on each batch's shape.
        rule: by which the images were resized.

    Returns:
        What was found.
    """
    detect = detect_function(detector, rule)
    on_device = [(tf.constant(images), tf.constant(info)) for images, info in batches]
    for number in range(max(warm_up, len(on_device))):
        detect(*on_device[number % len(on_device)]).boxes.numpy()
    seconds, cpu, images, found = [], [], 0, 0
    for number in range(repeats):
        pixels, info = on_device[number % len(on_device)]
        start, cpu_start = time.perf_counter(), time.process_time()
        detections = detect(pixels, info)
        valid = detections.num_valid.numpy()  # waits for the device
        seconds.append(time.perf_counter() - start)
        cpu.append(time.process_time() - cpu_start)
        images, found = images + len(valid), found + int(valid.sum())
    return InferenceSpeed(
        images / sum(seconds),
        float(np.median(seconds)),
        float(np.quantile(seconds, 0.9)),
        float(np.median(cpu)),
        gpu_memory_peak(strategy) or process_peak(),
        found / images,
    )
