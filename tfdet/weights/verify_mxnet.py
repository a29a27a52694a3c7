"""Runs an image through SimpleDet's network, where MXNet is installed, and through a detector with its weights."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tfdet.backbones import ResNetV2
from tfdet.detectors import RetinaDetector, TwoStageDetector
from tfdet.errors import UserError
from tfdet.necks import FPN, ReduceNeck, RetinaNeck
from tfdet.weights import verify_process
from tfdet.weights.readers import read_weights
from tfdet.weights.simpledet import IGNORED
from tfdet.weights.sources import num_classes_of
from tfdet.weights.verify_process import level_maps, nchw

SIDES = (216, 312)
"""Height and width that the picture is resized to: no multiples of 32, so that pyramids have to crop."""

PACKAGES = "MXNet, in an environment of its own: python -m venv mx; mx/bin/pip install mxnet==1.9.1 numpy==1.23.5"

_ROI_SIDES = (0.9, 0.5, 0.25, 0.12)
"""Of the RoIs whose features the heads of both sides read, in sides of the image; one in each corner.

Not proposals: those of weights that are not trained may be empty, and heads would be compared on zeros alone.
"""

BACKBONE, C4, FASTER_FPN, MASK = "ImageNet backbone", "Faster R-CNN C4", "Faster R-CNN FPN", "Mask R-CNN FPN"
CASCADE, RETINA = "Cascade R-CNN C5", "RetinaNet"

_RPN = {"rpn_conv_3x3", "rpn_cls_logit", "rpn_bbox_delta"}
_OUTPUTS = {"bbox_cls_logit", "bbox_reg_delta"}
_PYRAMID = {f"P{k}_{part}" for k in range(2, 6) for part in ("lateral", "conv")}
_ON_PYRAMID = _PYRAMID | {"rpn_conv", "rpn_conv_cls", "rpn_conv_bbox", "bbox_fc1", "bbox_fc2"} | _OUTPUTS

LAYERS = {
    BACKBONE: set(),
    C4: _RPN | _OUTPUTS,
    FASTER_FPN: _ON_PYRAMID,
    MASK: _ON_PYRAMID | {"mask_fcn_conv", "mask_up0", "mask_fcn_logit"},
    CASCADE: _RPN
    | {"backbone_reduce"}
    | {f"{name}_{k}" for name in ("bbox_fc1", "bbox_fc2", *_OUTPUTS) for k in ("1st", "2nd", "3rd")},
    RETINA: (_PYRAMID - {"P2_lateral", "P2_conv"})
    | {"P6_conv", "P7_conv", "cls_conv", "cls_pred", "bbox_conv", "bbox_pred"},
}
"""Layers behind the backbone by family; TridentNet's are those of Faster R-CNN C4.

