"""Memory of what runs in this process."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path


def peak_memory(run: Callable[[], object]) -> int | None:
    """Bytes by which this process grows while `run` runs, at its peak; None where Linux does not tell.

    Memory kept by an allocator from earlier runs would hide the growth, so glibc is asked, from here on, to give every
    larger block back at once.
    """
    mmap_threshold = -3  # M_MMAP_THRESHOLD of malloc.h
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_threshold, 65536)
        run()  # what it keeps for good is no part of the peak
        libc.malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
        before = _status("VmRSS")
        results = run()
        peak = _status("VmHWM")
        del results
    except (OSError, AttributeError):
        return None
    return max(peak - before, 0)


def process_peak() -> int:
    """Bytes that this process has held at most since it began; 0 where Linux does not tell."""
    try:
        return _status("VmHWM")
    except OSError:
        return 0


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")
