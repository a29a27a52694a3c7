"""What a detector with several branches, each for objects of one size, does differently (TridentNet).

Li et al., Scale-Aware Trident Networks for Object Detection, ICCV 2019.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import tensorflow as tf

from tfdet.config import configurable
from tfdet.config.ranges import NonNegativeFloat, Range
from tfdet.detectors.postprocess import PostProcess
from tfdet.errors import ParameterError
from tfdet.ops.boxes import area, box_scale
from tfdet.ops.class_aware_nms import class_aware_nms
from tfdet.structures import Candidates, Detections

NO_BOUND = -1
_Largest = Annotated[float, Range(least=NO_BOUND)]


@configurable
class ScaleBranches:
    """The objects that each branch is responsible for.

    The backbone makes k images of every image, one a branch, image-major; the RPN and the heads see a batch of k B.

    Args:
        valid_ranges: (smallest, largest) side of the boxes of each branch, the root of their area, in pixels of the
            original image; -1 for no largest one. None makes every branch responsible for all (TridentNet-Fast).
        suppression: "joint" of the boxes of all branches, or "each_first": of each branch's, to the number of
            detections of an image, and then of what is left of all (Detectron2).

    Source: SimpleDet models/tridentnet/input.py, builder.py; Detectron2 projects/TridentNet, trident_rcnn.py.
    """

    def __init__(
        self,
        valid_ranges: tuple[tuple[NonNegativeFloat, _Largest], ...] | None = ((0, 90), (30, 160), (90, -1)),
        suppression: Literal["joint", "each_first"] = "joint",
    ):
        if suppression == "each_first" and valid_ranges is not None:
            raise ParameterError('Expected ScaleBranches.valid_ranges = None with suppression "each_first"')
        self.valid_ranges = None if valid_ranges is None else tuple(tuple(r) for r in valid_ranges)
        self.suppression = suppression

    def check(self, branches: int, test_branches: int, postprocess: PostProcess) -> None:
        """`ParameterError` where the ranges do not fit the numbers of branches, or the suppressions one another."""
        if self.suppression == "each_first" and postprocess.nms_method != "hard":
            raise ParameterError(
                f"PostProcess.nms_method = {postprocess.nms_method!r} would be undone by the second suppression of "
                "ScaleBranches.suppression = 'each_first': set that to 'joint'"
            )
        wanted = None if self.valid_ranges is None else len(self.valid_ranges)
        if wanted is not None and (branches, test_branches) != (wanted, wanted):
            raise ParameterError(
                f"Expected one of ScaleBranches.valid_ranges a branch. Received: {wanted} ranges, {branches} branches "
                f"in training, {test_branches} in testing; None serves any number"
            )

    def network_ranges(self, image_info: tf.Tensor, branches: int) -> tf.Tensor:
        """Valid sides in pixels of the network input: `image_info` [B, 3 or 4] -> float32 [B, k, 2]."""
        if self.valid_ranges is None:
            return tf.tile(tf.constant([[[0.0, np.inf]]]), [tf.shape(image_info)[0], branches, 1])
        return self._bounded(self._ranges()[None] * image_info[:, 2, None, None], image_info)

    def merge(self, boxes: tf.Tensor, scores: tf.Tensor, image_info: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Puts the branches of an image together; boxes outside their branch's range lose their scores.

        Args:
            boxes: float32 [k B, R, S, 4], pixels of the network input, S class slots.
            scores: float32 [k B, R, 1 + C].
            image_info: float32 [B, 3 or 4].

        Returns:
            Boxes [B, k R, S, 4] and scores [B, k R, 1 + C]; a score is -1 where the box left its range.
        """
        batch = tf.shape(image_info)[0]
        if self.valid_ranges is not None:
            branches = len(self.valid_ranges)
            scale = tf.repeat(box_scale(image_info), branches, axis=0)[:, None, None]
            # In pixels of the original image, but where there is no largest side: SimpleDet takes the resized one's.
            # Of an image that was made smaller that would leave out its largest objects: there it is the original's.
            full = image_info[:, :2] / tf.minimum(image_info[:, 2:], 1.0)
            ranges = self._bounded(tf.tile(self._ranges()[None], [batch, 1, 1]), full)
            low, high = tf.unstack(tf.square(tf.reshape(ranges, [-1, 1, 1, 2])), axis=-1)
            size = area(boxes / scale)
            scores = tf.where((size >= low) & (size <= high), scores, -1.0)
        rows = tf.size(scores) // (batch * scores.shape[-1])
        return (
            tf.reshape(boxes, [batch, rows, boxes.shape[2], 4]),
            tf.reshape(scores, [batch, rows, scores.shape[-1]]),
        )

    @staticmethod
    def join_detections(found: Detections, images: tf.Tensor) -> Candidates:
        """The detections of all branches as candidates of one more suppression: `suppress`.

        Args:
            found: of every branch, k B rows, image-major.
            images: int32 [], B.

        Returns:
            A list, in pixels of the original image.
        """
        boxes = tf.reshape(found.boxes, [images, -1, 4])
        scores = tf.reshape(found.scores, [images, -1])
        classes = tf.reshape(found.classes, [images, -1])
        return Candidates(boxes, scores, classes)

    @staticmethod
    def suppress(candidates: Candidates, postprocess: PostProcess, num_classes: int) -> Detections:
        """The best of what `join_detections` returns, by the thresholds of `postprocess`."""
        return class_aware_nms(
            *candidates,
            num_classes,
            iou_threshold=postprocess.iou_threshold,
            max_detections=postprocess.max_detections,
            convention=postprocess.convention,
        )

    def _ranges(self) -> tf.Tensor:
        return tf.constant(self.valid_ranges, tf.float32)

    def _bounded(self, ranges: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        """Ranges [B, k, 2] whose missing largest side is the longer one of `size` [B, 2 or more]."""
        bounded = tf.constant([high != NO_BOUND for _, high in self.valid_ranges])
        longest = tf.reduce_max(size[:, :2], axis=1)[:, None]
        return tf.stack([ranges[..., 0], tf.where(bounded, ranges[..., 1], longest)], axis=-1)
