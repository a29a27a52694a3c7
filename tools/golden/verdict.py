"""What the comparison of a golden folder found: figures with their limits, and in words what no figure can say."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from tfdet.weights.agreement import Measure

LEFT_OUT = "left out of this copy"
"""Why an array is not compared that a folder may go without."""


class MapError(NamedTuple):
    """Agreement of one array. `error` is the largest difference over the reference's absolute maximum."""

    name: str
    shape: tuple[int, ...]
    error: float
    limit: float = 0.0
    noise: float | None = None  # the program's own, in the same unit

    @property
    def passed(self) -> bool:
        """Whether it is within its limit; what is not a number is not."""
        return bool(self.error <= self.limit)


class Verdict(NamedTuple):
    """All that was compared in one folder, and what was not."""

    maps: list[MapError]
    measures: list[Measure]  # of sets: proposals, detections, masks
    training: list[MapError]
    findings: list[str]  # what is missing, not a number, or not what the folder says of itself
    not_compared: dict[str, str]  # stored arrays, and why each is not
    remarks: tuple[str, ...] = ()  # what a reader should know of figures that are within their limits

    @property
    def wrong(self) -> list[MapError | Measure]:
        """The figures beyond their limits."""
        return [row for row in [*self.maps, *self.training, *self.measures] if not row.passed]

    @property
    def passed(self) -> bool:
        """Whether there are maps, each figure is within its limit, and nothing was found."""
        return bool(self.maps) and not self.wrong and not self.findings


def relative_error(ours: np.ndarray | None, reference: np.ndarray) -> float:
    """The largest difference over the reference's absolute maximum; infinite where it is not a number."""
    if ours is None or ours.shape != reference.shape or not reference.size:
        return float("inf")
    difference = np.abs(ours.astype(np.float64) - reference).max() / scale_of(reference)
    return float(difference) if np.isfinite(difference) else float("inf")


def scale_of(reference: np.ndarray) -> float:
    """The absolute maximum of an array; 1 where that is 0."""
    return float(np.abs(reference.astype(np.float64)).max(initial=0.0)) or 1.0


def unusable(arrays: dict[str, np.ndarray], file: str, may_be_empty: str = "\0") -> list[str]:
    """Findings about arrays that can be compared with nothing: without elements, or with some that are no numbers.

    Args:
        arrays: by name.
        file: that they are of.
        may_be_empty: first letters of names that say all by themselves.
    """
    findings = []
    for name, array in arrays.items():
        if not array.size and not name.startswith(may_be_empty):
            findings.append(f"{file}: {name} is empty, {list(array.shape)}")
        elif array.dtype.kind not in "fiub":
            findings.append(f"{file}: {name} holds {array.dtype}, not numbers")
        elif array.dtype.kind == "f" and not np.isfinite(array).all():
            findings.append(f"{file}: {name} holds NaN or infinite numbers")
    return findings


def missing(wanted: list[str] | set[str], arrays: dict[str, np.ndarray], file: str) -> list[str]:
    """A finding for every name that is not among the arrays."""
    return [f"{file}: {name} is missing" for name in sorted(wanted) if name not in arrays]


class Figure(NamedTuple):
    """A number that `meta.json` may state, and how far that may be off."""

    value: float
    tolerance: float


def known(said: Mapping, found: Mapping) -> dict:
    """What is stated, of what is known."""
    return {name: said[name] for name in found if said.get(name) is not None}


def disagreements(said: Any, found: Any, name: str = "") -> list[str]:
    """A finding for everything that `meta.json` says and that is otherwise. What it does not say is not asked for.

    Args:
        said: values of JSON.
        found: the same out of the arrays; a number with decimals is a `Figure`.
        name: of both.
    """
    if isinstance(said, Mapping) and isinstance(found, Mapping):
        pairs = [(said[key], found.get(key, "not there"), f"{name}.{key}".lstrip(".")) for key in said]
        return [line for pair in pairs for line in disagreements(*pair)]
    return [] if _agree(said, found) else [f"meta.json: {name} is {said}, but the folder has {_brief(found)}"]


def _agree(said: Any, found: Any) -> bool:
    if isinstance(found, Figure):
        return isinstance(said, Real) and abs(said - found.value) <= found.tolerance
    if isinstance(found, list):
        return isinstance(said, list) and len(said) == len(found) and all(map(_agree, said, found))
    return said == found


def _brief(found: Any) -> str:
    if isinstance(found, list):
        return f"[{', '.join(map(_brief, found))}]"
    return f"{found.value:.6g}" if isinstance(found, Figure) else str(found)[:100]
