"""Where the weights of a detector come from: the folder of a run, or a file of any program that is read."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any, Protocol

from tfdet.config import Configuration
from tfdet.data.resize import Resize
from tfdet.errors import UserError
from tfdet.training.run_dir import RunDirectory


class Weights(Protocol):
    """Weights that a detector is still to be filled with.

    Attributes:
      path: where they come from.
      classes: class names by class.
      category_ids: original category ids by class.
      named: whether `classes` are the names of the data that was trained on.
    """

    path: str
    classes: list[str]
    category_ids: list[int]
    named: bool

    def fill(self, detector: Any) -> int:
        """Assigns them to a detector of `len(classes)` classes; returns the training step that they are of."""

    def describe(self, step: int) -> str:
        """In words, for a person."""


class RunWeights:
    """The weights of a training run.

    Args:
      model_dir: the run's folder, with `manifest.json` and checkpoints.
      checkpoint: a step, "best" or "last"; None: the best, else the last (`training.chosen.choose`).
      raw_weights: the weights as trained, also where the run keeps their moving average.

    Attributes:
      chosen: which checkpoint it is.

    Raises:
      UserError: the folder holds no run, or not that checkpoint.
    """

    named = True

    def __init__(self, model_dir: str | os.PathLike, checkpoint: int | str | None = None, raw_weights: bool = False):
        from tfdet.data.manifest import Manifest
        from tfdet.training.chosen import choose

        if not os.path.isdir(RunDirectory(model_dir).path):
            raise UserError(f"{model_dir} is not a folder: give the folder of a training run")
        if not os.path.isfile(RunDirectory(model_dir).manifest):
            raise UserError(f"{model_dir} has no manifest.json with the class names: give the folder of a training run")
        # The run keeps a copy of its training set's manifest; the shards are elsewhere and perhaps gone.
        manifest = Manifest.load(model_dir, check_shards=False)
        self.path = os.fspath(model_dir)
        self.classes, self.category_ids = list(manifest.classes), [int(number) for number in manifest.category_ids]
        self._checkpoint, self._raw_weights = checkpoint, raw_weights
        self.chosen = choose(model_dir, checkpoint)

    def fill(self, detector: Any) -> int:
        """Assigns them; UserError where there is no such checkpoint, or it is of another detector."""
        from tfdet.training.checkpoint import restore_detector

        return restore_detector(detector, self.path, self._checkpoint, self._raw_weights)

    def describe(self, step: int) -> str:
        """In words, for a person."""
        return f"checkpoint of step {step}"


class FileWeights:
    """The weights of a file, which have to fill a detector whole.

    Args:
      path: the file, or the name of published weights; see `tfdet.weights.find_weights`.
      data_dir: a data set, whose classes they are, in its order (but COCO's are in the file's); None: the file's own,
        see `tfdet.weights.sources.classes_of`, or those of the list of published weights.
      of_a_row: the row names the data set and no person: it counts where it is there and has as many classes.

    Raises:
      UserError: the file cannot be read, or holds no detector.
    """

    def __init__(self, path: str | os.PathLike, data_dir: str | None = None, of_a_row: bool = False):
        from tfdet.data.coco_names import is_unused
        from tfdet.data.manifest import Manifest, is_data_set
        from tfdet.weights import class_names, find_weights, published, read_weights, sources

        file, offered = find_weights(Path(path)), published.named(path)
        arrays = read_weights(file)
        known, manifest = sources.classes_of(arrays, unused=True), None
        if offered and offered.classes:
            known = dict(enumerate(offered.classes, 1))
        own = class_names.in_file(file, len(known) if known else None)  # tfdet's own files keep their names
        known = own or known
        if data_dir is not None and (not of_a_row or is_data_set(data_dir)):
            manifest = Manifest.load(data_dir)
        used = sorted(name for name in (known or {}).values() if not is_unused(name))
        if of_a_row and manifest is not None and manifest.num_classes != len(used):
            manifest = None
        if own is not None and manifest is not None and used != sorted(manifest.classes):
            manifest = None  # the file knows its classes; that the data set has others is said where they meet
        self.named = manifest is not None
        if manifest is not None:
            ids = dict(zip(manifest.classes, (int(number) for number in manifest.category_ids)))
            # COCO's classes are in the file's order, however the data set lists them.
            self.classes = (
                list(known.values()) if known and used == sorted(manifest.classes) else list(manifest.classes)
            )
            free = itertools.count(max(ids.values()) + 1)
            self.category_ids = [ids[name] if name in ids else next(free) for name in self.classes]
        else:
            if known is None:
                raise UserError(f"{file} holds no detector: no class predictor is in it")
            self.classes, self.category_ids = list(known.values()), list(known)
        # COCO's names are certain where its ids are counted, whether or not a data set says so.
        self.named |= own is not None or any(map(is_unused, self.classes))
        self.path = os.fspath(path)
        self._file, self._arrays = str(file), arrays

    def fill(self, detector: Any) -> int:
        """Assigns them; UserError where they do not fill it. What was read is given up."""
        from tfdet.weights.load import load_arrays

        load_arrays(detector, self._arrays, self._file, strict=True)
        self._arrays = {}
        return 0

    def describe(self, step: int) -> str:
        """In words, for a person."""
        return self.path


def evaluation_resize(configuration: Configuration) -> Resize:
    """The resize that a configuration gives to test images.

    Read from the bindings of `EvalInput`, without making one: export and prediction need no data set.
    """
    values = (configuration.value(f"EvalInput.{name}") for name in ("short_side", "long_side", "resize"))
    return Resize(*values).check("EvalInput")


def evaluation_folder(configuration: Configuration) -> str | None:
    """The data set that a configuration evaluates on (`EvalInput.data_dir`), None where it names none."""
    return configuration.value("EvalInput.data_dir") if configuration.is_bound("EvalInput.data_dir") else None
