"""RetinaNet: backbone, pyramid and a dense head, wired for training and for testing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import keras
import tensorflow as tf

from tfdet.config import configurable
from tfdet.config.ranges import NonNegativeFloat, NumClasses, OpenFraction, PositiveFloat, PositiveRgb, Rgb, Side
from tfdet.detectors.dense_postprocess import DensePostProcess
from tfdet.detectors.detector import MSRA_PIXEL_MEAN, Detector
from tfdet.errors import UserError
from tfdet.heads.proposals import AnchorGenerator
from tfdet.layers import drop_seed, in_inference
from tfdet.losses.box_distance import BoxDistance
from tfdet.losses.focal import RETINA_SIGMA, retina_losses
from tfdet.ops.boxes import LEGACY, Convention
from tfdet.structures import Batch, Candidates, Detections
from tfdet.targets.retina import RetinaTargetAssigner

_FIRST_FOREGROUND, _KEPT = 100.0, 0.9  # Detectron2 modeling/meta_arch/retinanet.py: loss_normalizer

Predictions = list[tuple[tf.Tensor, tf.Tensor]]
"""Of each level, finest first: cls_logits [B, H, W, A * C], deltas [B, H, W, 4 * A]."""


@configurable
class RetinaDetector(Detector):
    """RetinaNet: every anchor of a pyramid is a class or background, with no proposals between.

    Training: `losses(batch, seed)` returns a dict of float32 scalars of this replica, each already normalised by its
    foreground anchors: `cls`, `box`; the total is their sum. The seed decides on stochastic depth alone. Testing:
    `detect(images, image_info)` returns `Detections` in pixels of the original images.

    Args:
        num_classes: C, without background.
        backbone: layer, image -> list of feature maps, with `strides`.
        neck: layer, list of maps -> pyramid with `strides`.
        head: called with `num_classes` and `num_anchors`, returns the dense head's layer.
        anchors, targets, postprocess: the parts without weights.
        focal_alpha: weight of an anchor's own class in the focal loss, against 1 - alpha of all others.
        focal_gamma: how far the focal loss plays down well-classified anchors.
        box_sigma: of the smooth L1 of boxes; None for plain L1 (Detectron2, torchvision).
        box_loss: "smooth_l1" of offsets, or an IoU loss of boxes: see `box_distance` (torchvision's v2: "giou").
        loss_divisor: what the losses divide by: "foreground", one more than the replica's foreground anchors; "image",
            each image's own (torchvision); "moving", a moving average of their number, which begins at 100 and keeps .9
            of itself in a step (Detectron2). It is a variable of the detector, and in no checkpoint of Detectron2.
        pixel_mean, pixel_std: RGB, 0..255.
        size_divisor, convention: see `Detector`.

    Example:
        ```python
        detector = build_detector(num_classes=80)  # parts from gin_configs/retina_r50v1_fpn.gin
        detections = detector.detect(images, image_info)  # uint8 [B, H, W, 3], float32 [B, 3] (height, width, scale)
        detections.boxes[0, : detections.num_valid[0]]  # x1, y1, x2, y2
        ```
    """

    def __init__(
        self,
        num_classes: NumClasses,
        backbone: keras.layers.Layer,
        neck: keras.layers.Layer,
        head: Callable[..., keras.layers.Layer],
        anchors: AnchorGenerator,
        targets: RetinaTargetAssigner,
        postprocess: DensePostProcess,
        focal_alpha: OpenFraction = 0.25,
        focal_gamma: NonNegativeFloat = 2.0,
        box_sigma: PositiveFloat | None = RETINA_SIGMA,
        box_loss: BoxDistance = "smooth_l1",
        loss_divisor: Literal["foreground", "image", "moving"] = "foreground",
        pixel_mean: Rgb = MSRA_PIXEL_MEAN,
        pixel_std: PositiveRgb = (1.0, 1.0, 1.0),
        size_divisor: Side = 1,
        convention: Convention = LEGACY,
    ):
        super().__init__(num_classes, backbone, neck, pixel_mean, pixel_std, size_divisor, convention)
        self.head = head(num_classes=num_classes, num_anchors=anchors.num_anchors)
        self.anchors = anchors
        self.targets, self.postprocess = self.in_own_convention(targets), self.in_own_convention(postprocess)
        self.focal_alpha, self.focal_gamma = focal_alpha, focal_gamma
        self.box_sigma, self.box_loss, self.loss_divisor = box_sigma, box_loss, loss_divisor
        self.moving_foreground = None
        if loss_divisor == "moving":
            self.moving_foreground = self.add_weight(
                shape=(),
                name="moving_foreground",
                initializer=keras.initializers.Constant(_FIRST_FOREGROUND),
                dtype="float32",
                autocast=False,
                trainable=False,
                aggregation="mean",
            )

    def predict_maps(self, images: tf.Tensor, image_info: tf.Tensor, training: bool) -> Predictions:
        """The head's outputs for images [B, H, W, 3] with `image_info` [B, 3 or 4], see `Batch`."""
        return self.head(self.feature_maps(self.normalize(images, image_info), training))

    def feature_maps(self, inputs: tf.Tensor, training: bool) -> list[tf.Tensor]:
        """The maps that have anchors, finest first, of normalised float images [B, H, W, 3]."""
        features, strides = self.pyramid(inputs, training)
        by_stride = dict(zip(strides, features, strict=True))
        missing = [s for s in self.anchors.strides if s not in by_stride]
        if missing:
            raise UserError(
                f"AnchorGenerator.strides: there is no feature map of stride {missing[0]}; there are {list(by_stride)}"
            )
        return [by_stride[s] for s in self.anchors.strides]

    def assign_targets(self, maps: list[tf.Tensor], rois: tf.Tensor | None, batch: Batch, seed: tf.Tensor | None):
        anchors = tf.concat(self.anchors.grid(maps), axis=0)
        return self.targets(anchors, batch.boxes, batch.classes, batch.image_info)

    def losses(self, batch: Batch, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        with drop_seed(seed):
            predictions = self.predict_maps(batch.images, batch.image_info, training=True)
        maps = [cls for cls, _ in predictions]
        with tf.name_scope("targets"):
            labels, box_targets = self.assign_targets(maps, None, batch, None)
        images = tf.shape(batch.images)[0]
        with tf.name_scope("losses"):
            cls, box = retina_losses(
                [tf.reshape(logits, [images, -1, self.num_classes]) for logits, _ in predictions],
                [tf.reshape(deltas, [images, -1, 4]) for _, deltas in predictions],
                labels,
                box_targets,
                self.focal_alpha,
                self.focal_gamma,
                self.box_sigma,
                self._divisor(labels),
                self.box_loss,
                tf.concat(self.anchors.grid(maps), axis=0),
                self.convention,
            )
        return {"cls": cls, "box": box}

    def _divisor(self, labels: tf.Tensor) -> tf.Tensor | str | None:
        """The argument of `retina_losses` for labels int32 [B, N]; moves the moving average."""
        if self.loss_divisor != "moving":
            return "image" if self.loss_divisor == "image" else None
        foreground = tf.maximum(tf.reduce_sum(tf.cast(labels >= 0, tf.float32)), 1.0)
        moved = _KEPT * self.moving_foreground + (1.0 - _KEPT) * foreground
        if not in_inference():
            self.moving_foreground.assign(moved)
        return moved

    def detect_whole(self, images: tf.Tensor, image_info: tf.Tensor) -> Detections:
        return self.finish(self.suppress(self.candidates(images, image_info), image_info))

    def candidates(self, images: tf.Tensor, image_info: tf.Tensor) -> Candidates:
        predictions = self.predict_maps(images, image_info, training=False)
        anchors = self.anchors.grid([cls for cls, _ in predictions])
        return self.postprocess.joined(predictions, anchors, image_info)

    def suppress(self, candidates: Candidates, image_info: tf.Tensor) -> Detections:
        return self.postprocess.suppress(candidates, image_info, self.num_classes)

    def run_layers(self, images: tf.Tensor, image_info: tf.Tensor) -> None:
        self.predict_maps(images, image_info, training=False)
