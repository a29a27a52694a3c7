"""The verdict on a golden folder of Detectron2 or torchvision: every error beside what it may be."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tfdet.ops.paste_masks import PASTE_RULES, paste_masks
from tfdet.weights.verify import matched_pairs
from tools.golden import torch_folder, torch_maps, torch_training
from tools.golden.torch_folder import TorchGolden

NOISE_FACTOR = 10
"""An error may be so many times the program's own difference between float32 and float64."""

WITHOUT_NOISE = 1e-3  # of the absolute maximum, where that difference was not measured
_LEAST = 1e-6  # of the absolute maximum: what no float32 computation promises to stay below
_MATCHED, _MASK_PIXELS = 0.98, 0.995


class MapError(NamedTuple):
    """Agreement of one map. Errors are relative to the reference's absolute maximum."""

    name: str
    shape: tuple[int, ...]
    error: float
    noise: float | None  # float32 against float64 in the program itself
    limit: float


class Share(NamedTuple):
    """How much of a set agrees, and how much must."""

    name: str
    share: float
    count: int
    limit: float


class Verdict(NamedTuple):
    """All that was compared in one folder."""

    maps: list[MapError]
    shares: list[Share]
    training: list[torch_training.TrainingError]
    skipped: list[str]  # stored arrays that have no counterpart

    @property
    def passed(self) -> bool:
        """Whether everything stays within its limit."""
        return (
            all(row.error <= row.limit for row in [*self.maps, *self.training])
            and all(row.share >= row.limit for row in self.shares)
            and bool(self.maps)
        )


_INPUTS = ("image", "gt_boxes", "gt_classes", "fixed_rois", "mask_logits_classes", "det_masks_shape")


def check(golden: TorchGolden) -> Verdict:
    """Builds the detector of a golden and compares all that is stored there."""
    detector = torch_folder.build_like(golden)
    computed = torch_maps.compute(detector, golden)
    proposals = [name for name in computed if name.startswith("proposals") and name in golden.outputs]
    maps = [
        _compare(name, computed[name], golden)
        for name in golden.outputs
        if name in computed and not name.startswith("proposal")
    ]
    shares = [_proposals(name, computed, golden) for name in proposals]
    shares += _detections(torch_maps.detect(detector, golden), golden)
    training = []
    if golden.train:
        training = torch_training.compare(golden, *torch_training.losses_and_gradients(detector, golden))
    skipped = [
        name for name in golden.outputs if name not in computed and name not in _INPUTS and not name.startswith("det_")
    ]
    return Verdict(maps, shares, training, skipped)


def _compare(name: str, ours: np.ndarray, golden: TorchGolden) -> MapError:
    reference = golden.outputs[name]
    scale = float(np.abs(reference).max()) or 1.0
    noise = golden.meta["fp32_vs_fp64_maxabs"].get(name)
    limit = WITHOUT_NOISE if noise is None else max(NOISE_FACTOR * noise / scale, _LEAST)
    error = float("inf")
    if ours.shape == reference.shape and np.isfinite(ours).all():
        error = float(np.abs(ours.astype(np.float64) - reference).max()) / scale
    return MapError(name, reference.shape, error, None if noise is None else noise / scale, limit)


def _proposals(name: str, computed: dict[str, np.ndarray], golden: TorchGolden) -> Share:
    stored = golden.outputs[name]
    pairs = matched_pairs(stored, None, None, computed[name], None, None)
    return Share(name, len(pairs) / max(len(stored), len(computed[name]), 1), len(stored), _MATCHED)


def _detections(found: dict[str, np.ndarray], golden: TorchGolden) -> list[Share]:
    stored = [golden.outputs[f"det_{key}"] for key in ("boxes", "scores", "classes")]
    pairs = matched_pairs(*stored, *(found[key] for key in ("boxes", "scores", "classes")))
    count = len(stored[0])
    share = len(pairs) / max(count, len(found["boxes"])) if count or len(found["boxes"]) else 1.0
    shares = [Share("detections", share, count, _MATCHED)]
    if "det_masks" in golden.outputs and found["masks"] is not None and pairs:
        rows, own = (list(side) for side in zip(*pairs, strict=True))
        height, width = golden.outputs["image"].shape[1:]
        convention, _ = PASTE_RULES[golden.program]
        pasted = paste_masks(found["masks"][own], found["boxes"][own], height, width, convention)
        bits = np.unpackbits(golden.outputs["det_masks"], axis=-1)[..., :width].astype(bool)
        stored_masks = bits.reshape(-1, height, width)[rows]
        shares.append(Share("mask pixels", float((pasted == stored_masks).mean()), len(rows), _MASK_PIXELS))
    return shares
