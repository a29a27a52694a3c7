"""Golden folders of the repository, and their own arrays in the place of what tfdet would compute."""

import functools
import re
from pathlib import Path

import numpy as np

from tfdet.config import register_all
from tfdet.detectors import Detector
from tfdet.ops.paste_masks import PASTE_RULES, paste_masks, paste_probabilities
from tools.golden import torch_folder
from tools.golden.simpledet_folder import Golden, read_golden
from tools.golden.simpledet_rows import build_like
from tools.golden.torch_compare import Computed
from tools.golden.torch_folder import TorchGolden
from tools.golden.torch_training import LOSS_NAMES, Step

GOLDEN = Path(__file__).parents[1] / "golden"


def read(name: str) -> TorchGolden:
    return torch_folder.read(GOLDEN / "torch_small" / name, partial=True)


@functools.cache
def simpledet(path: Path) -> tuple[Golden, Detector]:
    """A folder of SimpleDet and the detector of its row, built once: `compute` gives it its weights each time."""
    register_all()
    golden = read_golden(path, partial=True)
    return golden, build_like(golden)


def as_computed(golden: TorchGolden) -> Computed:
    """What tfdet would compute if it were the other program."""
    maps = {name: array for name, array in golden.outputs.items() if re.match(r"net|res|layer|fpn|rpn|box|prop", name)}
    found = {key: golden.outputs[f"det_{key}"] for key in ("boxes", "scores", "classes")}
    return Computed(maps, found | {"masks": mask_planes(golden)}, _step(golden) if golden.train else None)


def _step(golden: TorchGolden) -> Step:
    train = golden.train
    names = {kind: {} for kind in ("loss", "gradnorm", "grad", "gradsample", "nograd")}
    for key, array in train.items():
        kind, _, name = key.partition("/")
        names.get(kind, {})[name] = array
    gradients = {}
    for name, norm in names["gradnorm"].items():
        norm, sampled = float(norm), names["gradsample"].get(name)
        if name in names["grad"]:
            gradients[name] = names["grad"][name]
        elif sampled is None:  # left out of this copy, also as samples of a large one
            gradients[name] = np.zeros(1025 if f"gradsample/{name}" in golden.left_out else 1, np.float32)
            gradients[name][0] = norm
        else:  # what was not sampled is one element with the rest of the norm
            stride = golden.meta["gradsample_stride"][name]
            gradients[name] = np.zeros(stride * max(len(sampled), 1024 // stride + 1), np.float32)
            gradients[name][: stride * len(sampled) : stride] = sampled
            gradients[name][1] = np.sqrt(max(norm**2 - float(np.sum(sampled.astype(np.float64) ** 2)), 0.0))
    losses = {LOSS_NAMES[name]: float(value) for name, value in names["loss"].items()}
    return Step(losses, gradients, set(names["nograd"]))


def mask_planes(golden: TorchGolden) -> np.ndarray | None:
    """Predicted masks of a folder of `with_masks`: round blobs, float32 [D, 28, 28]."""
    if "mask" not in golden.family:
        return None
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:28, :28] / 28
    centres = rng.uniform(0.4, 0.6, [len(golden.outputs["det_boxes"]), 2])
    distance = [np.hypot(x - a, 1.2 * (y - b)) for a, b in centres]
    return np.float32(1 / (1 + np.exp(np.stack(distance) * 20 - 8)))


def with_masks(golden: TorchGolden) -> TorchGolden:
    """A folder of torchvision's Mask R-CNN, as far as its detections go."""
    meta = {key: value for key, value in golden.meta.items() if key != "train_losses"}
    golden = golden._replace(family="maskrcnn_r50_fpn", meta=meta, outputs=dict(golden.outputs), train={})
    outputs, planes = golden.outputs, mask_planes(golden)
    height, width = outputs["image"].shape[1:]
    convention, _ = PASTE_RULES["torchvision"]
    masks = paste_masks(planes, outputs["det_boxes"], height, width, convention)[:, None]
    probabilities = paste_probabilities(planes[:4], outputs["det_boxes"][:4], height, width, convention)
    outputs["det_masks"] = np.packbits(masks, axis=-1)
    outputs["det_masks_shape"] = np.array(masks.shape)
    outputs["det_masks_prob"] = probabilities[:, None]
    outputs["mask_logits_classes"] = np.arange(8)
    return golden
