"""Speed and memory of what surrounds a network: conversion, the input, evaluation, and several processes."""

from __future__ import annotations

import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from tfdet.bench.measure import process_peak
from tfdet.config import Configuration
from tfdet.errors import UserError

_DRAIN = 0.3  # seconds in which a pipeline fills its buffers again: that work is of the images that were taken
_SIDE = 640  # pixels of a drawn image


def benchmark_input(
    configuration: Configuration, images: int, repeats: int, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Images that the training input gives, for a second of processor time and by the clock.

    Args:
        configuration: with `TrainInput.data_dir`.
        images: of each measurement, at least.
        repeats: measurements; their medians are the figures.
        progress: is told what is being measured.
    """
    from tfdet.data.inputs import TrainInput
    from tfdet.ops import native

    source = configuration.build(TrainInput)
    batches = iter(source.dataset().repeat())
    took = []
    for number in range(repeats + 1):
        progress("the first images" if number == 0 else f"images, {number} of {repeats}")
        cpu, wall, done = time.process_time(), time.perf_counter(), 0
        while done < images:
            next(batches)
            done += source.images_per_replica
        wall = time.perf_counter() - wall
        time.sleep(_DRAIN)
        if number:  # the first fills the buffers
            took.append(((time.process_time() - cpu) / done, wall / done))
    cpu, wall = np.median(took, axis=0)
    return {
        "data": str(source.manifest.name),
        "images": images,
        "images_per_cpu_second": round(1 / cpu, 1),
        "images_per_second": round(1 / wall, 1),
        "memory_peak_gb": round(process_peak() / 1e9, 2),
        "ops": native.describe(),
        "repeats": repeats,
    }


def benchmark_figures(
    images: int, detections: int, classes: int, objects: int, max_detections: int, seed: int = 0
) -> dict[str, Any]:
    """COCO's figures of drawn boxes: seconds of collecting what was found, and of the figures.

    Args:
        images, classes, objects: of the drawn data set.
        detections: in each image; half of them are near its objects, where it has some.
        max_detections: as in `CocoEvaluator`.
        seed: of the drawing.
    """
    from tfdet.evaluate.coco import CocoEvaluator
    from tfdet.structures import Detections

    rng = np.random.default_rng(seed)
    corners = _boxes(rng, objects)
    labels, owners = rng.integers(0, classes, objects), rng.integers(0, images, objects)
    truth = {
        "images": [{"id": n + 1, "file_name": "", "height": _SIDE, "width": _SIDE} for n in range(images)],
        "categories": [{"id": n + 1, "name": f"class {n + 1}"} for n in range(classes)],
        "annotations": [
            {
                "id": n + 1,
                "image_id": int(owners[n]) + 1,
                "category_id": int(labels[n]) + 1,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1),
                "iscrowd": 0,
            }
            for n, (x1, y1, x2, y2) in enumerate(corners.tolist())
        ],
    }
    manifest = SimpleNamespace(
        name="drawn", classes=[f"class {n + 1}" for n in range(classes)], category_ids=list(range(1, classes + 1))
    )
    order = np.argsort(owners, kind="stable")
    first = np.searchsorted(owners[order], np.arange(images + 1))

    def found(number: int) -> Detections:
        own = order[first[number] : first[number + 1]]
        boxes, kinds = _boxes(rng, detections), rng.integers(0, classes, detections)
        if len(own):
            near = rng.choice(own, detections // 2)
            boxes[: len(near)] = corners[near] + rng.normal(0, 4, (len(near), 4))
            kinds[: len(near)] = labels[near]
        scores = -np.sort(-rng.uniform(size=detections)).astype(np.float32)
        shuffled = rng.permutation(detections)
        fields = boxes[shuffled].astype(np.float32), scores, kinds[shuffled].astype(np.int32)
        return Detections(*(field[None] for field in fields), np.int32([detections]))

    clock = _Clock()
    evaluator = CocoEvaluator(truth, manifest, max_detections=max_detections)
    clock.lap("reading")
    drawn = [found(number) for number in range(images)]
    clock.skip()
    for number, one in enumerate(drawn):
        evaluator.add([number + 1], one)
    clock.lap("collecting")
    result = evaluator.result()
    clock.lap("figures")
    return {
        "images": images,
        "detections_per_image": detections,
        "classes": classes,
        "objects": objects,
        "max_detections": max_detections,
        **{f"{part}_cpu_seconds": round(cpu, 2) for part, (cpu, _) in clock.laps.items()},
        **{f"{part}_seconds": round(wall, 2) for part, (_, wall) in clock.laps.items()},
        "memory_peak_gb": round(process_peak() / 1e9, 2),
        "AP": round(result.metrics["AP"], 4),
    }


def _boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """Float64 [count, 4], corners, of all sizes."""
    size = np.exp(rng.uniform(np.log(8), np.log(_SIDE / 2), (count, 2)))
    corner = rng.uniform(0, 1, (count, 2)) * (_SIDE - size)
    return np.concatenate([corner, corner + size], axis=1)


class _Clock:
    """Seconds between calls: of the processor, and by the clock."""

    def __init__(self) -> None:
        self.laps: dict[str, tuple[float, float]] = {}
        self.skip()

    def skip(self) -> None:
        self._last = time.process_time(), time.perf_counter()

    def lap(self, name: str) -> None:
        cpu, wall = self._last
        self.laps[name] = time.process_time() - cpu, time.perf_counter() - wall
        self.skip()


def benchmark_evaluation(model: Any, data: str | None, max_images: int | None, max_detections: int) -> dict[str, Any]:
    """An evaluation, by part.

    Args:
        model: a `Model`.
        data: folder of the data set; None: the one that the configuration evaluates on.
        max_images, max_detections: as in `Model.evaluate`.
    """
    cpu = time.process_time()
    result = model.evaluate(data, max_images=max_images, max_detections=max_detections)
    cpu = time.process_time() - cpu
    return {
        "data": result.data,
        "images": result.num_images,
        "images_per_second": round(result.images_per_second, 2),
        **{f"{part}_seconds": round(seconds, 2) for part, seconds in result.parts.items()},
        "cpu_seconds": round(cpu, 2),
        "memory_peak_gb": round(process_peak() / 1e9, 2),
        "AP": round(result.metrics["AP"], 4),
    }


def benchmark_conversion(source: str, num_workers: int | None) -> dict[str, Any]:
    """`tfdet convert_data SOURCE` in a process of its own, into a folder that is removed again.

    Args:
        source: a folder of images with annotations.
        num_workers: as of `convert_data`; None: all processors.
    """
    with tempfile.TemporaryDirectory(prefix="tfdet-conversion-") as folder:
        output = Path(folder) / "data"
        workers = [] if num_workers is None else [f"--num_workers={num_workers}"]
        before, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        _tfdet("convert_data", source, "--split=all", f"--output={output}", *workers)
        wall, after = time.perf_counter() - wall, resource.getrusage(resource.RUSAGE_CHILDREN)
        manifests = [json.loads(path.read_text()) for path in output.rglob("manifest.json")]
        size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    count = sum(manifest["num_images"] for manifest in manifests)
    cpu = sum(getattr(after, name) - getattr(before, name) for name in ("ru_utime", "ru_stime"))
    return {
        "images": count,
        "images_per_second": round(count / wall, 1),
        "images_per_cpu_second": round(count / cpu, 1),
        "seconds": round(wall, 1),
        "memory_peak_gb": round(after.ru_maxrss * 1024 / 1e9, 2),  # of the largest process
        "output_mb": round(size / 1e6, 1),
    }


def benchmark_scaling(
    flags: Sequence[str],
    counts: Sequence[int],
    steps: int,
    reduced_bytes: int,
    images: int,
    progress: Callable[[str], None],
) -> Iterator[dict[str, Any]]:
    """Training by several processes of this machine, one after the other.

    Args:
        flags: of `tfdet train`, with the configuration and the data.
        counts: of processes.
        steps: of each run; the first of them is not measured.
        reduced_bytes: what a replica gives to the reduction in a step.
        images: of one process in a step.
        progress: is told what is being measured.

    Yields:
        Figures for each count.
    """
    base = None
    for count in counts:
        progress(f"{count} process{'es' if count > 1 else ''}")
        with tempfile.TemporaryDirectory(prefix="tfdet-scaling-") as folder:
            train = ["train", *flags, "--no_eval", f"--steps={steps}", f"--model_dir={folder}/run"]
            train += ["--gin_param=Trainer.log_every = 1", "--gin_param=Trainer.replicas = None"]
            _tfdet(*([] if count == 1 else ["launch", f"--workers={count}", "--"]), *train)
            with open(Path(folder) / "run" / "metrics.csv", newline="") as lines:
                speeds = [row["speed/images_per_second"] for row in csv.DictReader(lines)]
        speed = float(np.median([float(value) for value in speeds if value]))
        base = base or speed / count
        yield {
            "processes": count,
            "batch": count * images,
            "images_per_second": round(speed, 2),
            "of_linear": round(speed / (base * count), 2),
            # A ring sends and receives each byte (n - 1) / n times for the sum, and again for its copies.
            "sent_mb_per_process_and_step": round(2 * (count - 1) / count * reduced_bytes / 1e6, 2),
        }


def _tfdet(*arguments: str) -> None:
    """Runs a command of tfdet; `UserError` with the last line that it wrote where it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "tfdet", *arguments], capture_output=True, text=True, env=dict(os.environ), check=False
    )
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if "error" in line]
        raise UserError(f"tfdet {arguments[0]} ended with {done.returncode}: {lines[0] if lines else 'no word'}")
