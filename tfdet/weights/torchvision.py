"""Name maps from torchvision's detectors to tfdet's variables, one a family.

torchvision feeds R, G, B from 0 to 1 and puts background first. Its files come in two spellings, of torchvision before
version 2 of a module and after; both are read, and the newer one stands in the tables.
"""

from __future__ import annotations

import re

from tfdet.weights import layouts
from tfdet.weights.rules import Arrays, NameMap, Rule

IGNORED = re.compile(r".*\.num_batches_tracked|.*anchor_generator\..*")
"""Not parameters of a detector."""

_RENAMED = (
    (r"(backbone\.fpn\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)", r"\1.0.\2"),
    (r"(rpn\.head\.conv)\.(weight|bias)", r"\1.0.0.\2"),
    (r"(head\.(?:classification|regression)_head\.conv\.)(\d+)\.(weight|bias)", None),
    (r"(roi_heads\.mask_head\.)mask_fcn(\d+)\.(weight|bias)", None),
)


def current_names(arrays: Arrays) -> Arrays:
    """The same tensors under the names of current torchvision.

    Source: torchvision ops/feature_pyramid_network.py, models/detection/{rpn,retinanet,mask_rcnn}.py:
    _load_from_state_dict.
    """
    return {_current_name(name): array for name, array in arrays.items()}


def _current_name(name: str) -> str:
    for pattern, template in _RENAMED:
        match = re.fullmatch(pattern, name)
        if match and template:
            return match.expand(template)
        if match:  # convolutions that were numbered with the ReLUs between them, or from 1
            number = int(match[2])
            position = number // 2 if "_head.conv." in name else number - 1
            return f"{match[1]}{position}.0.{match[3]}"
    return name


def _conv(source: str, target: str, step=layouts.oihw_to_hwio) -> list[Rule]:
    return [Rule(f"{source}.weight", f"{target}/kernel", step), Rule(f"{source}.bias", f"{target}/bias", layouts.same)]


def _dense(source: str, target: str, step=layouts.dense) -> list[Rule]:
    return _conv(source, target, step)


def _conv_norm(conv: str, norm: str, kernel: str, target: str) -> list[Rule]:
    return [
        Rule(f"{conv}.weight", f"{kernel}/kernel", layouts.oihw_to_hwio),
        Rule(f"{norm}.weight", f"{target}/gamma", layouts.same),
        Rule(f"{norm}.bias", f"{target}/beta", layouts.same),
        Rule(f"{norm}.running_mean", f"{target}/moving_mean", layouts.same),
        Rule(f"{norm}.running_var", f"{target}/moving_variance", layouts.same),
    ]


_UNIT, _TARGET = "backbone.body.layer{stage}.{unit-1}", "backbone/stage{stage}/unit{unit}"

_BACKBONE = [
    *_conv_norm("backbone.body.conv1", "backbone.body.bn1", "backbone/conv0", "backbone/bn0"),
    *_conv_norm(f"{_UNIT}.conv{{c}}", f"{_UNIT}.bn{{c}}", f"{_TARGET}/conv{{c}}", f"{_TARGET}/bn{{c}}"),
    *_conv_norm(f"{_UNIT}.downsample.0", f"{_UNIT}.downsample.1", f"{_TARGET}/sc", f"{_TARGET}/sc_bn"),
]

FPN = [
    *_BACKBONE,
    *_conv("backbone.fpn.inner_blocks.{level-2}.0", "neck/p{level}_lateral"),
    *_conv("backbone.fpn.layer_blocks.{level-2}.0", "neck/p{level}_conv"),
    *_conv("rpn.head.conv.0.0", "rpn_head/conv"),
    *_conv("rpn.head.cls_logits", "rpn_head/cls"),
    *_conv("rpn.head.bbox_pred", "rpn_head/box"),
    *_dense("roi_heads.box_head.fc6", "bbox_head/fc1", layouts.dense_from_chw(7)),
    *_dense("roi_heads.box_head.fc7", "bbox_head/fc2"),
    *_dense("roi_heads.box_predictor.cls_score", "bbox_head/predictor/cls"),
    *_dense("roi_heads.box_predictor.bbox_pred", "bbox_head/predictor/box"),
    *_conv("roi_heads.mask_head.{c}.0", "mask_head/conv{c}"),
    *_conv("roi_heads.mask_predictor.conv5_mask", "mask_head/up", layouts.deconv),
    *_conv("roi_heads.mask_predictor.mask_fcn_logits", "mask_head/logit"),
]
"""Faster and Mask R-CNN FPN (fasterrcnn_resnet50_fpn, maskrcnn_resnet50_fpn)."""

RETINA = [
    *_BACKBONE,
    # Before the rules of the other levels, whose targets would take these too.
    *_conv("backbone.fpn.extra_blocks.p6", "neck/p6_conv"),
    *_conv("backbone.fpn.extra_blocks.p7", "neck/p7_conv"),
    *_conv("backbone.fpn.inner_blocks.{level-3}.0", "neck/p{level}_lateral"),
    *_conv("backbone.fpn.layer_blocks.{level-3}.0", "neck/p{level}_conv"),
    *_conv("head.classification_head.conv.{i-1}.0", "retina_head/cls_conv{i}"),
    *_conv("head.classification_head.cls_logits", "retina_head/cls"),
    *_conv("head.regression_head.conv.{i-1}.0", "retina_head/box_conv{i}"),
    *_conv("head.regression_head.bbox_reg", "retina_head/box"),
]
"""RetinaNet (retinanet_resnet50_fpn). Its classes are category ids, so that number 0 is of no object."""


def name_map(rules: list[Rule]) -> NameMap:
    """The map of a family, for both spellings."""
    return NameMap(
        rules,
        current_names,
        IGNORED,
        pixel_mean=(123.675, 116.28, 103.53),  # .485, .456, .406 of 255
        pixel_std=(58.395, 57.12, 57.375),  # .229, .224, .225 of 255
        stride_in_1x1=False,
    )
