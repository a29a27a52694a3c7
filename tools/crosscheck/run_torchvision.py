"""Runs torchvision's network of a weights file on one image: a program of its own, without tfdet and TensorFlow.

TensorFlow and PyTorch do not always live in one process, nor in one environment. Called by `verify_torchvision`:

    python run_torchvision.py WEIGHTS INPUT.npz OUTPUT.npz

INPUT has `pixels`, uint8 [H, W, 3], RGB, and `epsilon`, of BN. OUTPUT gets the maps by name, [1, C, H, W], and of a
whole detector `boxes` [D, 4], `scores` [D], `labels` [D], of one with masks `masks`, bool [D, H, W], and `numbers`, the
count of classes of the file.
"""

import re
import sys

import numpy as np
import torch
import torchvision

_CLASSES = r"roi_heads\.box_predictor\.cls_score\.bias|head\.classification_head\.cls_logits\.bias"
_ANCHORS = 9  # of a place in torchvision's RetinaNet


def network_of(state: dict):
    """The network with the weights, and the numbers of classes that it counts; 0 for a backbone."""
    classes = next((array.shape[0] for name, array in state.items() if re.fullmatch(_CLASSES, name)), 0)
    if not classes:
        network = getattr(torchvision.models, "resnet101" if "layer3.22.conv1.weight" in state else "resnet50")(
            weights=None
        )
    else:
        name = "fasterrcnn_resnet50_fpn"
        if any(key.startswith("head.") for key in state):
            name, classes = "retinanet_resnet50_fpn", classes // _ANCHORS
        elif any(".mask_predictor." in key for key in state):
            name = "maskrcnn_resnet50_fpn"
        network = getattr(torchvision.models.detection, name)(weights=None, weights_backbone=None, num_classes=classes)
    left = network.load_state_dict(state, strict=False)
    missing = [key for key in left.missing_keys if not key.endswith("num_batches_tracked")]
    if missing or left.unexpected_keys:
        raise RuntimeError(f"{[*missing, *left.unexpected_keys][0]} is left over")
    return network, classes


def outputs_of(network, numbers: int, pixels: np.ndarray) -> dict:
    """Maps and, of a detector, detections."""
    image = torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32) / 255.0)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    inputs = ((image - mean[:, None, None]) / std[:, None, None])[None]
    if not numbers:
        x, maps = network.maxpool(network.relu(network.bn1(network.conv1(inputs)))), {}
        for k in range(1, 5):
            maps[f"stage_{k}"] = x = getattr(network, f"layer{k}")(x)
        return maps
    pyramid = list(network.backbone(inputs).values())
    outputs = {f"fpn_{k}": x for k, x in enumerate(pyramid)}
    if hasattr(network, "rpn"):
        for k, pair in enumerate(zip(*network.rpn.head(pyramid), strict=True)):
            outputs |= {f"rpn_logits_{k}": pair[0], f"rpn_deltas_{k}": pair[1]}
    else:
        heads = network.head(pyramid)
        outputs |= {"cls_logits": heads["cls_logits"][0], "box_deltas": heads["bbox_regression"][0]}
    network.transform.min_size, network.transform.max_size = (min(pixels.shape[:2]),), max(pixels.shape[:2])
    (found,) = network([image])
    detections = {key: found[key] for key in ("boxes", "scores", "labels")}
    if "masks" in found:
        detections["masks"] = found["masks"][:, 0] > 0.5
    return outputs | detections | {"numbers": torch.tensor(numbers)}


def main(weights: str, source: str, target: str) -> None:
    """Reads, runs, writes."""
    given = np.load(source)
    network, numbers = network_of(torch.load(weights, map_location="cpu", weights_only=True))
    network.eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = float(given["epsilon"])
    with torch.no_grad():
        outputs = outputs_of(network, numbers, given["pixels"])
    np.savez(target, **{name: tensor.numpy() for name, tensor in outputs.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
