"""A detector under a name, asked by many at once and answering one after the other."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from tfdet.data.images import ImageError, decode_image
from tfdet.errors import UserError
from tfdet.predict.exported import SIGNATURES
from tfdet.predict.float32 import in_float32
from tfdet.predict.formats import json_objects, outline_of
from tfdet.predict.found import Found
from tfdet.predict.thresholds import Thresholds
from tfdet.report.drawing import class_color
from tfdet.report.page import picture_uri
from tfdet.serve.rest import Request, RequestError, answer, parse_request

LEAST_SCORE = 0.05
"""Of the objects that the page gets, to show more of them than count."""
_MAX_SIDE = 1600  # pixels of the picture that the page draws on


class Servable:
    """A model that is served.

    Args:
        name: in paths.
        version: whole number in paths.
        find: from uint8 [H, W, 3], RGB, to a `Found` of everything from `LEAST_SCORE` up.
        thresholds: from which score on an object counts.
        signatures: of an export or the like: each takes `inputs` and gives a dict of tensors.
        classes: their names.
        about: which model it is, in words.
        max_pixels: most pixels of an image, height times width.
    """

    def __init__(
        self,
        name: str,
        version: str,
        find: Callable[[np.ndarray], Found],
        thresholds: Thresholds,
        signatures: Mapping[str, Callable],
        classes: list[str],
        about: str,
        max_pixels: int,
    ):
        self.name, self.version, self.classes, self.about = name, version, classes, about
        self.thresholds, self.max_pixels = thresholds, max_pixels
        self._find, self._signatures = find, signatures
        self._turn = threading.Lock()  # one request has the processor at a time

    def warm_up(self) -> None:
        """Traces what the first request would wait for."""
        blank = np.zeros([64, 64, 3], np.uint8)
        self._find(blank)
        self._run("image_tensor", blank[None])

    def predict(self, body: bytes) -> dict[str, Any]:
        """Answers a request in TF Serving's format.

        Raises:
            RequestError: what is wrong with it, or with an image.
        """
        request: Request = parse_request(body, self.max_pixels)
        with self._turn:
            return answer(self._run(request.signature, request.inputs), request.by_rows)

    def detect(self, encoded: bytes, score: float | None = None, with_picture: bool = False) -> dict[str, Any]:
        """What is found on one image of any kind that `tfdet predict` reads.

        Args:
            encoded: the bytes of its file.
            score: leave out objects below it; None: those that do not count.
            with_picture: `picture` is the image, upright and not larger than a screen, as a data address.

        Returns:
            `width`, `height`, `seconds` and `objects`, best first: `class_name`, `category_id`, `score`, `bbox` (`[x,
            y, width, height]`, pixels), `counts` (whether its score is enough for its class), `color`, and of a model
            with masks `outline`.

        Raises:
            RequestError: the image cannot be read.
        """
        try:
            image = decode_image(encoded, self.max_pixels)
        except ImageError as error:
            raise RequestError(f"the image {error}") from None
        with self._turn:
            start = time.perf_counter()
            found = self._find(image)
            seconds = time.perf_counter() - start
        found = self.thresholds.keep(found) if score is None else found.above(score)
        objects = []
        for number, entry in enumerate(json_objects(found)):
            entry.pop("segmentation", None)
            entry["counts"] = entry["score"] >= self.thresholds.of(entry["class_name"])
            entry["color"] = "#{:02x}{:02x}{:02x}".format(*class_color(int(found.class_ids[number])))
            if found.mask_probabilities is not None:
                entry["outline"] = outline_of(found, number).round(1).tolist()
            objects.append(entry)
        height, width = image.shape[:2]
        picture = {"picture": picture_uri(image, max_side=_MAX_SIDE)} if with_picture else {}
        return {"width": width, "height": height, "seconds": round(seconds, 3), "objects": objects, **picture}

    def _run(self, signature: str, inputs: list[bytes] | np.ndarray) -> dict[str, np.ndarray]:
        import tensorflow as tf

        try:
            with in_float32():
                outputs = self._signatures[signature](inputs=tf.constant(inputs))
                return {name: np.asarray(value) for name, value in sorted(outputs.items())}
        except tf.errors.OpError as error:
            raise RequestError(_first_words(error.message)) from None


def servable_of(model: Any, name: str | None, finding: Mapping[str, Any], max_pixels: int) -> Servable:
    """A model of `tfdet.load` as it is served.

    Args:
        model: a `Model` or an `ExportedModel`.
        name: in paths; None: of its folder or weights.
        finding: as of `DetectingModel.finder`.
        max_pixels: most pixels of an image, height times width.

    Raises:
        UserError: a value is out of its range, or the weights do not fit.
    """
    thresholds = model.finder(**finding).thresholds
    least = min(LEAST_SCORE, thresholds.default, *thresholds.by_class.values())
    find = model.finder(**{**finding, "score_threshold": least, "thresholds": None})
    signatures = getattr(model.predictor, "signatures", None)
    own, version = _name_and_version(model)
    if signatures is None:
        from tfdet.export.saved_model import DetectionModule
        from tfdet.predict.restore import evaluation_resize

        with in_float32():
            module = DetectionModule(model.detector, evaluation_resize(model.configuration), max_pixels)
        signatures = _Signatures(module)
    name = own if name is None else name
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        raise UserError(f"--name {name!r}: letters, digits, _ . and - can stand in an address")
    return Servable(name, version, find, thresholds, signatures, list(model.classes), model.describe(), max_pixels)


def _first_words(message: str) -> str:
    """What a graph says of its fault, without the operators that it lists around it."""
    if said := re.search(r"assertion failed: \[(.*?)\]", message):
        return said[1][:300]
    lines = [line for line in message.splitlines() if line.strip() and "Graph execution error" not in line]
    return lines[0][:300] if lines else "the model fails on it"


class _Signatures(Mapping[str, Callable]):
    """The functions of a `DetectionModule`, which they do not keep alive themselves."""

    def __init__(self, module: Any):
        self._module = module

    def __getitem__(self, name: str) -> Callable:
        return getattr(self._module, name)

    def __iter__(self) -> Iterator[str]:
        return iter(SIGNATURES)

    def __len__(self) -> int:
        return len(SIGNATURES)


def _name_and_version(model: Any) -> tuple[str, str]:
    """As TF Serving would call it: `serving/cars/3` is version 3 of cars."""
    path = getattr(model, "path", None) or model.run_folder
    parts = os.path.abspath(path).split(os.sep) if path else [model.name]
    version = str(getattr(model, "step", 0) or 1)
    if model.run_folder is None and parts[-1].isdigit() and len(parts) > 2:
        version = str(int(parts.pop()))
    return re.sub(r"[^A-Za-z0-9_.-]", "_", parts[-1]) or "model", version
