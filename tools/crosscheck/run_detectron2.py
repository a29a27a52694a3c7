"""Runs Detectron2's network of a weights file on one image: a program of its own, without tfdet and TensorFlow.

    python run_detectron2.py WEIGHTS INPUT.npz OUTPUT.npz

INPUT has `pixels`, uint8 [H, W, 3], RGB, `config`, a name in Detectron2's model zoo, `num_classes` and `has_masks`.
OUTPUT gets maps by name, [1, C, H, W], and of a whole detector `boxes` [D, 4], `scores` [D], `classes` [D] and, of one
with masks, `masks`, bool [D, H, W].
"""

import sys

import numpy as np
import torch
from detectron2 import model_zoo
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import get_cfg
from detectron2.modeling import build_model


def build(weights: str, given):
    """The network with the weights, and whether they are of a whole detector."""
    cfg = get_cfg()
    cfg.merge_from_file(model_zoo.get_config_file(str(given["config"])))
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.MASK_ON = bool(given["has_masks"])
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = cfg.MODEL.RETINANET.NUM_CLASSES = int(given["num_classes"])
    network = build_model(cfg)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    DetectionCheckpointer(network).load(weights)
    changed = [name for name, value in network.state_dict().items() if not torch.equal(value, before[name])]
    if not changed:
        raise RuntimeError("Detectron2 takes no tensor of it")
    network.eval()
    heads = ("roi_heads.", "head.")
    return network, any(name.startswith(heads) and "res5" not in name for name in changed)


def outputs_of(network, whole: bool, pixels: np.ndarray) -> dict:
    """Maps and, of a whole detector, detections."""
    image = torch.from_numpy(np.ascontiguousarray(pixels[:, :, ::-1].transpose(2, 0, 1))).float()
    given = [{"image": image, "height": pixels.shape[0], "width": pixels.shape[1]}]
    inputs = network.preprocess_image(given).tensor
    if not whole:
        bottom_up = getattr(network.backbone, "bottom_up", network.backbone)
        x, maps = bottom_up.stem(inputs), {}
        for k in range(1, 5):
            if hasattr(bottom_up, f"res{k + 1}"):  # C4 has three
                maps[f"stage_{k}"] = x = getattr(bottom_up, f"res{k + 1}")(x)
        return maps
    features = network.backbone(inputs)
    if hasattr(network, "proposal_generator"):
        pyramid = [features[name] for name in network.proposal_generator.in_features]
        heads, names = network.proposal_generator.rpn_head(pyramid), ("rpn_logits", "rpn_deltas")
    else:
        pyramid = [features[name] for name in getattr(network, "head_in_features", None) or network.in_features]
        heads, names = network.head(pyramid), ("cls_logits", "box_deltas")
    outputs = {f"fpn_{k}": x for k, x in enumerate(pyramid)}
    for name, maps in zip(names, heads):
        outputs |= {f"{name}_{k}": x for k, x in enumerate(maps)}
    found = network(given)[0]["instances"]
    outputs |= {"boxes": found.pred_boxes.tensor, "scores": found.scores, "classes": found.pred_classes}
    return outputs | ({"masks": found.pred_masks} if found.has("pred_masks") else {})


def main(weights: str, source: str, target: str) -> None:
    """Reads, runs, writes."""
    given = np.load(source)
    network, whole = build(weights, given)
    with torch.no_grad():
        outputs = outputs_of(network, whole, given["pixels"])
    np.savez(target, **{name: tensor.numpy() for name, tensor in outputs.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
