"""The verdict on a detector against stored outputs of SimpleDet for the same weights and image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfdet.detectors import Detector
from tfdet.errors import UserError
from tfdet.weights.load import assign
from tfdet.weights.maps import simpledet
from tools.golden import simpledet_compare, simpledet_rows
from tools.golden.simpledet_folder import Golden
from tools.golden.verdict import Verdict


def check(golden: Golden, checkpoints: Sequence[dict[str, np.ndarray]], tolerance: float) -> list[Verdict]:
    """What is wrong with every output that `golden` stores, for each checkpoint: folded, not folded.

    Raises:
        UserError: a checkpoint does not fit the row.
    """
    row, _ = simpledet_rows.row_of(golden)
    if findings := simpledet_compare.input_findings(golden, row):
        return [Verdict([], [], [], findings, {}) for _ in checkpoints]
    detector = simpledet_rows.build_like(golden)
    return [judge(golden, compute(golden, arrays, detector), tolerance) for arrays in checkpoints]


def judge(golden: Golden, computed: dict[str, np.ndarray], tolerance: float = simpledet_compare.TOLERANCE) -> Verdict:
    """The verdict on a folder, given what tfdet computes for it."""
    row, _ = simpledet_rows.row_of(golden)
    return simpledet_compare.compare(golden, row, computed, tolerance)


def compute(golden: Golden, arrays: dict[str, np.ndarray], detector: Detector) -> dict[str, np.ndarray]:
    """Our counterparts of the stored outputs.

    Args:
        golden: the folder.
        arrays: its checkpoint, folded or not.
        detector: of `simpledet_rows.build_like`; it gets the weights.

    Raises:
        UserError: the checkpoint does not fit the row.
    """
    report = assign(detector, arrays, simpledet.name_map(detector), str(golden.folder))
    if report.missing or report.mismatched or report.unused:
        raise UserError(f"{report.summary()}; the checkpoint does not fit the family {golden.meta['row']}")
    return simpledet_rows.compute(detector, golden)
