"""What the comparison of a golden folder found: figures with their limits, and in words what no figure can say."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tfdet.weights.agreement import Measure


class MapError(NamedTuple):
    """Agreement of one array. `error` is the largest difference over the reference's absolute maximum."""

    name: str
    shape: tuple[int, ...]
    error: float
    limit: float
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
