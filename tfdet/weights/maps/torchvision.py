"""Name maps from torchvision's detectors and ResNets to tfdet's variables: the rules of each part.

torchvision feeds R, G, B from 0 to 1 and puts background first. Its files come in two spellings, of torchvision before
version 2 of a module and after; both are read, and the newer one stands in the tables.
"""

from __future__ import annotations

import re

import keras

from tfdet.backbones import ResNetV1
from tfdet.heads import C5BboxHead, ConvBboxHead, MaskHead, MlpBboxHead, RetinaHead, RpnHead
from tfdet.necks import FPN, RetinaNeck
from tfdet.weights.maps import layouts
from tfdet.weights.maps.classes import num_classes
from tfdet.weights.maps.coco_ids import COCO_IDS, coco_classes, counts_ids
from tfdet.weights.maps.parts import PartRules, both, compose, named, pooled_cells
from tfdet.weights.maps.rules import Arrays, NameMap, Rule
from tfdet.weights.maps.torch_layers import (
    FROM_TORCH_EPSILON,
    IMAGENET_MEAN,
    Step,
    conv,
    conv_norm,
    dense,
    head_norms,
    units,
)

MARK = re.compile(r"backbone\.body\..+")
"""Names that the files of detectors have."""

IMAGENET_MARK = re.compile(r"layer[1-4]\.\d+\.conv\d\.weight")
"""Names that the files of resnet50 and resnet101 have."""

CLASS_BIASES = [
    (r"roi_heads\.box_predictor\.cls_score\.bias", None),
    (r"head\.classification_head\.cls_logits\.bias", r"head\.regression_head\.bbox_reg\.bias"),
]
"""See `classes.num_classes`. RetinaNet's classes are category ids, so that number 0 is of no object."""

IGNORED = re.compile(r".*\.num_batches_tracked|.*anchor_generator\..*")
"""Not parameters of a detector."""

_PIXELS = {
    "pixel_mean": IMAGENET_MEAN,
    "pixel_std": (58.395, 57.12, 57.375),  # .229, .224, .225 of 255
    "stride_in_1x1": False,
}

_UNIT = (("conv{c}", "bn{c}", "conv{c}", "bn{c}"), ("downsample.0", "downsample.1", "sc", "sc_bn"))
"""Of a bottleneck unit (models/resnet.py): the file's names and ours of a convolution and its BN."""

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


def _resnet(prefix: str, target: str, variance: Step = layouts.same) -> list[Rule]:
    """The whole network; `prefix` ends with a dot or is empty."""
    return [
        *conv_norm(f"{prefix}conv1", f"{prefix}bn1", f"{target}/conv0", f"{target}/bn0", variance=variance),
        *units(f"{prefix}layer{{stage}}", f"{target}/stage{{stage}}", _UNIT, variance),
    ]


def _levels(first: int) -> dict[str, str]:
    """Laterals and 3x3 of a pyramid, which are numbered from its first level on."""
    return {
        "p{level}_lateral": f"backbone.fpn.inner_blocks.{{level-{first}}}.0",
        "p{level}_conv": f"backbone.fpn.layer_blocks.{{level-{first}}}.0",
    }


def _level_norms(first: int) -> dict[str, str]:
    """Normalisation behind them, in version 2 of the detectors."""
    return {
        "p{level}_lateral_bn": f"backbone.fpn.inner_blocks.{{level-{first}}}.1",
        "p{level}_bn": f"backbone.fpn.layer_blocks.{{level-{first}}}.1",
    }


def _predictor(head: keras.layers.Layer) -> list[Rule]:
    return [
        *dense("roi_heads.box_predictor.cls_score", f"{head.name}/predictor/cls"),
        *dense("roi_heads.box_predictor.bbox_pred", f"{head.name}/predictor/box"),
    ]


