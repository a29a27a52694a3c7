"""NumPy arrays inside pickles, and the reader of the `.pkl` files of Detectron2 and Detectron."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tfdet.errors import UserError
from tfdet.weights.formats.file_bytes import broken, check_count, to_array
from tfdet.weights.formats.pickle_machine import (
    BoundedFile,
    Buildable,
    Global,
    Handler,
    Uncalled,
    read_pickle,
    refused,
)

_KIND = "pickle"


class PickledType(Buildable):
    """`numpy.dtype`: numbers only."""

    def __init__(self, code: Any, *_: Any):
        if isinstance(code, Global):
            code = code.name
        if not isinstance(code, str) or not re.fullmatch(r"[<>|=]?([fiu][1248]|b1)", code):
            # What is no text is not shown: a list may hold itself many times over.
            shown = repr(code[:40]) if isinstance(code, str) else type(code).__name__
            raise ValueError(f"an array of {shown}, not of numbers")
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

    def set_state(self, state: Any) -> None:
        """(version, shape, dtype, Fortran order, bytes); bytes of Python 2 come as text in latin1."""
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise ValueError("the state of an array")
        shape, kind, fortran, data = state[-4:]
        self.value = _array(data, kind, shape, bool(fortran))
        self.nbytes = self.value.nbytes


def _array(data: Any, kind: Any, shape: Any, fortran: bool) -> np.ndarray:
    if isinstance(data, str):
        data = data.encode("latin1")
    if not isinstance(kind, PickledType) or not isinstance(data, (bytes, bytearray)) or not isinstance(shape, tuple):
        raise ValueError("the parts of an array")
    if len(shape) > 32 or not all(type(size) is int and 0 <= size < 1 << 60 for size in shape):
        raise ValueError("the shape of an array")
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
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2 and isinstance(pair[0], (str, int))}


HANDLERS: dict[str, Handler] = {
    "numpy.dtype": PickledType,
    "_codecs.encode": _encode,
    "collections.OrderedDict": _ordered,
    "collections.defaultdict": lambda *_: {},
}
for _module in ("numpy.core", "numpy._core"):
    HANDLERS |= {
        f"{_module}.multiarray._reconstruct": PickledArray,
        f"{_module}.multiarray.scalar": _scalar,
        f"{_module}.numeric._frombuffer": _from_buffer,
    }

_INNER = ("model", "state_dict", "model_state_dict", "blobs")
_MAX_NESTING = 4
_WRAPPERS = ("module.", "_orig_mod.", "model.")
"""What data-parallel training and averaging, torch.compile, and modules that hold the model put before every name."""
_MAX_SHARING, _SHARING_FREE = 4, 64 << 20
"""Tensors may share their numbers: together they are so many times the file, and so many bytes, at most."""


def named_arrays(
    value: Any, path: str | Path, array_of: Callable[[Any], Any] = lambda entry: entry
) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint: those of its innermost `model`, `state_dict` or `blobs`; all else is left out.

    Prefixes of every name that wrappers of the model leave are taken off. Single numbers, such as the `n_averaged` of
    averaging, may stand beside without them.

    Args:
        value: what a pickle holds.
        path: the file, for messages.
        array_of: the array that an entry stands for, where it is none itself.

    Raises:
        UserError: there are none, too many, or they share their numbers so often that few bytes mean very many.
    """
    for _ in range(_MAX_NESTING):
        inner = next((value[k] for k in _INNER if isinstance(value.get(k), dict)), None) if _is_table(value) else None
        if inner is None:
            break
        value = inner
    table = value if _is_table(value) else {}
    check_count(path, _KIND, len(table))
    arrays, total, size = {}, 0, os.path.getsize(path)
    for name, entry in table.items():
        entry = entry.value if isinstance(entry, PickledArray) else array_of(entry)
        if isinstance(entry, np.ndarray) and isinstance(name, str):
            arrays[name] = entry
            total += entry.nbytes
            if total > _MAX_SHARING * size + _SHARING_FREE:
                raise broken(path, _KIND, f"tensors that share their numbers: {total} bytes and more, out of {size}")
    if not arrays:
        uncalled = next((entry for entry in (value, *table.values()) if isinstance(entry, Uncalled)), None)
        if uncalled is not None:
            raise refused(path, uncalled.name)
        raise UserError(f"{path}: holds no tensors by name; give a file with the weights of a model")
    return _unwrapped(arrays)


def _unwrapped(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays under the names that they have without wrappers."""
    while True:
        named = [name for name, array in arrays.items() if array.ndim] or list(arrays)
        wrapper = next((w for w in _WRAPPERS if all(name.startswith(w) for name in named)), None)
        if wrapper is None:
            return arrays
        arrays = {name.removeprefix(wrapper): array for name, array in arrays.items()}


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
