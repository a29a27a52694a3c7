"""Which program wrote a set of tensors, how many classes they are for, and the name map to a detector."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import keras

from tfdet.data import coco_names
from tfdet.data.coco_names import COCO_CATEGORIES
from tfdet.errors import UserError
from tfdet.weights.maps import classes, detectron2, keras_applications, own, simpledet, torchvision
from tfdet.weights.maps.coco_ids import COCO_NUMBERS, counts_ids
from tfdet.weights.maps.rules import Arrays, NameMap

SIMPLEDET = "SimpleDet"
KERAS, KERAS_V2 = "keras.applications ResNet", "keras.applications ResNet V2"
DETECTRON2, DETECTRON2_RESNETS = "Detectron2", "Detectron2's ImageNet backbones"
TORCHVISION, TORCHVISION_RESNETS = "torchvision", "torchvision's ResNets"


class Program(NamedTuple):
    """A program whose files are read.

    Fields:
        mark: names of tensors that give it away.
        name_map: called with the detector and the tensors, returns the map.
        misfit: called with the same, returns what hinders, as words for a message, or an empty string.
    """

    mark: re.Pattern[str]
    name_map: Callable[[keras.Model, Arrays], NameMap]
    misfit: Callable[[keras.Model, Arrays], str] = lambda detector, arrays: ""


PROGRAMS = {
    "tfdet": Program(own.MARK, own.name_map),
    SIMPLEDET: Program(simpledet.MARK, simpledet.name_map, simpledet.misfit),
    KERAS: Program(keras_applications.MARK, keras_applications.name_map),
    KERAS_V2: Program(keras_applications.V2_MARK, keras_applications.v2_map, keras_applications.v2_misfit),
    DETECTRON2: Program(detectron2.MARK, detectron2.name_map),
    DETECTRON2_RESNETS: Program(detectron2.IMAGENET_MARK, detectron2.imagenet_map),
    TORCHVISION: Program(torchvision.MARK, torchvision.name_map),
    TORCHVISION_RESNETS: Program(torchvision.IMAGENET_MARK, torchvision.imagenet_map),
}
"""By title. Where the marks of two fit, the later one counts: it is the more particular."""

_CLASS_BIASES = [
    *own.CLASS_BIASES,
    *simpledet.CLASS_BIASES,
    *detectron2.CLASS_BIASES,
    *torchvision.CLASS_BIASES,
]


def program_of(arrays: Arrays) -> str | None:
    """The program, a key of `PROGRAMS`, that wrote the tensors; None where their names are of no known one."""
    found = [title for title, program in PROGRAMS.items() if any(program.mark.fullmatch(name) for name in arrays)]
    return found[-1] if found else None


def num_classes_of(arrays: Arrays) -> int | None:
    """Classes, without background, of a file with a detector; None for a file with a backbone alone."""
    return classes.num_classes(arrays, _CLASS_BIASES)


def classes_of(arrays: Arrays, unused: bool = False) -> dict[int, str] | None:
    """Names by category id of the classes that a file's detector finds; None for a file with a backbone alone.

    A file does not name them: 80 are taken for COCO's, any others are numbered.

    Args:
        arrays: the tensors by name.
        unused: of a file of torchvision, which counts category ids, keep those that COCO does not use (`coco_names`):
            they have their share in the scores of the others.
    """
    count = num_classes_of(arrays)
    if count is None:
        return None
    if program_of(arrays) == TORCHVISION and counts_ids(count):
        if unused:
            return {number: coco_names.name_of_id(number) for number in range(COCO_NUMBERS - count, COCO_NUMBERS)}
        count = len(COCO_CATEGORIES)
    return COCO_CATEGORIES if count == len(COCO_CATEGORIES) else {k: f"class {k}" for k in range(1, count + 1)}


def find_map(arrays: Arrays, detector: keras.Model, path: str) -> tuple[str, NameMap]:
    """The program that wrote the tensors, a key of `PROGRAMS`, and its map to the detector's variables.

    Args:
        arrays: the tensors by name.
        detector: built, so that its variables exist.
        path: the file, for messages.

    Raises:
        UserError: the names are of no known program, or of one whose network differs.
    """
    title = program_of(arrays)
    if title is None:
        some = ", ".join(sorted(arrays)[:3]) or "none"
        raise UserError(f"{path}: its tensors ({some}, ...) are of no known program; known are {', '.join(PROGRAMS)}")
    program = PROGRAMS[title]
    if misfit := program.misfit(detector, arrays):
        raise UserError(f"{path}: {misfit}")
    name_map = program.name_map(detector, arrays)
    strides_on = getattr(detector.backbone, "stride_on", None)
    wanted = {True: "1x1", False: "3x3", None: None}[name_map.stride_in_1x1]
    if wanted and strides_on and strides_on != wanted:
        raise UserError(f"{path}: {title} strides on its {wanted} convolutions: set ResNetV1.stride_on = '{wanted}'")
    return title, name_map
