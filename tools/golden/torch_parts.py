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


def _deformable(described: Described) -> dict:
    settings = described.settings
    on, modulated = settings["MODEL.RESNETS.DEFORM_ON_PER_STAGE"], settings["MODEL.RESNETS.DEFORM_MODULATED"]
    return {
        "ResNetV1.deformable": tuple(-1 if stage else 0 for stage in on),
        "ResNetV1.modulated": bool(modulated),
        "ResNetV1.offset_groups": settings["MODEL.RESNETS.DEFORM_NUM_GROUPS"],
    }


def _groups(described: Described) -> dict:
    """Groups and their width at full width: `width` multiplies the inner channels as it does all others."""
    groups, outer = (
        described.settings["MODEL.RESNETS.NUM_GROUPS"],
        described.settings["MODEL.RESNETS.RES2_OUT_CHANNELS"],
    )
    bound = {"groups": groups, "width_per_group": described.settings["MODEL.RESNETS.WIDTH_PER_GROUP"] * 256 // outer}
    pixels = tuple(described.settings["MODEL.PIXEL_STD"][::-1])
    owners = ["ResNetV1"]
    owners += ["C5BboxHead"] if any(name.startswith("roi_heads.res5.") for name in described.arrays) else []
    bound = {f"{owner}.{name}": value for owner in owners for name, value in bound.items()}
    return bound | {"TwoStageDetector.pixel_std": pixels}


def _dilated_elsewhere(described: Described) -> str | None:
    """A dilated res5 that is not the last stage of a backbone without a pyramid: that one is a family of its own."""
    if any(name.startswith("backbone.res5.") for name in described.arrays):
        return None
    return _setting("MODEL.RESNETS.RES5_DILATION", lambda dilation: dilation != 1)(described)


PARTS = [
    Part("deformable convolutions", _setting("MODEL.RESNETS.DEFORM_ON_PER_STAGE", any), _deformable),
    Part("a dilated res5 within a pyramid or a head", _dilated_elsewhere),
    Part("grouped convolutions (ResNeXt)", _setting("MODEL.RESNETS.NUM_GROUPS", lambda groups: groups != 1), _groups),
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
