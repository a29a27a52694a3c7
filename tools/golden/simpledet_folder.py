"""A folder with stored outputs of SimpleDet for its weights and an image.

It holds `meta.json`, `params.params` (BN folded), `params_unmerged_bn.params` (the entries that differ before folding),
`inputs.npz` and `outputs_core.npz`, as SimpleDet's graph computed them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfdet.weights import read_params
from tools.golden.files import left_out, read_arrays, read_json


class Golden(NamedTuple):
    """One golden folder, read."""

    folder: Path
    meta: dict
    folded: dict[str, np.ndarray]
    unfolded: dict[str, np.ndarray]
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]
    left_out: frozenset[str] = frozenset()  # names of arrays that this copy of a folder goes without


def read_golden(folder: str | Path, partial: bool = False) -> Golden:
    """Reads a golden folder; `UserError` names the file that is missing or broken.

    Args:
        folder: with the files above.
        partial: it may go without the arrays that its `meta.json` lists as `left_out`.
    """
    folder = Path(folder)
    meta = read_json(folder / "meta.json")
    inputs, outputs = (read_arrays(folder / name) for name in ("inputs.npz", "outputs_core.npz"))
    folded = read_params(folder / "params.params")
    unfolded = {k: v for k, v in folded.items() if not re.search(r"_shared\d_(gamma|beta)$", k)}
    unfolded.update(read_params(folder / "params_unmerged_bn.params"))
    return Golden(folder, meta, folded, unfolded, inputs, outputs, left_out(meta, partial))