Convolutions in a row count as one, and both revisions' names of a layer as that of the later.
"""

_TENSOR = re.compile(r"^(?:arg|aux):(?P<layer>.+)_(weight|bias|gamma|beta|moving_mean|moving_var)$")
_NUMBERED = re.compile(r"^(mask_fcn_conv|cls_conv|bbox_conv)\d+$")
_OF_BACKBONE = re.compile(r"bn_data|conv0|bn0|bn1|stage[1-4]_unit\d+_(conv[123]|bn[123](_shared\d)?|sc|sc_bn)")

_BRANCH = re.compile(r"_shared\d_(gamma|beta)$")


def compare(detector: keras.Model, path: str | Path, pixels: np.ndarray) -> dict[str, float]:
    """The differences as `verify_process.map_differences` counts them.

    Args:
        detector: with the weights of `path`, as the zoo's gin file builds it, of any width; for the file of an ImageNet
            backbone any detector on that backbone.
        path: weights of one of the zoo's families, BN folded or not, or of resnet-v1-50, resnet-v1-101, resnet-50 or
            resnet-101.
        pixels: uint8 [H, W, 3] of size `SIDES`, RGB.

    Raises:
        UserError: the file is of another family, or the detector; or MXNet is not installed, here or where
            TFDET_MXNET_PYTHON names a Python, or does not load the file.
    """
    arrays = read_weights(path)
    family = family_of(arrays, path)
    if detector.backbone.compute_dtype != "float32":
        raise UserError(f"--verify compares in float32, the detector computes in {detector.backbone.compute_dtype}")
    if family != BACKBONE:
        own = family_of_detector(detector)
        if own != family:
            raise UserError(
                f"{path} is of a {family}, the detector {f'a {own}' if own else 'of no row'}: give its gin file"
            )
        classes = num_classes_of(arrays)
        if classes != detector.num_classes:
            raise UserError(
                f"{path} has {classes} classes, the detector {detector.num_classes}: leave --num_classes out"
            )
    branches = branches_of(detector)
    if not len(branches) and any(_BRANCH.search(name) for name in arrays):
        raise UserError(f"{path} is of a TridentNet with BN folded, the detector has no branches: give its gin file")
    found, features = outputs(detector, pixels, family)
    expected = verify_process.run_program(
        "run_mxnet.py",
        PACKAGES,
        "TFDET_MXNET_PYTHON",
        path,
        pixels=pixels,
        num_stages=detector.backbone.num_stages,
        dilate_c5=getattr(detector.backbone, "dilate_c5", False),
        branches=branches,
        **features,
    )
    return verify_process.map_differences({name: expected[name] for name in found}, found)


def family_of(names: Iterable[str], path: str | Path) -> str:
    """The family, of `LAYERS`, that tensors of these names are of.

    Raises:
        UserError: of none: a layer is missing, or one more there.
    """
    layers = {_TENSOR.sub(r"\g<layer>", name) for name in names if not IGNORED.fullmatch(name)}
    layers = {_NUMBERED.sub(r"\1", name) for name in layers if not _OF_BACKBONE.fullmatch(name)}
    if "conv_neck" in layers:  # as the first revision calls it
        layers = layers - {"conv_neck"} | {"backbone_reduce"}
    nearest = min(LAYERS, key=lambda family: len(LAYERS[family] ^ layers))
    for text, some in (("has", layers - LAYERS[nearest]), ("lacks", LAYERS[nearest] - layers)):
        if some:
            raise UserError(
                f"{path}: --verify runs SimpleDet's ImageNet backbones and its zoo's Faster R-CNN (C4, FPN), Cascade "
                f"R-CNN C5, Mask R-CNN FPN, TridentNet and RetinaNet; this file {text} {min(some)} unlike any of them"
            )
    return nearest


def family_of_detector(detector: keras.Model) -> str | None:
    """The family, of `LAYERS`, whose layers a detector has; None where it is of none."""
    neck, is_v2 = detector.neck, isinstance(detector.backbone, ResNetV2)
    if isinstance(detector, RetinaDetector):
        return RETINA if isinstance(neck, RetinaNeck) and not is_v2 else None
    has_masks, heads = detector.mask_head is not None, len(detector.bbox_heads)
    if isinstance(neck, ReduceNeck) and is_v2:
        return CASCADE if heads == 3 and not has_masks else None
    if isinstance(neck, FPN) and not is_v2 and heads == 1:
        return MASK if has_masks and not detector.masks.shares_box_features else None if has_masks else FASTER_FPN
    return C4 if neck is None and heads == 1 and not has_masks else None


def branches_of(detector: keras.Model) -> np.ndarray:
    """Number and dilation of each branch that is tested: int [k, 2], k = 0 without branches."""
    backbone = detector.backbone
    pairs = [(backbone.branches.index(d), d) for d in getattr(backbone, "test_branches", ())]
    return np.array(pairs, np.int64).reshape(-1, 2)


def outputs(
    detector: keras.Model, pixels: np.ndarray, family: str
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Our maps, and the RoI features that the other program's heads are to read.

    Names of maps: `stage_K` of the backbone, `fpn_K`, `neck` of a Cascade; `rpn_logits_K`, `rpn_deltas_K`, of RetinaNet
    `cls_logits_K` and `box_deltas_K`; of heads on RoIs `roi_stage_4`, `bbox_logits`, `bbox_deltas`, of a Cascade with
    `_1st` and so on, and `mask_logits`.

    Args:
        detector: with the weights.
        pixels: uint8 [H, W, 3], RGB.
        family: of the file, of `LAYERS`.

    Returns:
        Maps [B, C, H, W] and rows [R, C] by name; features [R, C, P, P] by the program's names.
    """
    image, info = tf.constant(pixels[None]), tf.constant([[*pixels.shape[:2], 1.0]], tf.float32)
    inputs = detector.normalize(image, info)
    found = {f"stage_{k}": nchw(x) for k, x in enumerate(detector.backbone(inputs), 1)}
    if family == RETINA:
        pyramid = detector.feature_maps(inputs, training=False)
        found |= {f"fpn_{k}": nchw(x) for k, x in enumerate(pyramid)}
        return found | level_maps(detector.head(pyramid), ("cls_logits", "box_deltas")), {}
    if family == BACKBONE and not _has_c5_head(detector):
        return found, {}
    first = detector.first_stage_from_input(inputs, training=False)
    rois = tf.repeat(_rois(*pixels.shape[:2]), first.roi_features[0].shape[0], axis=0)  # of branches
    if family == BACKBONE:
        features = detector.roi_extractor(first.roi_features, rois)
        *_, c5 = detector.bbox_head(features, return_map=True)
        return found | {"roi_stage_4": nchw(c5)}, {"roi_features": nchw(features)}
    if family in (FASTER_FPN, MASK):
        found |= {f"fpn_{k}": nchw(x) for k, x in enumerate(first.features)}
    if family == CASCADE:
        found["neck"] = nchw(first.roi_features[0])
    found |= level_maps(first.rpn, ("rpn_logits", "rpn_deltas"))
    of_heads, features = _heads(detector, first, rois)
    return found | of_heads, features


