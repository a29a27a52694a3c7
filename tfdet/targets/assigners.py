"""The target functions with the numbers of a zoo row bound to them, for gin files."""

from __future__ import annotations

from typing import Literal

import tensorflow as tf

from tfdet.config import configurable
from tfdet.config.ranges import Fraction, PositiveFloat, PositiveInt
from tfdet.ops.box_coding import BOX_STD
from tfdet.ops.boxes import LEGACY
from tfdet.structures import RoiSamples
from tfdet.targets.extent import Extent
from tfdet.targets.roi import roi_targets
from tfdet.targets.rpn import RpnTargets, rpn_targets

BoxStd = tuple[PositiveFloat, PositiveFloat, PositiveFloat, PositiveFloat]
"""Of the offsets of centre x, centre y, width and height."""


@configurable
class RpnTargetAssigner:
    """Anchor labels and box targets (SimpleDet core/detection_input.py: AnchorTarget2D).

    Args:
        batch_per_image: anchors sampled an image, jointly over all levels.
        fg_fraction: largest share of foreground.
        positive_iou: IoU from which an anchor is foreground.
        negative_iou: IoU below which it is background.
        ignored_iou: of a detector with branches: IoU with a box of another branch above which it is ignored.
        outside: whether anchors that cross the border of the image take part.
        extent: where the centre of an anchor must lie for it to take part: anywhere on the "canvas" (SimpleDet), on the
            "batch", the canvas that Detectron2 and torchvision would make of the replica's batch, or on the "image".
    """

    def __init__(
        self,
        batch_per_image: PositiveInt = 256,
        fg_fraction: Fraction = 0.5,
        positive_iou: Fraction = 0.7,
        negative_iou: Fraction = 0.3,
        ignored_iou: Fraction = 0.3,
        outside: bool = False,
        extent: Extent = "canvas",
    ):
        self.batch_per_image, self.fg_fraction = batch_per_image, fg_fraction
        self.positive_iou, self.negative_iou, self.ignored_iou = positive_iou, negative_iou, ignored_iou
        self.outside, self.extent = outside, extent
        self.convention, self.size_divisor = LEGACY, 1  # a detector sets its own

    def __call__(
        self,
        anchors: tf.Tensor,
        image_info: tf.Tensor,
        boxes: tf.Tensor,
        classes: tf.Tensor,
        seed: tf.Tensor,
        area_ranges: tf.Tensor | None = None,
    ) -> RpnTargets:
        """See `tfdet.targets.rpn.rpn_targets`."""
        return rpn_targets(
            anchors,
            image_info,
            boxes,
            classes,
            seed,
            batch_per_image=self.batch_per_image,
            fg_fraction=self.fg_fraction,
            positive_iou=self.positive_iou,
            negative_iou=self.negative_iou,
            allowed_border=float("inf") if self.outside else 0.0,
            area_ranges=area_ranges,
            ignored_iou=self.ignored_iou,
            convention=self.convention,
            extent=self.extent,
            size_divisor=self.size_divisor,
        )


@configurable
class RoiTargetSampler:
    """RoI sampling and box targets (SimpleDet operator_cxx/proposal_target.cc).

    Args:
        num_rois: sampled an image; None keeps every proposal (later stages of a cascade, the first release).
        fg_fraction: largest share of foreground.
        fg_threshold: IoU from which a RoI is foreground.
        bg_high, bg_low: a RoI with bg_low <= IoU < bg_high is background.
        append_gt: whether ground-truth boxes join the proposals.
        box_std: standard deviations the encoded targets are divided by.
        pad: when too few RoIs qualify: "resize" (SimpleDet's first release) fills with one pass of random negatives
            and then with the first proposal, "repeat" (its later revision) with as many passes as it takes, "ignore"
            with rows that no loss counts.
        keep_missing: whether missing proposals may be drawn as background (TridentNet of the first release).
    """

    def __init__(
        self,
        num_rois: PositiveInt | None = 512,
        fg_fraction: Fraction = 0.25,
        fg_threshold: Fraction = 0.5,
        bg_high: Fraction = 0.5,
        bg_low: Fraction = 0.0,
        append_gt: bool = True,
        box_std: BoxStd = BOX_STD,
        pad: Literal["resize", "repeat", "ignore"] = "resize",
        keep_missing: bool = False,
    ):
        self.num_rois, self.fg_fraction, self.fg_threshold = num_rois, fg_fraction, fg_threshold
        self.bg_high, self.bg_low, self.append_gt = bg_high, bg_low, append_gt
        self.box_std, self.pad, self.keep_missing = tuple(box_std), pad, keep_missing
        self.convention = LEGACY  # of boxes; a detector sets its own

    def max_foreground(self, num_rows: int) -> int:
        """The most foreground among the `num_rows` RoIs drawn of an image: so many rows come first."""
        return num_rows if self.num_rois is None else int(self.num_rois * self.fg_fraction)

    def __call__(
        self,
        proposals: tf.Tensor,
        boxes: tf.Tensor,
        classes: tf.Tensor,
        seed: tf.Tensor,
        area_range: tf.Tensor | None = None,
    ) -> RoiSamples:
        """See `tfdet.targets.roi.roi_targets`."""
        return roi_targets(
            proposals,
            boxes,
            classes,
            seed,
            num_rois=self.num_rois,
            fg_fraction=self.fg_fraction,
            fg_threshold=self.fg_threshold,
            bg_high=self.bg_high,
            bg_low=self.bg_low,
            append_gt=self.append_gt,
            box_std=self.box_std,
            pad=self.pad,
            keep_missing=self.keep_missing,
            area_range=area_range,
            convention=self.convention,
        )
