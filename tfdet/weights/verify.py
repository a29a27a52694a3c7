"""Runs an image through the network of the program that a file is of, where it is installed, and through a detector."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tfdet.errors import UserError
from tfdet.ops.tensor_float_32 import allow_tensor_float_32
from tfdet.weights import sources, verify_detectron2, verify_keras, verify_mxnet, verify_torch, verify_torchvision

TOLERANCE = 1e-4
"""Largest difference over a map's absolute maximum, as for stored outputs of SimpleDet."""

_PROGRAMS = {
    sources.KERAS: verify_keras,
    sources.KERAS_V2: verify_keras,
    sources.DETECTRON2: verify_detectron2,
    sources.DETECTRON2_RESNETS: verify_detectron2,
    sources.TORCHVISION: verify_torchvision,
    sources.TORCHVISION_RESNETS: verify_torchvision,
    sources.SIMPLEDET: verify_mxnet,
}


def compare(
    detector: keras.Model, program: str | None, path: str | Path, image: str | Path
) -> dict[str, tuple[float, float]]:
    """What differs and how much may: maps by their absolute maxima, and what else the program's module compares.

    Args:
        detector: with the weights of `path`.
        program: of `sources.MARKS`, that the file is of.
        path: the file.
        image: a picture; resized to what the program's module wants.

    Raises:
        UserError: the program is not run from here or not installed, or the picture cannot be read.
    """
    if program not in _PROGRAMS:
        raise UserError(
            "--verify runs networks of SimpleDet, keras.applications, torchvision and Detectron2; the program of "
            f"{path} is not run from here"
        )
    allow_tensor_float_32(False)
    module = _PROGRAMS[program]
    try:
        pixels = tf.image.decode_image(tf.io.read_file(str(image)), channels=3, expand_animations=False)
    except (tf.errors.OpError, ValueError) as error:
        raise UserError(f"{image}: not a picture that can be read") from error
    pixels = np.round(tf.image.resize(pixels, module.SIDES)).astype(np.uint8)
    special = {verify_torch.UNMATCHED: verify_torch.MAX_UNMATCHED}
    found = module.compare(detector, path, pixels)
    return {name: (difference, special.get(name, TOLERANCE)) for name, difference in found.items()}
