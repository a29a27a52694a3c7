"""The outputs of SimpleDet's families on ResNet-v2: Faster C4 and TridentNet, Cascade."""

from __future__ import annotations

import tensorflow as tf

from tfdet.detectors import TwoStageDetector
from tools.golden.layout import nchw, rpn_scores
from tools.golden.simpledet_folder import Golden
from tools.golden.simpledet_v1 import box_outputs

_SUFFIXES = ("1st", "2nd", "3rd")


def c4(detector: TwoStageDetector, golden: Golden, inputs: tf.Tensor, image_info: tf.Tensor) -> dict:
    """Of a detector on C4, also with branches, see `simpledet_rows.Row.compute`."""
    first = detector.first_stage_from_input(inputs, training=False)
    outputs = _first_stage(detector, inputs, first, image_info)
    rois = tf.constant(golden.outputs["proposal"])
    image_info = tf.repeat(image_info, rois.shape[0], axis=0)
    head = detector.bbox_head
    features = detector.roi_extractor(first.roi_features, rois)
    stage4 = head.stage4(features)
    bn1 = head.bn1(stage4)
    outputs |= box_outputs(detector, first, rois, image_info)
    return outputs | {
        "roi_align": nchw(features),
        f"stage4_unit{len(head.stage4.units)}_plus": nchw(stage4),
        "bn1": nchw(bn1),
        "relu1": nchw(tf.nn.relu(bn1)),
        "pool1": tf.reduce_mean(tf.nn.relu(bn1), [1, 2]),
    }


def cascade(detector: TwoStageDetector, golden: Golden, inputs: tf.Tensor, image_info: tf.Tensor) -> dict:
    """Of a cascade on C5: the first stage from SimpleDet's proposals, the others from our refined boxes."""
    first = detector.first_stage_from_input(inputs, training=False)
    outputs = _first_stage(detector, inputs, first, image_info)
    rois = tf.constant(golden.outputs["proposal"])
    c4, relu1 = detector.backbone(inputs)[2:]
    c5 = detector.backbone.stages[3](c4)
    reduced = nchw(detector.neck.conv(relu1))
    boxes, scores = detector.predict_boxes(first, rois, image_info)
    outputs |= {
        f"stage4_unit{len(detector.backbone.stages[3].units)}_plus": nchw(c5),
        "bn1": nchw(detector.backbone.bn1(c5)),
        "relu1": nchw(relu1),
        "backbone_reduce": reduced,
        "backbone_reduce_relu": nchw(first.roi_features[0]),
        "HEAD3": scores,
        "HEAD4": boxes,
    }
    for index, (suffix, stage) in enumerate(zip(_SUFFIXES, detector.stages, strict=True)):
        pooled = detector.roi_extractor(first.roi_features, rois)
        fc1 = stage.head.fc1(tf.reshape(pooled, [tf.shape(pooled)[0], -1]))
        fc2 = stage.head.fc2(tf.nn.relu(fc1))
        _, deltas = stage.head.predictor(tf.nn.relu(fc2))
        rois = detector.postprocess.decode(
            rois, deltas[None], image_info, class_agnostic=True, box_std=stage.targets.box_std
        )[:, :, 0]
        outputs |= {
            f"roi_align_{suffix}": nchw(pooled),
            "roi_align" if index == 0 else f"roi_align#{index}": nchw(pooled),
            f"bbox_fc1_{suffix}": fc1,
            f"bbox_fc1_{suffix}_relu": tf.nn.relu(fc1),
            f"bbox_fc2_{suffix}": fc2,
            f"bbox_fc2_{suffix}_relu": tf.nn.relu(fc2),
            f"bbox_reg_delta_{suffix}": deltas,
            f"decode_bbox_{suffix}": rois,
        }
    for suffix, head in zip(_SUFFIXES, detector.bbox_heads, strict=True):
        # At test SimpleDet evaluates the class logits of all heads on the RoIs of the last, the third.
        logits = head(pooled)[0]
        for end in (suffix, f"{suffix}_3rd"):
            outputs |= {f"bbox_cls_logit_{end}": logits, f"bbox_cls_score_{end}": tf.nn.softmax(logits)}
            outputs[f"bbox_cls_score_reshape_{end}"] = outputs[f"bbox_cls_score_{end}"]
        fc1 = head.fc1(tf.reshape(pooled, [tf.shape(pooled)[0], -1]))
        fc2 = head.fc2(tf.nn.relu(fc1))
        outputs |= {f"bbox_fc1_{suffix}_3rd": fc1, f"bbox_fc1_{suffix}_3rd_relu": tf.nn.relu(fc1)}
        outputs |= {f"bbox_fc2_{suffix}_3rd": fc2, f"bbox_fc2_{suffix}_3rd_relu": tf.nn.relu(fc2)}
    return outputs


def _first_stage(detector: TwoStageDetector, inputs: tf.Tensor, first, image_info: tf.Tensor) -> dict:
    """Backbone up to C4, RPN, proposals."""
    backbone = detector.backbone
    outputs = {"bn_data": nchw(backbone.bn_data(inputs)), "pool0": nchw(backbone.stem(inputs))}
    for i, x in enumerate(backbone(inputs)[:3]):
        name, branches = f"stage{i + 1}_unit{len(backbone.stages[i].units)}_plus", len(backbone.test_branches)
        if i == 2 and branches > 1:
            outputs |= {f"{name}_branch{b}": nchw(x[b::branches]) for b in range(branches)}
        else:
            outputs[name] = nchw(x)
        if i == 2 and branches == 1:
            outputs[f"{name}_branch{backbone.branches.index(backbone.test_branches[0])}"] = nchw(x)
    logits, deltas = first.rpn[0]
    proposals = detector.propose(first, image_info, training=False)
    return outputs | {
        "rpn_cls_logit": nchw(logits),
        "rpn_cls_score_reshape": rpn_scores(logits),
        "rpn_bbox_delta": nchw(deltas),
        "proposal": proposals.boxes,
        "proposal_score": proposals.scores,
    }
