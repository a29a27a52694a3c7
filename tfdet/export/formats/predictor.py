"""Runs an export in another program's format on images of any size: what the models of all formats have in common."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfdet.data.resize import Resize
from tfdet.export.formats.graph import IMAGE, IMAGE_INFO, Canvas, detection_function, on_canvas
from tfdet.ops import native
from tfdet.predict.exported import found_by_export
from tfdet.predict.found import Found, Labels

Run = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]
"""Inputs of a graph by name -> its outputs by name."""


class GraphPredictor:
    """Detects through a graph of one image, see `detection_function`.

    Args:
        run: the graph.
        resize: of the images; used with a canvas, for without one it is in the graph.
        canvas: of the graph.
        labels: what its classes are.

    Attributes:
        unclean: rows behind the last detection that were not zeros, over all calls.
    """

    def __init__(self, run: Run, resize: Resize, canvas: Canvas | None, labels: Labels):
        self._run, self._resize, self._canvas, self._labels = run, resize, canvas, labels
        self.labels, self.unclean = labels, 0

    def __call__(self, image: np.ndarray, path: str | None = None) -> Found:
        """Detects on one image, uint8 [H, W, 3], RGB, of the file `path`."""
        outputs = self._run(feeds_of(image, self._resize, self._canvas))
        count = int(outputs["num_detections"][0])
        padding = (outputs[name][0][count:] for name in ("detection_scores", "detection_boxes", "detection_classes"))
        self.unclean += sum(int(np.count_nonzero(rows)) for rows in padding)
        return found_by_export(dict(outputs), image, self._labels, path)


def feeds_of(image: np.ndarray, resize: Resize, canvas: Canvas | None) -> dict[str, np.ndarray]:
    """The inputs of a graph by name for one image, uint8 [H, W, 3]. Args: as in `GraphPredictor`."""
    if canvas is None:
        return {IMAGE: image[None]}
    placed, image_info = on_canvas(image, resize, canvas)
    return {IMAGE: placed, IMAGE_INFO: image_info}


def detector_run(detector: Any, resize: Resize, canvas: Canvas | None) -> Run:
    """The detector itself, with its usual ops, as a graph of one image: what an export of the canvas is compared with.

    Args:
        detector, resize, canvas: as in `detection_function`.
    """
    function = detection_function(detector, resize, canvas)

    def run(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        with native.implementation("python"):
            found = function(**{name: tf.constant(value) for name, value in feeds.items()})
        return {name: value.numpy() for name, value in found.items()}

    return run


def model_bytes(folder: str | os.PathLike) -> int:
    """Bytes of what a program loads of an export: all files but the labels and the model's card."""
    return sum(
        os.path.getsize(os.path.join(parent, name))
        for parent, _, names in os.walk(folder)
        for name in names
        if not name.endswith((".json", ".md"))
    )
