"""What the readers share: bytes that never run past their end, and one kind of error for bad files."""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfdet.errors import UserError
from tfdet.files import irregular

MAX_EXPANSION, EXPANSION_FREE = 32, 64 << 20
"""A compressed file may grow by this factor and this many bytes: weights hardly shrink, so more is an attack."""

MAX_TENSORS = 1 << 15
"""Of a file. A detector has some hundred, its training checkpoint some thousand; each costs time, however small."""


def broken(path: str | Path, kind: str, what: str) -> UserError:
    """The error for a file that is of the format `kind`, and wrong in it."""
    return UserError(f"{path}: not a complete {kind} file ({what}); copy it again")


def read_bytes(path: str | Path) -> memoryview:
    """The content of a file, mapped: pages come as they are read and go when memory is short.

    Raises:
        UserError: it cannot be read, or is a pipe or another thing that is no file.
    """
    try:
        if (kind := irregular(os.stat(path).st_mode)) is not None:
            raise UserError(f"{path}: is a {kind}, not a file")
        with open(path, "rb") as file:
            try:
                return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            except ValueError:  # an empty file cannot be mapped
                return memoryview(b"")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def check_expansion(path: str | Path, kind: str, size: int, file_size: int) -> None:
    """Refuses content that is to become `size` bytes out of a file of `file_size`."""
    if size > MAX_EXPANSION * file_size + EXPANSION_FREE:
        raise broken(path, kind, f"it claims to hold {size} bytes in a file of {file_size}")


def check_count(path: str | Path, kind: str, count: int) -> None:
    """Refuses a file of so many tensors that no network has them."""
    if count > MAX_TENSORS:
        raise broken(path, kind, f"{count} tensors, more than the {MAX_TENSORS} that are read")


def to_array(
    data: bytes | memoryview, dtype: np.dtype | str, shape: Sequence[int], order: str = "C"
) -> np.ndarray | None:
    """A view of `data` as an array, None where `data` is not exactly what `shape` needs.

    Args:
        dtype: a plain number type, or "bfloat16", whose values become float32.
    """
    stored = np.dtype("<u2" if dtype == "bfloat16" else dtype)
    if len(shape) > 32:
        return None
    shape = tuple(int(d) for d in shape)
    # Also of an array without elements the other sides have a limit: NumPy counts them in 64 bits.
    if any(d < 0 for d in shape) or math.prod(d for d in shape if d) >= 1 << 60:
        return None
    if math.prod(shape) * stored.itemsize != len(data):
        return None
    flat = np.frombuffer(data, stored) if len(data) else np.empty(0, stored)
    if dtype == "bfloat16":
        flat = (flat.astype(np.uint32) << 16).view(np.float32)
    return flat.reshape(shape, order=order)
