"""Runs an image through torchvision's network with a file's weights, where that is installed, and through a detector."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

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

_CLASSES = r"roi_heads\.box_predictor\.cls_score\.bias|head\.classification_head\.cls_logits\.bias"
_ANCHORS = 9  # of a place in torchvision's RetinaNet


def compare(detector: keras.Model, path: str | Path, pixels: np.ndarray) -> dict[str, float]:
    """The largest difference of each map over its absolute maximum, and the share of detections without counterpart.

    Args:
        detector: with the weights of `path`, as its gin file of gin_configs/torchvision builds it.
        path: weights of torchvision's fasterrcnn_resnet50_fpn, maskrcnn_resnet50_fpn, retinanet_resnet50_fpn, resnet50
            or resnet101.
        pixels: uint8 [H, W, 3] of size `SIDES`, RGB.

    Raises:
        UserError: torchvision is not installed, or does not load the file.
    """
    expected, whole = _their_outputs(path, pixels, getattr(detector.backbone, "epsilon", BN_EPSILON))
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
    return outputs | {
        "boxes": detections.boxes[0, :count].numpy() + np.float32([0, 0, 1, 1]),  # edges, as theirs
        "scores": detections.scores[0, :count].numpy(),
        "classes": detections.classes[0, :count].numpy(),
    }


def _their_outputs(path: str | Path, pixels: np.ndarray, epsilon: float) -> tuple[dict[str, np.ndarray], bool]:
    """torchvision's maps and detections, classes numbered as tfdet does, and whether the file is of a whole detector."""
    try:
        import torch
        import torchvision
    except ImportError as error:
        raise UserError(
            f"--verify of {path} needs PyTorch and torchvision: pip install torch torchvision ({error})"
        ) from error
    state = torch.load(path, map_location="cpu", weights_only=True)
    network, numbers = _network(torchvision, state, path)
    network.eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = epsilon
    image = torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32) / 255.0)
    with torch.no_grad():
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        inputs = ((image - mean[:, None, None]) / std[:, None, None])[None]
        if not numbers:
            x = network.maxpool(network.relu(network.bn1(network.conv1(inputs))))
            maps = {}
            for name in ("layer1", "layer2", "layer3", "layer4"):
                maps[name] = x = getattr(network, name)(x)
            return {name: x.numpy() for name, x in maps.items()}, False
        pyramid = list(network.backbone(inputs).values())
        outputs = {f"fpn_{k}": x.numpy() for k, x in enumerate(pyramid)}
        if hasattr(network, "rpn"):
            for k, pair in enumerate(zip(*network.rpn.head(pyramid), strict=True)):
                outputs |= {f"rpn_logits_{k}": pair[0].numpy(), f"rpn_deltas_{k}": pair[1].numpy()}
        else:
            outputs |= {name: x[0].numpy() for name, x in network.head(pyramid).items()}
        network.transform.min_size, network.transform.max_size = (min(pixels.shape[:2]),), max(pixels.shape[:2])
        (detections,) = network([image])
    labels = detections["labels"].numpy()
    return _as_coco(outputs, labels, numbers) | {k: detections[k].numpy() for k in ("boxes", "scores")}, True


def _as_coco(outputs: dict[str, np.ndarray], labels: np.ndarray, numbers: int) -> dict[str, np.ndarray]:
    """The outputs with classes as tfdet numbers them, where the file counts COCO's category ids."""
    has_background = "cls_logits" not in outputs
    if numbers != COCO_NUMBERS:
        return outputs | {"classes": labels - int(has_background)}
    if not has_background:
        outputs["cls_logits"] = outputs["cls_logits"][:, COCO_IDS]
    places = {number: place for place, number in enumerate(COCO_IDS)}
    return outputs | {"classes": np.array([places.get(int(label), -1) for label in labels])}


def _network(torchvision: Any, state: dict, path: str | Path):
    """torchvision's network with the weights, and the numbers of classes that it counts; 0 for a backbone."""
    classes = next((array.shape[0] for name, array in state.items() if re.fullmatch(_CLASSES, name)), 0)
    if not classes:
        depth = 101 if "layer3.22.conv1.weight" in state else 50
        network = getattr(torchvision.models, f"resnet{depth}")(weights=None)
    else:
        make, name = torchvision.models.detection, "fasterrcnn_resnet50_fpn"
        if any(key.startswith("head.") for key in state):
            name, classes = "retinanet_resnet50_fpn", classes // _ANCHORS
        elif any(".mask_predictor." in key for key in state):
            name = "maskrcnn_resnet50_fpn"
        network = getattr(make, name)(weights=None, weights_backbone=None, num_classes=classes)
    try:
        left = network.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise UserError(f"{path}: torchvision does not load it: {str(error).splitlines()[-1].strip()}") from error
    missing = [key for key in left.missing_keys if not key.endswith("num_batches_tracked")]
    if missing or left.unexpected_keys:
        raise UserError(f"{path}: torchvision does not load it: {[*missing, *left.unexpected_keys][0]} is left over")
    return network, classes


def _nchw(x: tf.Tensor) -> np.ndarray:
    return np.asarray(x).transpose(0, 3, 1, 2)
