"""The comparison of a training step of `tools.golden.torch_folder`: losses, norms of gradients, gradients, in NumPy."""

from __future__ import annotations

import numpy as np

from tools.golden import noise as floors
from tools.golden.torch_folder import TorchGolden
from tools.golden.torch_training import LOSS_NAMES, RETINA_LOSS_NAMES, Step
from tools.golden.verdict import MapError, missing, relative_error, scale_of

_KINDS = ("loss", "gradnorm", "grad", "gradsample", "nograd", "bn_after")


def compare_training(golden: TorchGolden, step: Step) -> tuple[list[MapError], list[str], dict[str, str]]:
    """Relative errors of losses and norms, of gradients relative to their largest element.

    Returns:
        The errors with their limits; findings; and of stored arrays that are not compared the reasons.
    """
    stored, rows, findings, reasons = golden.train, [], [], {}
    findings += missing(_wanted(golden, step), stored, "train.npz")
    for key in stored:
        kind, _, name = key.partition("/")
        known = name in step.gradients
        if kind == "loss":
            rows += _loss(key, golden, step, findings)
        elif kind == "gradnorm" and known:
            rows.append(_norm(key, golden, step, findings))
        elif kind in ("grad", "gradsample") and known:
            rows += _gradient(key, golden, step, findings)
        elif kind == "bn_after" and name in step.statistics:
            rows.append(_statistics(key, golden, step, findings))
        elif kind == "nograd":
            if name not in step.still:
                findings.append(f"train.npz: {key}: the gin files train it, or there is no such tensor")
        elif kind in _KINDS:
            findings.append(f"train.npz: {key}: the gin files do not train it, or there is no such tensor")
        elif key.startswith("gt_") or key == "image2":
            reasons[f"train.npz {key}"] = "an input"
        else:
            reasons[f"train.npz {key}"] = "tfdet computes nothing of this name"
    for key in ("gt_boxes", "gt_classes"):
        if key in golden.outputs and not np.array_equal(golden.outputs[key], stored[key]):
            findings.append(f"train.npz: {key} is not that of golden.npz")
    left_out = [name for name in golden.left_out if name.split("/")[0] in _KINDS]
    return rows, findings, reasons | {f"train.npz {name}": "left out of this copy" for name in sorted(left_out)}


def _wanted(golden: TorchGolden, step: Step) -> set[str]:
    """What train.npz must have: every loss of ours, norm and elements of every gradient, what is not trained."""
    names = _names(golden)
    stored = {names.get(key.partition("/")[2]) for key in golden.train if key.startswith("loss/")}
    wanted = {f"loss/… of {own}" for own in step.losses if own not in stored}
    wanted |= {f"gradnorm/{name}" for name in step.gradients} | {f"nograd/{name}" for name in step.still}
    wanted |= {f"bn_after/{name}" for name in step.statistics}
    for name, gradient in step.gradients.items():
        kind = "grad" if gradient.size <= 1024 else "gradsample"
        other = "gradsample" if kind == "grad" else "grad"
        if f"{other}/{name}" not in golden.train:
            wanted.add(f"{kind}/{name}")
    return wanted - golden.left_out


def _names(golden: TorchGolden) -> dict[str, str]:
    return LOSS_NAMES | (RETINA_LOSS_NAMES if golden.family.startswith("retinanet") else {})


def _loss(key: str, golden: TorchGolden, step: Step, findings: list[str]) -> list[MapError]:
    name = key.partition("/")[2]
    own = step.losses.get(_names(golden).get(name, ""))
    reference = golden.train[key]
    if own is None or reference.size != 1:
        findings.append(f"train.npz: {key}: there is no such loss, or it is not one number")
        return []
    value = float(reference.reshape(-1)[0])
    scale = abs(value) or 1.0
    error = abs(own - value) / scale
    if finding := golden.noise.implausible(floors.LOSSES, name, scale):
        findings.append(finding)
    floor = golden.noise.of(floors.LOSSES, name)
    noise = None if floor is None else floor / scale
    return [MapError(key, (), error, golden.noise.loss_limit(name, value), noise)]


def _statistics(key: str, golden: TorchGolden, step: Step, findings: list[str]) -> MapError:
    name, reference = key.partition("/")[2], golden.train[key]
    scale = scale_of(reference)
    if finding := golden.noise.implausible(floors.STATISTICS, name, scale):
        findings.append(finding)
    floor = golden.noise.of(floors.STATISTICS, name)
    noise = None if floor is None else floor / scale
    error = relative_error(step.statistics[name], reference)
    return MapError(key, reference.shape, error, golden.noise.statistics_limit(name, scale), noise)


def _norm(key: str, golden: TorchGolden, step: Step, findings: list[str]) -> MapError:
    name = key.partition("/")[2]
    own = np.linalg.norm(step.gradients[name].astype(np.float64)).reshape(())
    if finding := golden.noise.implausible(floors.NORMS, name, 1.0):
        findings.append(finding)
    noise = golden.noise.of(floors.NORMS, name)
    return MapError(key, (), relative_error(own, golden.train[key]), golden.noise.norm_limit(name), noise)


def _gradient(key: str, golden: TorchGolden, step: Step, findings: list[str]) -> list[MapError]:
    """Of its elements, and where these are unsteady of its direction too."""
    kind, _, name = key.partition("/")
    own, reference = step.gradients[name].reshape(-1), golden.train[key].reshape(-1)
    if kind == "gradsample":
        stride = golden.meta.get("gradsample_stride", {}).get(name)
        if not isinstance(stride, int) or stride < 1:
            findings.append(f"meta.json: no gradsample_stride of {name}")
            return []
        own = own[::stride]
    if finding := golden.noise.implausible(floors.GRADIENTS, name, 1.0):
        findings.append(finding)
    noise, shape = golden.noise.of(floors.GRADIENTS, name), golden.train[key].shape
    rows = [MapError(key, shape, relative_error(own, reference), golden.noise.gradient_limit(name), noise)]
    if noise is not None and noise > floors.UNSTEADY and own.shape == reference.shape:
        lengths = np.linalg.norm(own.astype(np.float64)) * np.linalg.norm(reference.astype(np.float64))
        turn = 1.0 - float(own.astype(np.float64) @ reference) / (lengths or 1.0)
        rows.append(MapError(f"direction of {key}", shape, turn, floors.MAX_TURN))
    return rows
