"""What a detector computes of one image, for the comparison with the network of another program: maps by part."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from tfdet.necks import FPN, ReduceNeck, RetinaNeck
from tfdet.ops.paste_masks import PASTE_RULES, paste_masks

_ROI_SIDES = (0.9, 0.5, 0.25, 0.12)
"""Of the RoIs whose features the heads of both sides read, in sides of the image; one in each corner.

Not proposals: those of weights that are not trained may be empty, and heads would be compared on zeros alone.
"""


def backbone_maps(detector: keras.Model, pixels: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Maps of the backbone, `stage_K`, and, where stage 4 is a box head on RoIs of 7 x 7, of that: `roi_stage_4`.

    Args, returns: as of `detector_maps`.
    """
    image, info = _batch(pixels)
    found = _stages(detector, image, info)
    head = getattr(detector, "bbox_head", None)
    if len(getattr(detector, "bbox_heads", ())) != 1 or not has_map(head) or detector.roi_extractor.output_size != 7:
        return found, {}
    first = detector.first_stage(image, info, training=False)
    features = detector.roi_extractor(first.roi_features, _rois(first, pixels))
    *_, c5 = head(features, return_map=True)
    return found | {"roi_stage_4": nchw(c5)}, {"roi_features": nchw(features)}


def detector_maps(detector: keras.Model, pixels: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Maps of all parts, and the RoI features that the other program's heads are to read.

    Names of maps: `stage_K` of the backbone; `fpn_K`, which the RPN or RetinaNet's head reads; `neck`, which RoIs are
    pooled from, where that is one map; `rpn_logits_K`, `rpn_deltas_K`, of RetinaNet `cls_logits_K` and `box_deltas_K`;
    of heads on RoIs `roi_stage_4`, `bbox_logits`, `bbox_deltas`, of a cascade with `_1st` and so on, and `mask_logits`.

    Args:
        detector: with the weights.
        pixels: uint8 [H, W, 3], RGB.

    Returns:
        Maps [B, C, H, W] and rows [R, C] by name; features [R, C, P, P] by the program's names.
    """
    image, info = _batch(pixels)
    found = _stages(detector, image, info)
    if not hasattr(detector, "rpn_head"):  # one stage
        pyramid = detector.feature_maps(detector.normalize(image, info), training=False)
        found |= {f"fpn_{k}": nchw(x) for k, x in enumerate(pyramid)}
        return found | _levels(detector.head(pyramid), ("cls_logits", "box_deltas")), {}
    first = detector.first_stage(image, info, training=False)
    found |= {f"fpn_{k}": nchw(x) for k, x in enumerate(first.features)}
    if len(first.roi_features) == 1:
        found["neck"] = nchw(first.roi_features[0])
    found |= _levels(first.rpn, ("rpn_logits", "rpn_deltas"))
    of_heads, features = _heads(detector, first, _rois(first, pixels))
    return found | of_heads, features


def detections(detector: keras.Model, pixels: np.ndarray, rule: str) -> dict[str, np.ndarray]:
    """Detections of an image, as PyTorch's programs have them.

    Args:
        detector: with the weights.
        pixels: uint8 [H, W, 3], RGB.
        rule: of `PASTE_RULES`, by which masks are brought to the image's size.

    Returns:
        `boxes` [D, 4], edges, `scores` [D], `classes` [D] and, of a detector with masks, `masks`, bool [D, H, W].
    """
    found = detector.detect(*_batch(pixels))
    count = int(found.num_valid[0])
    result = {
        "boxes": found.boxes[0, :count].numpy() + np.float32([0, 0, 1, 1]),
        "scores": found.scores[0, :count].numpy(),
        "classes": found.classes[0, :count].numpy(),
    }
    if found.masks is not None:
        sides, (convention, _) = pixels.shape[:2], PASTE_RULES[rule]
        result["masks"] = paste_masks(found.masks[0, :count].numpy(), result["boxes"], *sides, convention)
    return result


def own_to_simpledet(detector: keras.Model, found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Those of our maps that SimpleDet's program gives: pyramids of a pyramid, the neck of a neck that reduces."""
    neck = getattr(detector, "neck", None)
    is_pyramid, reduces = isinstance(neck, (FPN, RetinaNeck)), isinstance(neck, ReduceNeck)
    left_out = ("fpn_",) * (not is_pyramid) + ("neck",) * (not reduces)
    return {name: x for name, x in found.items() if not name.startswith(left_out)}


def branches_of(detector: keras.Model) -> np.ndarray:
    """Number and dilation of each branch that is tested: int [k, 2], k = 0 without branches."""
    backbone = detector.backbone
    pairs = [(backbone.branches.index(d), d) for d in getattr(backbone, "test_branches", ())]
    return np.array(pairs, np.int64).reshape(-1, 2)


def has_map(head: keras.layers.Layer | None) -> bool:
    """Whether a box head is stage 4 of the backbone, whose map it can return."""
    return getattr(head, "has_map", False)


def nchw(x: tf.Tensor) -> np.ndarray:
    """[B, H, W, C] -> [B, C, H, W]."""
    return np.asarray(x).transpose(0, 3, 1, 2)


def _batch(pixels: np.ndarray) -> tuple[tf.Tensor, tf.Tensor]:
    return tf.constant(pixels[None]), tf.constant([[*pixels.shape[:2], 1.0]], tf.float32)


def _stages(detector: keras.Model, image: tf.Tensor, info: tf.Tensor) -> dict[str, np.ndarray]:
    maps = detector.backbone(detector.normalize(image, info))
    return {f"stage_{k}": nchw(x) for k, x in enumerate(maps, 1)}


def _levels(pairs: Sequence[tuple[tf.Tensor, tf.Tensor]], names: tuple[str, str]) -> dict[str, np.ndarray]:
    """What a head says about each level, as `names` and the level's number."""
    return {f"{name}_{k}": nchw(x) for k, pair in enumerate(pairs) for name, x in zip(names, pair, strict=True)}


def _rois(first, pixels: np.ndarray) -> tf.Tensor:
    """Boxes of all sizes for every image and branch: float32 [B, 16, 4]."""
    height, width = pixels.shape[:2]
    size, boxes = np.array([width - 1, height - 1]), []
    for side in _ROI_SIDES:
        for corner in ((0, 0), (0, 1), (1, 0), (1, 1)):
            start = (1 - side) * np.array(corner)
            boxes.append(np.concatenate([start * size, (start + side) * size]))
    return tf.repeat(tf.constant(boxes, tf.float32)[None], first.roi_features[0].shape[0], axis=0)


def _heads(detector: keras.Model, first, rois: tf.Tensor) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Maps and features of all heads on RoIs [B, R, 4]; the heads of a cascade read the same ones."""
    features, found = detector.roi_extractor(first.roi_features, rois), {}
    handed = {"roi_features": nchw(features)}
    for stage in detector.stages:
        logits, deltas, *maps = stage.head(features, **({"return_map": True} if has_map(stage.head) else {}))
        if maps:
            found["roi_stage_4"] = nchw(maps[0])
        found |= {f"bbox_logits{stage.name}": logits.numpy(), f"bbox_deltas{stage.name}": deltas.numpy()}
    if detector.mask_head is not None:
        if detector.masks.shares_box_features:
            features = maps[0]
        else:
            features = detector.masks.roi_extractor(first.roi_features, rois)
        handed["mask_features"] = nchw(features)
        found["mask_logits"] = nchw(detector.mask_head(features))
    return found, handed
