"""The mask branch's part of the comparison with stored outputs of SimpleDet (`tfdet.weights.golden`)."""

from __future__ import annotations

import functools
import re

import numpy as np
import tensorflow as tf

from tfdet.detectors import MaskBranch, PostProcess, TwoStageDetector
from tfdet.heads import MaskHead

FINAL_BOXES = re.compile(r".*post(?!_nms)")
"""Names of the detections' boxes: suppressed within the network, in pixels of its input (bbox_post_processing.py)."""

_CONV = re.compile(r"arg:mask_fcn_conv(\d+)_weight")


def parts(weights: dict[str, np.ndarray], outputs: dict[str, np.ndarray]) -> dict:
    """The arguments by which a `TwoStageDetector` of a golden gets its mask branch."""
    names = [name for name in weights if _CONV.fullmatch(name)]
    head = functools.partial(MaskHead, channels=weights["arg:mask_up0_weight"].shape[1], num_convs=len(names))
    boxes = _final_boxes(outputs)
    count = 100 if boxes is None else outputs[boxes].shape[-2]
    return {
        "masks": functools.partial(MaskBranch, head=head),
        "postprocess": PostProcess(max_detections=count, in_network_pixels=True),
    }


def compute(detector: TwoStageDetector, weights, outputs, first, image_info, boxes, scores) -> dict[str, np.ndarray]:
    """Our counterparts of the stored outputs of the mask branch, under their names and in their layout.

    Args:
        weights: the checkpoint's tensors.
        outputs: SimpleDet's outputs. RoI features are pooled from its final boxes, and the head reads its RoI features.
        first: `RpnOutputs` of the detector.
        image_info: float32 [1, 3].
        boxes, scores: of the box head, [1, R, 1 + C, 4] and [1, R, 1 + C].
    """
    branch, head, computed = detector.masks, detector.mask_head, {}
    final = _final_boxes(outputs)
    if final is not None:
        found = detector.postprocess(boxes, scores, image_info)
        computed[final] = (found.boxes * image_info[:, 2][:, None, None]).numpy()
    pooled = _pooled(outputs, branch.roi_extractor.output_size)
    if pooled is None:
        return computed
    features = tf.constant(outputs[pooled].transpose(0, 2, 3, 1))
    if final is not None and outputs[final].size == 4 * len(features):
        rois = tf.constant(outputs[final].reshape(1, -1, 4))
        computed[pooled] = _nchw(branch.roi_extractor(first.roi_features, rois))
    base = 0 if "arg:mask_fcn_conv0_weight" in weights else 1
    x = features
    for number, conv in enumerate(head.convs, base):
        x = conv(x)
        computed[f"mask_fcn_conv{number}"] = _nchw(x)
        x = tf.nn.relu(x)
        computed[f"mask_fcn_conv{number}_relu"] = _nchw(x)
    x = head.up(x)
    computed["mask_up0"] = _nchw(x)
    x = tf.nn.relu(x)
    computed["mask_up0_relu"] = _nchw(x)
    logits = head.logit(x)
    computed["mask_fcn_logit"] = _nchw(logits)
    probabilities = _nchw(tf.sigmoid(logits))
    for name, stored in outputs.items():
        # The result of the graph, whose name and leading axes say nothing.
        if name not in computed and stored.size == probabilities.size and 0 <= stored.min() <= stored.max() <= 1:
            computed[name] = probabilities
    return computed


def _final_boxes(outputs: dict[str, np.ndarray]) -> str | None:
    """The name of the detections' boxes, as a result of the graph where it is one; None where nothing is called so."""
    names = [n for n, a in outputs.items() if FINAL_BOXES.match(n) and a.ndim == 3 and a.shape[-1] == 4]
    return max(names, key=lambda name: name.startswith("HEAD"), default=None)


def _pooled(outputs: dict[str, np.ndarray], size: int) -> str | None:
    """The name of the masks' RoI features: the sum over levels, made after what each level gives."""
    names = [n for n, a in outputs.items() if a.ndim == 4 and a.shape[2:] == (size, size) and "mask_fcn" not in n]
    sums = [name for name in names if name.startswith("add_n")]
    return (sums or names or [None])[-1]


def _nchw(x: tf.Tensor) -> np.ndarray:
    return np.asarray(x).transpose(0, 3, 1, 2)
