"""Zip archives of weights: entries are counted before they are listed, and unpacked into what they declare, no more."""

from __future__ import annotations

import contextlib
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tfdet.weights.formats.file_bytes import MAX_TENSORS, broken

ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError, ValueError)
"""What `zipfile` raises on a file that is cut, changed, encrypted or packed by a method it does not know."""

_ENTRY_BYTES = 256  # of an entry in the directory, its name included, generously
_CHUNK = 1 << 20
_END, _END_64 = b"PK\x05\x06", b"PK\x06\x06"


@contextlib.contextmanager
def open_zip(path: str | os.PathLike, kind: str) -> Iterator[zipfile.ZipFile]:
    """The archive at `path`, open; its directory is read whole only where it is not too long.

    Raises:
        UserError: too many entries; or what `zipfile` raises inside the block, in one line.
    """
    try:
        size = _directory_bytes(path)
        if size > MAX_TENSORS * _ENTRY_BYTES:
            raise broken(path, kind, f"a directory of {size} bytes, for more than {MAX_TENSORS} entries")
        with zipfile.ZipFile(path) as archive:
            yield archive
    except ZIP_ERRORS as error:
        raise broken(path, kind, (str(error) or type(error).__name__).splitlines()[0]) from error


def read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> memoryview:
    """The content of an entry, read-only. `zipfile` alone would unpack all that the packed bytes become, and then cut.

    Raises:
        ValueError: packed by another method than zip's usual one, or not of the size that it declares.
    """
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{entry.filename} is packed by method {entry.compress_type}, which is not read")
    # Pages of memory are taken as they are written to: what an entry declares and does not hold takes none.
    content, position = memoryview(np.empty(entry.file_size, np.uint8)), 0
    with archive.open(entry) as stream:
        while chunk := stream.read(_CHUNK):
            content[position : position + len(chunk)] = chunk
            position += len(chunk)
    if position != entry.file_size:
        raise ValueError(f"{entry.filename} has {position} of {entry.file_size} bytes")
    return content.toreadonly()


def _directory_bytes(path: str | Path) -> int:
    """What the record at the end says of the directory's length; 0 where there is none, which `zipfile` will say."""
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - (1 << 16) - 200))
        tail = file.read()
    position = tail.rfind(_END)
    if position < 0 or position + 16 > len(tail):
        return 0
    size = struct.unpack_from("<I", tail, position + 12)[0]
    wide = tail.rfind(_END_64, 0, position)
    if wide >= 0 and wide + 48 <= len(tail):
        size = max(size if size != 0xFFFFFFFF else 0, struct.unpack_from("<Q", tail, wide + 40)[0])
    return size
