"""Whether a folder of Detectron2 or torchvision holds what its `meta.json` says of it.

A figure that is not in `meta.json` is not asked for: copies of folders go without many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from numbers import Real
from typing import Any

import numpy as np

from tools.golden.torch_folder import TorchGolden
from tools.golden.verdict import scale_of

_RELATIVE = 1e-4
"""Of a stated figure."""


def disagreements(golden: TorchGolden) -> list[str]:
    """A finding for every figure of `meta.json` that is not that of the arrays."""
    findings = [f"meta.json: {name} is {said}, but {found}" for name, said, found in _unequal(golden)]
    return findings + [f"meta.json: {name} is not of the form that is known" for name in _unreadable(golden)]


def _checks() -> list[tuple[str, type, Callable[[TorchGolden, Any], Iterator[tuple[str, Any, Any]]]]]:
    return [
        ("hw", list, _sides),
        ("n_det", int, _count),
        ("n_det_classes", int, _classes),
        ("det_score_range", list, _scores),
        ("n_prop", dict, _proposals),
        ("absmax_std", dict, _figures),
        ("train_losses", dict, _losses),
        ("state_dict", dict, _tensors),
        ("conventions", dict, _conventions),
        ("config_overrides", dict, _overrides),
        ("left_out", list, _left_out),
    ]


def _unequal(golden: TorchGolden) -> Iterator[tuple[str, Any, Any]]:
    for name, kind, check in _checks():
        if isinstance(golden.meta.get(name), kind):
            yield from check(golden, golden.meta[name])


def _unreadable(golden: TorchGolden) -> list[str]:
    return [name for name, kind, _ in _checks() if not isinstance(golden.meta.get(name), (kind, type(None)))]


def _sides(golden: TorchGolden, said: list):
    sides = list(golden.outputs["image"].shape[1:])
    if said != sides:
        yield "hw", said, f"the image has {sides}"


def _count(golden: TorchGolden, said: int):
    for name in ("det_boxes", "det_scores", "det_classes", "det_masks"):
        if name in golden.outputs and len(golden.outputs[name]) != said:
            yield "n_det", said, f"{name} has {len(golden.outputs[name])} rows"


def _classes(golden: TorchGolden, said: int):
    classes = golden.outputs.get("det_classes")
    if classes is not None and len(np.unique(classes)) != said:
        yield "n_det_classes", said, f"det_classes has {len(np.unique(classes))}"


def _scores(golden: TorchGolden, said: list):
    scores = golden.outputs.get("det_scores")
    if scores is not None and scores.size and not _equal(said, [scores.min(), scores.max()]):
        yield "det_score_range", said, f"det_scores are {scores.min():.6g} to {scores.max():.6g}"


def _proposals(golden: TorchGolden, said: dict):
    for name, count in said.items():
        array = golden.outputs.get(name, np.zeros(0))
        if len(array) != count:
            yield f"n_prop.{name}", count, f"{name} has {len(array)} rows"


def _figures(golden: TorchGolden, said: dict):
    for name, figures in said.items():
        array = golden.outputs.get(name)
        if array is not None and array.size > 1:
            found = [scale_of(array), float(array.astype(np.float64).std(ddof=1))]
            if not _equal(figures, found):
                yield f"absmax_std.{name}", figures, f"the array has {found[0]:.6g}, {found[1]:.6g}"


def _losses(golden: TorchGolden, said: dict):
    for name, value in said.items():
        stored = golden.train.get(f"loss/{name}", np.zeros(0))
        if stored.size != 1 or not _equal([value], [float(stored.reshape(-1)[0])]):
            yield f"train_losses.{name}", value, f"train.npz has {stored.reshape(-1)[:1]}"


def _tensors(golden: TorchGolden, said: dict):
    if not said:
        return
    shapes = {name: list(array.shape) for name, array in golden.arrays.items()}
    stated = {name: list(shape) if isinstance(shape, list) else shape for name, shape in said.items()}
    names = sorted(set(shapes) ^ set(stated)) or sorted(name for name in shapes if shapes[name] != stated[name])
    if names:
        name = names[0]
        yield f"state_dict.{name}", stated.get(name, "not there"), f"the checkpoint has {shapes.get(name, 'none')}"


def _conventions(golden: TorchGolden, said: dict):
    counts = [array.shape[-1] for name, array in golden.outputs.items() if name.startswith("box_cls_logits")]
    background = 1 if golden.program == "detectron2" else 0  # torchvision counts it
    if "num_classes" in said and counts and said["num_classes"] + background != counts[0]:
        yield "conventions.num_classes", said["num_classes"], f"box_cls_logits has {counts[0]} columns"
    in_1x1 = golden.settings.get("MODEL.RESNETS.STRIDE_IN_1X1")
    if in_1x1 is not None and str(said.get("stride_on", "")).startswith("1x1") != bool(in_1x1):
        yield "conventions.stride_on", said.get("stride_on"), f"config.yaml has STRIDE_IN_1X1 {in_1x1}"


def _overrides(golden: TorchGolden, said: dict):
    for name, value in said.items():
        if golden.settings and golden.settings.get(name) != value:
            yield f"config_overrides.{name}", value, f"config.yaml has {golden.settings.get(name)}"


def _left_out(golden: TorchGolden, said: list):
    finals = ("det_", "proposals", "loss/", "image", "box_cls_logits", "cls_logits")
    for name in said:
        if not isinstance(name, str) or name.startswith(finals) or name in golden.outputs or name in golden.train:
            yield "left_out", name, "it may not be left out, or is there"


def _equal(said, found: list[float]) -> bool:
    if not isinstance(said, list) or len(said) != len(found) or not all(isinstance(value, Real) for value in said):
        return False
    return bool(np.allclose(said, found, rtol=_RELATIVE, atol=1e-12))
