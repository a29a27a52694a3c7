"""The outputs of SimpleDet's Faster R-CNN on ResNet-v1: C4 and FPN."""

from __future__ import annotations

import tensorflow as tf

from tfdet.detectors import Detector, TwoStageDetector
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
        **box_outputs(detector, first, rois, image_info, "HEAD4:decode_bbox: concat0_output"),
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
    rois = tf.constant(golden.outputs["get_top_proposal: reshape5"])
    features = detector.roi_extractor(first.roi_features, rois)
    head = detector.bbox_head
    fc1 = head.fc1(tf.reshape(features, [tf.shape(features)[0], -1]))
    fc2 = head.fc2(tf.nn.relu(fc1))
    outputs |= {"add_n1": nchw(features), "bbox_fc1": fc1, "bbox_fc1_relu": tf.nn.relu(fc1)}
    outputs |= {"bbox_fc2": fc2, "bbox_fc2_relu": tf.nn.relu(fc2)}
    return outputs | box_outputs(detector, first, rois, image_info, "HEAD4:decode_bbox: reshape1_output")


def backbone(detector: Detector, inputs: tf.Tensor) -> dict:
    """The stem and every stage of a ResNet-v1."""
    outputs = {"pool0": nchw(detector.backbone.stem(inputs))}
    for i, x in enumerate(detector.backbone(inputs)):
        outputs[f"stage{i + 1}_unit{len(detector.backbone.stages[i].units)}_relu"] = nchw(x)
    return outputs


def box_outputs(detector: TwoStageDetector, first, rois: tf.Tensor, image_info: tf.Tensor, *boxes_names: str) -> dict:
    """What the box head says about RoIs [B, R, 4], and the boxes and scores that come of it.

    SimpleDet's own RoIs: a near tie in NMS must not hide or fake a difference of the heads.
    """
    cls_logits, deltas = detector.second_stage(first, rois, training=False)
    boxes, scores = detector.predict_boxes(first, rois, image_info)
    return {
        "bbox_cls_logit": cls_logits,
        "bbox_cls_score": scores,
        "bbox_cls_score_reshape": scores,
        "HEAD3:bbox_cls_score_reshape_output": scores,
        "bbox_reg_delta": deltas,
        **dict.fromkeys(boxes_names, boxes),
    }
