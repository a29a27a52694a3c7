import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco_mask

from tfdet.data.rle import counts_from_mask, counts_from_string, counts_to_string, mask_from_counts, rings_of_mask

MASKS = arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9))


def even_odd(rings, height, width):
    """The mask of rectilinear rings: a pixel is set when a ray to its left crosses an odd number of edges."""
    mask, centres = np.zeros((height, width), bool), np.arange(width) + 0.5
    for ring in rings:
        for (x, y), (next_x, next_y) in zip(ring, np.roll(ring, -1, axis=0)):
            if x == next_x:
                mask[min(y, next_y) : max(y, next_y)] ^= centres > x
    return mask


@settings(max_examples=300, deadline=None)
@given(MASKS)
def test_rings_are_the_mask(mask):
    rings = rings_of_mask(mask)
    np.testing.assert_array_equal(even_odd(rings, *mask.shape), mask)
    by_coco = np.zeros(mask.shape, np.uint8)
    for ring in rings:
        by_coco ^= coco_mask.decode(coco_mask.frPyObjects([ring.ravel().tolist()], *mask.shape))[..., 0]
        steps = np.roll(ring, -1, axis=0) - ring
        # pieces along x and along y take turns, and none is empty
        assert len(ring) >= 4 and len(ring) % 2 == 0
        assert (steps[0::2, 1] == 0).all() and (steps[1::2, 0] == 0).all() and steps.any(axis=1).all()
    np.testing.assert_array_equal(by_coco, mask)


def test_a_ring_and_its_hole_and_a_diagonal():
    mask = np.zeros((7, 8), bool)
    mask[1:6, 1:6], mask[2:4, 3:5], mask[6, 6] = True, False, True  # the last touches the first at a corner
    rings = rings_of_mask(mask)
    assert sum(len(ring) for ring in rings) == 12
    np.testing.assert_array_equal(even_odd(rings, 7, 8), mask)
    assert rings_of_mask(np.zeros((3, 4), bool)) == []
    assert rings_of_mask(np.array([[0], [1]], bool))[0].tolist() == [[0, 1], [1, 1], [1, 2], [0, 2]]


@settings(max_examples=200, deadline=None)
@given(MASKS)
def test_strings_are_those_of_coco(mask):
    expected = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    counts = counts_from_mask(mask)
    assert counts_to_string(counts) == expected["counts"].decode()
    assert counts_from_string(expected["counts"].decode()) == counts
    np.testing.assert_array_equal(mask_from_counts(counts, *mask.shape), mask)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 10**6), max_size=12))
def test_large_counts_come_back(counts):
    assert counts_from_string(counts_to_string(counts)) == counts


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=30))
def test_any_text_gives_lengths_or_an_error(text):
    try:
        counts = counts_from_string(text)
    except ValueError:
        return
    assert all(count >= 0 for count in counts)


@pytest.mark.parametrize(
    "text, message",
    [("1é", "not of"), ("1 ", "not of"), ("1Q", "ends within"), ("O", "negative"), ("Q" * 20, "too long")],
)
def test_broken_strings(text, message):
    with pytest.raises(ValueError, match=message):
        counts_from_string(text)
