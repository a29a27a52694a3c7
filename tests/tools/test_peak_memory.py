"""Memory at its peak."""

import numpy as np
import pytest

from tools.peak_memory import peak_memory

MB = 2**20


def test_memory_that_is_given_back_counts_at_its_peak():
    def take(megabytes):
        return lambda: float(np.ones(megabytes * MB // 8).sum())

    small, large = peak_memory(take(8)), peak_memory(take(64))
    if small is None:
        pytest.skip("Linux alone tells the peak")
    assert 7 * MB < small < 32 * MB and 63 * MB < large < 96 * MB  # Linux counts in portions
    assert peak_memory(take(64)) > 63 * MB  # also when the allocator has had as much before
