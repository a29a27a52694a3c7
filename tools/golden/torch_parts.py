"""Parts of Detectron2's and torchvision's networks that a golden folder can have and tfdet cannot build yet.

A part that tfdet learns to build gets its `bindings` here; the folders that have it are compared from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np


class Described(NamedTuple):
    """What a folder says of its network."""

    meta: Mapping  # meta.json
    settings: Mapping  # config.yaml of Detectron2 by dotted names; empty for torchvision
    arrays: dict[str, np.ndarray]  # the checkpoint


class Part(NamedTuple):
    """A part of a network.

    Fields:
        name: as the field calls it.
        where: from a description to the place that says that the network has the part; None where it has not.
        bindings: from a description to the gin bindings that build the part; None: tfdet has no such part.
    """

    name: str
    where: Callable[[Described], str | None]
    bindings: Callable[[Described], dict] | None = None


def _setting(name: str, is_part: Callable) -> Callable[[Described], str | None]:
    """Reads config.yaml, else the overrides that meta.json lists."""

    def where(described: Described) -> str | None:
        overrides = described.meta.get("config_overrides")
        for file, values in (("config.yaml", described.settings), ("meta.json", overrides)):
            if isinstance(values, Mapping) and name in values and is_part(values[name]):
                return f"{file}: {name} is {values[name]}"
        return None

    return where


def _tensor(suffix: str) -> Callable[[Described], str | None]:
    def where(described: Described) -> str | None:
        found = next((name for name in described.arrays if name.endswith(suffix)), None)
        return found and f"the checkpoint has {found}"

    return where


def _grouped(described: Described) -> str | None:
    for name, array in described.arrays.items():
        inputs = described.arrays.get(name.replace("conv2.weight", "conv1.weight"))
        if name.endswith(".conv2.weight") and inputs is not None and array.ndim == inputs.ndim == 4:
            if array.shape[1] and inputs.shape[0] > array.shape[1]:
                return f"{name} takes {array.shape[1]} of {inputs.shape[0]} channels"
    return None


PARTS = [
    Part("deformable convolutions", _setting("MODEL.RESNETS.DEFORM_ON_PER_STAGE", any)),
    Part("deformable convolutions", _tensor(".conv2_offset.weight")),
    Part("a res5 dilated at stride 16 (DC5)", _setting("MODEL.RESNETS.RES5_DILATION", lambda dilation: dilation != 1)),
    Part("grouped convolutions (ResNeXt)", _setting("MODEL.RESNETS.NUM_GROUPS", lambda groups: groups != 1)),
    Part("grouped convolutions (ResNeXt)", _grouped),
]
"""In the order in which they are named."""


def not_built(described: Described) -> list[str]:
    """The parts that tfdet cannot build, each with the place that says that the network has it."""
    found: dict[str, str] = {}
    for part in PARTS:
        place = part.where(described) if part.bindings is None else None
        if place and part.name not in found:
            found[part.name] = place
    return [f"{name} ({place})" for name, place in found.items()]


def bindings_of(described: Described) -> dict:
    """Gin bindings of the parts that tfdet builds."""
    bound: dict = {}
    for part in PARTS:
        if part.bindings is not None and part.where(described):
            bound |= part.bindings(described)
    return bound
