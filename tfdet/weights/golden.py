"""Compares a detector with stored outputs of SimpleDet for the same weights and image.

A golden folder holds `meta.json`, `params.params` (BN folded), `params_unmerged_bn.params` (the entries that differ
before folding), `inputs.npz` and `outputs_core.npz`, as SimpleDet's graph computed them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfdet.backbones import ResNetV1, ResNetV2
from tfdet.detectors import Detector, PostProcess, RetinaDetector, TwoStageDetector
from tfdet.detectors.preprocess import normalize_images
from tfdet.errors import UserError
from tfdet.heads import C5BboxHead, MlpBboxHead, RoiExtractor, RpnHead
from tfdet.heads.proposals import AnchorGenerator, ProposalGenerator
from tfdet.heads.rpn import foreground_scores
from tfdet.necks import FPN
from tfdet.targets.assigners import RoiTargetSampler, RpnTargetAssigner
from tfdet.weights import golden_mask, golden_retina
from tfdet.weights.load import assign_arrays, family_rules
from tfdet.weights.readers.mxnet_params import read_params

_ROW = re.compile(r"(?!mask_r\d+v1c4)(?P<family>faster|mask)_r(?P<depth>50|101)v1(?P<trunk>c4|_fpn)")
_FULL_STEM = 64
_PROPOSAL_SETS = ("proposal", "get_top_proposal: reshape5")


class MapError(NamedTuple):
    """Agreement of one output. `error` is the largest difference over the reference's absolute maximum."""

    name: str
    shape: tuple[int, ...]
    error: float


class Golden(NamedTuple):
    """One golden folder, read."""

    folder: Path
    meta: dict
    folded: dict[str, np.ndarray]
    unfolded: dict[str, np.ndarray]
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]


def read_golden(folder: str | Path) -> Golden:
    """Reads a golden folder; `UserError` names the file that is missing or broken."""
    folder = Path(folder)
    try:
        meta = json.loads((folder / "meta.json").read_text())
        inputs = dict(np.load(folder / "inputs.npz"))
        outputs = dict(np.load(folder / "outputs_core.npz"))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: not a golden folder of SimpleDet ({error})") from error
    folded = read_params(folder / "params.params")
    unfolded = {k: v for k, v in folded.items() if not re.search(r"_shared\d_(gamma|beta)$", k)}
    unfolded.update(read_params(folder / "params_unmerged_bn.params"))
    return Golden(folder, meta, folded, unfolded, inputs, outputs)


def build_like(golden: Golden) -> Detector:
    """The detector of a golden: family and depth from its row name, widths and RoI counts from its tensors."""
    row = golden.meta.get("row", "")
    if match := golden_retina.ROW.match(row):
        return golden_retina.build(int(match["depth"]), golden.folded, golden.outputs)
    from tfdet.weights import golden_v2  # which takes pieces of this module

    if golden_v2.ROW.match(row):
        return golden_v2.build_like(golden)
    match = _ROW.match(row)
    if not match:
        raise UserError(
            f"{golden.folder}/meta.json: row {row!r} is of a family that tfdet does not build; it builds Faster R-CNN, "
            "Mask R-CNN and RetinaNet on ResNet-v1 (faster_r50v1c4*, faster_r50v1_fpn*, mask_r50v1_fpn*, "
            "retina_r50v1_fpn*), and on ResNet-v2 faster_r50v2c4*, tridentnet_r50v2c4* and cascade_r50v2_c5*; "
            "r101 as r50"
        )
    depth, weights = int(match["depth"]), golden.folded
    width = weights["arg:conv0_weight"].shape[0] / _FULL_STEM
    num_classes = weights["arg:bbox_cls_logit_weight"].shape[0] - 1
    top_n = {"pre_nms_top_n": (12000, pre_nms_top_n(golden))}
    common = {"rpn_targets": RpnTargetAssigner(), "roi_targets": RoiTargetSampler(), "postprocess": PostProcess()}
    if match["trunk"] == "c4":
        rpn_channels = weights["arg:rpn_conv_3x3_weight"].shape[0]
        detector = TwoStageDetector(
            num_classes,
            ResNetV1(depth, num_stages=3, width=width),
            neck=None,
            rpn_head=lambda num_anchors: RpnHead(num_anchors, rpn_channels),
            bbox_head=lambda num_classes: C5BboxHead(num_classes, depth, width=width),
            anchors=AnchorGenerator(),
            proposals=ProposalGenerator(post_nms_top_n=(2000, golden.outputs["proposal"].shape[1]), **top_n),
            roi_extractor=RoiExtractor(),
            **common,
        )
    else:
        if match["family"] == "mask":
            common |= golden_mask.parts(weights, golden.outputs)
        channels = weights["arg:rpn_conv_weight"].shape[0]
        fc_channels, use_bias = weights["arg:bbox_fc1_weight"].shape[0], "arg:bbox_fc1_bias" in weights
        rois = golden.outputs["get_top_proposal: reshape5"].shape[1]
        detector = TwoStageDetector(
            num_classes,
            ResNetV1(depth, num_stages=4, width=width),
            neck=FPN(channels),
            rpn_head=lambda num_anchors: RpnHead(num_anchors, channels),
            bbox_head=lambda num_classes: MlpBboxHead(num_classes, fc_channels, use_bias),
            anchors=AnchorGenerator(strides=(4, 8, 16, 32, 64), scales=(8,)),
            proposals=ProposalGenerator(variant=("symbolic",) * 3 + ("v3",) * 2, post_nms_top_n=(2000, rois), **top_n),
            roi_extractor=RoiExtractor(strides=(4, 8, 16, 32), level_rule="log2"),
            **common,
        )
    detector.create_weights()
    return detector


