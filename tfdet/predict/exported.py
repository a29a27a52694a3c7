"""An exported model as it is read: its signatures, its labels, what its outputs say."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
import tensorflow as tf

from tfdet.errors import UserError
from tfdet.files import check_local, literal
from tfdet.ops import native
from tfdet.predict.found import Found, Labels

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
        with literal(folder) as name:
            model = _load(name)
    except (OSError, RuntimeError, tf.errors.OpError, ValueError) as error:
        raise UserError(f"cannot load the SavedModel {folder}: {error}".splitlines()[0]) from error
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


class _Signature:
    def __init__(self, model: Any, name: str):
        self._model, self._function = model, model.signatures[name]

    def __call__(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return self._function(inputs=inputs)


def read_labels(folder: str | os.PathLike) -> Labels | None:
    """What the SavedModel in `folder` says of itself, or None where it has no `labels.json`."""
    try:
        with open(os.path.join(folder, LABELS_FILE), encoding="utf-8") as file:
            content = json.load(file)
        entries = sorted(content["classes"], key=lambda entry: entry["id"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"cannot read {LABELS_FILE} of {folder}: {error}") from error
    names, ids = [entry["name"] for entry in entries], [int(entry["category_id"]) for entry in entries]
    return Labels(names, ids, content.get("mask_paste", "simpledet"))


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
    """
    count = int(outputs["num_detections"][index])
    masks = outputs.get("detection_masks")
    return Found(
        image,
        np.asarray(outputs["detection_boxes"][index])[:count][:, [1, 0, 3, 2]],
        np.asarray(outputs["detection_scores"][index])[:count],
        np.asarray(outputs["detection_classes"][index])[:count] - 1,
        labels,
        None if masks is None else np.asarray(masks[index])[:count],
        path=path,
    )
