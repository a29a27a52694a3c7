"""Runs an image through torchvision's network, where that is installed, and through a detector with its weights."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tfdet.detectors import RetinaDetector
from tfdet.errors import UserError
from tfdet.layers import BN_EPSILON
from tfdet.weights.golden_matching import matched_pairs
from tfdet.weights.torchvision import COCO_IDS, COCO_NUMBERS

SIDES = (320, 416)
"""Height and width that the picture is resized to: multiples of 32, so that neither program pads it."""

MAX_UNMATCHED = 0.05
"""Share of torchvision's detections that may have no counterpart of the same class, place and score."""

_PROGRAM = Path(__file__).parent / "programs" / "run_torchvision.py"


def compare(detector: keras.Model, path: str | Path, pixels: np.ndarray) -> dict[str, float]:
    """The largest difference of each map over its absolute maximum, and the share of detections without counterpart.

    Args:
        detector: with the weights of `path`, as its gin file of gin_configs/torchvision builds it.
        path: weights of torchvision's fasterrcnn_resnet50_fpn, maskrcnn_resnet50_fpn, retinanet_resnet50_fpn, resnet50
            or resnet101.
        pixels: uint8 [H, W, 3] of size `SIDES`, RGB.

    Raises:
        UserError: torchvision is not installed, here or where TFDET_TORCH_PYTHON names a Python, or does not load the
            file.
    """
    expected = _their_outputs(path, pixels, getattr(detector.backbone, "epsilon", BN_EPSILON))
    whole = "boxes" in expected
    found = _our_outputs(detector, pixels, whole)
    differences = {
        name: float(np.max(np.abs(found[name] - array)) / np.max(np.abs(array)))
        for name, array in expected.items()
        if name in found and name not in ("boxes", "scores", "classes")
    }
    if whole:
        differences["detections without counterpart"] = _unmatched(expected, found)
    return differences


def _unmatched(expected: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> float:
    stored, own = ([side[key] for key in ("boxes", "scores", "classes")] for side in (expected, found))
    if not len(stored[0]):
        return float(len(own[0]) > 0)
    return 1.0 - len(matched_pairs(*stored, *own)) / len(stored[0])


def _our_outputs(detector: keras.Model, pixels: np.ndarray, whole: bool) -> dict[str, np.ndarray]:
    image, info = tf.constant(pixels[None]), tf.constant([[*pixels.shape[:2], 1.0]], tf.float32)
    inputs = detector.normalize(image, info)
    if not whole:
        return {f"layer{k}": _nchw(x) for k, x in enumerate(detector.backbone(inputs), 1)}
    if isinstance(detector, RetinaDetector):
        pyramid = detector.feature_maps(inputs, training=False)
        heads = detector.head(pyramid)
        logits = np.concatenate([np.reshape(x, [-1, detector.num_classes]) for x, _ in heads])
        outputs = {"cls_logits": logits, "bbox_regression": np.concatenate([np.reshape(x, [-1, 4]) for _, x in heads])}
    else:
        first = detector.first_stage_from_input(inputs, training=False)
        pyramid, outputs = first.features, {}
        for k, (logits, deltas) in enumerate(first.rpn):
            outputs |= {f"rpn_logits_{k}": _nchw(logits), f"rpn_deltas_{k}": _nchw(deltas)}
    outputs |= {f"fpn_{k}": _nchw(x) for k, x in enumerate(pyramid)}
    detections = detector.detect(image, info)
    count = int(detections.num_valid[0])
    return (
        outputs
        | {
            "boxes": detections.boxes[0, :count].numpy() + np.float32([0, 0, 1, 1]),  # edges, as theirs
            "scores": detections.scores[0, :count].numpy(),
            "classes": detections.classes[0, :count].numpy(),
        }
    )


def _their_outputs(path: str | Path, pixels: np.ndarray, epsilon: float) -> dict[str, np.ndarray]:
    """torchvision's maps and, of a whole detector, detections, with classes as tfdet numbers them."""
    python = os.environ.get("TFDET_TORCH_PYTHON") or sys.executable
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "input.npz", Path(folder) / "output.npz"
        np.savez(source, pixels=pixels, epsilon=epsilon)
        command = [python, str(_PROGRAM), str(path), str(source), str(target)]
        try:
            done = subprocess.run(command, check=False, capture_output=True, text=True)
        except OSError as error:
            raise UserError(f"TFDET_TORCH_PYTHON: {python} does not run: {error}") from error
        if done.returncode:
            said = (done.stderr.strip().splitlines() or [f"it ended with exit code {done.returncode}"])[-1].strip()
            raise UserError(
                f"torchvision does not run {path}: {said}. It needs PyTorch and torchvision: pip install torch "
                "torchvision; TFDET_TORCH_PYTHON names the Python of another environment that has them"
            )
        with np.load(target) as outputs:
            found = dict(outputs)
    return _numbered_as_here(found) if "labels" in found else found


def _numbered_as_here(outputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    labels, numbers = outputs.pop("labels"), int(outputs.pop("numbers"))
    has_background = "cls_logits" not in outputs
    if numbers != COCO_NUMBERS:
        return outputs | {"classes": labels - int(has_background)}
    if not has_background:
        outputs["cls_logits"] = outputs["cls_logits"][:, COCO_IDS]
    places = {number: place for place, number in enumerate(COCO_IDS)}
    return outputs | {"classes": np.array([places.get(int(label), -1) for label in labels], np.int64)}


def _nchw(x: tf.Tensor) -> np.ndarray:
    return np.asarray(x).transpose(0, 3, 1, 2)
