"""The errors of a detector against stored outputs of SimpleDet for the same weights and image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tfdet.errors import UserError
from tfdet.weights.load import assign
from tfdet.weights.maps import simpledet
from tools.golden import simpledet_mask, simpledet_rows
from tools.golden.simpledet_folder import Golden

_PROPOSAL_SETS = ("proposal", "get_top_proposal: reshape5")


class MapError(NamedTuple):
    """Agreement of one output. `error` is the largest difference over the reference's absolute maximum."""

    name: str
    shape: tuple[int, ...]
    error: float


def check(golden: Golden, arrays: dict[str, np.ndarray], bindings: Sequence[str] = ()) -> list[MapError]:
    """Errors of every map that `golden` stores, for the checkpoint `arrays`.

    Args:
        golden: the folder.
        arrays: its checkpoint, folded or not.
        bindings: see `simpledet_rows.build_like`.
    """
    detector = simpledet_rows.build_like(golden, bindings)
    report = assign(detector, arrays, simpledet.name_map(detector), str(golden.folder))
    if report.missing or report.mismatched or report.unused:
        raise UserError(f"{report.summary()}; the checkpoint does not fit the family {golden.meta['row']}")
    computed = simpledet_rows.compute(detector, golden)
    return [_compare(name, computed[name], golden.outputs[name]) for name in golden.outputs if name in computed]


def unchecked(golden: Golden, errors: list[MapError]) -> list[str]:
    """Stored outputs that `check` has no counterpart for."""
    return [name for name in golden.outputs if name not in {e.name for e in errors}]


def _compare(name: str, ours: np.ndarray, reference: np.ndarray) -> MapError:
    if ours.size != reference.size:
        return MapError(name, reference.shape, float("inf"))
    ours = ours.reshape(reference.shape).astype(np.float64)
    if name in _PROPOSAL_SETS or (simpledet_mask.FINAL_BOXES.match(name) and reference.shape[-1] == 4):
        ours = np.stack([_in_order_of(*rows) for rows in zip(reference, ours, strict=True)])
    scale = np.abs(reference).max() or 1.0
    difference = np.abs(ours - reference).max() / scale
    return MapError(name, reference.shape, float(difference) if np.isfinite(difference) else float("inf"))


def _in_order_of(reference: np.ndarray, ours: np.ndarray) -> np.ndarray:
    """Each row of `reference` [P, 4] gets the nearest row of `ours` not taken yet: near ties may swap places."""
    left, ordered = list(range(len(ours))), []
    for row in reference:
        nearest = min(left, key=lambda i: np.abs(ours[i] - row).max())
        left.remove(nearest)
        ordered.append(ours[nearest])
    return np.stack(ordered)
