"""What the comparisons with other programs share: a process for the other network, and how far apart maps are."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfdet.errors import UserError
from tfdet.other_python import run_other_python

_PROGRAMS = Path(__file__).parent / "programs"


def run_program(name: str, packages: str, variable: str, path: str | Path, **inputs: Any) -> dict[str, np.ndarray]:
    """Runs a program of `tfdet/weights/programs` on a file, in the Python that `variable` names, else in this one.

    Args:
        name: of the program.
        packages: that it needs, as a person installs them.
        variable: of the environment.
        path: of the weights.
        **inputs: arrays and numbers for it.

    Returns:
        The arrays that it wrote.

    Raises:
        UserError: it did not come to its end.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "input.npz", Path(folder) / "output.npz"
        np.savez(source, **inputs)
        arguments = [str(path), str(source), str(target)]
        run_other_python(variable, _PROGRAMS / name, arguments, str(path), packages)
        with np.load(target) as outputs:
            return dict(outputs)


def map_differences(expected: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> dict[str, float]:
    """The largest difference of each map that both have, over its absolute maximum.

    Args:
        expected: the other program's, by name.
        found: ours, under the same names.

    Raises:
        UserError: a map has another shape here.
    """
    result = {}
    for name, array in expected.items():
        if name not in found:
            continue
        if found[name].shape != array.shape:
            raise UserError(
                f"--verify: {name} is {array.shape} by the file and {found[name].shape} by the detector: it is of "
                "another architecture or class count"
            )
        result[name] = float(np.max(np.abs(found[name] - array)) / (np.max(np.abs(array)) or 1.0))
    return result


def level_maps(pairs: Sequence[tuple[tf.Tensor, tf.Tensor]], names: tuple[str, str]) -> dict[str, np.ndarray]:
    """What a head says about each level, as `names` and the level's number: [B, H, W, C] -> [B, C, H, W]."""
    return {f"{name}_{k}": nchw(x) for k, pair in enumerate(pairs) for name, x in zip(names, pair, strict=True)}


def nchw(x: tf.Tensor) -> np.ndarray:
    """[B, H, W, C] -> [B, C, H, W]."""
    return np.asarray(x).transpose(0, 3, 1, 2)
