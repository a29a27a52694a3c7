"""One call for both forms of a detector: a restored checkpoint and an exported SavedModel."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfdet.data.resize import Resize, resize_image
from tfdet.errors import UserError
from tfdet.evaluate.augment import AugmentedDetector, TestTimeAugmentation, View
from tfdet.evaluate.run import detect_function
from tfdet.export.saved_model import SIGNATURES, Labels, read_labels, serving_outputs
from tfdet.ops import native
from tfdet.structures import Detections


class Prediction(NamedTuple):
    """The detections of one image, best first."""

    boxes: np.ndarray  # float32 [N, 4], [ymin, xmin, ymax, xmax] edges, pixels of the original image
    classes: np.ndarray  # int32 [N], 0..C-1
    scores: np.ndarray  # float32 [N]
    masks: np.ndarray | None = None  # float32 [N, M, M], probabilities inside the boxes; None: the model has none

    def above(self, threshold: float) -> Prediction:
        """The detections whose score is at least `threshold`."""
        keep = self.scores >= threshold
        return Prediction(*(None if field is None else field[keep] for field in self))

    def drawing_boxes(self) -> np.ndarray:
        """The boxes as `[x1, y1, x2, y2]` inclusive corners, as the program's other parts hold them."""
        return self.boxes[:, [1, 0, 3, 2]] - np.array([0, 0, 1, 1], np.float32)

    def coco_boxes(self) -> np.ndarray:
        """The boxes as COCO's `[x, y, width, height]`, float [N, 4]."""
        return np.concatenate([self.boxes[:, 1::-1], self.boxes[:, 3:1:-1] - self.boxes[:, 1::-1]], axis=1)


class CheckpointPredictor:
    """Detects with a detector as evaluation does: resize outside the graph, then `detect`.

    Args:
      detector: a model with `detect`, weights restored.
      resize: of the images.
      classes: class names by class.
      category_ids: original category ids by class.
      augmentation: of the images; None, or one that does nothing: each image once.
    """

    def __init__(
        self,
        detector: Any,
        resize: Resize,
        classes: Sequence[str],
        category_ids: Sequence[int],
        augmentation: TestTimeAugmentation | None = None,
    ):
        self.classes, self.category_ids = list(classes), list(category_ids)
        self.mask_paste = detector.mask_paste
        self._resizes = [resize]
        self._detect_views: Callable[[Sequence[View]], Detections]
        if augmentation is not None and augmentation.is_on:
            self._resizes = augmentation.resizes(resize)
            self._detect_views = AugmentedDetector(detector, augmentation.flip)
        else:
            detect = detect_function(detector)
            self._detect_views = lambda views: detect(*views[0])

    def __call__(self, image: np.ndarray) -> Prediction:
        """Detects on one image, uint8 [H, W, 3], RGB."""
        views = [resize_image(tf.constant(image), *own) for own in self._resizes]
        detections = self._detect_views([(resized[None], image_info[None]) for resized, image_info in views])
        return to_prediction(serving_outputs(detections, tf.constant([image.shape[:2]], tf.int32)))


class SavedModelPredictor:
    """Detects with an exported model, through its `image_tensor` signature.

    Args:
      folder: the SavedModel.

    Raises:
      UserError: the folder is no SavedModel, or not one of a detector.
    """

    def __init__(self, folder: str | os.PathLike):
        self._signatures = load_signatures(folder)
        self.classes, self.category_ids, self.mask_paste = read_labels(folder) or Labels([], [])

    def __call__(self, image: np.ndarray) -> Prediction:
        """Detects on one image, uint8 [H, W, 3], RGB."""
        return to_prediction(self._signatures["image_tensor"](inputs=tf.constant(image[None])))


def load_signatures(folder: str | os.PathLike) -> dict[str, Any]:
    """Loads an exported model.

    Args:
      folder: the SavedModel.

    Returns:
      The functions `image_bytes`, `image_tensor` and `tf_example`, each called with `inputs=`.

    Raises:
      UserError: the folder is no SavedModel, or not one of a detector.
    """
    folder = os.fspath(folder)
    if not tf.saved_model.contains_saved_model(folder):
        raise UserError(f"{folder} is no SavedModel: give a folder that the export command wrote")
    try:
        model = _load(folder)
    except (OSError, RuntimeError, tf.errors.OpError, ValueError) as error:
        raise UserError(f"cannot load the SavedModel {folder}: {error}".splitlines()[0]) from error
    absent = [name for name in SIGNATURES if name not in model.signatures]
    if absent:
        raise UserError(
            f"the SavedModel {folder} has no signature {absent[0]!r}: give a folder that the export command wrote"
        )
    # The functions alone do not keep the variables alive.
    return {name: _Signature(model, name) for name in SIGNATURES}


def _load(folder: str):
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


def to_prediction(outputs: dict[str, Any], index: int = 0) -> Prediction:
    """One image of the exported model's outputs, padding left out and classes back to 0..C-1."""
    count = int(outputs["num_detections"][index])
    masks = outputs.get("detection_masks")
    return Prediction(
        np.asarray(outputs["detection_boxes"][index])[:count],
        np.asarray(outputs["detection_classes"][index])[:count] - 1,
        np.asarray(outputs["detection_scores"][index])[:count],
        None if masks is None else np.asarray(masks[index])[:count],
    )
