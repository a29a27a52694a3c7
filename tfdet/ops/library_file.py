"""Whether the file of a library is whole, without loading it: the loader maps a file, and a page that is not there is a
SIGBUS. No TensorFlow here.

`tools/build_ops.sh` puts a seal behind the library: 8 bytes of its length and 32 of its SHA-256, between two marks. It
goes with every copy of the file, is the first to be lost where one is cut, and the loader does not look at it.
"""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path

_MARK = b"tfdet_ops_seal{"
_SEAL_BYTES = len(_MARK) + 8 + 32 + 1
_ELF_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")  # of 64 bits, little-endian


def seal(path: str | os.PathLike) -> None:
    """Appends the seal to a library that has none; a sealed one stays as it is."""
    content = Path(path).read_bytes()
    if _seal_of(content) is None:
        with open(path, "ab") as file:
            file.write(_MARK + struct.pack("<Q", len(content)) + hashlib.sha256(content).digest() + b"}")


def damage(content: bytes) -> str | None:
    """What is wrong with a library's bytes, in words; None where nothing is.

    Args:
        content: of the file. With a seal they must be what was sealed; without, as a linker leaves a library, the table
            of sections must be whole that its ELF header names: it stands at the end.
    """
    sealed = _seal_of(content)
    if sealed is not None:
        size, digest = sealed
        content = content[:-_SEAL_BYTES]
        if len(content) != size:
            return f"is damaged: {len(content)} bytes, {size} were built"
        return None if hashlib.sha256(content).digest() == digest else "is damaged: its digest is not that of its build"
    if _MARK in content[-_SEAL_BYTES:]:
        return "is cut short: its seal is not whole"
    needed = _named_bytes(content)
    if needed is None:
        return "is no library"
    return f"is cut short: {len(content)} of {needed} bytes" if needed > len(content) else None


def _seal_of(content: bytes) -> tuple[int, bytes] | None:
    end = content[-_SEAL_BYTES:]
    if len(end) < _SEAL_BYTES or not end.startswith(_MARK) or not end.endswith(b"}"):
        return None
    size, digest = struct.unpack("<Q32s", end[len(_MARK) : -1])
    return size, digest


def _named_bytes(content: bytes) -> int | None:
    """Bytes up to the end of the table of sections that an ELF header names; None where there is no such header."""
    if len(content) < _ELF_HEADER.size or content[:6] != b"\x7fELF\x02\x01":
        return None
    *_, sections, _, _, _, _, section_size, section_count, _ = _ELF_HEADER.unpack_from(content)
    return sections + section_size * section_count