def _has_c5_head(detector: keras.Model) -> bool:
    """Whether stage 4 of the backbone is a box head on RoIs of 7 x 7, as in SimpleDet."""
    if not isinstance(detector, TwoStageDetector) or len(detector.bbox_heads) > 1:
        return False
    return hasattr(detector.bbox_head, "stage4") and detector.roi_extractor.output_size == 7


def _rois(height: int, width: int) -> tf.Tensor:
    """Boxes of all sizes: float32 [1, 16, 4]."""
    size, boxes = np.array([width - 1, height - 1]), []
    for side in _ROI_SIDES:
        for corner in ((0, 0), (0, 1), (1, 0), (1, 1)):
            start = (1 - side) * np.array(corner)
            boxes.append(np.concatenate([start * size, (start + side) * size]))
    return tf.constant(boxes, tf.float32)[None]


def _heads(detector: TwoStageDetector, first, rois: tf.Tensor):
    """Maps and features, as of `outputs`, of all heads on RoIs [B, R, 4]; the heads of a Cascade read the same ones."""
    features, found = detector.roi_extractor(first.roi_features, rois), {}
    handed = {"roi_features": nchw(features)}
    options = {"return_map": True} if _has_c5_head(detector) else {}
    for stage in detector.stages:
        logits, deltas, *maps = stage.head(features, **options)
        if maps:
            found["roi_stage_4"] = nchw(maps[0])
        found |= {f"bbox_logits{stage.name}": logits.numpy(), f"bbox_deltas{stage.name}": deltas.numpy()}
    if detector.mask_head is not None:
        features = detector.masks.roi_extractor(first.roi_features, rois)
        handed["mask_features"] = nchw(features)
        found["mask_logits"] = nchw(detector.mask_head(features))
    return found, handed
