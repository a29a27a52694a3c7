"""Memory of what runs in this process."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

from tfdet.bench.measure import memory_status


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
        before = memory_status("VmRSS")
        results = run()
        peak = memory_status("VmHWM")
        del results
    except (OSError, AttributeError):
        return None
    return max(peak - before, 0)
