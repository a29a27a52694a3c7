"""What all detectors share: pixels to feature maps, the making of weights, and the contract with the other packages."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeVar

import keras
import tensorflow as tf

from tfdet.config import configurable
from tfdet.config.ranges import NumClasses, PositiveRgb, Rgb, Side
from tfdet.detectors.one_size import detect_by_size
from tfdet.detectors.postprocess import as_inclusive
from tfdet.detectors.preprocess import normalize_images
from tfdet.errors import ParameterError
from tfdet.necks import ReduceNeck
from tfdet.ops.boxes import CONTINUOUS, LEGACY, Convention, box_scale
from tfdet.ops.padding import pad_to_multiple
from tfdet.structures import Batch, Candidates, Detections

MSRA_PIXEL_MEAN = (122.7717, 115.9465, 102.9801)
"""RGB means that SimpleDet's ResNet-v1 rows subtract (config/*.py: NormParam)."""

Part = TypeVar("Part")


class Detector(keras.Model):
    """Backbone and neck, and the methods by which training, evaluation and export know a detector.

    Args:
        num_classes: C, without background.
        backbone: layer, image -> list of feature maps, with `strides`.
        neck: layer, list of maps -> pyramid with `strides`; None leaves the backbone's maps.
        pixel_mean, pixel_std: RGB, 0..255; a backbone that has its own (`FunctionalBackbone`) decides instead.
        size_divisor: sides of the normalised images are padded with zeros to a multiple of it (Detectron2 and
            torchvision: 32 with a pyramid).
        convention: of boxes, for all parts: "legacy_plus_one", whole pixels with x2 and y2 the last one (SimpleDet), or
            "continuous", x2 and y2 the edges (Detectron2, torchvision).
    """

    def __init__(
        self,
        num_classes: NumClasses,
        backbone: keras.layers.Layer,
        neck: keras.layers.Layer | None,
        pixel_mean: Rgb,
        pixel_std: PositiveRgb,
        size_divisor: Side = 1,
        convention: Convention = LEGACY,
    ):
        # Parts arrive as float32 parameters and uint8 images whatever the policy: never cast a call's arguments.
        super().__init__(name="detector", autocast=False)
        if getattr(backbone, "serves_pyramids_alone", False) and isinstance(neck, (ReduceNeck, type(None))):
            raise ParameterError(
                f"Expected a pyramid, such as FPN or RetinaNeck, as the neck of {type(backbone).__name__}: heads on C4 "
                f"own a ResNet's stage 4. Received: {'None' if neck is None else type(neck).__name__}"
            )
        self.num_classes = num_classes
        self.backbone, self.neck = backbone, neck
        # Families set those of a ResNet: another backbone says itself what it was trained on.
        self.pixel_mean = tuple(getattr(backbone, "pixel_mean", pixel_mean))
        self.pixel_std = tuple(getattr(backbone, "pixel_std", pixel_std))
        self.size_divisor = size_divisor
        self.convention = convention

    def in_own_convention(self, part: Part) -> Part:
        """A copy of a part without weights, which counts boxes and pads images as this detector does."""
        part = copy.copy(part)
        part.convention, part.size_divisor = self.convention, self.size_divisor
        return part

    def losses(self, batch: Batch, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        """Losses of one replica's batch: float32 scalars, each already normalised; the total is their sum.

        Args:
            batch: see `Batch`.
            seed: int32 [2]; whatever is random is a function of it alone.
        """
        raise NotImplementedError

    def detect(self, images: tf.Tensor, image_info: tf.Tensor) -> Detections:
        """Detections of images uint8 or float32 [B, H, W, 3] with `image_info` [B, 3 or 4]; see `Batch` for both.

        What is found on an image does not depend on the others of the batch, nor on its padding: see `detect_by_size`.
        """
        return detect_by_size(lambda views: self.detect_whole(*views[0]), [(images, image_info)])

    def detect_whole(self, images: tf.Tensor, image_info: tf.Tensor) -> Detections:
        """As `detect`, of images without padding."""
        raise NotImplementedError

    def assign_targets(self, maps: list[tf.Tensor], rois: tf.Tensor, batch: Batch, seed: tf.Tensor):
        """What the anchors and, in a second stage, RoIs are to learn: a nest of tensors, without the network.

        Args:
            maps: of the anchors' strides, [B, H, W, any]; their sizes count alone.
            rois: float32 [B, P, 4], in place of the first stage's proposals.
            batch, seed: as in `losses`.
        """
        raise NotImplementedError

    def candidates(self, images: tf.Tensor, image_info: tf.Tensor) -> Candidates:
        """What `detect_whole` suppresses, boxes in `suppression_pixels`. Args: as there."""
        raise NotImplementedError

    def suppress(self, candidates: Candidates, image_info: tf.Tensor) -> Detections:
        """Suppresses `candidates`: boxes in pixels of the original image, in the detector's convention; no masks."""
        raise NotImplementedError

    def suppression_pixels(self, image_info: tf.Tensor) -> tf.Tensor:
        """Pixels that boxes are suppressed in, in one of the original image, as `box_scale` gives them."""
        return tf.ones_like(box_scale(image_info))

    def finish(self, found: Detections) -> Detections:
        """Detections of `suppress` in the convention of `Detections`: inclusive corners."""
        return as_inclusive(found) if self.convention == CONTINUOUS else found

    @property
    def mask_paste(self) -> str:
        """The rule by which masks of its detections are pasted, one of `ops.paste_masks.PASTE_RULES`."""
        return "simpledet"

    def run_layers(self, images: tf.Tensor, image_info: tf.Tensor) -> None:
        """Calls every layer that has weights once, on uint8 images [1, H, W, 3] with `image_info` [1, 3]."""
        raise NotImplementedError

    def call(self, images: tf.Tensor, image_info: tf.Tensor) -> Detections:
        """The same as `detect`."""
        return self.detect(images, image_info)

    def normalize(self, images: tf.Tensor, image_info: tf.Tensor) -> tf.Tensor:
        """Images [B, H, W, 3] with `image_info` [B, 3 or 4], see `Batch` -> float32, zeros on the padding."""
        with tf.name_scope("normalize"):
            normalized = normalize_images(images, image_info, self.pixel_mean, self.pixel_std)
        return pad_to_multiple(normalized, self.size_divisor) if self.size_divisor > 1 else normalized

    def pyramid(self, inputs: tf.Tensor, training: bool) -> tuple[list[tf.Tensor], list[int]]:
        """The maps, finest first, of normalised float images [B, H, W, 3], and their strides."""
        features, strides = self.backbone(inputs, training=training), self.backbone.strides
        if self.neck is not None:
            features, strides = self.neck(features, training=training), self.neck.strides
        return features, strides

    def create_weights(self, side: int = 128) -> None:
        """Creates every variable, by running the layers once on a black picture of `side` pixels."""
        self.run_layers(tf.zeros([1, side, side, 3], tf.uint8), tf.constant([[side, side, 1.0]], tf.float32))
        self.built = True


@configurable
def build_detector(num_classes: NumClasses, detector: Callable[..., Detector]) -> Detector:
    """Builds a detector with its weights initialised.

    Args:
        num_classes: C, without background; commands take it from the data set's manifest.
        detector: the detector class, bound in the gin file (`build_detector.detector = @TwoStageDetector`).
    """
    built = detector(num_classes=num_classes)
    built.create_weights()
    return built
