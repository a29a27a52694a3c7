"""The families on ResNet-v2 for `tfdet.weights.golden`: Faster C4, TridentNet, Cascade."""

from __future__ import annotations

import re

import tensorflow as tf

from tfdet.backbones import ResNetV2
from tfdet.detectors import PostProcess, TwoStageDetector
from tfdet.detectors.branches import ScaleBranches
from tfdet.heads import C5V2BboxHead, MlpBboxHead, RoiExtractor, RpnHead
from tfdet.heads.proposals import AnchorGenerator, ProposalGenerator
from tfdet.necks import ReduceNeck
from tfdet.targets.assigners import RoiTargetSampler, RpnTargetAssigner
from tfdet.weights.golden import Golden, nchw, pre_nms_top_n, rpn_scores

ROW = re.compile(r"(?P<family>faster|tridentnet|cascade)_r(?P<depth>50|101)v2(?P<trunk>c4|_c5)(?P<fast>.*fastapprox)?")
_FULL_STEM = 64
_STAGE_STD = ((0.1, 0.1, 0.2, 0.2), (0.05, 0.05, 0.1, 0.1), (0.033, 0.033, 0.067, 0.067))
_SUFFIXES = ("1st", "2nd", "3rd")


def build_like(golden: Golden) -> TwoStageDetector:
    """The detector of a golden: family and depth from its row name, widths and RoI counts from its tensors."""
    match, weights = ROW.match(golden.meta["row"]), golden.folded
    depth, is_cascade = int(match["depth"]), match["family"] == "cascade"
    width = weights["arg:conv0_weight"].shape[0] / _FULL_STEM
    cls_logit = "arg:bbox_cls_logit_1st_weight" if is_cascade else "arg:bbox_cls_logit_weight"
    rpn_channels = weights["arg:rpn_conv_3x3_weight"].shape[0]
    parts = {
        "num_classes": weights[cls_logit].shape[0] - 1,
        "rpn_head": lambda num_anchors: RpnHead(num_anchors, rpn_channels),
        "anchors": AnchorGenerator(),
        "proposals": ProposalGenerator(
            pre_nms_top_n=(12000, pre_nms_top_n(golden)),
            post_nms_top_n=(2000, golden.outputs["proposal"].shape[1]),
        ),
        "roi_extractor": RoiExtractor(),
        "rpn_targets": RpnTargetAssigner(),
        "pixel_mean": (0.0, 0.0, 0.0),
    }
    if is_cascade:
        parts |= _cascade_parts(weights, depth, width)
    else:
        branches = ()
        if match["family"] == "tridentnet":
            branches = (1, 2, 3)
            parts["branches"] = ScaleBranches(None) if match["fast"] else ScaleBranches()
        parts |= {
            "backbone": ResNetV2(
                depth, width=width, branches=branches, test_branches=(2,) if match["fast"] else branches
            ),
            "bbox_head": lambda num_classes: C5V2BboxHead(num_classes, depth, width=width),
            "roi_targets": RoiTargetSampler(),
            "postprocess": PostProcess(),
        }
    detector = TwoStageDetector(**parts)
    detector.create_weights()
    return detector


def _cascade_parts(weights, depth: int, width: float) -> dict:
    is_later = "arg:backbone_reduce_weight" in weights
    channels, _, kernel_size, _ = weights["arg:backbone_reduce_weight" if is_later else "arg:conv_neck_weight"].shape
    fc_channels = weights["arg:bbox_fc1_1st_weight"].shape[0]
    use_bias = "arg:bbox_fc1_1st_bias" in weights
    return {
        "backbone": ResNetV2(depth, num_stages=4, width=width, dilate_c5=True),
        "neck": ReduceNeck(channels, kernel_size, use_bias=not is_later),
        "bbox_head": lambda num_classes, name: MlpBboxHead(
            num_classes, fc_channels, use_bias, class_agnostic=True, name=name
        ),
        "roi_targets": [RoiTargetSampler(box_std=std) for std in _STAGE_STD],
        "stage_loss_weights": (1.0, 0.5, 0.25),
        "postprocess": PostProcess(box_std=_STAGE_STD[-1]),
    }


