"""One call for both forms of a model: a detector with its weights and an exported SavedModel."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfdet.data.resize import Resize, Rule, resize_image, view_signature
from tfdet.detectors.one_size import View
from tfdet.errors import UserError
from tfdet.predict.augment import AugmentedDetector, TestTimeAugmentation
from tfdet.predict.exported import found_by_export, load_signatures, read_labels
from tfdet.predict.found import Found, Labels
from tfdet.structures import Detections

DetectFunction = Callable[[tf.Tensor, tf.Tensor], Detections]


def detect_function(detector: Any, rule: Rule = "simpledet") -> DetectFunction:
    """Compiles `detector.detect` once for every canvas and batch size.

    Keep the result when the same detector is evaluated many times (evaluation during training): a new one traces
    again. It reads the detector's variables at each call, so it follows the training.

    Args:
      detector: a model with `detect(images [B, H, W, 3], image_info [B, 3 or 4]) -> Detections`, see `Batch`.
      rule: by which the images are resized.

    Returns:
      The compiled function of `(images, image_info)`.
    """

    # Test images keep their own sizes (no canvas): with static shapes nearly every image would trace anew.
    # No AutoGraph: layers do not have it either, and it would wrap the one line of an error in many.
    @tf.function(input_signature=view_signature(rule), autograph=False)
    def detect(images, image_info):
        return detector.detect(images, image_info)

    return detect


class CheckpointPredictor:
    """Detects with a detector as evaluation does: resize outside the graph, then `detect`.

    Args:
      detector: a model with `detect`, weights restored.
      resize: of the images.
      classes: class names by class.
      category_ids: original category ids by class.
      augmentation: of the images; None, or one that does nothing: each image once.

    Attributes:
      detector: the model.
      labels: what the detector's classes are.
      detect: of a batch; None with an augmentation that does something.
    """

    def __init__(
        self,
        detector: Any,
        resize: Resize,
        classes: Sequence[str],
        category_ids: Sequence[int],
        augmentation: TestTimeAugmentation | None = None,
    ):
        self.detector = detector
        self.labels = Labels(list(classes), list(category_ids), detector.mask_paste)
        self._resizes = [resize]
        self._detect_views: Callable[[Sequence[View]], Detections]
        self.detect: DetectFunction | None = None
        if augmentation is not None and augmentation.is_on:
            self._resizes = augmentation.resizes(resize)
            self._detect_views = AugmentedDetector(detector, augmentation.flip, resize.rule)
        else:
            detect = self.detect = detect_function(detector, resize.rule)
            self._detect_views = lambda views: detect(*views[0])

    def __call__(self, image: np.ndarray, path: str | None = None) -> Found:
        """Detects on one image, uint8 [H, W, 3], RGB, of the file `path`."""
        views = [resize_image(tf.constant(image), *own) for own in self._resizes]
        detections = self._detect_views([(resized[None], image_info[None]) for resized, image_info in views])
        count = int(detections.num_valid[0])
        corners = np.asarray(detections.boxes[0])[:count]
        return Found(
            image,
            edges_of(corners, *image.shape[:2]),
            np.asarray(detections.scores[0])[:count],
            np.asarray(detections.classes[0])[:count],
            self.labels,
            None if detections.masks is None else np.asarray(detections.masks[0])[:count],
            corners,
            path,
        )


class SavedModelPredictor:
    """Detects with an exported model, through its `image_tensor` signature.

    Args:
      folder: the SavedModel.

    Raises:
      UserError: the folder is no SavedModel, or not one of a detector; in a call: the model fails.
    """

    def __init__(self, folder: str | os.PathLike):
        self._folder, self.signatures = os.fspath(folder), load_signatures(folder)
        self.labels = read_labels(folder) or Labels([], [])

    def __call__(self, image: np.ndarray, path: str | None = None) -> Found:
        """Detects on one image, uint8 [H, W, 3], RGB, of the file `path`."""
        try:
            outputs = self.signatures["image_tensor"](inputs=tf.constant(image[None]))
        except tf.errors.OpError as error:
            what = next((line for line in error.message.splitlines() if "assertion failed" in line), error.message)
            of = f" on {path}" if path else ""
            raise UserError(f"the SavedModel {self._folder} fails{of}: {what.splitlines()[0][:300]}") from error
        return found_by_export(outputs, image, self.labels, path)


def edges_of(corners: np.ndarray, height: int, width: int) -> np.ndarray:
    """Inclusive corners as edges, which an exported model gives too (`export.saved_model.serving_outputs`).

    Args:
      corners: float32 [N, 4], `[x1, y1, x2, y2]`, pixels of the image.
      height, width: of the image. An enlarged image's last pixel is a fraction of an original one, so that its far
        edge can pass the border by less than a pixel; here it does not.

    Returns:
      float32 [N, 4].
    """
    far = np.minimum(corners[:, 2:] + np.float32(1.0), np.array([width, height], np.float32))
    return np.concatenate([corners[:, :2], far], axis=1)
