"""Times exports of any format on one image, each in its own program: the latencies of docs/exports.md.

    python -m tools.time_exports exported/onnx exported/litert --threads 2 --image picture.jpg

An image of the picture's size goes through each a few times; the median counts. Other work on the machine counts too.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfdet.data.images import read_image
from tfdet.data.resize import Resize
from tfdet.export.formats import FORMATS
from tfdet.export.formats.graph import Canvas
from tfdet.export.formats.predictor import feeds_of, model_bytes
from tfdet.export.model_card import read_card
from tfdet.predict.exported import load_signatures
from tfdet.strict_json import read_json


def runner(folder: Path, image: np.ndarray, threads: int) -> Callable[[], object]:
    """What detects on one image, uint8 [H, W, 3], with the export in a folder; resizing outside is not in it."""
    name = read_card(folder)["format"]["name"]
    if name == "saved_model":
        signature, given = load_signatures(folder)["image_tensor"], tf.constant(image[None])
        return lambda: signature(given)["num_detections"].numpy()
    labels = read_json(folder / "labels.json", "the labels", "export the model again")
    resize = Resize(labels["short_side"], labels["long_side"], labels["resize"])
    canvas = None if labels["canvas"] is None else Canvas(*labels["canvas"])
    session = FORMATS[name].module(name).Session(folder / FORMATS[name].file, threads)
    feeds = feeds_of(image, resize, canvas)
    return lambda: session(feeds)


def median_seconds(run: Callable[[], object], times: int) -> float:
    """The median of so many calls, after two that prepare."""
    for _ in range(2):
        run()
    taken = []
    for _ in range(times):
        begin = time.perf_counter()
        run()
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken)


def main() -> None:
    """Prints a line of a Markdown table for each export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exports", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--image", required=True, help="a picture")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--times", type=int, default=20)
    args = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(args.threads)
    tf.config.threading.set_inter_op_parallelism_threads(args.threads)
    image = read_image(args.image)
    print("| export | MB | ms |\n|---|---:|---:|", flush=True)  # noqa: T201
    for folder in args.exports:
        seconds = median_seconds(runner(folder, image, args.threads), args.times)
        card = read_card(folder)["format"]
        name = f"{card['title']} {card['precision']}"
        print(f"| {name} | {model_bytes(os.fspath(folder)) / 1e6:.1f} | {1000 * seconds:.0f} |", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
