"""What the input pipeline costs: processor time an image, by part, with the custom op and with TensorFlow's own ops.

python -m tools.input_cost data/coco_train --images 200 --repeats 5

All sides run in turn in one process; medians. OpenCV's decode and resize of the same photos, where it is installed, are
what another pipeline has to do at least.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from tfdet.bench.results import machine
from tfdet.data.example import canvas_of, decode_example, fit_example
from tfdet.data.inputs import EvalInput, TrainInput
from tfdet.data.jitter import LargeScaleJitter
from tfdet.data.records import read_serialized, record_table
from tfdet.data.resize import Resize
from tfdet.data.schema import decode_rgb, parse_record
from tfdet.ops import native
from tools import markdown

_DRAIN = 0.3  # seconds in which a pipeline fills its buffers again: that work is of the images that were taken
_RULES = ("simpledet", "detectron2", "torchvision")


def endless(dataset: tf.data.Dataset, images: int) -> Iterator[int]:
    """Yields the number of images that each element has, without end."""
    for _ in dataset.repeat():
        yield images


def parts(data: str, short_side: int, long_side: int) -> dict[str, Callable[[], Iterator[int]]]:
    """The pipeline up to each of its parts, without the next; the last is all of it."""
    train = TrainInput(data, short_side, long_side, flip=True)
    index = train.manifest.load_index()
    table, rows = record_table(train.manifest, index), np.flatnonzero(index.is_trainable)

    def example(row):
        return decode_example(read_serialized(table, row), tf.gather(table.image_id, row), train.manifest.category_ids)

    def fitted(row):
        image = example(row)
        shape = tf.shape(image.image)
        canvas = canvas_of(shape[0] >= shape[1], short_side, long_side)
        return fit_example(image, Resize(short_side, long_side), row % 2 == 1, canvas=canvas)

    def up_to(function):
        dataset = tf.data.Dataset.from_tensor_slices(rows)
        return endless(dataset.map(function, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(4), 1)

    return {
        "read": lambda: up_to(lambda row: read_serialized(table, row)),
        "decode": lambda: up_to(lambda row: decode_rgb(parse_record(read_serialized(table, row)).encoded)),
        "boxes": lambda: up_to(example),
        "resize, mirror, pad": lambda: up_to(fitted),
        "order, batch": lambda: endless(train.dataset(), train.images_per_replica),
    }


def pipelines(data: str, short_side: int, long_side: int) -> dict[str, Callable[[], Iterator[int]]]:
    """Whole pipelines by name."""
    sides = {"short_side": short_side, "long_side": long_side}

    def train(**options):
        source = TrainInput(data, **sides, **options)
        return endless(source.dataset(), source.images_per_replica)

    return {
        **{f"training, {rule}": lambda rule=rule: train(resize=rule) for rule in _RULES},
        "training, large-scale jitter": lambda: train(resize="detectron2", jitter=LargeScaleJitter()),
        "evaluation": lambda: endless(EvalInput(data, **sides).dataset(), 1),
    }


def opencv(data: str, short_side: int, long_side: int) -> Iterator[int]:
    """OpenCV's decode and resize of the photos, one after the other in one thread."""
    import cv2

    cv2.setNumThreads(1)
    manifest = TrainInput(data, short_side, long_side).manifest
    table = record_table(manifest, manifest.load_index())
    photos = [parse_record(read_serialized(table, row)).encoded.numpy() for row in range(manifest.num_images)]
    while True:
        for photo in photos:
            image = cv2.imdecode(np.frombuffer(photo, np.uint8), cv2.IMREAD_COLOR)
            scale = min(short_side / min(image.shape[:2]), long_side / max(image.shape[:2]))
            cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
            yield 1


def measure(sources: dict[str, Iterator[int]], images: int, repeats: int) -> dict[str, float]:
    """Processor seconds an image of each source, the median of turns."""
    found: dict[str, list[float]] = {name: [] for name in sources}
    for turn in range(repeats + 1):
        for name, source in sources.items():
            start, done = time.process_time(), 0
            while done < images:
                done += next(source)
            time.sleep(_DRAIN)
            if turn:  # the first warms up
                found[name].append((time.process_time() - start) / done)
    return {name: statistics.median(values) for name, values in found.items()}


def main() -> None:
    """Prints the tables as markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="data set folder")
    parser.add_argument("--short_side", type=int, default=800)
    parser.add_argument("--long_side", type=int, default=1200)
    parser.add_argument("--images", type=int, default=200, help="images of each turn (default: 200)")
    parser.add_argument("--repeats", type=int, default=5, help="turns that are measured (default: 5)")
    args = parser.parse_args()
    sides = (args.data, args.short_side, args.long_side)
    names = [name for name in ("native", "python") if name == "python" or native.state().library is not None]
    started: dict[str, Iterator[int]] = {}
    for name in names:
        with native.implementation(name):
            made = {**parts(*sides), **pipelines(*sides)}
            started |= {f"{part} {name}": make() for part, make in made.items()}
            for source in started.values():  # its graph is made here
                next(source)
    with contextlib.suppress(ImportError):
        import cv2  # noqa: F401

        started["opencv"] = opencv(*sides)
    found = measure(started, args.images, args.repeats)
    print(f"{machine()}\n")
    before, rows = dict.fromkeys(names, 0.0), []
    for part in parts(*sides):
        costs = [found[f"{part} {name}"] for name in names]
        rows.append([part, *(f"{1e3 * (cost - before[name]):.2f}" for name, cost in zip(names, costs))])
        before = dict(zip(names, costs))
    rows.append(["all", *(f"{1e3 * before[name]:.2f}" for name in names)])
    columns = [{"native": "custom op", "python": "TensorFlow's own"}[name] for name in names]
    print(*markdown.table(["part, ms of CPU an image", *columns], rows), "", sep="\n")
    rows = [[name, *(f"{1 / found[f'{name} {side}']:.0f}" for side in names)] for name in pipelines(*sides)]
    if "opencv" in found:
        rows.append(["OpenCV's decode and resize alone", f"{1 / found['opencv']:.0f}", *([""] * (len(names) - 1))])
    print(*markdown.table(["images a CPU second", *columns], rows), sep="\n")


if __name__ == "__main__":
    main()
