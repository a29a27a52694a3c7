"""Reader and writer of `.safetensors` files: a JSON header with names, types, shapes and places, then the bytes."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np

from tfdet.errors import UserError
from tfdet.files import replacing
from tfdet.weights.formats.file_bytes import broken, check_count, read_bytes, to_array

_KIND = "safetensors"
_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "bfloat16", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip
_MAX_HEADER = 8 << 20  # some 250 bytes for each of MAX_TENSORS


def read_safetensors(path: str | Path) -> dict[str, np.ndarray]:
    """Arrays of a `.safetensors` file by name, bfloat16 as float32.

    Raises:
        UserError: the file is truncated, of another format, or holds types that numpy does not know.
    """
    data = read_bytes(path)
    if len(data) < 8:
        raise broken(path, _KIND, f"{len(data)} bytes")
    length = struct.unpack("<Q", data[:8])[0]
    if length > min(_MAX_HEADER, len(data) - 8):
        raise broken(path, _KIND, f"a header of {length} bytes in a file of {len(data)}")
    try:
        header = json.loads(bytes(data[8 : 8 + length]))
    except (ValueError, RecursionError) as error:
        raise broken(path, _KIND, "its header is not JSON") from error
    if not isinstance(header, dict):
        raise broken(path, _KIND, "its header is no table")
    check_count(path, _KIND, len(header))
    body, arrays, places = data[8 + length :], {}, []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        try:
            kind, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
            numbers = [*shape, begin, end]
        except (TypeError, KeyError, ValueError) as error:
            raise broken(path, _KIND, f"the entry of {name!r}") from error
        if not all(type(n) is int and n >= 0 for n in numbers) or not begin <= end <= len(body):
            raise broken(path, _KIND, f"the place of {name!r} in {len(body)} bytes")
        if not isinstance(kind, str) or kind not in _DTYPES:
            raise UserError(f"{path}: tensor {name} has the type {kind}, which is not read; convert it to float32")
        places.append((begin, end, name))
        array = to_array(body[begin:end], _DTYPES[kind], shape)
        if array is None:
            raise broken(path, _KIND, f"{end - begin} bytes for {name!r} of shape {shape}")
        arrays[name] = array
    _check_apart(path, places)
    return arrays


def read_metadata(path: str | Path) -> dict[str, str]:
    """The texts in the header of a `.safetensors` file by name; none where it has none, or is no such file.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(8)
            length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
            content = json.loads(file.read(length)) if 2 <= length <= _MAX_HEADER else {}
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError):
        return {}
    texts = content.get("__metadata__") if isinstance(content, dict) else None
    return {name: text for name, text in texts.items() if isinstance(text, str)} if isinstance(texts, dict) else {}


def _check_apart(path: str | Path, places: list[tuple[int, int, str]]) -> None:
    """Refuses tensors that share bytes, as the format does: a small file could mean any number of them."""
    places = sorted(place for place in places if place[0] < place[1])
    for (_, end, name), (begin, _, other) in zip(places, places[1:]):
        if begin < end:
            raise broken(path, _KIND, f"{name!r} and {other!r} share bytes {begin} to {end}")


def write_safetensors(path: str | Path, arrays: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> None:
    """Writes arrays, one after the other; the inverse of `read_safetensors`.

    Args:
        path: the file; an older one is replaced when the new one is complete.
        arrays: of one of the types that are read.
        metadata: texts for whoever opens the file.

    Raises:
        UserError: the file cannot be written.
    """
    codes = {np.dtype(stored): code for code, stored in _DTYPES.items() if stored != "bfloat16"}
    header: dict = {"__metadata__": metadata or {}}
    end = 0
    for name, array in arrays.items():
        if array.dtype not in codes:
            raise ValueError(f"Expected arrays of dtypes {sorted(map(str, codes))}. Received: {name}={array.dtype}")
        header[name] = {"dtype": codes[array.dtype], "shape": list(array.shape)}
        header[name]["data_offsets"] = [end, end + array.nbytes]
        end += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # so that numbers of 8 bytes stand at multiples of 8
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for array in arrays.values():
            file.write(np.ascontiguousarray(array).data)
