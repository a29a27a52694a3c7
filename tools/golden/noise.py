"""How far Detectron2 or torchvision is from itself: the noise floors of a golden folder, and limits by them.

The same network was run with every weight multiplied by 1 + 1e-7 N(0, 1), eight times, and in float64. One such run
alone is no measure: two of them can differ a thousandfold in how far they move a gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfdet.errors import UserError
from tools.golden.files import read_json

MAPS, LOSSES, NORMS, GRADIENTS, STATISTICS = "maps", "losses", "gradnorm_rel", "gradients_rel", "bn_after"
"""Groups of floors: absolute ones of maps, losses and BN statistics, relative ones of gradients."""

CEILINGS = {MAPS: 1e-3, LOSSES: 1e-3, NORMS: 0.1, GRADIENTS: 0.25, STATISTICS: 1e-3}
"""Relative figures above these are no noise; the largest measured ones are 4e-4, 1.5e-4, 0.02 and 0.11."""

UNSTEADY = 2e-2
"""A gradient whose elements differ by more from run to run proves little by them: its direction is compared too."""

MAX_TURN = 1e-3
"""One minus the cosine between such a gradient and ours."""

_MAP_FACTOR, _LOSS_FACTOR, _NORM_FACTOR, _GRADIENT_FACTOR = 5, 10, 5, 5
_LEAST = {MAPS: 1e-6, LOSSES: 1e-5, NORMS: 5e-3, GRADIENTS: 2e-3, STATISTICS: 1e-6}
_FEWEST = 8


class Noise(NamedTuple):
    """Floors by group and name, and what is wrong with the file they are of."""

    file: str
    floors: dict[str, dict[str, float]]
    findings: list[str]

    def of(self, group: str, name: str) -> float | None:
        """The floor of an array; None where there is none."""
        return self.floors.get(group, {}).get(name)

    def map_limit(self, name: str, scale: float) -> float:
        """Of a map, relative to its absolute maximum `scale`."""
        return self._limit(MAPS, self.of(MAPS, name), scale, _MAP_FACTOR)

    def statistics_limit(self, name: str, scale: float) -> float:
        """Of a moving statistic after a step, relative to its absolute maximum `scale`."""
        return self._limit(STATISTICS, self.of(STATISTICS, name), scale, _MAP_FACTOR)

    def loss_limit(self, name: str, value: float) -> float:
        """Of a loss, relative to its value."""
        return self._limit(LOSSES, self.of(LOSSES, name), abs(value) or 1.0, _LOSS_FACTOR)

    def norm_limit(self, name: str) -> float:
        """Of a gradient's norm, relative."""
        return self._limit(NORMS, self.of(NORMS, name), 1.0, _NORM_FACTOR)

    def gradient_limit(self, name: str) -> float:
        """Of a gradient's elements, relative to the largest."""
        return self._limit(GRADIENTS, self.of(GRADIENTS, name), 1.0, _GRADIENT_FACTOR)

    def implausible(self, group: str, name: str, scale: float) -> str | None:
        """A finding where a floor is missing, or too high to be one.

        Args:
            group, name: of the floor.
            scale: what it is relative to, 1 for what is relative already.
        """
        floor = self.of(group, name)
        if floor is None:
            return f"{self.file}: no noise_max.{group} of {name}; without it there is no limit"
        if floor / scale > CEILINGS[group]:
            return f"{self.file}: noise_max.{group} of {name} is {floor:.2g}, too much to be noise of {scale:.2g}"
        return None

    def _limit(self, group: str, floor: float | None, scale: float, factor: int) -> float:
        # Without a floor nothing passes but what is equal: `implausible` says why.
        return max(factor * min((floor or 0.0) / scale, CEILINGS[group]), _LEAST[group])


def read_noise(folder: Path, meta: Mapping) -> Noise:
    """The floors in `noise.json`, else those in `meta.json`.

    Raises:
        UserError: the file is damaged or its entries are of another form.
    """
    path = folder / "noise.json"
    if path.is_file():
        return make_noise(read_json(path), str(path.name))
    if "noise_max" in meta:
        return make_noise(meta, "meta.json")
    return Noise(
        "noise.json", {}, ["noise.json: is missing, and meta.json has no noise_max; without it there is no limit"]
    )


def make_noise(content: Mapping, file: str) -> Noise:
    """Floors of a file's content; the largest of all runs, which the runs themselves must bear out."""
    largest, samples = content.get("noise_max"), content.get("noise_samples", {})
    if not isinstance(largest, Mapping) or not isinstance(samples, Mapping):
        raise UserError(f"{file}: noise_max and noise_samples must be objects of names and values")
    floors, findings = {}, []
    for group in CEILINGS:
        entries = largest.get(group) or {}
        if not isinstance(entries, Mapping):
            raise UserError(f"{file}: noise_max.{group} must be an object of names and numbers")
        wrong = [name for name, value in entries.items() if not _is_floor(value)]
        if wrong:
            findings.append(f"{file}: noise_max.{group} of {wrong[0]} is {entries[wrong[0]]!r}, not a number from 0 on")
        floors[group] = {name: float(value) for name, value in entries.items() if _is_floor(value)}
        findings += _not_borne_out(file, group, floors[group], samples.get(group))
    count = samples.get("count", _FEWEST)
    if not isinstance(count, int) or count < _FEWEST:
        findings.append(f"{file}: noise of {count!r} runs; at least {_FEWEST} are needed")
    return Noise(file, floors, findings)


def _is_floor(value) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and np.isfinite(value) and value >= 0


def _not_borne_out(file: str, group: str, floors: dict[str, float], samples) -> list[str]:
    """Findings about floors that are not the largest of their runs."""
    if not isinstance(samples, Mapping):
        return []
    findings = []
    for name, floor in floors.items():
        runs = samples.get(name)
        if not isinstance(runs, list) or not runs or not all(_is_floor(run) for run in runs):
            findings.append(f"{file}: noise_samples.{group} has no runs of {name}")
        elif abs(max(runs) - floor) > 1e-6 * max(floor, max(runs)):
            findings.append(f"{file}: noise_max.{group} of {name} is {floor:.2g}, its runs reach {max(runs):.2g}")
    return findings