def compute(detector: TwoStageDetector, golden: Golden, inputs, first, image_info) -> dict[str, tf.Tensor]:
    """Our counterparts of the stored outputs, under their names and in their layout."""
    backbone = detector.backbone
    outputs = {"bn_data": nchw(backbone.bn_data(inputs)), "pool0": nchw(backbone.stem(inputs))}
    features = backbone(inputs)
    for i, x in enumerate(features[:3]):
        name, branches = f"stage{i + 1}_unit{len(backbone.stages[i].units)}_plus", len(backbone.test_branches)
        if i == 2 and branches > 1:
            outputs |= {f"{name}_branch{b}": nchw(x[b::branches]) for b in range(branches)}
        else:
            outputs[name] = nchw(x)
    logits, deltas = first.rpn[0]
    proposals = detector.propose(first, image_info, training=False)
    outputs |= {
        "rpn_cls_logit": nchw(logits),
        "rpn_cls_score_reshape": rpn_scores(logits),
        "rpn_bbox_delta": nchw(deltas),
        "proposal": proposals.boxes,
        "proposal_score": proposals.scores,
    }
    rois = tf.constant(golden.outputs["proposal"])
    image_info = tf.repeat(image_info, rois.shape[0], axis=0)
    if len(detector.stages) > 1:
        return outputs | _cascade_outputs(detector, first, rois, image_info, features)
    return outputs | _c5_outputs(detector, first, rois, image_info)


def _c5_outputs(detector, first, rois, image_info) -> dict[str, tf.Tensor]:
    head = detector.bbox_head
    features = detector.roi_extractor(first.roi_features, rois)
    stage4 = head.stage4(features)
    bn1 = head.bn1(stage4)
    cls_logits, deltas = detector.second_stage(first, rois, training=False)
    scores = tf.nn.softmax(cls_logits)
    boxes = detector.postprocess.decode(rois, deltas, image_info, head.class_agnostic)
    return {
        "roi_align": nchw(features),
        f"stage4_unit{len(head.stage4.units)}_plus": nchw(stage4),
        "bn1": nchw(bn1),
        "relu1": nchw(tf.nn.relu(bn1)),
        "pool1": tf.reduce_mean(tf.nn.relu(bn1), [1, 2]),
        "bbox_cls_logit": cls_logits,
        "bbox_cls_score": scores,
        "bbox_cls_score_reshape": scores,
        "HEAD3:bbox_cls_score_reshape_output": scores,
        "HEAD3:reshape13_output": scores,
        "bbox_reg_delta": deltas,
        "HEAD4:decode_bbox: concat0_output": boxes,
        "HEAD4:reshape14_output": boxes,
    }


def _cascade_outputs(detector, first, rois, image_info, features) -> dict[str, tf.Tensor]:
    """The first two stages from SimpleDet's proposals, the last from our refined boxes."""
    units = len(detector.backbone.stages[3].units)
    c4, c5 = features[2], detector.backbone.stages[3](features[2])
    del c4
    outputs = {
        f"stage4_unit{units}_plus": nchw(c5),
        "bn1": nchw(detector.backbone.bn1(c5)),
        "relu1": nchw(features[3]),
        "backbone_reduce": nchw(detector.neck.conv(features[3])),
        "backbone_reduce_relu": nchw(first.roi_features[0]),
        "conv_neck": nchw(detector.neck.conv(features[3])),
        "conv_neck_relu": nchw(first.roi_features[0]),
    }
    for index, (suffix, stage) in enumerate(zip(_SUFFIXES, detector.stages, strict=True)):
        pooled = detector.roi_extractor(first.roi_features, rois)
        fc1 = stage.head.fc1(tf.reshape(pooled, [tf.shape(pooled)[0], -1]))
        fc2 = stage.head.fc2(tf.nn.relu(fc1))
        cls_logits, deltas = stage.head.predictor(tf.nn.relu(fc2))
        boxes = detector.postprocess.decode(
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
            f"decode_bbox_{suffix}": boxes,
        }
        if index < 2:
            rois = boxes
    heads = [head(pooled) for head in detector.bbox_heads]
    scores = tf.add_n([tf.nn.softmax(logits) for logits, _ in heads]) / len(heads)
    for suffix, (logits, _) in zip(_SUFFIXES, heads, strict=True):
        # At test SimpleDet evaluates the class logits of all heads on the RoIs of the last.
        outputs[f"bbox_cls_logit_{suffix}"] = logits
    return outputs | {"HEAD3:scores": scores, "HEAD4:boxes": boxes}