def pre_nms_top_n(golden: Golden) -> int:
    """Boxes that the golden's graph kept before NMS."""
    text = " ".join(golden.meta.get("substitutions", []))
    found = re.search(r"else \\?d\+ -> pre_nms_top_n = .* else (\d+)", text)
    return int(found[1]) if found else 6000


def check(golden: Golden, arrays: dict[str, np.ndarray]) -> list[MapError]:
    """Errors of every map that `golden` stores, for the checkpoint `arrays`.

    Each stage is fed SimpleDet's own RoIs: a near tie in NMS must not hide or fake a difference of the heads.
    """
    detector = build_like(golden)
    report = assign_arrays(detector, arrays, family_rules(detector), str(golden.folder))
    if report.missing or report.mismatched or report.unused:
        raise UserError(f"{report.summary()}; the checkpoint does not fit the family {golden.meta['row']}")
    computed = {k: np.asarray(v) for k, v in _compute(detector, golden).items()}
    return [_compare(name, computed[name], golden.outputs[name]) for name in golden.outputs if name in computed]


def unchecked(golden: Golden, errors: list[MapError]) -> list[str]:
    """Stored outputs that `check` has no counterpart for."""
    return [name for name in golden.outputs if name not in {e.name for e in errors}]


def _compare(name: str, ours: np.ndarray, reference: np.ndarray) -> MapError:
    if ours.size != reference.size:
        return MapError(name, reference.shape, float("inf"))
    ours = ours.reshape(reference.shape).astype(np.float64)
    if name in _PROPOSAL_SETS or (golden_mask.FINAL_BOXES.match(name) and reference.shape[-1] == 4):
        ours = np.stack([_in_order_of(*rows) for rows in zip(reference, ours, strict=True)])
    scale = np.abs(reference).max() or 1.0
    difference = np.abs(ours - reference).max() / scale
    return MapError(name, reference.shape, float(difference) if np.isfinite(difference) else float("inf"))


def _in_order_of(reference: np.ndarray, ours: np.ndarray) -> np.ndarray:
    """Each row of `reference` [P, 4] gets the nearest row of `ours` not taken yet: near ties may swap places."""
    left, ordered = list(range(len(ours))), []
    for row in reference:
        nearest = min(left, key=lambda i: np.abs(ours[i] - row).max())
        left.remove(nearest)
        ordered.append(ours[nearest])
    return np.stack(ordered)


def nchw(x: tf.Tensor) -> tf.Tensor:
    """[B, H, W, C] -> [B, C, H, W]."""
    return tf.transpose(x, [0, 3, 1, 2])


