"""Memory of this process."""

from __future__ import annotations

from pathlib import Path


def process_peak() -> int:
    """Bytes that this process has held at most since it began; 0 where Linux does not tell."""
    try:
        return memory_status("VmHWM")
    except OSError:
        return 0


def memory_status(field: str) -> int:
    """Bytes of a field of /proc/self/status, such as "VmRSS"; `OSError` where it is not there."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")
