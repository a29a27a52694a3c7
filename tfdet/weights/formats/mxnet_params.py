"""Reader of MXNet's `.params` files (NDArray lists), every version of the format, without MXNet.

The layout is that of MXNet's src/ndarray/ndarray.cc (NDArray::Save, NDArray::LegacyLoad). Files are untrusted: every
size is checked against the bytes that are there before anything is allocated.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np

from tfdet.errors import UserError
from tfdet.files import replacing
from tfdet.weights.formats.file_bytes import check_count, to_array

_LIST_MAGIC = 0x112
_V1, _V2, _V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
_DTYPES = {0: "<f4", 1: "<f8", 2: "<f2", 3: "u1", 4: "<i4", 5: "i1", 6: "<i8", 7: "?"}
_MAX_NDIM = 32


class _Cursor:
    """Little-endian reads from a byte buffer that never run past its end."""

    def __init__(self, data: bytes | memoryview, path: str | Path):
        self.data, self.path, self.offset = memoryview(data), path, 0

    def fail(self, what: str) -> UserError:
        where = f"{what} at byte {self.offset}"
        return UserError(f"{self.path}: not a complete MXNet .params file ({where}); copy it again")

    def take(self, count: int) -> memoryview:
        if count < 0 or self.offset + count > len(self.data):
            raise self.fail(f"needs {count} bytes, {len(self.data) - self.offset} are left")
        chunk = self.data[self.offset : self.offset + count]
        self.offset += count
        return chunk

    def read(self, code: str) -> int:
        return struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))[0]

    def dims(self, ndim: int, code: str) -> tuple[int, ...]:
        if not 0 <= ndim <= _MAX_NDIM:
            raise self.fail(f"a shape of {ndim} dimensions")
        shape = tuple(self.read(code) for _ in range(ndim))
        if any(d < 0 for d in shape):
            raise self.fail(f"a negative dimension in {shape}")
        return shape


def read_params(path: str | Path) -> dict[str, np.ndarray]:
    """Arrays of an MXNet `.params` file by name, such as `arg:conv0_weight`.

    Args:
        path: the file.

    Returns: name -> array in its stored dtype and shape. Arrays without names are called "0", "1", ...

    Raises:
        UserError: the file is missing, truncated, of another format, or holds sparse arrays.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give the path of a .params file") from error
    return parse_params(data, path)


def parse_params(data: bytes | memoryview, path: str | Path) -> dict[str, np.ndarray]:
    """`read_params` of the bytes of a file; `path` is for messages."""
    cursor = _Cursor(data, path)
    if len(data) < 24 or cursor.read("Q") != _LIST_MAGIC:
        raise UserError(f"{path}: not an MXNet .params file (its first 8 bytes are not 0x112)")
    cursor.read("Q")  # reserved
    count = cursor.read("Q")
    if count > len(data) // 4:  # an array takes 4 bytes at least
        raise cursor.fail(f"a count of {count} arrays")
    check_count(path, "MXNet .params", count)
    arrays = [_read_array(cursor) for _ in range(count)]
    name_count = cursor.read("Q")
    if name_count not in (0, count):
        raise cursor.fail(f"{name_count} names for {count} arrays")
    if name_count == 0:
        return {str(i): a for i, a in enumerate(arrays) if a is not None}
    names = []
    for _ in range(name_count):
        raw = bytes(cursor.take(cursor.read("Q")))
        try:
            names.append(raw.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise cursor.fail("a name that is not UTF-8") from error
    return {n: a for n, a in zip(names, arrays, strict=True) if a is not None}


def _read_array(cursor: _Cursor) -> np.ndarray | None:
    magic = cursor.read("I")
    if magic in (_V2, _V3):
        if cursor.read("i") != 0:
            raise UserError(f"{cursor.path}: holds a sparse array; tfdet reads dense ones")
        shape = cursor.dims(cursor.read("i" if magic == _V3 else "I"), "q")
    elif magic == _V1:
        shape = cursor.dims(cursor.read("I"), "q")
    else:  # before MXNet 0.11 the first word is the number of dimensions itself
        shape = cursor.dims(magic, "I")
    if not shape and magic != _V3:
        return None
    cursor.read("i"), cursor.read("i")  # device type and number
    flag = cursor.read("i")
    if flag not in _DTYPES:
        raise cursor.fail(f"type flag {flag}")
    dtype = np.dtype(_DTYPES[flag])
    array = to_array(cursor.take(math.prod(shape) * dtype.itemsize), dtype, shape)
    if array is None:
        raise cursor.fail(f"a shape of {shape}")
    return array


def write_params(path: str | Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes arrays in the V2 format that MXNet 1.x reads; the inverse of `read_params`."""
    codes = {np.dtype(v): k for k, v in _DTYPES.items()}
    parts = [struct.pack("<QQQ", _LIST_MAGIC, 0, len(arrays))]
    for name, array in arrays.items():
        if array.dtype not in codes or array.ndim == 0:
            raise ValueError(
                f"Expected arrays of at least 1 dimension, of dtypes {sorted(map(str, codes))}. "
                f"Received: {name}={array.dtype}{array.shape}"
            )
        parts.append(struct.pack(f"<IiI{array.ndim}qiii", _V2, 0, array.ndim, *array.shape, 1, 0, codes[array.dtype]))
        parts.append(np.ascontiguousarray(array).tobytes())
    parts.append(struct.pack("<Q", len(arrays)))
    for name in arrays:
        encoded = name.encode()
        parts.append(struct.pack("<Q", len(encoded)) + encoded)
    with replacing(path) as temporary:
        temporary.write_bytes(b"".join(parts))
