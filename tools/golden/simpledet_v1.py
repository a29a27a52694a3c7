"""The outputs of SimpleDet's Faster R-CNN on ResNet-v1: C4 and FPN."""

from __future__ import annotations

import re

import numpy as np
import tensorflow as tf

from tfdet.detectors import Detector, TwoStageDetector
from tfdet.ops.proposals import generate_proposals
from tfdet.ops.roi_align import assign_levels
from tools.golden.layout import nchw, rpn_scores
from tools.golden.simpledet_folder import Golden


def c4(detector: TwoStageDetector, golden: Golden, inputs: tf.Tensor, image_info: tf.Tensor) -> dict:
    """Of a detector on C4, see `simpledet_rows.Row.compute`."""
    first = detector.first_stage_from_input(inputs, training=False)
    logits, deltas = first.rpn[0]
    proposals = detector.propose(first, image_info, training=False)
    rois = tf.constant(golden.outputs["proposal"])
    features = detector.roi_extractor(first.features, rois)
    stage4 = detector.bbox_head.stage4(features)
    units = len(detector.bbox_head.stage4.units)
    return backbone(detector, inputs) | {
        "rpn_cls_logit": nchw(logits),
        "rpn_cls_score_reshape": rpn_scores(logits),
        "rpn_bbox_delta": nchw(deltas),
        "proposal": proposals.boxes,
        "proposal_score": proposals.scores,
        "roi_align": nchw(features),
        f"stage4_unit{units}_relu": nchw(stage4),
        "pool1": tf.reduce_mean(stage4, [1, 2]),
        **box_outputs(detector, first, rois, image_info),
    }


def fpn(detector: TwoStageDetector, golden: Golden, inputs: tf.Tensor, image_info: tf.Tensor) -> dict:
    """Of a detector on FPN, see `simpledet_rows.Row.compute`."""
    first = detector.first_stage_from_input(inputs, training=False)
    outputs = backbone(detector, inputs) | {f"P{i + 2}_conv": nchw(x) for i, x in enumerate(first.features[:4])}
    outputs["P6_subsampling"] = nchw(first.features[4])
    for stride, (logits, deltas) in zip(detector.anchors.strides, first.rpn, strict=True):
        outputs[f"rpn_cls_score_stride{stride}"] = nchw(logits)
        outputs[f"rpn_cls_score_stride{stride}#1"] = rpn_scores(logits)
        outputs[f"rpn_bbox_pred_stride{stride}"] = nchw(deltas)
    outputs["get_top_proposal: reshape5"] = detector.propose(first, image_info, training=False).boxes
    outputs |= _proposals_of_levels(detector, golden, first, image_info)
    rois = tf.constant(golden.outputs["get_top_proposal: reshape5"])
    features = detector.roi_extractor(first.roi_features, rois)
    outputs |= _levels_of_rois(detector, rois, features)
    head = detector.bbox_head
    fc1 = head.fc1(tf.reshape(features, [tf.shape(features)[0], -1]))
    fc2 = head.fc2(tf.nn.relu(fc1))
    outputs |= {"add_n1": nchw(features), "bbox_fc1": fc1, "bbox_fc1_relu": tf.nn.relu(fc1)}
    outputs |= {"bbox_fc2": fc2, "bbox_fc2_relu": tf.nn.relu(fc2)}
    return outputs | box_outputs(detector, first, rois, image_info)


def _proposals_of_levels(detector: TwoStageDetector, golden: Golden, first, image_info: tf.Tensor) -> dict:
    """Each level's proposals before the best of all are taken, and all survivors of the symbolic operator's NMS.

    The operators written in Python have numbers for names, which count whatever MXNet made before them.
    """
    generator, outputs, boxes, scores = detector.proposals, {}, [], []
    custom = [name for name in golden.outputs if re.fullmatch(r"custom\d+", name)]
    kept, symbolic = generator.post_nms_top_n[1], 0
    before = generator.pre_nms_top_n[1]
    variants = [generator.variant] * len(first.rpn) if isinstance(generator.variant, str) else generator.variant
    for level, ((logits, deltas), variant) in enumerate(zip(first.rpn, variants, strict=True)):
        cells, stride = detector.anchors.cells[level], detector.anchors.strides[level]
        found = generate_proposals(
            logits, deltas, cells, stride, image_info, before, max(kept, before), generator.iou_threshold,
            generator.min_size, variant, from_logits=True,
        )  # fmt: skip
        own = found.boxes.numpy(), found.scores.numpy()[..., None]
        boxes.append(own[0][:, :kept])
        scores.append(own[1][:, :kept])
        if variant == "symbolic":
            there = own[1] > 0
            rows = np.concatenate([np.where(there, 0.0, -1.0), own[1], own[0]], axis=-1)
            outputs[numbered("proposal: box_nms0_output0", symbolic)] = rows[:, :before].astype(np.float32)
            symbolic += 1
        elif custom:
            name = custom.pop(0)
            outputs |= {name: boxes[-1], f"{name}_score": scores[-1]}
    return outputs | {
        "proposal_concat": np.concatenate(boxes, axis=1),
        "proposal_scores_concat": np.concatenate(scores, axis=1),
    }


def _levels_of_rois(detector: TwoStageDetector, rois: tf.Tensor, features: tf.Tensor) -> dict:
    """The RoIs of each level, zeros in the places of others, and their features."""
    extractor, outputs = detector.roi_extractor, {}
    levels = assign_levels(rois, extractor.strides, rule=extractor.level_rule).numpy()
    pooled = nchw(features).reshape(*levels.shape, *nchw(features).shape[1:])
    for level in range(len(extractor.strides)):
        here = levels == level
        outputs[f"fpn_roi_assgin: where{level}"] = np.where(here[..., None], rois.numpy(), 0.0)
        outputs[numbered("roi_align", level)] = np.where(here[..., None, None, None], pooled, 0.0)
    return outputs


def numbered(name: str, repetition: int) -> str:
    """The name of a map: MXNet's graph repeats names, and the repetitions are numbered."""
    return f"{name}#{repetition}" if repetition else name


def backbone(detector: Detector, inputs: tf.Tensor) -> dict:
    """The stem and every stage of a ResNet-v1."""
    outputs = {"pool0": nchw(detector.backbone.stem(inputs))}
    for i, x in enumerate(detector.backbone(inputs)):
        outputs[f"stage{i + 1}_unit{len(detector.backbone.stages[i].units)}_relu"] = nchw(x)
    return outputs


def box_outputs(detector: TwoStageDetector, first, rois: tf.Tensor, image_info: tf.Tensor) -> dict:
    """What the box head says about RoIs [B, R, 4], and the scores and boxes that come of it: results 3 and 4.

    SimpleDet's own RoIs: a near tie in NMS must not hide or fake a difference of the heads.
    """
    cls_logits, deltas = detector.second_stage(first, rois, training=False)
    boxes, scores = detector.predict_boxes(first, rois, image_info)
    return {
        "bbox_cls_logit": cls_logits,
        "bbox_cls_score": scores,
        "bbox_cls_score_reshape": scores,
        "bbox_reg_delta": deltas,
        "HEAD3": scores,
        "HEAD4": boxes,
    }
