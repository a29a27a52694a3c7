"""Runs an image through torchvision's network, where that is installed, and through a detector with its weights."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np

from tfdet.layers import BN_EPSILON
from tfdet.weights import verify_torch
from tfdet.weights.torchvision import COCO_IDS, COCO_NUMBERS
from tfdet.weights.verify_torch import SIDES as SIDES  # of the picture


def compare(detector: keras.Model, path: str | Path, pixels: np.ndarray) -> dict[str, float]:
    """The differences as `verify_torch.differences` counts them.

    Args:
        detector: with the weights of `path`, as its gin file of gin_configs/torchvision builds it.
        path: weights of torchvision's fasterrcnn_resnet50_fpn, maskrcnn_resnet50_fpn, retinanet_resnet50_fpn, resnet50
            or resnet101.
        pixels: uint8 [H, W, 3] of size `SIDES`, RGB.

    Raises:
        UserError: torchvision is not installed, here or where TFDET_TORCH_PYTHON names a Python, or does not load the
            file.
    """
    epsilon = getattr(detector.backbone, "epsilon", BN_EPSILON)
    packages = "PyTorch and torchvision: pip install torch torchvision"
    expected = verify_torch.run_program("run_torchvision.py", packages, path, pixels=pixels, epsilon=epsilon)
    expected = numbered_as_here(expected)
    found = verify_torch.outputs(detector, pixels, whole="boxes" in expected)
    if "cls_logits" in expected:  # all anchors of all levels in one row
        for name, last in (("cls_logits", detector.num_classes), ("box_deltas", 4)):
            levels = [found.pop(key) for key in sorted(found) if key.startswith(f"{name}_")]
            found[name] = np.concatenate([x.transpose(0, 2, 3, 1).reshape(-1, last) for x in levels])
    return verify_torch.differences(expected, found)


def numbered_as_here(outputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs whose `classes` are numbered as tfdet does, out of torchvision's `labels`; a backbone's stay as they are.

    Files of COCO count category ids, 91 `numbers`; the logits of RetinaNet are then cut to the 80 that there are.
    """
    if "labels" not in outputs:
        return outputs
    labels, numbers = outputs.pop("labels"), int(outputs.pop("numbers"))
    has_background = "cls_logits" not in outputs
    if numbers != COCO_NUMBERS:
        return outputs | {"classes": labels - int(has_background)}
    if not has_background:
        outputs["cls_logits"] = outputs["cls_logits"][:, COCO_IDS]
    places = {number: place for place, number in enumerate(COCO_IDS)}
    return outputs | {"classes": np.array([places.get(int(label), -1) for label in labels], np.int64)}
