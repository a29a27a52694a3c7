"""What the comparisons with PyTorch's programs share: a process for the other network, our outputs, counterparts."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdet.detectors import RetinaDetector
from tfdet.errors import UserError
from tfdet.weights.golden_matching import matched_pairs

SIDES = (320, 416)
"""Height and width that the picture is resized to: multiples of 32, so that no program pads it."""

UNMATCHED, MAX_UNMATCHED = "detections without counterpart", 0.05
"""Share of the other program's detections that have none of the same class, place and score here; at most so much."""

_PROGRAMS = Path(__file__).parent / "programs"
_DETECTIONS = ("boxes", "scores", "classes")


def run_program(name: str, packages: str, path: str | Path, **inputs: Any) -> dict[str, np.ndarray]:
    """Runs a program of `tfdet/weights/programs` on a file, in the Python that TFDET_TORCH_PYTHON names, else this one.

    Args:
        name: of the program.
        packages: that it needs, as a person installs them.
        path: of the weights.
        **inputs: arrays and numbers for it.

    Returns:
        The arrays that it wrote.

    Raises:
        UserError: it did not come to its end.
    """
    python = os.environ.get("TFDET_TORCH_PYTHON") or sys.executable
    program = _PROGRAMS / name
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "input.npz", Path(folder) / "output.npz"
        np.savez(source, **inputs)
        command = [python, str(program), str(path), str(source), str(target)]
        try:
            done = subprocess.run(command, check=False, capture_output=True, text=True)
        except OSError as error:
            raise UserError(f"TFDET_TORCH_PYTHON: {python} does not run: {error}") from error
        if done.returncode:
            said = (done.stderr.strip().splitlines() or [f"it ended with exit code {done.returncode}"])[-1].strip()
            raise UserError(
                f"{name} does not run {path}: {said}. It needs {packages}; TFDET_TORCH_PYTHON names the Python of "
                "another environment that has them"
            )
        with np.load(target) as outputs:
            return dict(outputs)


def differences(expected: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> dict[str, float]:
    """The largest difference of each map over its absolute maximum, and the share of unmatched detections.

    Args:
        expected: maps by name; of a whole detector `boxes` [D, 4], `scores` [D] and `classes` [D] too.
        found: ours, under the same names.
    """
    result = {
        name: float(np.max(np.abs(found[name] - array)) / np.max(np.abs(array)))
        for name, array in expected.items()
        if name in found and name not in _DETECTIONS
    }
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
        return {f"stage_{k}": _nchw(x) for k, x in enumerate(detector.backbone(inputs), 1)}
    if isinstance(detector, RetinaDetector):
        pyramid = detector.feature_maps(inputs, training=False)
        heads, names = detector.head(pyramid), ("cls_logits", "box_deltas")
    else:
        first = detector.first_stage_from_input(inputs, training=False)
        pyramid, heads, names = first.features, first.rpn, ("rpn_logits", "rpn_deltas")
    result = {f"fpn_{k}": _nchw(x) for k, x in enumerate(pyramid)}
    for k, pair in enumerate(heads):
        result |= {f"{name}_{k}": _nchw(x) for name, x in zip(names, pair, strict=True)}
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


def _nchw(x: tf.Tensor) -> np.ndarray:
    return np.asarray(x).transpose(0, 3, 1, 2)
