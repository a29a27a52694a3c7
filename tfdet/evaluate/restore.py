"""A trained detector out of its run folder, for evaluation, export and prediction.

The configuration must have been parsed before (`tfdet.commands.flags.configure`).
"""

from __future__ import annotations

import inspect
import os
from typing import Any, NamedTuple

import gin

from tfdet.data.resize import Resize
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
    from tfdet.training.checkpoint import restore_detector

    if not os.path.isdir(model_dir):
        raise UserError(f"--model_dir: {model_dir} is not a folder: give the folder of a training run")
    if not os.path.isfile(os.path.join(model_dir, "manifest.json")):
        raise UserError(f"{model_dir} has no manifest.json with the class names: give the folder of a training run")
    # The run keeps a copy of its training set's manifest; the shards are elsewhere and perhaps gone.
    manifest = Manifest.load(model_dir, check_shards=False)
    detector = build_detector(num_classes=len(manifest.classes))
    step = restore_detector(detector, model_dir, checkpoint, raw_weights)
    return TrainedDetector(detector, list(manifest.classes), list(manifest.category_ids), step)


def from_weights(path: str) -> TrainedDetector:
    """Builds the configured detector with the weights of a file, all of them.

    The classes are those of the data set that the configuration evaluates on, in their order; where it names none, the
    file's: see `tfdet.weights.sources.classes_of`.

    Args:
      path: the file; see `tfdet.weights.load`.

    Raises:
      UserError: the file does not fill the detector.
    """
    from tfdet.data.manifest import Manifest
    from tfdet.detectors import build_detector
    from tfdet.weights import sources
    from tfdet.weights.formats import read_weights
    from tfdet.weights.load import find_weights, load_arrays

    file = find_weights(path)
    arrays, folder = read_weights(file), evaluation_folder()
    if folder:
        manifest = Manifest.load(folder)
        classes, category_ids = list(manifest.classes), list(manifest.category_ids)
    else:
        named = sources.classes_of(arrays)
        if named is None:
            raise UserError(f"{file} holds no detector: no class predictor is in it")
        classes, category_ids = list(named.values()), list(named)
    detector = build_detector(num_classes=len(classes))
    load_arrays(detector, arrays, str(file), strict=True)
    return TrainedDetector(detector, classes, category_ids, 0)


def chosen(args: Any) -> tuple[TrainedDetector, str]:
    """The detector that `--model_dir` or `--weights` names, and in words what it is.

    Args:
      args: of a command, configured, with `model_dir`, `weights`, `checkpoint` and `raw_weights`.
    """
    if args.weights:
        return from_weights(args.weights), args.weights
    trained = restore(args.model_dir, parse_checkpoint(args.checkpoint), args.raw_weights)
    return trained, f"checkpoint of step {trained.step}"


def check_choice(args: Any) -> None:
    """Raises UserError where `args` name neither a run nor weights, or both, or what does not go with weights."""
    if bool(args.weights) == bool(args.model_dir) or (args.weights and not args.gin_file):
        raise UserError("give either --model_dir of a run, or --weights of another program with --gin_file")
    if args.weights and (args.checkpoint or args.raw_weights):
        raise UserError(
            "--checkpoint and --raw_weights choose among the weights of a run: leave them out with --weights"
        )
    parse_checkpoint(args.checkpoint)


def evaluation_resize() -> Resize:
    """The resize that the configuration gives to test images.

    Read from the bindings of `EvalInput`, without making one: export and prediction need no data set.
    """
    from tfdet.data.inputs import EvalInput

    return Resize(*(configured(EvalInput, name) for name in ("short_side", "long_side", "resize"))).check("EvalInput")


def configured(configurable: Any, parameter: str) -> Any:
    """What the configuration gives to a parameter, macros resolved, or else its default."""
    bound = gin.get_bindings(configurable.__name__)
    return bound.get(parameter, inspect.signature(configurable).parameters[parameter].default)


def evaluation_folder() -> str | None:
    """The data set that the configuration evaluates on (`EvalInput.data_dir`), None where it names none."""
    from tfdet.data.inputs import EvalInput

    return gin.get_bindings(EvalInput.__name__).get("data_dir")


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
