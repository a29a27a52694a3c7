"""RetinaNet's part of the comparison with stored outputs of SimpleDet (`tfdet.weights.golden`)."""

from __future__ import annotations

import re

import numpy as np
import tensorflow as tf

from tfdet.backbones import ResNetV1
from tfdet.detectors import DensePostProcess, RetinaDetector
from tfdet.heads import RetinaHead
from tfdet.heads.proposals import AnchorGenerator
from tfdet.necks import RetinaNeck
from tfdet.targets.retina import RetinaTargetAssigner

ROW = re.compile(r"retina_r(?P<depth>50|101)v1_fpn")
STRIDES = (8, 16, 32, 64, 128)
SCALES = (4.0, 4.0 * 2 ** (1 / 3), 4.0 * 2 ** (2 / 3))
_SCORE_WEIGHT = 1000.0  # of a score against a pixel, when rows are paired: another class is another row


def build(depth: int, weights: dict[str, np.ndarray], outputs: dict[str, np.ndarray]) -> RetinaDetector:
    """The detector of a golden: its widths from the tensors, its number of candidates from the outputs."""
    anchors = AnchorGenerator(strides=STRIDES, scales=SCALES)
    channels = weights["arg:cls_conv1_weight"].shape[0]
    detector = RetinaDetector(
        weights["arg:cls_pred_weight"].shape[0] // anchors.num_anchors,
        ResNetV1(depth, num_stages=4, width=weights["arg:conv0_weight"].shape[0] / 64),
        neck=RetinaNeck(weights["arg:P3_conv_weight"].shape[0]),
        head=lambda num_classes, num_anchors: RetinaHead(num_classes, num_anchors, channels),
        anchors=anchors,
        targets=RetinaTargetAssigner(),
        # The stored graphs are of the later revision, whose decoding operator does not bound the growth of boxes.
        postprocess=DensePostProcess(
            pre_nms_top_n=outputs[f"proposal_pre_nms_stride{STRIDES[0]}"].shape[1], bound_growth=False
        ),
    )
    detector.create_weights()
    return detector


def compute(detector: RetinaDetector, inputs: tf.Tensor, image_info: tf.Tensor, stored: dict[str, np.ndarray]):
    """Our counterparts of the stored outputs behind the backbone, under their names and in their layout.

    Args:
        inputs: float32 [1, H, W, 3], normalised.
        image_info: float32 [1, 3].
        stored: SimpleDet's outputs. The candidates are decoded from its own maps, not from ours: a near tie at the
            end of the list must not hide or fake a difference.
    """
    features = detector.feature_maps(inputs, training=False)
    outputs = {f"P{level}_conv": _nchw(x) for level, x in enumerate(features, 3)}
    for level, (cls_logits, deltas) in enumerate(detector.head(features)):
        outputs |= {_numbered("cls_pred", level): _nchw(cls_logits), _numbered("bbox_pred", level): _nchw(deltas)}

    maps = [
        tuple(tf.constant(stored[_numbered(name, level)].transpose(0, 2, 3, 1)) for name in ("cls_pred", "bbox_pred"))
        for level in range(len(STRIDES))
    ]
    grids = detector.anchors.grid([cls for cls, _ in maps])
    all_boxes, all_scores = [], []
    for stride, found in zip(STRIDES, detector.postprocess.candidates(maps, grids, image_info), strict=True):
        name = f"proposal_pre_nms_stride{stride}"
        # SimpleDet writes a pair's score into the column of its class, background first.
        scores = tf.one_hot(found.classes + 1, detector.num_classes + 1) * found.scores[..., None]
        boxes, scores = _as_ordered(stored[name][0], stored[f"{name}_score"][0], found.boxes[0], scores[0])
        outputs |= {name: boxes[None], f"{name}_score": scores[None]}
        all_boxes.append(boxes), all_scores.append(scores)
    outputs["HEAD3:cls_score_concat_output"] = np.concatenate(all_scores)[None]
    outputs["HEAD4:bbox_xyxy_concat_output"] = np.concatenate(all_boxes)[None]
    return outputs


def _as_ordered(boxes, scores, our_boxes, our_scores) -> tuple[np.ndarray, np.ndarray]:
    """Our rows [K, 4], [K, 1 + C] in the order of the stored ones: near ties may have swapped places."""
    our_boxes, our_scores = (_to_length(np.asarray(a), len(boxes)) for a in (our_boxes, our_scores))
    reference = np.concatenate([boxes, _SCORE_WEIGHT * scores], axis=1)
    ours = np.concatenate([our_boxes, _SCORE_WEIGHT * our_scores], axis=1)
    free, order = np.ones(len(ours), bool), []
    for row in reference:
        distance = np.where(free, np.abs(ours - row).max(axis=1), np.inf)
        order.append(int(distance.argmin()))
        free[order[-1]] = False
    return our_boxes[order], our_scores[order]


def _to_length(rows: np.ndarray, length: int) -> np.ndarray:
    """Rows of a small map, which has fewer pairs than SimpleDet has room for, padded with zeros."""
    return np.pad(rows, [[0, max(0, length - len(rows))], [0, 0]])


def _numbered(name: str, level: int) -> str:
    """The name of a map of this level: MXNet's graph repeats names, and the repetitions are numbered."""
    return f"{name}#{level}" if level else name


def _nchw(x: tf.Tensor) -> np.ndarray:
    return np.asarray(x).transpose(0, 3, 1, 2)
