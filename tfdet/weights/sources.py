"""Which program wrote a set of tensors, and the name map for that program and a detector's family."""

from __future__ import annotations

import re

import keras

from tfdet.data.coco_names import COCO_CATEGORIES
from tfdet.detectors import RetinaDetector
from tfdet.errors import UserError
from tfdet.weights import detectron2, imagenet, own_format, simpledet, torchvision
from tfdet.weights.load import family_rules, prepare_simpledet
from tfdet.weights.rules import Arrays, NameMap

SIMPLEDET = "SimpleDet"
KERAS, KERAS_V2 = "keras.applications ResNet", "keras.applications ResNet V2"
DETECTRON2, DETECTRON2_RESNETS = "Detectron2", "Detectron2's ImageNet backbones"
TORCHVISION, TORCHVISION_RESNETS = "torchvision", "torchvision's ResNets"

MARKS = {
    "tfdet": own_format.MARK,
    SIMPLEDET: re.compile(r"(arg|aux):.+"),
    KERAS: re.compile(r"(.+/)?conv[2-5]_block\d+_\d_(conv|bn)/.+"),
    KERAS_V2: re.compile(r"(.+/)?conv[2-5]_block\d+_preact_bn/.+"),
    DETECTRON2: re.compile(r"backbone\.(bottom_up\.)?(stem|res\d|fpn_lateral\d)\..+"),
    DETECTRON2_RESNETS: re.compile(r"(stem\.conv1|res\d\.\d+\.conv\d)\..+|res\d_\d+_branch2[abc]_w"),
    TORCHVISION: re.compile(r"backbone\.body\..+"),
    TORCHVISION_RESNETS: re.compile(r"layer[1-4]\.\d+\.conv\d\.weight"),
}
"""Names of tensors that give a program away. Where two fit, the later one counts: it is the more particular."""


_CLASS_BIASES = [
    (r"(detector/)?bbox_head(_1st)?(/|\.S)predictor(/|\.S)cls(/|\.S)bias", None),
    (r"(detector/)?retina_head(/|\.S)cls(/|\.S)bias", r"(detector/)?retina_head(/|\.S)box(/|\.S)bias"),
    (r"arg:bbox_cls_logit(_1st)?_bias", None),
    (r"arg:cls_pred_bias", r"arg:bbox_pred_bias"),
    (r"roi_heads\.box_predictor\.(0\.)?cls_score\.bias", None),
    (r"head\.cls_score\.bias", r"head\.bbox_pred\.bias"),
    (r"head\.classification_head\.cls_logits\.bias", r"head\.regression_head\.bbox_reg\.bias"),
]
"""The bias of a class predictor, with the background in it, or, by anchors, beside the bias of a box predictor."""


_COCO_NUMBERS = (torchvision.COCO_NUMBERS, torchvision.COCO_NUMBERS - 1)  # without and with a background in it


def classes_of(arrays: Arrays) -> dict[int, str] | None:
    """Names by category id of the classes that a file's detector finds; None for a file with a backbone alone.

    A file does not name them: 80 are taken for COCO's, any others are numbered.
    """
    count = num_classes_of(arrays)
    if count is None:
        return None
    if program_of(arrays) == TORCHVISION and count in _COCO_NUMBERS:
        count = len(COCO_CATEGORIES)
    return COCO_CATEGORIES if count == len(COCO_CATEGORIES) else {k: f"class {k}" for k in range(1, count + 1)}


def program_of(arrays: Arrays) -> str | None:
    """The program, a key of `MARKS`, that wrote the tensors; None where their names are of no known one."""
    found = [title for title, mark in MARKS.items() if any(mark.fullmatch(name) for name in arrays)]
    return found[-1] if found else None


def num_classes_of(arrays: Arrays) -> int | None:
    """Classes, without background, of a file with a detector; None for a file with a backbone alone."""

    def size(pattern: str) -> int | None:
        return next((array.size for name, array in arrays.items() if re.fullmatch(pattern, name)), None)

    for classes, boxes in _CLASS_BIASES:
        biases, per_anchor = size(classes), size(boxes) if boxes else None
        if biases and not boxes:
            return biases - 1
        if biases and per_anchor and per_anchor >= 4:
            return biases // (per_anchor // 4)
    return None


def find_map(arrays: Arrays, detector: keras.Model, path: str) -> tuple[str, NameMap]:
    """The program that wrote the tensors, for people, and its name map for the family of `detector`.

    Raises:
        UserError: the names are of no known program, or of one whose network differs.
    """
    title = program_of(arrays)
    if title is None:
        some = ", ".join(sorted(arrays)[:3]) or "none"
        raise UserError(f"{path}: its tensors ({some}, ...) are of no known program; known are {', '.join(MARKS)}")
    _check_variant(title, arrays, detector, path)
    makers = {
        "tfdet": lambda: own_format.name_map(detector, arrays),
        SIMPLEDET: lambda: NameMap(family_rules(detector), prepare_simpledet, simpledet.IGNORED, stride_in_1x1=True),
        KERAS: lambda: imagenet.KERAS,
        KERAS_V2: lambda: imagenet.KERAS_V2,
        DETECTRON2: lambda: detectron2.name_map(_detectron2_rules(detector)),
        DETECTRON2_RESNETS: lambda: imagenet.DETECTRON2,
        TORCHVISION: lambda: torchvision.name_map(
            torchvision.RETINA if isinstance(detector, RetinaDetector) else torchvision.FPN,
            of_coco_ids=num_classes_of(arrays) in _COCO_NUMBERS and detector.num_classes == len(torchvision.COCO_IDS),
        ),
        TORCHVISION_RESNETS: lambda: imagenet.TORCHVISION,
    }
    name_map = makers[title]()
    strides_on = getattr(detector.backbone, "stride_on", None)
    wanted = {True: "1x1", False: "3x3", None: None}[name_map.stride_in_1x1]
    if wanted and strides_on and strides_on != wanted:
        raise UserError(f"{path}: {title} strides on its {wanted} convolutions: set ResNetV1.stride_on = '{wanted}'")
    return title, name_map


def _check_variant(title: str, arrays: Arrays, detector: keras.Model, path: str) -> None:
    """`UserError` where a file is of one variant of ResNet-v2 and the detector of the other, or of no ResNet-v2."""
    variant = getattr(detector.backbone, "variant", None)  # ResNetV2 alone has it
    if title == KERAS_V2 and variant != "keras":
        backbone = "" if variant else f"{type(detector).__name__}.backbone = @ResNetV2() and "
        raise UserError(
            f"{path}: of keras.applications' ResNet V2: set {backbone}ResNetV2.variant = 'keras', as "
            "gin_configs/examples/faster_r50v2_fpn_keras.gin does; it takes four stages and a neck"
        )
    if title == SIMPLEDET and variant == "keras" and "arg:bn_data_beta" in arrays:
        raise UserError(f"{path}: of SimpleDet's ResNet-v2: set ResNetV2.variant = 'mxnet', the default")


def _detectron2_rules(detector: keras.Model) -> list:
    if isinstance(detector, RetinaDetector):
        return detectron2.RETINA
    if detector.neck is None:
        return detectron2.C4
    return detectron2.CASCADE if len(detector.bbox_heads) > 1 else detectron2.FPN
