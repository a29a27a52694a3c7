"""What the comparisons with PyTorch's programs share: their Python, our outputs, counterparts of detections."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdet.detectors import RetinaDetector
from tfdet.weights import verify_process
from tfdet.weights.golden_matching import matched_pairs
from tfdet.weights.verify_process import level_maps, nchw

SIDES = (320, 416)
"""Height and width that the picture is resized to: multiples of 32, so that no program pads it."""

UNMATCHED, MAX_UNMATCHED = "detections without counterpart", 0.05
"""Share of the other program's detections that have none of the same class, place and score here; at most so much."""

_DETECTIONS = ("boxes", "scores", "classes")


def run_program(name: str, packages: str, path: str | Path, **inputs: Any) -> dict[str, np.ndarray]:
    """`verify_process.run_program` in the Python that TFDET_TORCH_PYTHON names, else in this one."""
    return verify_process.run_program(name, packages, "TFDET_TORCH_PYTHON", path, **inputs)


def differences(expected: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> dict[str, float]:
    """The largest difference of each map over its absolute maximum, and the share of unmatched detections.

    Args:
        expected: maps by name; of a whole detector `boxes` [D, 4], `scores` [D] and `classes` [D] too.
        found: ours, under the same names.
    """
    maps = {name: array for name, array in expected.items() if name not in _DETECTIONS}
    result = verify_process.map_differences(maps, found)
    if "boxes" not in expected:
        return result
    stored, own = ([side[key] for key in _DETECTIONS] for side in (expected, found))
    if len(stored[0]):
        unmatched = 1.0 - len(matched_pairs(*stored, *own)) / len(stored[0])
    else:
        unmatched = float(len(own[0]) > 0)
    return result | {UNMATCHED: unmatched}


def outputs(detector: keras.Model, pixels: np.ndarray, whole: bool) -> dict[str, np.ndarray]:
    """Our maps [1, C, H, W] and, of a whole detector, detections.

    Names: `stage_K` for a backbone alone; else `fpn_K` (what the RPN or RetinaNet's head reads), `rpn_logits_K`,
    `rpn_deltas_K`, of RetinaNet `cls_logits_K` and `box_deltas_K`.

    Args:
        detector: with the weights.
        pixels: uint8 [H, W, 3], RGB.
        whole: the weights are of a whole detector.
    """
    image, info = tf.constant(pixels[None]), tf.constant([[*pixels.shape[:2], 1.0]], tf.float32)
    inputs = detector.normalize(image, info)
    if not whole:
        return {f"stage_{k}": nchw(x) for k, x in enumerate(detector.backbone(inputs), 1)}
    if isinstance(detector, RetinaDetector):
        pyramid = detector.feature_maps(inputs, training=False)
        heads, names = detector.head(pyramid), ("cls_logits", "box_deltas")
    else:
        first = detector.first_stage_from_input(inputs, training=False)
        pyramid, heads, names = first.features, first.rpn, ("rpn_logits", "rpn_deltas")
    result = {f"fpn_{k}": nchw(x) for k, x in enumerate(pyramid)} | level_maps(heads, names)
    found = detector.detect(image, info)
    count = int(found.num_valid[0])
    return (
        result
        | {
            "boxes": found.boxes[0, :count].numpy() + np.float32([0, 0, 1, 1]),  # edges, as theirs
            "scores": found.scores[0, :count].numpy(),
            "classes": found.classes[0, :count].numpy(),
        }
    )
