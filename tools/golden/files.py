"""The files of a golden folder: read whole, or refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tfdet.errors import UserError
from tfdet.weights.formats.npz import read_npz


def read_json(path: Path) -> dict:
    """The object of a JSON file.

    Raises:
        UserError: it is missing, damaged, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds {type(content).__name__}, not an object of names and values")
    return content


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` file.

    Raises:
        UserError: it is missing or damaged.
    """
    if not path.is_file():
        raise UserError(f"{path}: is missing; a folder of this kind has it")
    return read_npz(path)


def left_out(meta: dict, partial: bool) -> frozenset[str]:
    """Names of the arrays that a folder may go without: none, or of a partial copy those that its `meta.json` lists."""
    return frozenset(map(str, meta.get("left_out", ()))) if partial else frozenset()


def read_yaml(path: Path) -> dict:
    """The values of a YAML file by dotted names, such as `MODEL.RESNETS.DEPTH`.

    Raises:
        UserError: it is missing or damaged.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds {type(content).__name__}, not names and values")
    return _flat(content)


def _flat(values: dict, prefix: str = "") -> dict:
    flat: dict = {}
    for name, value in values.items():
        dotted = f"{prefix}{name}"
        flat |= _flat(value, f"{dotted}.") if isinstance(value, dict) else {dotted: value}
    return flat
