"""A detector as one frozen graph for other programs: a decoded image in, Model Garden's detection outputs out."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from tfdet.data.resize import Resize, resize_image, resized_size, view_signature
from tfdet.errors import UserError
from tfdet.export.saved_model import serving_outputs
from tfdet.ops import native

IMAGE, IMAGE_INFO = "image", "image_info"


class Canvas(NamedTuple):
    """The one size of a graph's images, in pixels."""

    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"


class FrozenDetector(NamedTuple):
    """A detector whose weights are constants of its graph."""

    function: Any  # of `image`, and with a canvas `image_info`
    outputs: list[str]  # what the function's outputs are called, in their order

    @contextlib.contextmanager
    def saved_model(self) -> Iterator[str]:
        """A temporary folder with a SavedModel of it, which is what most converters read."""
        module, names = tf.Module(), self.outputs
        signature = [
            tf.TensorSpec(tensor.shape, tensor.dtype, name=tensor.name.split(":")[0]) for tensor in self.function.inputs
        ]
        module.detect = tf.function(
            lambda *inputs: dict(zip(names, self.function(*inputs), strict=True)),
            input_signature=signature,
            autograph=False,
        )
        with tempfile.TemporaryDirectory(prefix="tfdet_export") as folder:
            tf.saved_model.save(module, folder, signatures=module.detect)
            yield folder


def freeze(detector: Any, resize: Resize, canvas: Canvas | None) -> FrozenDetector:
    """Traces a detector in the ops that other programs have, see `detection_function`, its weights as constants."""
    with native.implementation("exchange"):
        function = detection_function(detector, resize, canvas).get_concrete_function()
        names = list(function.structured_outputs)  # in the order of the names, as TensorFlow flattens a dict
    return FrozenDetector(convert_variables_to_constants_v2(function, lower_control_flow=False), sorted(names))


def detection_function(detector: Any, resize: Resize, canvas: Canvas | None) -> Any:
    """What a detector finds on one image.

    Args:
        detector: a model with `detect_whole`, weights restored.
        resize: of the images.
        canvas: None: an image of any size, and the resize within.

    Returns:
        A tf.function of `image`, uint8 [1, H, W, 3], RGB; with a canvas H and W are its sides, the resized image stands
        at the top left of zeros, and a second argument is `image_info`, float32 [1, 4, 2], Model Garden's rows of
        (y, x): size of the original image, size of the resized one, scale between them, offset (0). It returns the
        outputs of `serving_outputs`, but `image_info`.
    """
    whole = getattr(detector, "detect_whole", detector.detect)
    if canvas is None:

        def detect(image):
            resized, image_info = resize_image(image[0], *resize)
            sizes = tf.shape(image)[None, 1:3]
            return _asked(serving_outputs(whole(resized[None], image_info[None]), sizes))

        signature = [tf.TensorSpec([1, None, None, 3], tf.uint8, name=IMAGE)]
        return tf.function(detect, input_signature=signature, autograph=False)
    pixels = view_signature(resize.rule)[0].dtype

    def detect_on_canvas(image, image_info):
        scales = image_info[:, 2, :1] if resize.rule == "simpledet" else image_info[:, 2]
        view = tf.concat([image_info[:, 1], scales], axis=1)
        return _asked(serving_outputs(whole(tf.cast(image, pixels), view), image_info[:, 0]))

    signature = [
        tf.TensorSpec([1, *canvas, 3], tf.uint8, name=IMAGE),
        tf.TensorSpec([1, 4, 2], tf.float32, name=IMAGE_INFO),
    ]
    return tf.function(detect_on_canvas, input_signature=signature, autograph=False)


def _asked(outputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """The outputs without what the caller knows."""
    return {name: value for name, value in outputs.items() if name != IMAGE_INFO}


def square_canvas(resize: Resize) -> Canvas:
    """The canvas that takes an image of any shape as evaluation resizes it: a square of its long side."""
    return Canvas(int(resize.long_side), int(resize.long_side))


def parse_canvas(text: str) -> Canvas:
    """A canvas from "HxW", such as 320x416.

    Raises:
        UserError: it is no such text, or a side is none.
    """
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() and 0 < int(part) <= 65_535 for part in parts):
        raise UserError(f"--canvas {text[:40]}: give height and width in pixels, such as 320x416")
    return Canvas(*map(int, parts))


def check_canvas(name: str, canvas: tuple[int, int]) -> Canvas:
    """The canvas of a format; `UserError` where it is no height and width, or the format is SavedModel."""
    if name == "saved_model":
        raise UserError("a SavedModel takes images of any size: --canvas is for the other formats")
    if len(canvas) != 2 or not all(isinstance(side, int) and 0 < side <= 65_535 for side in canvas):
        raise UserError(f"canvas {canvas}: give height and width in pixels, such as (320, 416)")
    return Canvas(*canvas)


def on_canvas(image: np.ndarray, resize: Resize, canvas: Canvas) -> tuple[np.ndarray, np.ndarray]:
    """An image as a graph with a canvas takes it: by evaluation's resize, or smaller where that does not fit.

    Args:
        image: uint8 [H, W, 3].
        resize: of evaluation.
        canvas: of the graph.

    Returns:
        uint8 [1, canvas height, canvas width, 3] and `image_info` float32 [1, 4, 2].
    """
    own = resize
    height, width = image.shape[:2]
    new_height, new_width, _ = (int(value) for value in resized_size(height, width, *resize))
    if new_height > canvas.height or new_width > canvas.width:
        scale = min(canvas.height / height, canvas.width / width)
        own = resize._replace(short_side=max(1, int(min(height, width) * scale)), long_side=max(canvas))
    resized, info = (value.numpy() for value in resize_image(tf.constant(image), *own))
    placed = np.zeros((*canvas, 3), np.uint8)
    placed[: resized.shape[0], : resized.shape[1]] = np.rint(resized)
    rows = [[height, width], info[:2], [info[2], info[-1]], [0.0, 0.0]]
    return placed[None], np.array([rows], np.float32)


def input_in_words(name: str, resize: Resize, canvas: Canvas | None) -> str:
    """What an export takes and gives, for its card. Args: name of the format, resize, canvas of its graph."""
    sides = f"short side {resize.short_side} pixels, long side {resize.long_side} at most (rule {resize.rule})"
    outputs = (
        "Outputs: `detection_boxes` [ymin, xmin, ymax, xmax] in pixels of the original image, `detection_classes` from "
        "1, `detection_scores`, `num_detections`, of a detector with masks `detection_masks`; rows behind "
        "`num_detections` are zeros."
    )
    if name == "saved_model":
        return (
            "Encoded images (JPEG, PNG, BMP, GIF) of any size: string [B], signature `serving_default`; or decoded RGB "
            f"images uint8 [B, H, W, 3], signature `image_tensor`. Resized within: {sides}. {outputs}"
        )
    if canvas is None:
        return f"`{IMAGE}`: one RGB image of any size, uint8 [1, H, W, 3]. Resized within: {sides}. {outputs}"
    return (
        f"`{IMAGE}`: one RGB image uint8 [1, {canvas.height}, {canvas.width}, 3], resized outside ({sides}), at the "
        f"top left of zeros; `{IMAGE_INFO}`: float32 [1, 4, 2], rows of (y, x): size of the original image, size of "
        f"the resized one, scale between them, zeros. {outputs}"
    )
