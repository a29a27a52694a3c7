"""Loads a checkpoint of another program into a detector, and says what happened to every tensor."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np

from tfdet.errors import UserError
from tfdet.files import check_local
from tfdet.weights import published
from tfdet.weights.formats import read_weights
from tfdet.weights.maps import layouts
from tfdet.weights.maps.rules import Arrays, NameMap, Rule, source_of, target_of
from tfdet.weights.sources import find_map

IMAGENET = "imagenet"
"""In place of a file: the weights that the backbone itself knows where to fetch."""

COUNTERS = ("moving_foreground",)
"""Last parts of the paths of what training counts; in no checkpoint of another program."""

_PREDICTOR = re.compile(r"[^/]+/predictor/.*|retina_head/(cls|box)/.*|mask_head/logit/.*")


@dataclass
class LoadReport:
    """What became of the tensors of a checkpoint and of the variables of a detector."""

    source: str
    matched: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)  # variables the checkpoint does not have
    mismatched: list[str] = field(default_factory=list)  # "path: shape here, shape there"
    unused: list[str] = field(default_factory=list)  # tensors no variable took
    notes: list[str] = field(default_factory=list)  # what a person has to know beside

    @property
    def left(self) -> list[str]:
        """Paths of the variables that are as they were: not in the file, or of another shape there."""
        return self.missing + [line.split(":")[0] for line in self.mismatched]

    @property
    def other_classes(self) -> bool:
        """Whether all that is mis-shaped are predictors, as with another class count."""
        return bool(self.mismatched) and all(_PREDICTOR.fullmatch(line.split(":")[0]) for line in self.mismatched)

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
        if self.other_classes:
            parts.append("the file is of another class count: all is kept but these predictors, which start anew")
        return "; ".join([*parts, *self.notes])


def assign(detector: keras.Model, arrays: Arrays, name_map: NameMap, source: str) -> LoadReport:
    """Assigns the arrays of a file to a detector's variables by a name map; the arguments are those of `compare`."""
    report, values = compare(detector, arrays, name_map, source)
    _assign(detector, values)
    return report


def compare(
    detector: keras.Model, arrays: Arrays, name_map: NameMap, source: str
) -> tuple[LoadReport, dict[str, np.ndarray]]:
    """What the arrays of a file are to a detector; nothing is assigned.

    Args:
        detector: built, so that its variables exist.
        arrays: by the names of the file.
        name_map: of the program that wrote the file to this detector.
        source: the file, for messages.

    Returns:
        The report, and the values of the variables that match, by path.

    Raises:
        UserError: a tensor is not finite.
    """
    report, used, values, bad = LoadReport(source), set(), {}, []
    arrays = name_map.prepare(arrays)
    for variable in detector.weights:
        found = source_of(variable.path, name_map.rules)
        if found is None or found[0] not in arrays:
            report.missing.append(variable.path)
            continue
        name, step = found
        used.add(name)
        if not np.isfinite(arrays[name]).all():
            bad.append(name)
            continue
        value = step(arrays[name])
        if value.shape != tuple(variable.shape):
            report.mismatched.append(f"{variable.path}: {tuple(variable.shape)} here, {value.shape} in the file")
            continue
        values[variable.path] = value
    if bad:
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise UserError(f"{source}: tensor {bad[0]}{more} holds NaN or infinity; the checkpoint is of a diverged run")
    report.matched = list(values)
    report.unused = sorted(n for n in arrays if n not in used and not name_map.ignored.fullmatch(n))
    return report, values


def _assign(detector: keras.Model, values: dict[str, np.ndarray]) -> None:
    for variable in detector.weights:
        if variable.path in values:
            variable.assign(values[variable.path].astype(variable.dtype))


def load(detector: keras.Model, path: str | Path, strict: bool = False) -> LoadReport:
    """Loads weights of another program: a detector of the same parts, or an ImageNet backbone.

    Formats: see `read_weights`. Programs: SimpleDet, Detectron2, torchvision, keras.applications' ResNets, and tfdet
    itself; the names of the tensors tell which.

    Args:
        detector: built, so that its variables exist.
        path: the file; see `find_weights`. "imagenet": see `load_imagenet`.
        strict: True raises when a variable finds no tensor of its shape (evaluation); False leaves it as initialised
            (training from a backbone, fine-tuning to another class count).

    Raises:
        UserError: missing, unreadable or foreign file, a file of another backbone, or, when strict, anything left over.
    """
    if str(path) == IMAGENET:
        return load_imagenet(detector)
    path = find_weights(path)
    return load_arrays(detector, read_weights(path), str(path), strict)[0]