def _compute(detector: Detector, golden: Golden) -> dict[str, tf.Tensor]:
    """Our counterparts of the stored outputs, under their names and in their layout."""
    image = tf.constant(golden.inputs["image_rgb_uint8"])[None]
    image_info = tf.constant(golden.inputs["im_info"])
    inputs = normalize_images(image, image_info, detector.pixel_mean, detector.pixel_std)
    stored_input = golden.inputs["data"].transpose(0, 2, 3, 1)
    if np.abs(inputs.numpy() - stored_input).max() > 1e-3:
        raise UserError(f"{golden.folder}/inputs.npz: data is not image_rgb_uint8 minus the channel means")
    if isinstance(detector.backbone, ResNetV2):
        from tfdet.weights import golden_v2

        first = detector.first_stage_from_input(inputs, training=False)
        return golden_v2.compute(detector, golden, inputs, first, image_info)
    outputs = {"pool0": nchw(detector.backbone.stem(inputs))}
    for i, x in enumerate(detector.backbone(inputs)):
        outputs[f"stage{i + 1}_unit{len(detector.backbone.stages[i].units)}_relu"] = nchw(x)
    if isinstance(detector, RetinaDetector):
        return outputs | golden_retina.compute(detector, inputs, image_info, golden.outputs)
    first = detector.first_stage_from_input(inputs, training=False)
    if detector.neck is None:
        outputs |= _c4_outputs(detector, golden, first, image_info)
    else:
        outputs |= _fpn_outputs(detector, golden, first, image_info)
    return outputs


def rpn_scores(logits: tf.Tensor) -> tf.Tensor:
    """Softmax in SimpleDet's channel order, [B, 2A, H, W]."""
    foreground = nchw(foreground_scores(logits))
    return tf.concat([1.0 - foreground, foreground], axis=1)


def _c4_outputs(detector, golden, first, image_info) -> dict[str, tf.Tensor]:
    logits, deltas = first.rpn[0]
    proposals = detector.propose(first, image_info, training=False)
    rois = tf.constant(golden.outputs["proposal"])
    features = detector.roi_extractor(first.features, rois)
    stage4 = detector.bbox_head.stage4(features)
    units = len(detector.bbox_head.stage4.units)
    return {
        "rpn_cls_logit": nchw(logits),
        "rpn_cls_score_reshape": rpn_scores(logits),
        "rpn_bbox_delta": nchw(deltas),
        "proposal": proposals.boxes,
        "proposal_score": proposals.scores,
        "roi_align": nchw(features),
        f"stage4_unit{units}_relu": nchw(stage4),
        "pool1": tf.reduce_mean(stage4, [1, 2]),
        **_box_outputs(detector, first, rois, image_info, "HEAD4:decode_bbox: concat0_output"),
    }


def _fpn_outputs(detector, golden, first, image_info) -> dict[str, tf.Tensor]:
    outputs = {f"P{i + 2}_conv": nchw(x) for i, x in enumerate(first.features[:4])}
    outputs["P6_subsampling"] = nchw(first.features[4])
    for stride, (logits, deltas) in zip(detector.anchors.strides, first.rpn, strict=True):
        outputs[f"rpn_cls_score_stride{stride}"] = nchw(logits)
        outputs[f"rpn_cls_score_stride{stride}#1"] = rpn_scores(logits)
        outputs[f"rpn_bbox_pred_stride{stride}"] = nchw(deltas)
    outputs["get_top_proposal: reshape5"] = detector.propose(first, image_info, training=False).boxes
    rois = tf.constant(golden.outputs["get_top_proposal: reshape5"])
    features = detector.roi_extractor(first.features[:4], rois)
    head = detector.bbox_head
    channels_last = tf.reshape(features, [tf.shape(features)[0], -1])
    fc1 = head.fc1(channels_last)
    fc2 = head.fc2(tf.nn.relu(fc1))
    outputs |= {"add_n1": nchw(features), "bbox_fc1": fc1, "bbox_fc1_relu": tf.nn.relu(fc1)}
    outputs |= {"bbox_fc2": fc2, "bbox_fc2_relu": tf.nn.relu(fc2)}
    outputs |= _box_outputs(detector, first, rois, image_info, "HEAD4:decode_bbox: reshape1_output")
    if detector.masks is not None:
        boxes = outputs["decode_bbox: reshape1"] = outputs["HEAD4:decode_bbox: reshape1_output"]
        scores = outputs["bbox_cls_score_reshape"]
        outputs |= golden_mask.compute(detector, golden.folded, golden.outputs, first, image_info, boxes, scores)
    return outputs


def _box_outputs(detector, first, rois, image_info, boxes_name) -> dict[str, tf.Tensor]:
    cls_logits, deltas = detector.second_stage(first, rois, training=False)
    scores = tf.nn.softmax(cls_logits)
    boxes = detector.postprocess.decode(rois, deltas, image_info, detector.bbox_head.class_agnostic)
    return {
        "bbox_cls_logit": cls_logits,
        "bbox_cls_score": scores,
        "bbox_cls_score_reshape": scores,
        "HEAD3:bbox_cls_score_reshape_output": scores,
        "bbox_reg_delta": deltas,
        boxes_name: boxes,
    }
