"""An exported model as it is read: its signatures, its labels, what its outputs say."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf

from tfdet.data.values import whole_id
from tfdet.errors import UserError
from tfdet.files import check_local, literal
from tfdet.ops import native
from tfdet.ops.paste_masks import PASTE_RULES
from tfdet.predict.found import Found, Labels
from tfdet.strict_json import field, read_json

_Read = TypeVar("_Read")
_logger = logging.getLogger("tfdet")

#: The signatures by name. `serving_default` is `image_bytes` once more.
SIGNATURES = ("image_bytes", "image_tensor", "tf_example")
LABELS_FILE = os.path.join("assets.extra", "labels.json")  # in TF Serving's folder for files that only come along


def load_signatures(folder: str | os.PathLike) -> dict[str, Any]:
    """Loads an exported model.

    Args:
      folder: the SavedModel.

    Returns:
      The functions `image_bytes`, `image_tensor` and `tf_example`, each called with `inputs=`.

    Raises:
      UserError: the folder is no SavedModel, or not one of a detector.
    """
    check_local(folder)
    folder = os.fspath(folder)
    if not tf.saved_model.contains_saved_model(folder):
        raise UserError(f"{folder} is no SavedModel: give a folder that the export command wrote")
    try:
        with literal(folder) as name, _fingerprint_in_a_line(folder):
            model = _load(name)
    except UserError:
        raise
    except Exception as error:  # of what is in a damaged one TensorFlow raises any kind: KeyError, AttributeError, ...
        what = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise UserError(
            f"cannot load the SavedModel {folder}: {what[:300]}; copy it again, or export the model again"
        ) from error
    absent = [name for name in SIGNATURES if name not in model.signatures]
    if absent:
        raise UserError(
            f"the SavedModel {folder} has no signature {absent[0]!r}: give a folder that the export command wrote"
        )
    # The functions alone do not keep the variables alive.
    return {name: _Signature(model, name) for name in SIGNATURES}


def _load(folder: str) -> Any:
    try:
        return tf.saved_model.load(folder)
    except (OSError, RuntimeError, tf.errors.OpError, ValueError) as error:  # an unknown op is one or another of these
        if "Tfdet" not in str(error):
            raise
    native.library()  # exported with --native_ops: its ops must be registered first
    return tf.saved_model.load(folder)


@contextlib.contextmanager
def _fingerprint_in_a_line(folder: str) -> Iterator[None]:
    """One warning in place of the traceback that TensorFlow logs of a damaged `fingerprint.pb`; it only counts it."""
    damaged = False

    def without(record: logging.LogRecord) -> bool:
        nonlocal damaged
        ours = record.exc_info is not None and str(record.msg).startswith("Fingerprint was found")
        damaged = damaged or ours
        return not ours

    loggers = [logging.getLogger(name) for name in ("absl", "tensorflow")]  # versions differ in which
    for logger in loggers:
        logger.addFilter(without)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(without)
    if damaged:
        _logger.warning(
            "%s is damaged: nothing needs it, but copy the model again", os.path.join(folder, "fingerprint.pb")
        )


class _Signature:
    def __init__(self, model: Any, name: str):
        self._model, self._function = model, model.signatures[name]

    def __call__(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return self._function(inputs=inputs)


def read_labels(folder: str | os.PathLike) -> Labels | None:
    """What the SavedModel in `folder` says of itself, or None where it has no `labels.json`; UserError: a wrong one."""
    return read_labels_file(os.path.join(folder, LABELS_FILE), labels_of)


def read_labels_file(path: str, read: Callable[[Any], _Read]) -> _Read | None:
    """What a labels file says, or None where there is none.

    Args:
      path: of the file.
      read: of its content; ValueError says what is wrong with it.

    Raises:
      UserError: it is a wrong one.
    """
    advice = "copy it from where the model was exported, or export the model again"
    try:
        content = read_json(path, "the labels", advice)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return read(content)
    except ValueError as error:
        raise UserError(f"cannot read the labels {path}: {error}; {advice}") from None


def labels_of(content: Any) -> Labels:
    """The content of a labels file; ValueError says what is wrong with it."""
    named: dict[int, tuple[str, int]] = {}
    category_ids: set[int] = set()
    for entry in field(content, "classes", list):
        number = field(entry, "id", int)
        if number in named:
            raise ValueError(f"two classes have the 'id' {number}")
        try:
            category_id = whole_id(field(entry, "category_id", int))
        except ValueError as error:
            raise ValueError(f"class {number}: 'category_id': {error}") from None
        if category_id in category_ids:
            raise ValueError(f"two classes have the 'category_id' {category_id}")
        category_ids.add(category_id)
        named[number] = field(entry, "name", str), category_id
    if sorted(named) != list(range(1, len(named) + 1)):
        raise ValueError(f"the 'id' of {len(named)} classes must be 1 to {len(named)}")
    paste = field(content, "mask_paste", str, default="simpledet")
    if paste not in PASTE_RULES:
        raise ValueError(f"'mask_paste' must be one of {', '.join(PASTE_RULES)}, not {paste[:40]!r}")
    entries = [named[number] for number in sorted(named)]
    return Labels([name for name, _ in entries], [number for _, number in entries], paste)


def found_by_export(
    outputs: dict[str, Any], image: np.ndarray, labels: Labels, path: str | None = None, index: int = 0
) -> Found:
    """One image of the exported model's outputs, padding left out and classes back to 0..C-1.

    Args:
      outputs: of a signature.
      image: uint8 [H, W, 3].
      labels: of the model.
      path: of the image's file.
      index: of the image in the batch.

    Raises:
      UserError: the labels name classes, and fewer than the model finds.
    """
    count = int(outputs["num_detections"][index])
    masks = outputs.get("detection_masks")
    classes = np.asarray(outputs["detection_classes"][index])[:count]
    if labels.classes and count and classes.max() > len(labels.classes):
        raise UserError(
            f"the exported model finds class {int(classes.max())}, and its {LABELS_FILE} names {len(labels.classes)}: "
            "it is another model's; export the model again"
        )
    return Found(
        image,
        np.asarray(outputs["detection_boxes"][index])[:count][:, [1, 0, 3, 2]],
        np.asarray(outputs["detection_scores"][index])[:count],
        classes - 1,
        labels,
        None if masks is None else np.asarray(masks[index])[:count],
        path=path,
    )
