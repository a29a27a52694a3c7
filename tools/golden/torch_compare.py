"""The comparison of a golden folder of Detectron2 or torchvision with what tfdet computes, in NumPy alone.

Every stored array is compared, or named with the reason why it is not.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tfdet.ops.paste_masks import PASTE_RULES, paste_masks, paste_probabilities
from tfdet.weights.agreement import Measure, Rows, matched_pairs, measures
from tools.golden import noise as floors
from tools.golden.torch_folder import TorchGolden
from tools.golden.torch_losses import compare_training
from tools.golden.torch_training import Step
from tools.golden.verdict import LEFT_OUT, MapError, Verdict, missing, relative_error, scale_of, unusable

_FOLLOWS = {"cascade_rois_stage1": "cascade_final_boxes", "cascade_rois_stage2": "cascade_final_boxes"}
"""Maps whose noise was not measured, and those whose noise counts for them."""

_EXACT = {"net_input", "cascade_rois_stage0", "anchors"}
"""Maps without noise: of no weights."""

_EXACT_LIMIT = 1e-6

_INPUTS = {
    "image": "the input",
    "fixed_rois": "an input of the heads",
    "mask_logits_classes": "an input, the classes of mask_logits",
}
_TRAINING_INPUTS = ("gt_boxes", "gt_classes", "gt_masks")

_MEDIAN_BOX, _MEDIAN_SCORE = 0.05, 3e-4
"""Of paired detections, pixels and score: a shift of all of them stays within what two of a pair may differ by."""

_MIN_LOGIT_GAP = 1e-3
_PROBABILITY, _PROBABILITY_PIXELS = 0.01, 0.005
"""Of pasted masks, how much a pixel may differ, and the share of pixels that may differ by more."""


class Computed(NamedTuple):
    """What tfdet computes for a golden folder."""

    maps: dict[str, np.ndarray]  # maps and proposals, under their names and in their layout
    found: dict[str, np.ndarray]  # detections: boxes, scores, classes, masks
    step: Step | None  # None where the folder has no training step


def input_findings(golden: TorchGolden) -> list[str]:
    """What keeps tfdet from computing anything: inputs that are missing, no numbers, or of another shape."""
    inputs, outputs = {"image": (3, None, None)}, golden.outputs
    if not golden.family.startswith("retinanet"):
        inputs["fixed_rois"] = (None, 4)
    if "mask" in golden.family:
        inputs["mask_logits_classes"] = (None,)
    findings = _input_findings(inputs, outputs, "golden.npz")
    if golden.train:
        shapes = {"gt_boxes": (None, 4), "gt_classes": (None,)}
        if golden.program == "torchvision" and "mask" in golden.family:
            shapes["gt_masks"] = (None, None, None)
        findings += _input_findings(shapes, golden.train, "train.npz")
        if not findings and len({len(golden.train[name]) for name in shapes}) > 1:
            findings.append("train.npz: gt_boxes and gt_classes are not of as many objects")
    return findings + unusable(golden.arrays, "the checkpoint")


def _input_findings(shapes: dict, arrays: dict[str, np.ndarray], file: str) -> list[str]:
    there = {name: arrays[name] for name in shapes if name in arrays}
    findings = missing(set(shapes), arrays, file) + unusable(there, file)
    for name, array in there.items():
        wanted = shapes[name]
        if array.ndim != len(wanted) or any(n not in (None, m) for n, m in zip(wanted, array.shape, strict=True)):
            findings.append(f"{file}: {name} is {list(array.shape)}, not {list(wanted)}".replace("None", "any"))
    return findings


def compare(golden: TorchGolden, computed: Computed) -> Verdict:
    """The verdict on all that a folder stores."""
    outputs, maps, proposals, findings = golden.outputs, [], [], list(golden.noise.findings)
    findings += unusable(outputs, "golden.npz") + unusable(golden.train, "train.npz", may_be_empty="nograd/")
    wanted = [name for name in computed.maps if not _may_be_absent(name, golden)]
    finals = ["det_boxes", "det_scores", "det_classes"]
    if "mask" in golden.family:
        finals += ["det_masks", "det_masks_shape"]
        finals += ["det_masks_prob"] if golden.program == "torchvision" else []
    findings += missing([*wanted, *finals], outputs, "golden.npz")
    for name, own in computed.maps.items():
        if name not in outputs or name.startswith("proposal_logits"):  # compared with the boxes
            continue
        if name.startswith("proposals"):
            proposals += _proposals(name, computed.maps, golden)
        else:
            maps.append(_map(name, own, golden, findings))
    detections, more = [], []
    if all(name in outputs for name in finals[:3]):
        detections, more = _detections(computed.found, golden)
    training, training_findings, not_compared = [], [], {}
    if golden.train and computed.step is not None:
        training, training_findings, not_compared = compare_training(golden, computed.step)
    reasons = _not_compared(golden, set(computed.maps) | set(finals)) | not_compared
    return Verdict(maps, proposals + detections, training, findings + more + training_findings, reasons)


def _may_be_absent(name: str, golden: TorchGolden) -> bool:
    # Detectron2's mask head on C4 reads the features of its box head.
    return name in golden.left_out or (name == "mask_pooled" and golden.family.endswith("_c4"))


def _not_compared(golden: TorchGolden, known: set[str]) -> dict[str, str]:
    reasons = {name: LEFT_OUT for name in sorted(golden.left_out) if "/" not in name}
    for name, array in golden.outputs.items():
        if name in known:
            continue
        if name in _TRAINING_INPUTS:
            same = name in golden.train and np.array_equal(golden.train[name], array)
            reasons[name] = "an input, that of train.npz" if same else "an input of a training step that is not stored"
        else:
            reasons[name] = _INPUTS.get(name, "tfdet computes nothing of this name")
    return reasons


def _map(name: str, own: np.ndarray, golden: TorchGolden, findings: list[str]) -> MapError:
    reference = golden.outputs[name]
    row = MapError(name, reference.shape, relative_error(own, reference), _EXACT_LIMIT)
    if name in _EXACT:
        return row
    return golden.noise.measure(floors.MAPS, _FOLLOWS.get(name, name), row, findings, scale_of(reference))


def _proposals(name: str, maps: dict[str, np.ndarray], golden: TorchGolden) -> list[Measure]:
    """Boxes after the first suppression, with their logits where these are stored."""
    logits_name = name.replace("proposals", "proposal_logits")
    sides = [_boxes(golden.outputs[name]), _boxes(maps[name])]
    logits: list = [None, None]
    if logits_name in maps:
        logits = [golden.outputs.get(logits_name, np.zeros(0)).reshape(-1), maps[logits_name]]
        if len(logits[0]) != len(sides[0]):
            return [Measure(f"{logits_name} of {len(logits[0])} {name}, of which there are {len(sides[0])}", np.inf, 0)]
    gap = _MIN_LOGIT_GAP
    for raw, array in golden.outputs.items():
        if raw.startswith("rpn_logits_"):
            gap = max(gap, 2 * scale_of(array) * golden.noise.limit(floors.MAPS, raw, scale_of(array)))
    theirs, ours = (Rows(boxes, own) for boxes, own in zip(sides, logits, strict=True))
    return measures(theirs, ours, name, gap)


def _boxes(array: np.ndarray) -> np.ndarray:
    return array if array.ndim == 2 and array.shape[1] == 4 else np.zeros([0, 4], np.float32)


def _detections(found: dict[str, np.ndarray], golden: TorchGolden) -> tuple[list[Measure], list[str]]:
    stored = [golden.outputs[f"det_{key}"] for key in ("boxes", "scores", "classes")]
    if {array.shape for array in stored[1:]} != {(len(stored[0]),)} or stored[0].shape[1:] != (4,):
        shapes = ", ".join(str(list(array.shape)) for array in stored)
        return [], [f"golden.npz: det_boxes, det_scores and det_classes of shapes {shapes} are of different detections"]
    theirs, ours = Rows(*stored), Rows(*(found[key] for key in ("boxes", "scores", "classes")))
    findings = [] if (np.diff(theirs.scores) <= 0).all() else ["golden.npz: det_scores do not go from the best down"]
    if "mask" in golden.family and "det_masks" in golden.outputs:
        height, width = golden.outputs["image"].shape[1:]
        convention, _ = PASTE_RULES[golden.program]
        masks = unpacked_masks(golden.outputs["det_masks"], golden.outputs.get("det_masks_shape"), height, width)
        if found["masks"] is None:
            findings.append("tfdet predicts no masks")
        elif masks is None or len(masks) != len(theirs.boxes):
            findings.append("golden.npz: det_masks is not of det_masks_shape and of the image and detections")
        else:
            pasted = paste_masks(found["masks"], found["boxes"], height, width, convention)
            theirs, ours = theirs._replace(masks=masks), ours._replace(masks=pasted)
    result, pairs = measures(theirs, ours), matched_pairs(theirs, ours)
    if pairs:
        rows, own = np.array(pairs).T
        moved = np.abs(theirs.boxes[rows] - ours.boxes[own]).max(axis=1)
        gaps = np.abs(theirs.scores[rows] - ours.scores[own])
        result.append(Measure("median of the largest box difference, pixels", float(np.median(moved)), _MEDIAN_BOX))
        result.append(Measure("median of the score difference", float(np.median(gaps)), _MEDIAN_SCORE))
    if ours.masks is not None and "det_masks_prob" in golden.outputs:
        result.append(_probabilities(golden, found, dict(pairs), convention))
    return result, findings


def unpacked_masks(packed: np.ndarray, stated, height: int, width: int) -> np.ndarray | None:
    """Stored masks of an image's size, bool [D, H, W]; None where the arrays contradict each other.

    Args:
        packed: eight pixels of a row in each byte.
        stated: the shape of the masks, an array; None where it is not stored.
        height, width: of the image.
    """
    if packed.dtype != np.uint8 or packed.shape[-2:] != (height, (width + 7) // 8):
        return None
    bits = np.unpackbits(packed, axis=-1)[..., :width].astype(bool)
    if stated is not None and tuple(stated.tolist()) != bits.shape:
        return None
    return bits.reshape(-1, height, width)


def _probabilities(golden: TorchGolden, found: dict[str, np.ndarray], pairs: dict, convention: str) -> Measure:
    """The first masks before they are cut at one half."""
    stored = golden.outputs["det_masks_prob"]
    height, width = golden.outputs["image"].shape[1:]
    name = f"pixels of det_masks_prob beyond {_PROBABILITY}"
    if stored.ndim != 4 or stored.shape[1:] != (1, height, width) or not set(range(len(stored))) <= set(pairs):
        return Measure(name, np.inf, 0)
    own = [pairs[row] for row in range(len(stored))]
    pasted = paste_probabilities(found["masks"][own], found["boxes"][own], height, width, convention)
    touched = np.maximum(stored[:, 0], pasted) > 0
    wrong = (np.abs(stored[:, 0] - pasted) > _PROBABILITY) | ~np.isfinite(stored[:, 0])
    return Measure(name, float(wrong.sum() / max(touched.sum(), 1)), _PROBABILITY_PIXELS)
