"""Predictions of the second stage -> final detections (SimpleDet detection_test.py; operator_cxx decodebbox.cc)."""

from __future__ import annotations

import tensorflow as tf

from tfdet.config import configurable
from tfdet.config.ranges import Fraction, NonNegativeFloat, NumDetections, PositiveFloat, PositiveFraction
from tfdet.ops.box_coding import BOX_STD, MAX_LOG_RATIO, decode
from tfdet.ops.box_voting import vote_boxes
from tfdet.ops.boxes import CONTINUOUS, LEGACY, area, box_scale, clip_to_image, sizes
from tfdet.ops.nms import NmsMethod, multiclass_nms
from tfdet.structures import Candidates, Detections
from tfdet.targets.assigners import BoxStd


@configurable
class PostProcess:
    """Decodes, scales to the original image and suppresses per class.

    Args:
        score_threshold: scores must exceed it.
        iou_threshold: NMS drops a box that overlaps a better one of its class by more.
        max_detections: D, kept per image over all classes.
        box_std: standard deviations the box targets were divided by.
        nms_method: "hard", or a soft one that lowers scores instead of dropping boxes: "linear", "gaussian".
        nms_sigma: of "gaussian".
        bound_growth: whether a box grows by 1000 / 16 at most (Detectron2, torchvision).
        min_size: boxes with a smaller side, in pixels of the network input, are dropped before suppression
            (torchvision: 1e-2). Continuous boxes without an area are dropped after it whatever this is (Detectron2).
        in_network_pixels: whether boxes are suppressed in pixels of the network input, as in SimpleDet's Mask rows,
            not of the original image. The +1 of the legacy overlap depends on the scale.
        vote_iou_threshold: moves each detection to the mean of the boxes of its class, weighted by their scores, that
            overlap it at least as much (`vote_boxes`), after suppression; None leaves it where it is.
    """

    def __init__(
        self,
        score_threshold: Fraction = 0.05,
        iou_threshold: Fraction = 0.5,
        max_detections: NumDetections = 100,
        box_std: BoxStd = BOX_STD,
        nms_method: NmsMethod = "hard",
        nms_sigma: PositiveFloat = 0.5,
        bound_growth: bool = False,
        min_size: NonNegativeFloat = 0.0,
        in_network_pixels: bool = False,
        vote_iou_threshold: PositiveFraction | None = None,
    ):
        self.score_threshold, self.iou_threshold, self.max_detections = score_threshold, iou_threshold, max_detections
        self.box_std = tuple(box_std)
        self.nms_method, self.nms_sigma = nms_method, nms_sigma
        self.bound_growth, self.min_size = bound_growth, min_size
        self.in_network_pixels = in_network_pixels
        self.vote_iou_threshold = vote_iou_threshold
        self.convention = LEGACY  # of boxes; a detector sets its own

    def decode(
        self,
        rois: tf.Tensor,
        deltas: tf.Tensor,
        image_info: tf.Tensor,
        class_agnostic: bool,
        box_std: tuple[float, ...] | None = None,
    ) -> tf.Tensor:
        """Boxes of every class slot, clipped to the image, in pixels of the network input.

        Args:
            rois: float32 [B, R, 4].
            deltas: float32 [B, R, 8 or 4 (1 + C)].
            image_info: float32 [B, 3 or 4].
            class_agnostic: whether one box serves all classes.
            box_std: of an earlier stage of a cascade, in place of the last one's.

        Returns: float32 [B, R, 1, 4] when class-agnostic (the last four channels count), else [B, R, 1 + C, 4].
        """
        shape = tf.shape(deltas)
        slots = tf.reshape(deltas, [shape[0], shape[1], deltas.shape[-1] // 4, 4])
        if class_agnostic:
            slots = slots[:, :, -1:]
        boxes = decode(
            rois[:, :, None],
            slots,
            std=box_std or self.box_std,
            convention=self.convention,
            max_log_ratio=MAX_LOG_RATIO if self.bound_growth else None,
        )
        slot_count = boxes.shape[2]
        flat = tf.reshape(boxes, [shape[0], shape[1] * slot_count, 4])
        return tf.reshape(clip_to_image(flat, image_info, self.convention), [shape[0], shape[1], slot_count, 4])

    def __call__(self, boxes: tf.Tensor, scores: tf.Tensor, image_info: tf.Tensor) -> Detections:
        """The best boxes after suppression, in pixels of the original image.

        Args:
            boxes: float32 [B, R, 1 or 1 + C, 4] of `decode`.
            scores: float32 [B, R, 1 + C], background first.
            image_info: float32 [B, 3 or 4].
        """
        return self.suppress(self.candidates(boxes, scores, image_info), image_info)

    def pixels(self, image_info: tf.Tensor) -> tf.Tensor:
        """Pixels that boxes are suppressed in, in one of the original image, as `box_scale` gives them."""
        scale = box_scale(image_info)
        return scale if self.in_network_pixels else tf.ones_like(scale)

    def candidates(self, boxes: tf.Tensor, scores: tf.Tensor, image_info: tf.Tensor) -> Candidates:
        """What is to be suppressed: boxes [B, R, 1 or C, 4] in `pixels`, scores [B, R, C]. Args: as in a call."""
        if boxes.shape[2] > 1:
            boxes = boxes[:, :, 1:]
        scores = scores[:, :, 1:]
        if self.min_size > 0:
            width, height = sizes(boxes, self.convention)
            scores = tf.where((width >= self.min_size) & (height >= self.min_size), scores, -1.0)
        if not self.in_network_pixels:
            boxes = boxes / box_scale(image_info)[:, None, None]
        return Candidates(boxes, scores)

    def suppress(self, candidates: Candidates, image_info: tf.Tensor) -> Detections:
        """Detections in pixels of the original image, from what `candidates` returns; of several views joined too."""
        found = multiclass_nms(
            candidates.boxes,
            candidates.scores,
            score_threshold=self.score_threshold,
            iou_threshold=self.iou_threshold,
            max_detections=self.max_detections,
            method=self.nms_method,
            sigma=self.nms_sigma,
            convention=self.convention,
        )
        if self.vote_iou_threshold is not None:
            found = vote_boxes(found, candidates, self.vote_iou_threshold, self.score_threshold, self.convention)
        if self.in_network_pixels:
            found = found._replace(boxes=found.boxes / box_scale(image_info)[:, None])
        return without_empty(found) if self.convention == CONTINUOUS else found


def as_inclusive(detections: Detections) -> Detections:
    """Detections of continuous boxes as the other packages hold them: x2 and y2 name the last pixel."""
    exists = (detections.classes >= 0)[..., None]
    shift = tf.constant([0.0, 0.0, 1.0, 1.0])
    return detections._replace(boxes=tf.where(exists, detections.boxes - shift, detections.boxes))


def without_empty(detections: Detections) -> Detections:
    """Detections without those whose continuous boxes have no area; the rest moves up, in its order.

    Source: Detectron2 modeling/postprocessing.py, detector_postprocess.
    """
    rows = tf.range(tf.shape(detections.scores)[1])
    kept = (rows < detections.num_valid[:, None]) & (area(detections.boxes, CONTINUOUS) > 0.0)
    order = tf.argsort(tf.cast(~kept, tf.int32), axis=1, stable=True)
    kept, boxes, scores, classes = (
        tf.gather(t, order, batch_dims=1) for t in (kept, detections.boxes, detections.scores, detections.classes)
    )
    return detections._replace(
        boxes=tf.where(kept[..., None], boxes, 0.0),
        scores=tf.where(kept, scores, 0.0),
        classes=tf.where(kept, classes, -1),
        num_valid=tf.reduce_sum(tf.cast(kept, tf.int32), axis=1),
    )