def load_imagenet(detector: keras.Model) -> LoadReport:
    """Loads the ImageNet weights that the makers of a detector's backbone publish, fetching them where needed.

    Raises:
        UserError: the backbone has none, or they cannot be fetched.
    """
    backbone = detector.backbone
    if not hasattr(backbone, "imagenet"):
        raise UserError(
            f"{type(backbone).__name__} knows no weights by the name {IMAGENET!r}, as KerasBackbone does: give the "
            "path or the short name of a file (docs/weights.md)"
        )
    file, variables = backbone.imagenet()
    arrays = {path: variable.numpy() for path, variable in variables.items()}
    name_map = NameMap([Rule(path, path, layouts.hwio) for path in arrays])
    return assign(detector, arrays, name_map, file)


def load_arrays(detector: keras.Model, arrays: Arrays, path: str, strict: bool = False) -> tuple[LoadReport, NameMap]:
    """`load` of what was read from `path` already; returns the name map too."""
    program, name_map = find_map(arrays, detector, path)
    report, values = compare(detector, arrays, name_map, f"{path} ({program})")
    reason = _other_backbone(report, name_map)
    if not report.matched and not report.mismatched:
        reason = f"no tensor fits this detector on {type(detector.backbone).__name__}"
    elif strict and (report.mismatched or any(not path.endswith(COUNTERS) for path in report.missing)):
        reason = "the checkpoint is of another architecture or class count"
    if reason:
        raise UserError(f"{report.summary()}; {reason}")
    _assign(detector, values)
    report.notes = _notes(detector, name_map)
    return report, name_map


def _notes(detector: keras.Model, name_map: NameMap) -> list[str]:
    """How the detector's input differs from what the file's network was trained with."""
    notes = []
    for name in ("pixel_mean", "pixel_std"):
        wanted, has = getattr(name_map, name), getattr(detector, name)
        if wanted is not None and not np.allclose(wanted, has, atol=0.01):
            shown = tuple(round(float(value), 4) for value in wanted)
            notes.append(f"trained with {name} {shown}, the detector has {tuple(has)}: set {name}, or train it away")
    return notes


def find_weights(path: str | Path) -> Path:
    """The file that a path or a name means; a published one is fetched where it is not here yet.

    Args:
        path: a path; or the name of published weights, such as `detectron2/R-50` (`weights.published`); or a name
            without folder: the file of that name in the weights folder, or, without an ending, as `resnet-v1-50`, the
            one of that name, or of that name and `-0000`, with any ending. The folder is what the environment variable
            TFDET_WEIGHTS names, by default `pretrain_model`; a published file that lies there, called as at its
            address, is not fetched.

    Raises:
        UserError: there is none, a name fits several, or a published one cannot be fetched.
    """
    check_local(path, "weights")
    path = Path(path)
    if os.path.isdir(path / "checkpoints"):  # a run of tfdet: its best checkpoint, else its newest
        return path / "best" if any((path / "best").glob("*.index")) else path / "checkpoints"
    if os.path.exists(path) or os.path.isfile(f"{path}.index"):
        return path
    offered = published.find(path)
    folder = Path(os.environ.get("TFDET_WEIGHTS") or "pretrain_model")
    found = []
    if (offered or path.name == str(path)) and os.path.isdir(folder):
        found = sorted(p for p in folder.iterdir() if _is_called(p, path, offered))
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"{path}: {folder} has {', '.join(p.name for p in found)}; give the path of one")
    if offered:
        return published.fetch(offered)
    raise UserError(
        f"{path}: no such file, nor a name of one in {folder} (TFDET_WEIGHTS names another folder), nor of published "
        f"weights.{published.suggestion(str(path))} `tfdet weights` lists those"
    )


def _is_called(file: Path, name: Path, offered: published.Published | None) -> bool:
    if offered and file.name == offered.file_name:
        return True
    if name.suffix or name.name != str(name):
        return file.name == str(name)
    return file.name.split(".")[0] in (name.name, f"{name.name}-0000")


def _other_backbone(report: LoadReport, name_map: NameMap) -> str:
    """What tells that the file has another backbone, or an empty string."""
    backbone = [path for path in report.missing if path.startswith("backbone/")]
    backbone += [line.split(":")[0] for line in report.mismatched if line.startswith("backbone/")]
    if backbone:
        return f"the file has another backbone: {backbone[0]} is not in it, or of another shape"
    # A deeper network has more units in stages that both have.
    stages = {path.split("/unit")[0] for path in report.matched if path.startswith("backbone/") and "/unit" in path}
    for name in report.unused:
        target = target_of(name, name_map.rules) or ""
        if target.split("/unit")[0] in stages:
            return f"the file has a deeper backbone: there is no {target} here"
    return ""
