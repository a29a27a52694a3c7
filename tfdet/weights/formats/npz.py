"""Reader of NumPy's `.npz`: a zip of `.npy` arrays. Python objects are refused, sizes checked before reading."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np

from tfdet.errors import UserError
from tfdet.weights.formats.file_bytes import broken, check_count, check_expansion, to_array
from tfdet.weights.formats.zipped import open_zip, read_entry

_KIND = "NumPy .npz"
_MAX_HEADER = 1 << 16  # NumPy reads no longer ones either
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """Arrays of an `.npz` file by name, compressed or not.

    Raises:
        UserError: the file is truncated, of another format, or holds Python objects.
    """
    with open_zip(path, _KIND) as archive:
        entries = archive.infolist()
        check_count(path, _KIND, len(entries))
        check_expansion(path, _KIND, sum(e.file_size for e in entries), Path(path).stat().st_size)
        return {
            entry.filename.removesuffix(".npy"): _read_array(path, entry.filename, read_entry(archive, entry))
            for entry in entries
        }


def _read_array(path: str | Path, name: str, data: memoryview) -> np.ndarray:
    stream = io.BytesIO(data[:_MAX_HEADER])
    try:
        read_header = _HEADERS[np.lib.format.read_magic(stream)]
        shape, fortran, dtype = read_header(stream)
        content = data[stream.tell() :]
        size = math.prod(shape)
    except (KeyError, ValueError, TypeError, SyntaxError, RecursionError, MemoryError, OverflowError) as error:
        raise broken(path, _KIND, f"the header of {name}") from error
    if dtype.hasobject:
        raise UserError(f"{path}: {name} holds Python objects, which could run code; save plain arrays")
    if dtype.kind not in "fiub?" or size < 0:
        raise UserError(f"{path}: {name} holds {dtype}, not numbers")
    array = to_array(content, dtype, shape, "F" if fortran else "C")
    if array is None:
        raise broken(path, _KIND, f"{len(content)} bytes for {name} of shape {shape}")
    return array
