"""The index of a TensorFlow checkpoint, checked before TensorFlow opens it: a shape that cannot be ends its process.

The file is a table of LevelDB's form (tensorflow/core/lib/io/table_format.txt, tensor_bundle.proto).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfdet.weights.formats.file_bytes import broken, read_bytes

_KIND = "TensorFlow checkpoint"
_FOOTER_BYTES, _MAGIC = 48, 0xDB4775248B80FB57
_TRAILER_BYTES = 5  # behind each block: its compression and its checksum


def check_index(prefix: str | Path) -> None:
    """Refuses the index file of a checkpoint that names what no checkpoint has.

    Args:
        prefix: of the checkpoint.

    Raises:
        UserError: it is damaged, or a tensor's shape, slice or file is impossible.
    """
    from tensorflow.core.protobuf import tensor_bundle_pb2

    path = Path(f"{prefix}.index")
    data = read_bytes(path)
    try:
        for key, value in _entries(data):
            if not key:  # the header
                tensor_bundle_pb2.BundleHeaderProto.FromString(value)
            elif not _is_possible(tensor_bundle_pb2.BundleEntryProto.FromString(value)):
                name = key.decode(errors="replace")
                raise broken(prefix, _KIND, f"its index gives {name[:100]} an impossible shape or place")
    except (ValueError, IndexError, struct.error) as error:
        raise broken(prefix, _KIND, f"its index: {str(error)[:100]}") from error
    except Exception as error:  # protobuf's DecodeError has no base that is public
        if type(error).__name__ != "DecodeError":
            raise
        raise broken(prefix, _KIND, "an entry of its index") from error


def _is_possible(entry: Any) -> bool:
    sizes = [dim.size for dim in entry.shape.dim]
    if entry.shape.unknown_rank or len(sizes) > 254 or any(size < 0 for size in sizes):
        return False
    if math.prod(size for size in sizes if size) >= 1 << 60 or min(entry.shard_id, entry.offset, entry.size) < 0:
        return False
    return all(
        len(part.extent) == len(sizes)
        and all(e.start >= 0 and (not e.WhichOneof("has_length") or e.length > 0) for e in part.extent)
        for part in entry.slices
    )


def _entries(data: memoryview) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a table."""
    if len(data) < _FOOTER_BYTES or struct.unpack("<Q", data[-8:])[0] != _MAGIC:
        raise ValueError("it does not end as one")
    footer = bytes(data[-_FOOTER_BYTES:-8])
    _, _, position = _handle(footer, 0)
    begin, size, _ = _handle(footer, position)
    seen: set[int] = set()
    for _, value in _block(data, begin, size):
        begin, size, _ = _handle(value, 0)
        if begin in seen:
            raise ValueError("a block twice")
        seen.add(begin)
        yield from _block(data, begin, size)


def _block(data: memoryview, begin: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    if begin + size + _TRAILER_BYTES > len(data) or size < 4:
        raise ValueError(f"a block of {size} bytes at {begin}")
    if data[begin + size]:
        raise ValueError("a compressed block, which TensorFlow does not write")
    block = bytes(data[begin : begin + size])
    restarts = struct.unpack("<I", block[-4:])[0]
    end, position, key = size - 4 - 4 * restarts, 0, b""
    while position < end:
        shared, position = _varint(block, position)
        added, position = _varint(block, position)
        length, position = _varint(block, position)
        if shared > len(key) or position + added + length > end:
            raise ValueError("an entry beyond its block")
        key = key[:shared] + block[position : position + added]
        yield key, block[position + added : position + added + length]
        position += added + length


def _handle(data: bytes, position: int) -> tuple[int, int, int]:
    """Where a block begins, its size, and the position behind that."""
    begin, position = _varint(data, position)
    size, position = _varint(data, position)
    return begin, size, position


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a number of more than 64 bits")