def _conv_head(head: ConvBboxHead, detector: keras.Model) -> list[Rule]:
    if len(detector.bbox_heads) > 1:  # torchvision has no cascade
        return []
    source, name = "roi_heads.box_head", head.name
    rules = [
        *conv(f"{source}.{{i-1}}.0", f"{name}/conv{{i}}"),
        *head_norms({"bn{i}": f"{source}.{{i-1}}.1"})(head, detector),
    ]
    for k in range(head.num_fcs):  # behind the flattening, with a ReLU after each
        step = layouts.dense if k else layouts.dense_from_chw(pooled_cells(detector))
        rules += dense(f"{source}.{head.num_convs + 1 + 2 * k}", f"{name}/fc{k + 1}", step)
    return [*rules, *_predictor(head)]


def _mlp_head(head: MlpBboxHead, detector: keras.Model) -> list[Rule]:
    if len(detector.bbox_heads) > 1:  # torchvision has no cascade
        return []
    return [
        *dense("roi_heads.box_head.fc6", f"{head.name}/fc1", layouts.dense_from_chw(pooled_cells(detector))),
        *dense("roi_heads.box_head.fc7", f"{head.name}/fc2"),
        *_predictor(head),
    ]


PARTS: PartRules = {
    ResNetV1: lambda backbone, detector: _resnet("backbone.body.", backbone.name),
    FPN: both(named(conv, _levels(first=2)), head_norms(_level_norms(first=2))),
    # The levels of names of their own first: the targets of the others would take these too.
    RetinaNeck: both(
        named(
            conv,
            {"p6_conv": "backbone.fpn.extra_blocks.p6", "p7_conv": "backbone.fpn.extra_blocks.p7"} | _levels(first=3),
        ),
        head_norms(_level_norms(first=3)),
    ),
    RpnHead: named(
        conv,
        {
            "conv": "rpn.head.conv.0.0",
            "conv{i}": "rpn.head.conv.{i-1}.0",
            "cls": "rpn.head.cls_logits",
            "box": "rpn.head.bbox_pred",
        },
    ),
    MlpBboxHead: _mlp_head,
    ConvBboxHead: _conv_head,
    MaskHead: both(
        named(
            conv,
            {
                "conv{c}": "roi_heads.mask_head.{c}.0",
                "up": ("roi_heads.mask_predictor.conv5_mask", layouts.deconv),
                "logit": "roi_heads.mask_predictor.mask_fcn_logits",
            },
        ),
        head_norms({"bn{c}": "roi_heads.mask_head.{c}.1"}),
    ),
    RetinaHead: both(
        named(
            conv,
            {
                "cls_conv{i}": "head.classification_head.conv.{i-1}.0",
                "cls": "head.classification_head.cls_logits",
                "box_conv{i}": "head.regression_head.conv.{i-1}.0",
                "box": "head.regression_head.bbox_reg",
            },
        ),
        head_norms(
            {
                "cls_bn{i}": "head.classification_head.conv.{i-1}.1",
                "box_bn{i}": "head.regression_head.conv.{i-1}.1",
            },
        ),
    ),
}
"""What torchvision's files of detectors call the tensors of each part."""

IMAGENET_PARTS: PartRules = {
    ResNetV1: lambda backbone, detector: _resnet("", backbone.name, FROM_TORCH_EPSILON),
    C5BboxHead: lambda head, detector: units("layer4", f"{head.name}/stage4", _UNIT, FROM_TORCH_EPSILON),
}
"""The same of resnet50 and resnet101."""


def name_map(detector: keras.Model, arrays: Arrays) -> NameMap:
    """The map of torchvision's detectors, in both spellings.

    Of a file with 91 numbers of classes, for a detector of COCO's 80, the predictors are cut: see `coco_ids`.
    """
    of_ids = counts_ids(num_classes(arrays, CLASS_BIASES)) and detector.num_classes == len(COCO_IDS)
    prepare = (lambda arrays: coco_classes(current_names(arrays))) if of_ids else current_names
    return NameMap(compose(detector, PARTS), prepare, IGNORED, **_PIXELS)


def imagenet_map(detector: keras.Model, arrays: Arrays | None = None) -> NameMap:
    """The map of torchvision's ResNets."""
    return NameMap(compose(detector, IMAGENET_PARTS), dict, re.compile(r"fc\..*|.*\.num_batches_tracked"), **_PIXELS)
