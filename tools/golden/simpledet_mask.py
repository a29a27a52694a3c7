"""The outputs of SimpleDet's Mask R-CNN."""

from __future__ import annotations

import re

import numpy as np
import tensorflow as tf

from tfdet.detectors import TwoStageDetector
from tools.golden.layout import nchw
from tools.golden.simpledet_folder import Golden
from tools.golden.simpledet_v1 import fpn

FINAL_BOXES = re.compile(r".*post(?!_nms)")
"""Names of the detections' boxes: suppressed within the network, in pixels of its input (bbox_post_processing.py)."""


def compute(detector: TwoStageDetector, golden: Golden, inputs: tf.Tensor, image_info: tf.Tensor) -> dict:
    """Of Mask R-CNN on FPN, see `simpledet_rows.Row.compute`.

    The masks' RoI features are pooled from SimpleDet's final boxes, and the head reads SimpleDet's RoI features.
    """
    computed, outputs = fpn(detector, golden, inputs, image_info), golden.outputs
    boxes, scores = computed["HEAD4"], computed["HEAD3"]
    computed["decode_bbox: reshape1"] = boxes
    branch, head = detector.masks, detector.mask_head
    first = detector.first_stage_from_input(inputs, training=False)
    final, found = final_boxes(outputs), detector.postprocess(boxes, scores, image_info)
    detections = {
        "post_score": found.scores[..., None].numpy(),
        "post_bbox_xyxy": (found.boxes * image_info[:, 2][:, None, None]).numpy(),
        "post_cls": found.classes[..., None].numpy().astype(np.float32),
    }
    for ending, array in detections.items():
        computed |= dict.fromkeys([name for name in outputs if name.endswith(ending)], array)
    computed |= dict(zip(("HEAD3", "HEAD4", "HEAD5"), detections.values(), strict=True))
    pooled = _pooled(outputs, branch.roi_extractor.output_size)
    if pooled is None:
        return computed
    features = tf.constant(outputs[pooled].transpose(0, 2, 3, 1))
    if final is not None and outputs[final].size == 4 * len(features):
        rois = tf.constant(outputs[final].reshape(1, -1, 4))
        computed[pooled] = nchw(branch.roi_extractor(first.roi_features, rois))
    base = 0 if "arg:mask_fcn_conv0_weight" in golden.folded else 1
    x = features
    for number, conv in enumerate(head.convs, base):
        x = conv(x)
        computed[f"mask_fcn_conv{number}"] = nchw(x)
        x = tf.nn.relu(x)
        computed[f"mask_fcn_conv{number}_relu"] = nchw(x)
    x = head.up(x)
    computed["mask_up0"] = nchw(x)
    x = tf.nn.relu(x)
    computed["mask_up0_relu"] = nchw(x)
    logits = head.logit(x)
    computed["mask_fcn_logit"] = nchw(logits)
    probabilities = computed["HEAD6"] = nchw(tf.sigmoid(logits))
    for name, stored in outputs.items():
        # The result of the graph, whose name and leading axes say nothing.
        if name not in computed and stored.size == probabilities.size and 0 <= stored.min() <= stored.max() <= 1:
            computed[name] = probabilities
    return computed


def final_boxes(outputs: dict[str, np.ndarray]) -> str | None:
    """The name of the detections' boxes, as a result of the graph where it is one; None where nothing is called so."""
    names = [n for n, a in outputs.items() if n.startswith("HEAD4:") or FINAL_BOXES.match(n)]
    names = [name for name in names if outputs[name].ndim == 3 and outputs[name].shape[-1] == 4]
    return max(names, key=lambda name: name.startswith("HEAD"), default=None)


def _pooled(outputs: dict[str, np.ndarray], size: int) -> str | None:
    """The name of the masks' RoI features: the sum over levels, made after what each level gives."""
    names = [n for n, a in outputs.items() if a.ndim == 4 and a.shape[2:] == (size, size) and "mask_fcn" not in n]
    sums = [name for name in names if name.startswith("add_n")]
    return (sums or names or [None])[-1]
