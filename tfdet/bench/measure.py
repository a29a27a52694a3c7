"""Times and memory of things that do the same, side by side in one process."""

from __future__ import annotations

import ctypes
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf


class Side(NamedTuple):
    """One way of doing what a case is about."""

    name: str
    run: Callable[[], object]  # returns the results: a nest of tensors or arrays


class Case(NamedTuple):
    """What is measured; the first side is what the others are compared with."""

    name: str
    sides: tuple[Side, ...]


class Measurement(NamedTuple):
    """What one side of a case took."""

    case: str
    side: str
    wall: float  # seconds, median
    cpu: float  # seconds of all threads of the process, median
    memory: int | None  # bytes at the peak beyond what was there before, results included; None: not known here
    difference: float  # largest absolute difference from the first side's results


def measure(cases: Sequence[Case], repeats: int, progress: Callable[[str], None] = lambda _: None) -> list[Measurement]:
    """Runs every side of every case `repeats` times, in turn, after once to warm up.

    Memory is measured last: what it asks of the allocator would slow the times.

    Args:
        cases: what to measure.
        repeats: at least 1.
        progress: is told the name of each case before it is run.

    Returns:
        A measurement of every side, in order.
    """
    times, differences = {}, {}
    for case in cases:
        progress(case.name)
        first = _flat(case.sides[0].run())
        for side in case.sides:
            differences[case.name, side.name] = _difference(first, _flat(side.run()))
        runs = [[_time(side.run) for side in case.sides] for _ in range(repeats)]
        for side, pairs in zip(case.sides, zip(*runs)):
            times[case.name, side.name] = tuple(statistics.median(values) for values in zip(*pairs))
    return [
        Measurement(case.name, side.name, *times[key], peak_memory(side.run), differences[key])
        for case in cases
        for side in case.sides
        for key in [(case.name, side.name)]
    ]


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


def _time(run: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    results = run()
    spent = time.perf_counter() - wall, time.process_time() - cpu
    del results
    return spent


def _flat(results) -> list[np.ndarray]:
    return [np.asarray(value) for value in tf.nest.flatten(results)]


def _difference(first: list[np.ndarray], other: list[np.ndarray]) -> float:
    shapes = [[a.shape for a in arrays] for arrays in (first, other)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"the sides of a case give results of shapes {shapes[0]} and {shapes[1]}")
    pairs = [(a.astype(np.float64), b.astype(np.float64)) for a, b in zip(first, other) if a.size]
    return max((float(np.max(np.abs(a - b))) for a, b in pairs), default=0.0)
