"""Which program wrote a set of tensors, and the name map for that program and a detector's family."""

from __future__ import annotations

import re

import keras

from tfdet.detectors import RetinaDetector
from tfdet.errors import UserError
from tfdet.weights import detectron2, imagenet, simpledet, torchvision
from tfdet.weights.load import family_rules, prepare_simpledet
from tfdet.weights.rules import Arrays, NameMap

MARKS = {
    "SimpleDet": re.compile(r"(arg|aux):.+"),
    "keras.applications ResNet": re.compile(r"(.+/)?conv[2-5]_block\d+_\d_(conv|bn)/.+"),
    "keras.applications ResNet V2": re.compile(r"(.+/)?conv[2-5]_block\d+_preact_bn/.+"),
    "Detectron2": re.compile(r"backbone\.(bottom_up\.)?(stem|res\d|fpn_lateral\d)\..+"),
    "Detectron2's ImageNet backbones": re.compile(r"(stem\.conv1|res\d\.\d+\.conv\d)\..+|res\d_\d+_branch2[abc]_w"),
    "torchvision": re.compile(r"backbone\.body\..+"),
    "torchvision's ResNets": re.compile(r"layer[1-4]\.\d+\.conv\d\.weight"),
}
"""Names of tensors that give a program away. Where two fit, the later one counts: it is the more particular."""


def find_map(arrays: Arrays, detector: keras.Model, path: str) -> tuple[str, NameMap]:
    """The program that wrote the tensors, for people, and its name map for the family of `detector`.

    Raises:
        UserError: the names are of no known program, or of one whose network differs.
    """
    found = [title for title, mark in MARKS.items() if any(mark.fullmatch(name) for name in arrays)]
    if not found:
        some = ", ".join(sorted(arrays)[:3]) or "none"
        raise UserError(f"{path}: its tensors ({some}, ...) are of no known program; known are {', '.join(MARKS)}")
    title = found[-1]
    if title == "keras.applications ResNet V2":
        raise UserError(f"{path}: keras.applications' ResNet V2 strides elsewhere than tfdet's ResNetV2; use its V1")
    makers = {
        "SimpleDet": lambda: NameMap(family_rules(detector), prepare_simpledet, simpledet.IGNORED, stride_in_1x1=True),
        "keras.applications ResNet": lambda: imagenet.KERAS,
        "Detectron2": lambda: detectron2.name_map(_detectron2_rules(detector)),
        "Detectron2's ImageNet backbones": lambda: imagenet.DETECTRON2,
        "torchvision": lambda: torchvision.name_map(
            torchvision.RETINA if isinstance(detector, RetinaDetector) else torchvision.FPN
        ),
        "torchvision's ResNets": lambda: imagenet.TORCHVISION,
    }
    name_map = makers[title]()
    strides_on = getattr(detector.backbone, "stride_on", None)
    wanted = {True: "1x1", False: "3x3", None: None}[name_map.stride_in_1x1]
    if wanted and strides_on and strides_on != wanted:
        raise UserError(f"{path}: {title} strides on its {wanted} convolutions: set ResNetV1.stride_on = '{wanted}'")
    return title, name_map


def _detectron2_rules(detector: keras.Model) -> list:
    if isinstance(detector, RetinaDetector):
        return detectron2.RETINA
    if detector.neck is None:
        return detectron2.C4
    return detectron2.CASCADE if len(detector.bbox_heads) > 1 else detectron2.FPN
