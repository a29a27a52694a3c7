"""Random subsets and orders."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tfdet.ops.sampling import random_order, random_subset, split_seed


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(1, 30), st.integers(0, 12))
def test_subsets_have_the_exact_size(seed, width, count):
    rng = np.random.default_rng(seed)
    mask = rng.uniform(size=(3, width)) < 0.5
    chosen = random_subset(mask, [count, 2, 0], [seed, 1], 12).numpy()
    assert not (chosen & ~mask).any()
    np.testing.assert_array_equal(chosen.sum(axis=1), np.minimum(mask.sum(axis=1), [count, 2, 0]))


def test_subsets_depend_on_the_seed_alone_and_are_fair():
    mask = np.ones([400, 10], bool)
    first, again, other = (random_subset(mask, np.full(400, 3), seed, 3).numpy() for seed in ([1, 2], [1, 2], [1, 3]))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    np.testing.assert_allclose(first.mean(axis=0), 0.3, atol=0.1)
    np.testing.assert_allclose(first.mean(), 0.3, atol=1e-6)


def test_order_lists_the_marked_positions_once():
    mask = np.array([[False, True, True, False, True], [False] * 5])
    order, marked = random_order(mask, [3, 4], 8)
    np.testing.assert_array_equal(marked, [3, 0])
    assert sorted(order.numpy()[0, :3]) == [1, 2, 4]


def test_split_seeds_differ():
    a, b = split_seed([7, 8], 2)
    assert (a.numpy() != b.numpy()).any()
