"""Name maps from torchvision's detectors to tfdet's variables, one a family.

torchvision feeds R, G, B from 0 to 1 and puts background first. Its files come in two spellings, of torchvision before
version 2 of a module and after; both are read, and the newer one stands in the tables.
"""

from __future__ import annotations

import re

from tfdet.data.coco_names import COCO_CATEGORIES
from tfdet.weights import layouts
from tfdet.weights.rules import Arrays, NameMap, Rule
from tfdet.weights.torch_rules import Step, conv, conv_norm, dense

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


def stem(prefix: str, variance: Step = layouts.same) -> list[Rule]:
    """The first convolution; `prefix` ends with a dot or is empty."""
    return conv_norm(f"{prefix}conv1", f"{prefix}bn1", "backbone/conv0", "backbone/bn0", variance=variance)


def units(source: str, target: str, variance: Step = layouts.same) -> list[Rule]:
    """The bottleneck units of a stage (models/resnet.py)."""
    source, target = f"{source}.{{unit-1}}", f"{target}/unit{{unit}}"
    names = (("conv{c}", "bn{c}", "conv{c}", "bn{c}"), ("downsample.0", "downsample.1", "sc", "sc_bn"))
    return [
        rule
        for conv_name, norm_name, kernel, norm in names
        for rule in conv_norm(
            f"{source}.{conv_name}",
            f"{source}.{norm_name}",
            f"{target}/{kernel}",
            f"{target}/{norm}",
            variance=variance,
        )
    ]


_BACKBONE = [*stem("backbone.body."), *units("backbone.body.layer{stage}", "backbone/stage{stage}")]

FPN = [
    *_BACKBONE,
    *conv("backbone.fpn.inner_blocks.{level-2}.0", "neck/p{level}_lateral"),
    *conv("backbone.fpn.layer_blocks.{level-2}.0", "neck/p{level}_conv"),
    *conv("rpn.head.conv.0.0", "rpn_head/conv"),
    *conv("rpn.head.cls_logits", "rpn_head/cls"),
    *conv("rpn.head.bbox_pred", "rpn_head/box"),
    *dense("roi_heads.box_head.fc6", "bbox_head/fc1", layouts.dense_from_chw(7)),
    *dense("roi_heads.box_head.fc7", "bbox_head/fc2"),
    *dense("roi_heads.box_predictor.cls_score", "bbox_head/predictor/cls"),
    *dense("roi_heads.box_predictor.bbox_pred", "bbox_head/predictor/box"),
    *conv("roi_heads.mask_head.{c}.0", "mask_head/conv{c}"),
    *conv("roi_heads.mask_predictor.conv5_mask", "mask_head/up", layouts.deconv),
    *conv("roi_heads.mask_predictor.mask_fcn_logits", "mask_head/logit"),
]
"""Faster and Mask R-CNN FPN (fasterrcnn_resnet50_fpn, maskrcnn_resnet50_fpn)."""

RETINA = [
    *_BACKBONE,
    # Before the rules of the other levels, whose targets would take these too.
    *conv("backbone.fpn.extra_blocks.p6", "neck/p6_conv"),
    *conv("backbone.fpn.extra_blocks.p7", "neck/p7_conv"),
    *conv("backbone.fpn.inner_blocks.{level-3}.0", "neck/p{level}_lateral"),
    *conv("backbone.fpn.layer_blocks.{level-3}.0", "neck/p{level}_conv"),
    *conv("head.classification_head.conv.{i-1}.0", "retina_head/cls_conv{i}"),
    *conv("head.classification_head.cls_logits", "retina_head/cls"),
    *conv("head.regression_head.conv.{i-1}.0", "retina_head/box_conv{i}"),
    *conv("head.regression_head.bbox_reg", "retina_head/box"),
]
"""RetinaNet (retinanet_resnet50_fpn). Its classes are category ids, so that number 0 is of no object."""


COCO_IDS = list(COCO_CATEGORIES)
COCO_NUMBERS = 91
"""Numbers of classes in torchvision's files of COCO: category ids from 0 to 90, some of which there are not."""

_CLASSES = re.compile(
    r"roi_heads\.(box_predictor\.(cls_score|bbox_pred)|mask_predictor\.mask_fcn_logits)\.(weight|bias)"
)
_ANCHOR_CLASSES = re.compile(r"head\.classification_head\.cls_logits\.(weight|bias)")


def coco_classes(arrays: Arrays) -> Arrays:
    """The predictors of torchvision's published files, which count category ids from 0 to 90, for COCO's 80 classes.

    Two-stage detectors keep number 0, the background; RetinaNet, which has none, does not.
    """
    chosen = {}
    for name, array in arrays.items():
        if _CLASSES.fullmatch(name):
            by_class = array.reshape(COCO_NUMBERS, -1, *array.shape[1:])
            array = by_class[[0, *COCO_IDS]].reshape(-1, *array.shape[1:])
        elif _ANCHOR_CLASSES.fullmatch(name):
            by_class = array.reshape(-1, COCO_NUMBERS, *array.shape[1:])
            array = by_class[:, COCO_IDS].reshape(-1, *array.shape[1:])
        chosen[name] = array
    return chosen


def name_map(rules: list[Rule], of_coco_ids: bool = False) -> NameMap:
    """The map of a family, for both spellings.

    Args:
        rules: `FPN` or `RETINA`.
        of_coco_ids: the file has 91 numbers of classes and the detector COCO's 80: see `coco_classes`.
    """
    return NameMap(
        rules,
        (lambda arrays: coco_classes(current_names(arrays))) if of_coco_ids else current_names,
        IGNORED,
        pixel_mean=(123.675, 116.28, 103.53),  # .485, .456, .406 of 255
        pixel_std=(58.395, 57.12, 57.375),  # .229, .224, .225 of 255
        stride_in_1x1=False,
    )
