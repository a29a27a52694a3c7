"""The index of a TensorFlow checkpoint, checked before TensorFlow opens it.

TensorFlow takes memory for what an entry says, and ends the process on types and shapes that cannot be.

The file is a table of LevelDB's form (tensorflow/core/lib/io/table_format.txt, tensor_bundle.proto).
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfdet.errors import UserError
from tfdet.files import irregular
from tfdet.weights.formats.file_bytes import broken, check_count, read_bytes

_KIND = "TensorFlow checkpoint"
_FOOTER_BYTES, _MAGIC = 48, 0xDB4775248B80FB57
_ITEM_BYTES = {
    1: 4, 2: 8, 3: 4, 4: 1, 5: 2, 6: 1, 8: 8, 9: 8, 10: 1, 11: 1, 12: 1, 13: 4, 14: 2, 15: 2, 16: 2, 17: 2, 18: 16,
    19: 2, 22: 4, 23: 8, 24: 1, 25: 1,
}  # fmt: skip
"""Of the types with elements of one size, by number (tensorflow/core/framework/types.proto)."""
_STRING, _VARIANT = 7, 21  # whose elements have lengths of their own; TensorFlow ends the process on other types
_CHECKSUM_BYTES = 4  # behind the lengths of strings
_TRAILER_BYTES = 5  # behind each block: its compression and its checksum


def check_index(prefix: str | Path) -> None:
    """Refuses the index file of a checkpoint that names what no checkpoint has, or what its data files have not.

    After it every tensor of numbers takes as much memory as the file has bytes for it, and all together no more than
    the files; likewise a single string. The lengths of several strings are not looked at: do not read them.

    Args:
        prefix: of the checkpoint.

    Raises:
        UserError: it is damaged, or a file of it is none; a tensor's type, shape, slice or place is impossible; there
            are too many, or they share their bytes.
    """
    from tensorflow.core.protobuf import tensor_bundle_pb2

    path = Path(f"{prefix}.index")
    data = read_bytes(path)
    shards, count, total, in_slices = _Shards(prefix), 0, 0, 0
    try:
        for key, value in _entries(data):
            if not key:  # the header
                shards.count = tensor_bundle_pb2.BundleHeaderProto.FromString(value).num_shards
                continue
            entry = tensor_bundle_pb2.BundleEntryProto.FromString(value)
            if not _is_possible(entry) or not (entry.slices or _is_stored(entry, shards)):
                name = key.decode(errors="replace")
                raise broken(prefix, _KIND, f"its index gives {name[:100]} an impossible type, shape or place")
            count, total = count + 1, total + entry.size
            if entry.slices:  # its bytes are those of other entries, one for each slice
                in_slices += math.prod(dim.size for dim in entry.shape.dim) * _ITEM_BYTES[entry.dtype]
        check_count(prefix, _KIND, count)
        if max(total, in_slices) > shards.stored:
            raise broken(prefix, _KIND, f"its index names more than the {shards.stored} bytes that its data files have")
    except (ValueError, IndexError, struct.error) as error:
        raise broken(prefix, _KIND, f"its index: {str(error)[:100]}") from error
    except Exception as error:  # protobuf's DecodeError has no base that is public
        if type(error).__name__ != "DecodeError":
            raise
        raise broken(prefix, _KIND, "an entry of its index") from error


class _Shards:
    """The data files of a checkpoint."""

    def __init__(self, prefix: str | Path):
        self.count = 1
        self._prefix = prefix
        self._known: dict[int, tuple[Path, int]] = {}

    @property
    def stored(self) -> int:
        """Bytes of all that were asked for."""
        return sum(size for _, size in self._known.values())

    def find(self, number: int) -> tuple[Path, int]:
        """A data file and its size; ValueError where there is none."""
        if number not in self._known:
            path = Path(f"{self._prefix}.data-{number:05d}-of-{self.count:05d}")
            try:
                status = os.stat(path)
            except OSError as error:
                raise ValueError(f"{path.name}: {error.strerror}") from None
            if (kind := irregular(status.st_mode)) is not None:
                raise UserError(f"{path}: is a {kind}, not a file")
            self._known[number] = path, status.st_size
        return self._known[number]


def _is_stored(entry: Any, shards: _Shards) -> bool:
    """Whether the data files have the bytes that the type and shape of an entry without slices take."""
    path, stored = shards.find(entry.shard_id)
    if entry.offset + entry.size > stored:
        return False
    count = math.prod(dim.size for dim in entry.shape.dim)
    if entry.dtype in _ITEM_BYTES:
        return count * _ITEM_BYTES[entry.dtype] == entry.size
    if count > entry.size:
        return False
    if entry.dtype == _VARIANT or count != 1:
        return True
    with path.open("rb") as file:
        file.seek(entry.offset)
        length, behind = _varint(file.read(10), 0)
    return behind + _CHECKSUM_BYTES + length == entry.size


def _is_possible(entry: Any) -> bool:
    if entry.dtype not in _ITEM_BYTES and (entry.dtype not in (_STRING, _VARIANT) or entry.slices):
        return False
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
