"""Loads a checkpoint of another program into a detector, and says what happened to every tensor."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np

from tfdet.backbones import ResNetV2
from tfdet.detectors import RetinaDetector
from tfdet.errors import UserError
from tfdet.weights import simpledet, simpledet_mask, simpledet_v2
from tfdet.weights.mxnet_params import read_params


@dataclass
class LoadReport:
    """What became of the tensors of a checkpoint and of the variables of a detector."""

    source: str
    matched: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)  # variables the checkpoint does not have
    mismatched: list[str] = field(default_factory=list)  # "path: shape here, shape there"
    unused: list[str] = field(default_factory=list)  # tensors no variable took

    def summary(self) -> str:
        """One line, with the first names of what did not match."""
        parts = [f"{self.source}: {len(self.matched)} tensors loaded"]
        for label, names in (
            ("variables left at their initial values", self.missing),
            ("of another shape", self.mismatched),
            ("in the file and not used", self.unused),
        ):
            if names:
                shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
                parts.append(f"{len(names)} {label} ({shown})")
        return "; ".join(parts)


def family_rules(detector: keras.Model) -> list[simpledet.Rule]:
    """SimpleDet's name map for the family `detector` belongs to."""
    rules = _box_rules(detector)
    return rules if getattr(detector, "mask_head", None) is None else [*rules, *simpledet_mask.MASK_HEAD]


def _box_rules(detector: keras.Model) -> list[simpledet.Rule]:
    if isinstance(detector, RetinaDetector):
        return simpledet.RESNET_V1_RETINA
    if isinstance(detector.backbone, ResNetV2):
        if detector.backbone.num_stages == 3:
            return simpledet_v2.RESNET_V2_C4
        return simpledet_v2.cascade(getattr(detector.neck, "kernel_size", 1))
    return simpledet.RESNET_V1_C4 if detector.neck is None else simpledet.RESNET_V1_FPN


def assign_arrays(
    detector: keras.Model, arrays: dict[str, np.ndarray], rules: list[simpledet.Rule], source: str
) -> LoadReport:
    """Assigns the arrays of a SimpleDet checkpoint, folded or not, to a detector's variables.

    Nothing is assigned before every tensor was looked at: an array with NaN or infinity refuses the whole file.
    """
    report = LoadReport(source)
    arrays = simpledet_mask.number_from_zero(simpledet_v2.join_branches(arrays))
    arrays = simpledet.unfold_batch_norm(arrays)
    used: set[str] = set()
    planned = []
    for variable in detector.weights:
        found = simpledet.source_of(variable.path, rules)
        if found is None or found[0] not in arrays:
            report.missing.append(variable.path)
            continue
        name, step = found
        used.add(name)
        if not np.isfinite(arrays[name]).all():
            raise UserError(f"{source}: tensor {name} holds NaN or infinity; the checkpoint is of a diverged run")
        value = step(arrays[name])
        if value.shape != tuple(variable.shape):
            report.mismatched.append(f"{variable.path}: {tuple(variable.shape)} here, {value.shape} in the file")
            continue
        planned.append((variable, value))
    for variable, value in planned:
        variable.assign(value.astype(variable.dtype))
        report.matched.append(variable.path)
    report.unused = sorted(n for n in arrays if n not in used and not simpledet.IGNORED.fullmatch(n))
    return report


def load(detector: keras.Model, path: str | Path, strict: bool = False) -> LoadReport:
    """Loads an MXNet `.params` checkpoint of SimpleDet: a detector of this family, or an ImageNet backbone.

    Args:
        detector: built, so that its variables exist.
        path: the `.params` file.
        strict: True raises when a variable finds no tensor of its shape (evaluation); False leaves it as initialised
            (training from a backbone, fine-tuning to another class count).

    Raises:
        UserError: unreadable or foreign file, nothing that matches, or, when strict, anything left over.
    """
    path = Path(path)
    if path.suffix != ".params":
        raise UserError(f"{path}: not an MXNet .params file, the one format that weights are loaded from")
    if not path.is_file():
        raise UserError(
            f"{path}: no such file. It holds the weights to start from (Trainer.init_weights); SimpleDet, "
            "https://github.com/tusen-ai/simpledet, offers its ImageNet backbones. To train from random weights add "
            "--gin_file=gin_configs/base/from_scratch.gin"
        )
    report = assign_arrays(detector, read_params(path), family_rules(detector), str(path))
    if not report.matched:
        raise UserError(f"{path}: no tensor fits this detector; is it a checkpoint of SimpleDet, on the same backbone?")
    if strict and (report.missing or report.mismatched):
        raise UserError(f"{report.summary()}; the checkpoint is of another architecture or class count")
    return report
