"""Runs an image through Detectron2's network, where that is installed, and through a detector with its weights."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np

from tfdet.detectors import RetinaDetector
from tfdet.errors import UserError
from tfdet.weights import verify_torch
from tfdet.weights.verify_torch import SIDES as SIDES  # of the picture

_SCHEDULES = {50: "1x", 101: "3x"}  # of the published files; the network is the same


def compare(detector: keras.Model, path: str | Path, pixels: np.ndarray) -> dict[str, float]:
    """The differences as `verify_torch.differences` counts them; of a backbone's file the maps of its stages.

    Args:
        detector: with the weights of `path`, as its gin file of gin_configs/detectron2 builds it.
        path: weights of one of Detectron2's detectors, not of its project TridentNet, or R-50.pkl, R-101.pkl.
        pixels: uint8 [H, W, 3] of size `SIDES`, RGB.

    Raises:
        UserError: Detectron2 is not installed, here or where TFDET_TORCH_PYTHON names a Python, or does not load the
            file.
    """
    expected = verify_torch.run_program(
        "run_detectron2.py",
        "Detectron2: https://github.com/facebookresearch/detectron2",
        path,
        pixels=pixels,
        config=config_name(detector),
        num_classes=detector.num_classes,
        has_masks=getattr(detector, "mask_head", None) is not None,
    )
    found = verify_torch.outputs(detector, pixels, whole="boxes" in expected)
    return verify_torch.differences(expected, found)


def config_name(detector: keras.Model) -> str:
    """Detectron2's configuration file of the network.

    Raises:
        UserError: it has none.
    """
    backbone = detector.backbone
    depth = getattr(backbone, "depth", None)
    if depth not in _SCHEDULES or getattr(backbone, "branches", ()) or getattr(backbone, "width", 1.0) != 1.0:
        raise UserError("--verify runs Detectron2's full-size networks on ResNet-50 and -101, without branches")
    if isinstance(detector, RetinaDetector):
        return f"COCO-Detection/retinanet_R_{depth}_FPN_{_SCHEDULES[depth]}.yaml"
    if len(detector.bbox_heads) > 1:
        if depth != 50:
            raise UserError("--verify: Detectron2 has a Cascade R-CNN on ResNet-50 alone")
        return "Misc/cascade_mask_rcnn_R_50_FPN_1x.yaml"
    neck = "C4" if detector.neck is None else "FPN"
    if getattr(detector, "mask_head", None) is not None:
        return f"COCO-InstanceSegmentation/mask_rcnn_R_{depth}_{neck}_{_SCHEDULES[depth]}.yaml"
    return f"COCO-Detection/faster_rcnn_R_{depth}_{neck}_{_SCHEDULES[depth]}.yaml"
