"""Name maps from Detectron2's checkpoints to tfdet's variables, one a family.

Detectron2 feeds B, G, R, puts background last, and has no box of it: see the layout steps.
"""

from __future__ import annotations

import re

from tfdet.weights import layouts
from tfdet.weights.rules import NameMap, Rule
from tfdet.weights.torch_rules import Step, conv, conv_norm, dense

IGNORED = re.compile(r"pixel_(mean|std)|.*\.cell_anchors\.\d+|.*\.num_batches_tracked|.*anchor_generator\..*")
"""Not parameters of a detector: numbers of its configuration that some files repeat."""


def stem(source: str, variance: Step = layouts.same) -> list[Rule]:
    """The first convolution, which is fed B, G, R."""
    bgr = layouts.first_oihw_from_bgr
    return conv_norm(f"{source}.conv1", f"{source}.conv1.norm", "backbone/conv0", "backbone/bn0", bgr, variance)


def units(source: str, target: str, variance: Step = layouts.same) -> list[Rule]:
    """The bottleneck units of a stage (modeling/backbone/resnet.py)."""
    source, target = f"{source}.{{unit-1}}", f"{target}/unit{{unit}}"
    names = (("conv{c}", "conv{c}", "bn{c}"), ("shortcut", "sc", "sc_bn"))
    return [
        rule
        for name, kernel, norm in names
        for rule in conv_norm(
            f"{source}.{name}", f"{source}.{name}.norm", f"{target}/{kernel}", f"{target}/{norm}", variance=variance
        )
    ]


def _backbone(prefix: str) -> list[Rule]:
    return [*stem(f"{prefix}.stem"), *units(f"{prefix}.res{{stage+1}}", "backbone/stage{stage}")]


_FPN = [
    *conv("backbone.fpn_lateral{level}", "neck/p{level}_lateral"),
    *conv("backbone.fpn_output{level}", "neck/p{level}_conv"),
]

_RPN = [
    *conv("proposal_generator.rpn_head.conv", "rpn_head/conv"),
    *conv("proposal_generator.rpn_head.objectness_logits", "rpn_head/cls"),
    *conv("proposal_generator.rpn_head.anchor_deltas", "rpn_head/box"),
]


def _predictor(source: str, target: str) -> list[Rule]:
    return [
        Rule(f"{source}.cls_score.weight", f"{target}/cls/kernel", layouts.dense_background_first),
        Rule(f"{source}.cls_score.bias", f"{target}/cls/bias", layouts.background_first),
        Rule(f"{source}.bbox_pred.weight", f"{target}/box/kernel", layouts.dense_with_background_box),
        Rule(f"{source}.bbox_pred.bias", f"{target}/box/bias", layouts.with_background_box),
    ]


def _box_head(head: str, predictor: str, target: str) -> list[Rule]:
    return [
        *dense(f"{head}.fc1", f"{target}/fc1", layouts.dense_from_chw(7)),
        *dense(f"{head}.fc2", f"{target}/fc2"),
        *_predictor(predictor, f"{target}/predictor"),
    ]


def _mask_head(target: str) -> list[Rule]:
    return [
        *conv("roi_heads.mask_head.mask_fcn{c+1}", f"{target}/conv{{c}}"),
        *conv("roi_heads.mask_head.deconv", f"{target}/up", layouts.deconv),
        *conv("roi_heads.mask_head.predictor", f"{target}/logit"),
    ]


C4 = [
    *_backbone("backbone"),
    *units("roi_heads.res5", "bbox_head/stage4"),
    *_RPN,
    *_predictor("roi_heads.box_predictor", "bbox_head/predictor"),
    *_mask_head("mask_head"),
]
"""Faster and Mask R-CNN C4, and TridentNet, whose branches share all."""

FPN = [
    *_backbone("backbone.bottom_up"),
    *_FPN,
    *_RPN,
    *_box_head("roi_heads.box_head", "roi_heads.box_predictor", "bbox_head"),
    *_mask_head("mask_head"),
]
"""Faster and Mask R-CNN FPN."""

CASCADE = [
    *_backbone("backbone.bottom_up"),
    *_FPN,
    *_RPN,
    *[
        rule
        for stage, suffix in enumerate(("1st", "2nd", "3rd"))
        for rule in _box_head(f"roi_heads.box_head.{stage}", f"roi_heads.box_predictor.{stage}", f"bbox_head_{suffix}")
    ],
    *_mask_head("mask_head"),
]
"""Cascade (Mask) R-CNN FPN."""

RETINA = [
    *_backbone("backbone.bottom_up"),
    # Before the rules of the other levels, whose targets would take these too.
    *conv("backbone.top_block.p6", "neck/p6_conv"),
    *conv("backbone.top_block.p7", "neck/p7_conv"),
    *_FPN,
    # A ReLU stands between two convolutions of a tower: they are numbers 0, 2, 4, ...
    *[
        rule
        for i in range(8)
        for tower in ("cls", "bbox")
        for rule in conv(f"head.{tower}_subnet.{2 * i}", f"retina_head/{tower.replace('bbox', 'box')}_conv{i + 1}")
    ],
    *conv("head.cls_score", "retina_head/cls"),
    *conv("head.bbox_pred", "retina_head/box"),
]
"""RetinaNet."""


def name_map(rules: list[Rule]) -> NameMap:
    """The map of a family."""
    return NameMap(
        rules,
        ignored=IGNORED,
        pixel_mean=(123.675, 116.28, 103.53),
        pixel_std=(1.0, 1.0, 1.0),
        stride_in_1x1=True,
    )
