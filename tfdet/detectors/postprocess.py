"""Predictions of the second stage -> final detections (SimpleDet detection_test.py; operator_cxx decodebbox.cc)."""

from __future__ import annotations

import tensorflow as tf

from tfdet.config import configurable
from tfdet.ops.box_coding import decode
from tfdet.ops.boxes import clip_to_image
from tfdet.ops.nms import multiclass_nms
from tfdet.structures import Detections


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
        in_network_pixels: whether boxes are suppressed in pixels of the network input, as in SimpleDet's Mask rows,
            not of the original image. The +1 of the legacy overlap depends on the scale.
    """

    def __init__(
        self,
        score_threshold: float = 0.05,
        iou_threshold: float = 0.5,
        max_detections: int = 100,
        box_std: tuple[float, ...] = (0.1, 0.1, 0.2, 0.2),
        nms_method: str = "hard",
        nms_sigma: float = 0.5,
        in_network_pixels: bool = False,
    ):
        self.score_threshold, self.iou_threshold, self.max_detections = score_threshold, iou_threshold, max_detections
        self.box_std = tuple(box_std)
        self.nms_method, self.nms_sigma = nms_method, nms_sigma
        self.in_network_pixels = in_network_pixels

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
            image_info: float32 [B, 3].
            class_agnostic: whether one box serves all classes.
            box_std: of an earlier stage of a cascade, in place of the last one's.

        Returns: float32 [B, R, 1, 4] when class-agnostic (the last four channels count), else [B, R, 1 + C, 4].
        """
        shape = tf.shape(deltas)
        slots = tf.reshape(deltas, [shape[0], shape[1], deltas.shape[-1] // 4, 4])
        if class_agnostic:
            slots = slots[:, :, -1:]
        boxes = decode(rois[:, :, None], slots, mean=(0.0, 0.0, 0.0, 0.0), std=box_std or self.box_std)
        slot_count = boxes.shape[2]
        flat = tf.reshape(boxes, [shape[0], shape[1] * slot_count, 4])
        return tf.reshape(clip_to_image(flat, image_info), [shape[0], shape[1], slot_count, 4])

    def __call__(self, boxes: tf.Tensor, scores: tf.Tensor, image_info: tf.Tensor) -> Detections:
        """The best boxes after suppression, in pixels of the original image.

        Args:
            boxes: float32 [B, R, 1 or 1 + C, 4] of `decode`.
            scores: float32 [B, R, 1 + C], background first.
            image_info: float32 [B, 3].
        """
        if boxes.shape[2] > 1:
            boxes = boxes[:, :, 1:]
        scale = image_info[:, 2][:, None, None]
        if not self.in_network_pixels:
            boxes = boxes / scale[..., None]
        found = multiclass_nms(
            boxes,
            scores[:, :, 1:],
            score_threshold=self.score_threshold,
            iou_threshold=self.iou_threshold,
            max_detections=self.max_detections,
            method=self.nms_method,
            sigma=self.nms_sigma,
        )
        return found._replace(boxes=found.boxes / scale) if self.in_network_pixels else found
