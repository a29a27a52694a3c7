"""Anchors and proposals: what turns RPN outputs into RoIs, with the numbers of each zoo row as arguments."""

from __future__ import annotations

from typing import Literal

import numpy as np
import tensorflow as tf

from tfdet.config import configurable
from tfdet.config.ranges import Fraction, NonNegativeFloat, NumCandidates, PositiveFloat, PositiveInt
from tfdet.errors import ParameterError
from tfdet.ops.anchors import cell_anchors, centred_anchors, grid_anchors
from tfdet.ops.boxes import CONTINUOUS, LEGACY
from tfdet.ops.proposals import ProposalVariant, generate_proposals
from tfdet.ops.top_proposals import top_proposals
from tfdet.structures import Proposals


@configurable
class AnchorGenerator:
    """Anchors of every level (SimpleDet core/detection_input.py: AnchorTarget2D).

    Args:
        strides: of the RPN's feature maps, finest first.
        scales: anchor side in strides, before the ratio.
        ratios: height / width. Order within a cell: ratio-major, scale-minor.
        style: "simpledet", or continuous boxes centred at the cell's corner: "detectron2" (not rounded, scale-major,
            ratio-minor), "torchvision" (rounded; cells are floor(image side / map side) pixels apart, where the image
            is the padded one, so that coarse maps can have other steps than their strides).
        sizes: of "detectron2" and "torchvision": of every level the roots of the anchors' areas in pixels, in place of
            `scales`.
    """

    def __init__(
        self,
        strides: tuple[PositiveInt, ...] = (16,),
        scales: tuple[PositiveFloat, ...] = (2, 4, 8, 16, 32),
        ratios: tuple[PositiveFloat, ...] = (0.5, 1.0, 2.0),
        style: Literal["simpledet", "detectron2", "torchvision"] = "simpledet",
        sizes: tuple[tuple[PositiveFloat, ...], ...] | None = None,
    ):
        self.strides, self.style = tuple(strides), style
        if style == "simpledet":
            if sizes is not None:
                raise ParameterError('Expected AnchorGenerator.scales with style "simpledet", not sizes')
            self.cells: list[np.ndarray] = [cell_anchors(s, scales, ratios) for s in self.strides]
        else:
            sizes = sizes or [[scale * stride for scale in scales] for stride in self.strides]
            if len(sizes) != len(self.strides):
                raise ParameterError(
                    f"Expected AnchorGenerator.sizes of {len(self.strides)} levels, as strides. Received: {sizes}"
                )
            self.cells = [centred_anchors(level, ratios, style) for level in sizes]
        self.num_anchors = len(self.cells[0])

    def grid(self, features: list[tf.Tensor]) -> list[tf.Tensor]:
        """Anchors of each map [B, H, W, C] as float32 [H * W * A, 4], row-major, anchor innermost.

        With "torchvision" the image is a whole number of cells of the finest map, as it is after padding.
        """
        steps = self.strides
        if self.style == "torchvision":
            image = tf.shape(features[0])[1:3] * self.strides[0]
            steps = [image // tf.maximum(tf.shape(x)[1:3], 1) for x in features]
        return [
            grid_anchors(cell, step, tf.shape(x)[1], tf.shape(x)[2])
            for cell, step, x in zip(self.cells, steps, features, strict=True)
        ]


@configurable
class ProposalGenerator:
    """Decodes, sorts and suppresses RPN boxes.

    Args:
        variant: of boxes of whole pixels, one name for all levels or one a level: "v1" (SimpleDet
            operator_cxx/contrib/proposal.cu, C4 rows), "v2" (proposal_v2.cu, TridentNet rows), "v3" (proposal_v3.cu;
            FPN rows of the first release), "symbolic" (mxnext tvm/proposal.py; strides 4 to 16 of the later revision).
            Not read with continuous boxes, whose proposals are those of Detectron2 and torchvision, for an `RpnHead`
            of sigmoids: see `tfdet.ops.top_proposals`.
        pre_nms_top_n: boxes kept before NMS, per level, (training, testing).
        post_nms_top_n: boxes kept after NMS per level, and per image over all levels, (training, testing).
        iou_threshold: of NMS.
        min_size: smallest side in pixels of the original image, of continuous boxes in those of the network input; 0
            keeps all.
    """

    def __init__(
        self,
        variant: ProposalVariant | tuple[ProposalVariant, ...] = "v1",
        pre_nms_top_n: tuple[NumCandidates, NumCandidates] = (12000, 6000),
        post_nms_top_n: tuple[NumCandidates, NumCandidates] = (2000, 1000),
        iou_threshold: Fraction = 0.7,
        min_size: NonNegativeFloat = 0.0,
    ):
        self.variant, self.iou_threshold, self.min_size = variant, iou_threshold, min_size
        self.pre_nms_top_n, self.post_nms_top_n = tuple(pre_nms_top_n), tuple(post_nms_top_n)
        self.convention = LEGACY  # of boxes; a detector sets its own

    def __call__(
        self,
        rpn_outputs: list[tuple[tf.Tensor, tf.Tensor]],
        anchors: AnchorGenerator,
        image_info: tf.Tensor,
        training: bool,
        area_range: tf.Tensor | None = None,
    ) -> Proposals:
        """Proposals of `RpnHead` outputs; no gradient flows back. `area_range`: see `generate_proposals`."""
        phase = 0 if training else 1
        if self.convention == CONTINUOUS:
            if area_range is not None:
                raise ParameterError("Expected ScaleBranches.valid_ranges = None with continuous boxes")
            return top_proposals(
                [logits for logits, _ in rpn_outputs],
                [deltas for _, deltas in rpn_outputs],
                anchors.grid([logits for logits, _ in rpn_outputs]),
                image_info,
                self.pre_nms_top_n[phase],
                self.post_nms_top_n[phase],
                self.iou_threshold,
                self.min_size,
            )
        return generate_proposals(
            [logits for logits, _ in rpn_outputs],
            [deltas for _, deltas in rpn_outputs],
            anchors.cells,
            anchors.strides,
            image_info,
            pre_nms_top_n=self.pre_nms_top_n[phase],
            post_nms_top_n=self.post_nms_top_n[phase],
            iou_threshold=self.iou_threshold,
            min_size=self.min_size,
            variant=self.variant,
            area_range=area_range,
            from_logits=True,
        )
