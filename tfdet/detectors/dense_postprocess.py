"""Predictions of a dense head -> final detections (SimpleDet models/retinanet/decode_retina.py; detection_test.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import tensorflow as tf

from tfdet.config import configurable
from tfdet.config.ranges import Fraction, NumCandidates, NumDetections, PositiveFloat, PositiveFraction
from tfdet.detectors.postprocess import without_empty
from tfdet.ops.box_coding import MAX_LOG_RATIO, decode
from tfdet.ops.box_voting import vote_boxes
from tfdet.ops.boxes import LEGACY, box_scale, clip_to_image, to_float32
from tfdet.ops.class_aware_nms import class_aware_nms
from tfdet.ops.nms import NmsMethod
from tfdet.structures import Candidates, Detections


def best_candidates(
    cls_logits,
    deltas,
    anchors,
    image_info,
    score_threshold: float,
    top_n: int,
    bound_growth: bool = True,
    convention: str = LEGACY,
    clip: bool = True,
) -> Candidates:
    """The best (box, class) pairs of one feature map: a box with two likely classes comes twice.

    Args:
        cls_logits: [B, H, W, A * C], channel a * C + c; the score is the sigmoid.
        deltas: [B, H, W, 4 * A], channel 4 * a + k.
        anchors: float32 [H * W * A, 4].
        image_info: float32 [B, 3 or 4], height and width of the image content first.
        score_threshold: scores must exceed it.
        top_n: K, pairs kept at most; fewer on a map that has fewer.
        bound_growth: whether a box grows by 1000 / 16 at most.
        convention: of boxes, `"legacy_plus_one"` (default) or `"continuous"`.
        clip: whether boxes are clipped to the image content.

    Returns:
        A list of K pairs of a box and a class, best first, in pixels of the network input; score 0 and a zero box where
        there are fewer. Scores that are not a number are left out.

    Source: SimpleDet models/retinanet/decode_retina.py; with `bound_growth=False` its CUDA form,
    operator_cxx/contrib/generate_proposal_retina.
    """
    cls_logits, deltas, anchors = to_float32(cls_logits, deltas, anchors)
    batch, num_anchors = tf.shape(cls_logits)[0], tf.shape(anchors)[0]
    num_classes = cls_logits.shape[-1] // (deltas.shape[-1] // 4)
    logits = tf.reshape(cls_logits, [batch, num_anchors * num_classes])
    logits = tf.where(tf.math.is_nan(logits), -np.inf, logits)
    # The sigmoid keeps the order, so the few best logits stand for the scores of millions.
    logits, order = tf.math.top_k(logits, tf.minimum(top_n, num_anchors * num_classes))
    scores = tf.sigmoid(logits)
    anchor, classes = order // num_classes, order % num_classes
    boxes = decode(
        tf.gather(anchors, anchor),
        tf.gather(tf.reshape(deltas, [batch, num_anchors, 4]), anchor, batch_dims=1),
        convention=convention,
        max_log_ratio=MAX_LOG_RATIO if bound_growth else None,
    )
    kept = scores > score_threshold
    boxes = tf.where(kept[..., None], clip_to_image(boxes, image_info, convention) if clip else boxes, 0.0)
    return Candidates(boxes, tf.where(kept, scores, 0.0), classes)


@configurable
class DensePostProcess:
    """The best pairs of every level, scaled to the original image and suppressed per class.

    Args:
        score_threshold: scores of all levels but the coarsest must exceed it.
        coarsest_score_threshold: scores of the coarsest level must exceed it; 0 there leaves no image without any.
        pre_nms_top_n: pairs of a box and a class kept of each level.
        iou_threshold: NMS drops a box that overlaps a better one of its class by more.
        max_detections: D, kept per image over all classes.
        bound_growth: whether a box grows by 1000 / 16 at most (SimpleDet's first release), or without bound (its
            later revision).
        nms_method: "hard", or a soft one that lowers scores instead of dropping boxes: "linear", "gaussian".
        nms_sigma: of "gaussian".
        clip: "candidates" before suppression, or "detections" after it, when those without an area are dropped
            (Detectron2).
        vote_iou_threshold: moves each detection to the mean of the boxes of its class, weighted by their scores, that
            overlap it at least as much (`vote_boxes`), after suppression; None leaves it where it is.
    """

    def __init__(
        self,
        score_threshold: Fraction = 0.05,
        coarsest_score_threshold: Fraction = 0.0,
        pre_nms_top_n: NumCandidates = 1000,
        iou_threshold: Fraction = 0.5,
        max_detections: NumDetections = 100,
        bound_growth: bool = True,
        nms_method: NmsMethod = "hard",
        nms_sigma: PositiveFloat = 0.5,
        clip: Literal["candidates", "detections"] = "candidates",
        vote_iou_threshold: PositiveFraction | None = None,
    ):
        self.score_threshold, self.coarsest_score_threshold = score_threshold, coarsest_score_threshold
        self.pre_nms_top_n, self.iou_threshold, self.max_detections = pre_nms_top_n, iou_threshold, max_detections
        self.bound_growth = bound_growth
        self.nms_method, self.nms_sigma = nms_method, nms_sigma
        self.clip = clip
        self.vote_iou_threshold = vote_iou_threshold
        self.convention = LEGACY  # of boxes; a detector sets its own

    def candidates(
        self, predictions: Sequence[tuple[tf.Tensor, tf.Tensor]], anchors: Sequence[tf.Tensor], image_info: tf.Tensor
    ) -> list[Candidates]:
        """The best pairs of each level, finest first.

        Args:
            predictions: of each level (cls_logits [B, H, W, A * C], deltas [B, H, W, 4 * A]), finest first.
            anchors: of each level float32 [H * W * A, 4].
            image_info: float32 [B, 3 or 4].
        """
        thresholds = [self.score_threshold] * (len(predictions) - 1) + [self.coarsest_score_threshold]
        return [
            best_candidates(
                cls_logits,
                deltas,
                level_anchors,
                image_info,
                threshold,
                self.pre_nms_top_n,
                self.bound_growth,
                self.convention,
                self.clip == "candidates",
            )
            for (cls_logits, deltas), level_anchors, threshold in zip(predictions, anchors, thresholds, strict=True)
        ]

    def __call__(
        self,
        predictions: Sequence[tuple[tf.Tensor, tf.Tensor]],
        anchors: Sequence[tf.Tensor],
        image_info: tf.Tensor,
    ) -> Detections:
        """Args: as in `candidates`."""
        cls_logits, deltas = predictions[0]
        num_classes = cls_logits.shape[-1] // (deltas.shape[-1] // 4)
        return self.suppress(self.joined(predictions, anchors, image_info), image_info, num_classes)

    def joined(
        self,
        predictions: Sequence[tuple[tf.Tensor, tf.Tensor]],
        anchors: Sequence[tf.Tensor],
        image_info: tf.Tensor,
    ) -> Candidates:
        """The candidates of all levels, a list in pixels of the original image. Args: as in `candidates`."""
        levels = self.candidates(predictions, anchors, image_info)
        boxes, scores, classes = (tf.concat(parts, axis=1) for parts in zip(*levels, strict=True))
        # Suppression happens in pixels of the original image: the +1 of the legacy overlap depends on the scale.
        boxes = boxes / box_scale(image_info)[:, None]
        return Candidates(boxes, scores, classes)

    def suppress(self, candidates: Candidates, image_info: tf.Tensor, num_classes: int) -> Detections:
        """Detections in pixels of the original image, from what `joined` returns; of several views joined too."""
        found = class_aware_nms(
            *candidates,
            num_classes,
            iou_threshold=self.iou_threshold,
            max_detections=self.max_detections,
            method=self.nms_method,
            sigma=self.nms_sigma,
            convention=self.convention,
        )
        if self.vote_iou_threshold is not None:
            found = vote_boxes(found, candidates, self.vote_iou_threshold, convention=self.convention)
        if self.clip == "detections":
            sizes = image_info[:, :2] / image_info[:, 2:]  # of the content, in pixels of the original image
            return without_empty(found._replace(boxes=clip_to_image(found.boxes, sizes, self.convention)))
        return found
