"""Reader of PyTorch's `.pth` and `.pt` without PyTorch: the zip container, and the one before it.

A pickle holds the structure; tensors in it are places in storages, which stand beside as raw numbers.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfdet.errors import UserError
from tfdet.weights.formats.file_bytes import broken, to_array
from tfdet.weights.formats.pickle_machine import BoundedFile, Global, read_pickle
from tfdet.weights.formats.pickled_arrays import HANDLERS, named_arrays
from tfdet.weights.formats.zipped import open_zip, read_entry

_KIND = "PyTorch"
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
"""The first pickle of a file of torch.save before 1.6."""

_TYPES = {
    "Float": "f4", "Double": "f8", "Half": "f2", "BFloat16": "bfloat16", "Long": "i8", "Int": "i4", "Short": "i2",
    "Char": "i1", "Byte": "u1", "Bool": "?",
}  # fmt: skip
_STORAGES = {f"torch.{name}Storage": code for name, code in _TYPES.items()}


class _Storage(NamedTuple):
    key: str
    code: str
    count: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _persistent(reference: Any) -> _Storage:
    if not isinstance(reference, tuple) or not 5 <= len(reference) <= 6 or reference[0] != "storage":
        raise ValueError("a reference that is no storage")
    _, kind, key, _, count, *view = reference
    if not isinstance(kind, Global):
        raise ValueError("the type of a storage")
    if not isinstance(key, str) or type(count) is not int or count < 0 or (view and view[0] is not None):
        raise ValueError("the place of a storage")
    return _Storage(key, _STORAGES.get(kind.name, kind.name), count)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    if (
        not isinstance(storage, _Storage)
        or not isinstance(shape, (tuple, list))
        or not isinstance(strides, (tuple, list))
    ):
        raise ValueError("the parts of a tensor")
    if len(shape) != len(strides) or len(shape) > 32:
        raise ValueError("the parts of a tensor")
    if not all(type(n) is int and 0 <= n < 1 << 60 for n in (offset, *shape, *strides)):
        raise ValueError("the shape of a tensor")
    if math.prod(n for n in shape if n) >= 1 << 60:
        raise ValueError(f"a tensor of shape {tuple(shape)}")
    count, last = 1, offset
    for size, stride in zip(shape, strides, strict=True):
        count, last = count * size, last + (size - 1) * stride
    if count and last >= storage.count:  # strides of 0 repeat numbers; `named_arrays` bounds how often
        raise ValueError(f"a tensor of shape {shape} in a storage of {storage.count}")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _parameter(data: Any, *_: Any) -> Any:
    return data


_HANDLERS = {
    **HANDLERS,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.nn.parameter.Parameter": _parameter,
    "torch.Size": lambda sizes=(): tuple(sizes) if isinstance(sizes, (list, tuple)) else None,
    "torch.device": lambda *names: None,
}


def _resolved(value: Any, read: Callable[[_Storage], np.ndarray]) -> Any:
    """The array that a tensor is, a view of its storage; other values as they are."""
    if not isinstance(value, _Tensor):
        return value
    flat = read(value.storage)
    size = flat.itemsize
    if 0 in value.shape:
        return np.empty(value.shape, flat.dtype)
    strides = tuple(s * size for s in value.strides)
    return np.lib.stride_tricks.as_strided(flat[value.offset :], value.shape, strides, writeable=False)


def _flat(storage: _Storage, data: bytes | memoryview, order: str, path: str | Path) -> np.ndarray:
    _check_code(storage)
    code = storage.code if storage.code in ("bfloat16", "?") else order + storage.code
    flat = to_array(data, code, (storage.count,))
    if flat is None:
        raise broken(path, _KIND, f"{len(data)} bytes for storage {storage.key} of {storage.count}")
    return flat if order == "<" else flat.astype(flat.dtype.newbyteorder("="))


def _check_code(storage: _Storage) -> None:
    if storage.code not in _TYPES.values():
        raise ValueError(f"a storage of {storage.code}, which is not read")


def read_torch_zip(path: str | Path) -> dict[str, np.ndarray]:
    """Arrays of a file of torch.save, PyTorch 1.6 and later, by name; bfloat16 as float32.

    Raises:
        UserError: the file is truncated or of another format, or its pickle calls anything but tensors.
    """
    with open_zip(path, _KIND) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        pickles = [name for name in entries if name == "data.pkl" or name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise broken(path, _KIND, f"{len(pickles)} files data.pkl")
        root, left = pickles[0].removesuffix("data.pkl"), Path(path).stat().st_size

        def content(name: str) -> memoryview:
            nonlocal left
            entry = entries.get(root + name)
            if entry is None:
                raise broken(path, _KIND, f"no entry {name}")
            left -= entry.file_size
            if entry.compress_type != zipfile.ZIP_STORED or left < 0:
                raise broken(path, _KIND, f"entry {name} of {entry.file_size} bytes")
            return read_entry(archive, entry)

        order = "<"
        if f"{root}byteorder" in entries and bytes(content("byteorder")).strip() == b"big":
            order = ">"
        value = read_pickle(io.BytesIO(content("data.pkl")), _HANDLERS, path, _KIND, _persistent)
        storages: dict[str, np.ndarray] = {}

        def read(storage: _Storage) -> np.ndarray:
            if storage.key not in storages:
                storages[storage.key] = _flat(storage, content(f"data/{storage.key}"), order, path)
            return _as(storages[storage.key], storage, path)

        return named_arrays(value, path, lambda entry: _resolved(entry, read))


def _as(flat: np.ndarray, storage: _Storage, path: str | Path) -> np.ndarray:
    _check_code(storage)
    expected = np.dtype("f4" if storage.code == "bfloat16" else storage.code)
    if flat.dtype != expected or flat.size != storage.count:  # one storage under two descriptions
        raise broken(path, _KIND, f"two forms of storage {storage.key}")
    return flat


def read_torch_legacy(path: str | Path) -> dict[str, np.ndarray]:
    """Arrays of a file of torch.save before PyTorch 1.6: four pickles, a list of storages, then their numbers.

    Raises:
        UserError: as `read_torch_zip`.
    """
    try:
        with open(path, "rb") as raw:
            file = BoundedFile(raw)
            magic, version = (read_pickle(file, {}, path, _KIND) for _ in range(2))
            if magic != LEGACY_MAGIC or version != 1001:
                raise broken(path, _KIND, f"version {version if type(version) is int else type(version).__name__}")
            system = read_pickle(file, {}, path, _KIND)
            order = "<" if not isinstance(system, dict) or system.get("little_endian", True) else ">"
            described: dict[str, _Storage] = {}

            def persistent(reference: Any) -> _Storage:
                storage = _persistent(reference)
                return described.setdefault(storage.key, storage)

            value = read_pickle(file, _HANDLERS, path, _KIND, persistent)
            keys = read_pickle(file, {}, path, _KIND)
            if not isinstance(keys, list) or not all(isinstance(key, str) and key in described for key in keys):
                raise broken(path, _KIND, "its list of storages")
            storages = {}
            for key in keys:
                storage = described[key]
                _check_code(storage)
                head = file.read(8)
                if len(head) < 8 or struct.unpack(f"{order}q", head)[0] != storage.count:
                    raise broken(path, _KIND, f"the size of storage {key}")
                size = storage.count * (2 if storage.code == "bfloat16" else np.dtype(storage.code).itemsize)
                storages[key] = _flat(storage, file.read(size), order, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise broken(path, _KIND, str(error)) from error

    def read(storage: _Storage) -> np.ndarray:
        if storage.key not in storages:
            raise broken(path, _KIND, f"no storage {storage.key}")
        return storages[storage.key]

    try:
        return named_arrays(value, path, lambda entry: _resolved(entry, read))
    except ValueError as error:
        raise broken(path, _KIND, str(error)) from error
