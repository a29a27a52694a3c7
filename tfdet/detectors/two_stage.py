"""Faster R-CNN: backbone, neck, RPN, RoI features, box head, wired for training and for testing."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import keras
import tensorflow as tf

from tfdet.config import configurable
from tfdet.detectors.detector import MSRA_PIXEL_MEAN, Detector
from tfdet.detectors.postprocess import PostProcess
from tfdet.heads.proposals import AnchorGenerator, ProposalGenerator
from tfdet.heads.roi_extractor import RoiExtractor
from tfdet.heads.rpn import split_logits
from tfdet.losses.bbox import bbox_losses
from tfdet.losses.rpn import rpn_losses
from tfdet.structures import Batch, Detections, Proposals
from tfdet.targets.assigners import RoiTargetSampler, RpnTargetAssigner


class RpnOutputs(NamedTuple):
    """What the first stage computes for a batch."""

    features: list[tf.Tensor]  # maps the RPN reads, finest first
    rpn: list[tuple[tf.Tensor, tf.Tensor]]  # per level (cls_logits [B,H,W,2A], deltas [B,H,W,4A])


@configurable
class TwoStageDetector(Detector):
    """Faster R-CNN on a C4 or an FPN trunk.

    Training: `losses(batch, seed)` returns a dict of float32 scalars of this replica, each already normalised:
    `rpn_cls`, `rpn_box`, `bbox_cls`, `bbox_reg`; the total is their sum. Testing: `detect(images, image_info)` returns
    `Detections` in pixels of the original images.

    Args:
        num_classes: C, without background.
        backbone: layer, image -> list of feature maps, with `strides`.
        rpn_head: called with `num_anchors`, returns the RPN layer.
        bbox_head: called with `num_classes`, returns the second-stage layer.
        anchors, proposals, roi_extractor, rpn_targets, roi_targets, postprocess: the parts without weights.
        neck: layer, list of maps -> pyramid with `strides`; None leaves the backbone's maps.
        pixel_mean, pixel_std: RGB, 0..255.

    Example:
        ```python
        detector = build_detector(num_classes=80)  # parts from a gin file
        detections = detector.detect(images, image_info)  # uint8 [B, H, W, 3], float32 [B, 3] (height, width, scale)
        detections.boxes[0, : detections.num_valid[0]]  # x1, y1, x2, y2
        ```
    """

    def __init__(
        self,
        num_classes: int,
        backbone: keras.layers.Layer,
        rpn_head: Callable[..., keras.layers.Layer],
        bbox_head: Callable[..., keras.layers.Layer],
        anchors: AnchorGenerator,
        proposals: ProposalGenerator,
        roi_extractor: RoiExtractor,
        rpn_targets: RpnTargetAssigner,
        roi_targets: RoiTargetSampler,
        postprocess: PostProcess,
        neck: keras.layers.Layer | None = None,
        pixel_mean: tuple[float, ...] = MSRA_PIXEL_MEAN,
        pixel_std: tuple[float, ...] = (1.0, 1.0, 1.0),
    ):
        super().__init__(num_classes, backbone, neck, pixel_mean, pixel_std)
        self.rpn_head = rpn_head(num_anchors=anchors.num_anchors)
        self.bbox_head = bbox_head(num_classes=num_classes)
        self.anchors, self.proposals, self.roi_extractor = anchors, proposals, roi_extractor
        self.rpn_targets, self.roi_targets, self.postprocess = rpn_targets, roi_targets, postprocess

    def first_stage(self, images: tf.Tensor, image_info: tf.Tensor, training: bool) -> RpnOutputs:
        """Features and RPN predictions of uint8 images [B, H, W, 3] with `image_info` [B, 3]."""
        return self.first_stage_from_input(self.normalize(images, image_info), training)

    def first_stage_from_input(self, inputs: tf.Tensor, training: bool) -> RpnOutputs:
        """As `first_stage`, from normalised float images [B, H, W, 3]."""
        features, strides = self.pyramid(inputs, training)
        by_stride = dict(zip(strides, features, strict=True))
        features = [by_stride[s] for s in self.anchors.strides]
        return RpnOutputs(features, self.rpn_head(features))

    def second_stage(self, first: RpnOutputs, rois: tf.Tensor, training: bool) -> tuple[tf.Tensor, tf.Tensor]:
        """(cls_logits [B, R, 1 + C], deltas [B, R, K]) of RoIs [B, R, 4]."""
        maps = self.roi_extractor.select(first.features, self.anchors.strides)
        cls_logits, deltas = self.bbox_head(self.roi_extractor(maps, rois), training=training)
        shape = tf.shape(rois)
        return (
            tf.reshape(cls_logits, [shape[0], shape[1], cls_logits.shape[-1]]),
            tf.reshape(deltas, [shape[0], shape[1], deltas.shape[-1]]),
        )

    def propose(self, first: RpnOutputs, image_info: tf.Tensor, training: bool) -> Proposals:
        """Proposals of the first stage."""
        return self.proposals(first.rpn, self.anchors, image_info, training)

    def losses(self, batch: Batch, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        """Losses of one replica's batch.

        Args:
            batch: see `Batch`.
            seed: int32 [2]; the samplers' randomness is a function of it alone.
        """
        seeds = tf.random.experimental.stateless_split(seed, 2)
        first = self.first_stage(batch.images, batch.image_info, training=True)
        anchors = tf.concat(self.anchors.grid(first.features), axis=0)
        labels, box_targets = self.rpn_targets(anchors, batch.image_info, batch.boxes, batch.classes, seeds[0])
        logits, deltas = _flatten_levels(first.rpn)
        rpn_cls, rpn_box = rpn_losses(
            logits, deltas, labels, box_targets, batch_per_image=self.rpn_targets.batch_per_image
        )

        proposals = self.propose(first, batch.image_info, training=True)
        samples = self.roi_targets(proposals.boxes, batch.boxes, batch.classes, seeds[1])
        cls_logits, roi_deltas = self.second_stage(first, samples.boxes, training=True)
        bbox_cls, bbox_reg = bbox_losses(cls_logits, roi_deltas, samples, self.bbox_head.class_agnostic)
        return {"rpn_cls": rpn_cls, "rpn_box": rpn_box, "bbox_cls": bbox_cls, "bbox_reg": bbox_reg}

    def detect(self, images: tf.Tensor, image_info: tf.Tensor) -> Detections:
        """Detections of uint8 images [B, H, W, 3] with `image_info` [B, 3] (height, width, scale of the content)."""
        first = self.first_stage(images, image_info, training=False)
        rois = self.propose(first, image_info, training=False).boxes
        cls_logits, deltas = self.second_stage(first, rois, training=False)
        return self.postprocess(rois, cls_logits, deltas, image_info, self.bbox_head.class_agnostic)

    def run_layers(self, images: tf.Tensor, image_info: tf.Tensor) -> None:
        first = self.first_stage(images, image_info, training=False)
        self.second_stage(first, tf.constant([[[0.0, 0.0, 31.0, 31.0]]]), training=False)


def _flatten_levels(rpn: list[tuple[tf.Tensor, tf.Tensor]]) -> tuple[tf.Tensor, tf.Tensor]:
    """RPN maps -> logits [B, N, 2] and deltas [B, N, 4], in the order of the concatenated anchor grids."""
    batch = tf.shape(rpn[0][0])[0]
    logits = [tf.reshape(split_logits(cls), [batch, -1, 2]) for cls, _ in rpn]
    deltas = [tf.reshape(box, [batch, -1, 4]) for _, box in rpn]
    return tf.concat(logits, axis=1), tf.concat(deltas, axis=1)
