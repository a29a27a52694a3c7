"""NumPy arrays inside pickles, and the reader of the `.pkl` files of Detectron2 and Detectron."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from tfdet.errors import UserError
from tfdet.weights.formats.file_bytes import to_array
from tfdet.weights.formats.pickle_machine import BoundedFile, Buildable, Global, Handler, read_pickle

_KIND = "pickle"


class PickledType(Buildable):
    """`numpy.dtype`: numbers only."""

    def __init__(self, code: Any, *_: Any):
        if isinstance(code, Global):
            code = code.name
        if not isinstance(code, str) or not re.fullmatch(r"[<>|=]?([fiu][1248]|b1)", code):
            raise ValueError(f"an array of {code!r}, not of numbers")
        self.code, self.order = code.lstrip("<>|="), "<"

    def set_state(self, state: Any) -> None:
        """(version, byte order, ...)."""
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise ValueError("the state of a dtype")
        self.order = ">" if state[1] == ">" else "<"

    @property
    def dtype(self) -> np.dtype:
        """The type."""
        return np.dtype(self.order + self.code)


class PickledArray(Buildable):
    """`numpy.ndarray` made by `_reconstruct`: empty until its state comes."""

    def __init__(self, *_: Any):
        self.value: np.ndarray | None = None
        self.copied_bytes = 0

    def set_state(self, state: Any) -> None:
        """(version, shape, dtype, Fortran order, bytes); bytes of Python 2 come as text in latin1."""
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise ValueError("the state of an array")
        shape, kind, fortran, data = state[-4:]
        self.value = _array(data, kind, shape, bool(fortran))
        self.copied_bytes = self.value.nbytes if isinstance(data, str) or kind.order == ">" else 0


def _array(data: Any, kind: Any, shape: Any, fortran: bool) -> np.ndarray:
    if isinstance(data, str):
        data = data.encode("latin1")
    if not isinstance(kind, PickledType) or not isinstance(data, (bytes, bytearray)) or not isinstance(shape, tuple):
        raise ValueError("the parts of an array")
    array = to_array(memoryview(data), kind.dtype, shape, "F" if fortran else "C")
    if array is None:
        raise ValueError(f"{len(data)} bytes for an array of shape {shape}")
    return array.astype(array.dtype.newbyteorder("=")) if kind.order == ">" else array


def _from_buffer(data: Any, kind: Any, shape: Any, order: Any = "C") -> np.ndarray:
    return _array(data, kind, shape, order == "F")


def _scalar(kind: Any, data: Any = b"") -> np.ndarray:
    return _array(data, kind, (), False)


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or not isinstance(encoding, str) or encoding not in ("latin1", "latin-1", "utf-8"):
        raise ValueError("bytes as text")
    return text.encode(encoding)


def _ordered(pairs: Any = ()) -> dict:
    if not isinstance(pairs, (list, tuple)) or not all(isinstance(pair, (list, tuple)) for pair in pairs):
        raise ValueError("the pairs of a table")
    return {name: value for name, value in pairs if isinstance(name, (str, int))}


HANDLERS: dict[str, Handler] = {
    "numpy.dtype": PickledType,
    "_codecs.encode": _encode,
    "collections.OrderedDict": _ordered,
}
for _module in ("numpy.core", "numpy._core"):
    HANDLERS |= {
        f"{_module}.multiarray._reconstruct": PickledArray,
        f"{_module}.multiarray.scalar": _scalar,
        f"{_module}.numeric._frombuffer": _from_buffer,
    }

_INNER = ("model", "state_dict", "model_state_dict", "blobs")
_MAX_NESTING = 4


def named_arrays(value: Any, path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint: those of its innermost `model`, `state_dict` or `blobs`; all else is left out.

    A prefix `module.` of every name, which data-parallel training leaves, is taken off.

    Raises:
        UserError: there are none.
    """
    for _ in range(_MAX_NESTING):
        inner = next((value[k] for k in _INNER if isinstance(value.get(k), dict)), None) if _is_table(value) else None
        if inner is None:
            break
        value = inner
    arrays = {}
    for name, entry in value.items() if _is_table(value) else ():
        entry = entry.value if isinstance(entry, PickledArray) else entry
        if isinstance(entry, np.ndarray) and isinstance(name, str):
            arrays[name] = entry
    if not arrays:
        raise UserError(f"{path}: holds no tensors by name; give a file with the weights of a model")
    if all(name.startswith("module.") for name in arrays):
        arrays = {name.removeprefix("module."): array for name, array in arrays.items()}
    return arrays


def _is_table(value: Any) -> bool:
    return isinstance(value, dict)


def read_pkl(path: str | Path) -> dict[str, np.ndarray]:
    """Arrays of a `.pkl` of Detectron2 (`{"model": ...}`) or Detectron and Caffe2 (`{"blobs": ...}` or flat).

    Raises:
        UserError: the file is truncated or of another format, or its pickle calls anything but NumPy's arrays.
    """
    try:
        with open(path, "rb") as file:
            value = read_pickle(BoundedFile(file), HANDLERS, path, _KIND)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    return named_arrays(value, path)
