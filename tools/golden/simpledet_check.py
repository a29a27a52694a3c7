"""The verdict on a detector against stored outputs of SimpleDet for the same weights and image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfdet.errors import UserError
from tfdet.weights.load import assign
from tfdet.weights.maps import simpledet
from tools.golden import simpledet_compare, simpledet_rows
from tools.golden.simpledet_folder import Golden
from tools.golden.verdict import Verdict


def check(
    golden: Golden,
    arrays: dict[str, np.ndarray],
    bindings: Sequence[str] = (),
    tolerance: float = simpledet_compare.TOLERANCE,
) -> Verdict:
    """What is wrong with every output that `golden` stores, for the checkpoint `arrays`.

    Args:
        golden: the folder.
        arrays: its checkpoint, folded or not.
        bindings: see `simpledet_rows.build_like`.
        tolerance: of every map.
    """
    row, _ = simpledet_rows.row_of(golden)
    if findings := simpledet_compare.input_findings(golden, row):
        return Verdict([], [], [], findings, {})
    return simpledet_compare.compare(golden, row, compute(golden, arrays, bindings), tolerance)


def compute(golden: Golden, arrays: dict[str, np.ndarray], bindings: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Our counterparts of the stored outputs. Args: as of `check`.

    Raises:
        UserError: the checkpoint does not fit the row.
    """
    detector = simpledet_rows.build_like(golden, bindings)
    report = assign(detector, arrays, simpledet.name_map(detector), str(golden.folder))
    if report.missing or report.mismatched or report.unused:
        raise UserError(f"{report.summary()}; the checkpoint does not fit the family {golden.meta['row']}")
    return simpledet_rows.compute(detector, golden)
