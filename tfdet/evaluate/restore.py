"""A trained detector out of its run folder, for evaluation, export and prediction.

The configuration must have been parsed before (`tfdet.commands.flags.configure`).
"""

from __future__ import annotations

import inspect
import os
from typing import Any, NamedTuple

import gin

from tfdet.errors import UserError


class TrainedDetector(NamedTuple):
    """A detector with the weights of a checkpoint, and what it was trained on."""

    detector: Any
    classes: list[str]
    category_ids: list[int]
    step: int


def restore(
    model_dir: str | os.PathLike, checkpoint: int | str | None = None, raw_weights: bool = False
) -> TrainedDetector:
    """Builds the configured detector and loads a checkpoint of the run into it.

    Args:
      model_dir: the run's folder, with `manifest.json` and checkpoints.
      checkpoint: a step, "best", or None for the newest.
      raw_weights: the weights as trained, also where the run keeps their moving average.

    Returns:
      The detector with the class names of the run.

    Raises:
      UserError: the folder holds no run, no such checkpoint, or one of another detector.
    """
    from tfdet.data.manifest import Manifest
    from tfdet.detectors import build_detector
    from tfdet.train.checkpoint import restore_detector

    if not os.path.isdir(model_dir):
        raise UserError(f"--model_dir: {model_dir} is not a folder: give the folder of a training run")
    if not os.path.isfile(os.path.join(model_dir, "manifest.json")):
        raise UserError(f"{model_dir} has no manifest.json with the class names: give the folder of a training run")
    # The run keeps a copy of its training set's manifest; the shards are elsewhere and perhaps gone.
    manifest = Manifest.load(model_dir, check_shards=False)
    detector = build_detector(num_classes=len(manifest.classes))
    step = restore_detector(detector, model_dir, checkpoint, raw_weights)
    return TrainedDetector(detector, list(manifest.classes), list(manifest.category_ids), step)


def from_weights(path: str, classes: list[str], category_ids: list[int]) -> TrainedDetector:
    """Builds the configured detector with the weights of another program's checkpoint, all of them.

    Args:
      path: the file; see `tfdet.weights.load`.
      classes, category_ids: of the data set; the checkpoint must have as many classes, in their order.

    Raises:
      UserError: the file does not fill the detector.
    """
    from tfdet import weights
    from tfdet.detectors import build_detector

    detector = build_detector(num_classes=len(classes))
    weights.load(detector, path, strict=True)
    return TrainedDetector(detector, list(classes), list(category_ids), 0)


def evaluation_sides() -> tuple[int, int]:
    """The short and long side that the configuration gives to test images, in pixels.

    Read from the bindings of `EvalInput`, without making one: export and prediction need no data set.
    """
    from tfdet.data.inputs import EvalInput

    return int(configured(EvalInput, "short_side")), int(configured(EvalInput, "long_side"))


def configured(configurable: Any, parameter: str) -> Any:
    """What the configuration gives to a parameter, macros resolved, or else its default."""
    bound = gin.get_bindings(configurable.__name__)
    return bound.get(parameter, inspect.signature(configurable).parameters[parameter].default)


def evaluation_folder() -> str | None:
    """The data set that the configuration evaluates on (`EvalInput.data_dir`), None where it names none."""
    return gin.get_bindings("EvalInput").get("data_dir")


def parse_checkpoint(text: str | None) -> int | str | None:
    """The value of `--checkpoint`: a step, "best", or None.

    Raises:
      UserError: it is something else.
    """
    if text is None or text == "best":
        return text
    if not text.isdigit():
        raise UserError(f"--checkpoint {text}: give the step of a checkpoint, or best")
    return int(text)
