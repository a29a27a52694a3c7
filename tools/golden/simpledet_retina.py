"""The outputs of SimpleDet's RetinaNet."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfdet.detectors import RetinaDetector
from tools.golden.layout import nchw
from tools.golden.simpledet_folder import Golden
from tools.golden.simpledet_v1 import backbone, numbered

_SCORE_WEIGHT = 1000.0  # of a score against a pixel, when rows are paired: another class is another row


def compute(detector: RetinaDetector, golden: Golden, inputs: tf.Tensor, image_info: tf.Tensor) -> dict:
    """Of RetinaNet, see `simpledet_rows.Row.compute`.

    The candidates are decoded from SimpleDet's own maps, not from ours: a near tie at the end of the list must not hide
    or fake a difference.
    """
    stored, outputs = golden.outputs, backbone(detector, inputs)
    strides = detector.anchors.strides
    features = detector.feature_maps(inputs, training=False)
    outputs |= {f"P{level}_conv": nchw(x) for level, x in enumerate(features, 3)}
    for level, (cls_logits, deltas) in enumerate(detector.head(features)):
        outputs |= {numbered("cls_pred", level): nchw(cls_logits), numbered("bbox_pred", level): nchw(deltas)}

    maps = [
        tuple(tf.constant(stored[numbered(name, level)].transpose(0, 2, 3, 1)) for name in ("cls_pred", "bbox_pred"))
        for level in range(len(strides))
    ]
    grids = detector.anchors.grid([cls for cls, _ in maps])
    all_boxes, all_scores = [], []
    for stride, found in zip(strides, detector.postprocess.candidates(maps, grids, image_info), strict=True):
        name = f"proposal_pre_nms_stride{stride}"
        # SimpleDet writes a pair's score into the column of its class, background first.
        scores = tf.one_hot(found.classes + 1, detector.num_classes + 1) * found.scores[..., None]
        boxes, scores = _as_ordered(stored[name][0], stored[f"{name}_score"][0], found.boxes[0], scores[0])
        outputs |= {name: boxes[None], f"{name}_score": scores[None]}
        all_boxes.append(boxes), all_scores.append(scores)
    outputs["HEAD3"] = np.concatenate(all_scores)[None]
    outputs["HEAD4"] = np.concatenate(all_boxes)[None]
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
