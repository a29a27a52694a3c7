"""Pasted masks against a written-out transcription of SimpleDet's, OpenCV, Detectron2 and cocoapi."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from tfdet.ops.paste_masks import encode_masks, paste_mask, paste_masks

HEIGHT, WIDTH = 23, 31


def bilinear(source, height, width):
    """cv2.resize with INTER_LINEAR of a float32 image, pixel by pixel."""

    def taps(n, length):
        place = np.float32((n + 0.5) * (1.0 / (length / len(source))) - 0.5)
        low = math.floor(place)
        share = np.float32(place - np.float32(low))
        if low < 0:
            low, share = 0, np.float32(0)
        if low >= len(source) - 1:
            low, share = len(source) - 1, np.float32(0)
        return low, min(low + 1, len(source) - 1), share

    result = np.zeros([height, width], np.float32)
    for i in range(height):
        top, bottom, down = taps(i, height)
        for j in range(width):
            left, right, across = taps(j, width)
            row = [source[k, left] * (1 - across) + source[k, right] * across for k in (top, bottom)]
            result[i, j] = row[0] * (1 - down) + row[1] * down
    return result


def transcription(mask, box, height, width, resize):
    """models/maskrcnn/utils.py: expand_boxes, then segm_results of one box."""
    size = len(mask)
    box = np.float32(box)
    half = (box[2:] - box[:2]) * np.float32(0.5) * np.float32((size + 2.0) / size)
    centre = (box[2:] + box[:2]) * np.float32(0.5)
    x1, y1, x2, y2 = np.concatenate([centre - half, centre + half]).astype(np.int32).tolist()
    padded = np.zeros([size + 2, size + 2], np.float32)
    padded[1:-1, 1:-1] = mask
    stretched = resize(padded, max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1)) > 0.5
    image = np.zeros([height, width], bool)
    left, right, top, bottom = max(x1, 0), min(x2 + 1, width), max(y1, 0), min(y2 + 1, height)
    if right > left and bottom > top:
        image[top:bottom, left:right] = stretched[top - y1 : bottom - y1, left - x1 : right - x1]
    return image


boxes = st.tuples(*[st.floats(-12, 36, width=32)] * 2, *[st.floats(0, 30, width=32)] * 2).map(
    lambda b: np.float32([b[0], b[1], b[0] + b[2], b[1] + b[3]])
)


@settings(max_examples=60, deadline=None)
@given(box=boxes, seed=st.integers(0, 2**31), size=st.sampled_from([4, 14, 28]))
def test_is_the_transcription(box, seed, size):
    mask = np.random.default_rng(seed).uniform(0, 1, [size, size]).astype(np.float32)
    expected = transcription(mask, box, HEIGHT, WIDTH, bilinear)
    np.testing.assert_array_equal(paste_masks(mask[None], box[None], HEIGHT, WIDTH)[0], expected)


def test_is_opencv():
    rng = np.random.default_rng(0)
    masks = rng.uniform(0, 1, [60, 28, 28]).astype(np.float32)
    corner = rng.uniform(-40, 300, [60, 2])
    many = np.float32(np.concatenate([corner, corner + rng.uniform(0, 250, [60, 2])], axis=1))
    pasted = paste_masks(masks, many, 240, 320)
    assert 0.02 < pasted.mean() < 0.5
    for mask, box, ours in zip(masks, many, pasted):
        expected = transcription(mask, box, 240, 320, lambda x, height, width: cv2.resize(x, (width, height)))
        # OpenCV's vector code may fuse a multiplication and an addition: the last bit of a value at 0.5.
        assert (ours != expected).sum() <= 1


def test_is_detectron2_where_continuous(golden):
    z = golden("d2_paste_masks")
    pasted = paste_masks(z["masks"], z["boxes"], *z["hw"], convention="continuous")
    assert pasted.shape == z["y"].shape and 0.05 < z["y"].mean() < 0.9
    np.testing.assert_array_equal(pasted, z["y"])


@settings(max_examples=60, deadline=None)
@given(box=boxes, seed=st.integers(0, 2**31), full=st.booleans())
def test_run_lengths_are_cocoapi(box, seed, full):
    """Also where whole columns are filled, and where nothing is inside."""
    mask = np.random.default_rng(seed).uniform(0, 1, [14, 14]).astype(np.float32) + np.float32(full)
    encoded = encode_masks(mask[None], box[None], HEIGHT, WIDTH)[0]
    pasted = paste_masks(mask[None], box[None], HEIGHT, WIDTH)[0]
    expected = coco_mask.encode(np.asfortranarray(pasted.astype(np.uint8)))
    assert encoded == {"size": [HEIGHT, WIDTH], "counts": expected["counts"].decode()}


@pytest.mark.parametrize("convention", ["legacy_plus_one", "continuous"])
def test_boxes_without_pixels(convention):
    ones = np.ones([28, 28], np.float32)
    for box in ([-50, -50, -20, -20], [90, 5, 99, 9], [np.nan, 0, 5, 5], [0, 0, np.inf, 5], [-4e9, 0, 4e9, 5]):
        part, _, _ = paste_mask(ones, np.float32(box), HEIGHT, WIDTH, convention)
        assert not part.any()
        rule = {"legacy_plus_one": "simpledet", "continuous": "detectron2"}[convention]
        encoded = encode_masks(ones[None], np.float32([box]), HEIGHT, WIDTH, rule)[0]
        assert coco_mask.area(encoded) == 0
    assert not paste_mask(ones, np.float32([5, 5, 5, 5]), HEIGHT, WIDTH, "continuous")[0].any()
    assert paste_masks(np.zeros([0, 28, 28], "f"), np.zeros([0, 4], "f"), 5, 6).shape == (0, 5, 6)


def test_a_full_mask_covers_its_box():
    part, left, top = paste_mask(np.ones([28, 28], np.float32), np.float32([3, 4, 17, 12]), HEIGHT, WIDTH)
    rows, columns = np.nonzero(part)
    covered = (left + columns.min(), top + rows.min(), left + columns.max(), top + rows.max())
    np.testing.assert_allclose(covered, (3, 4, 17, 12), atol=1)  # corners are cut to integers


@pytest.mark.parametrize(
    "rule, convention, beyond",
    [("simpledet", "legacy_plus_one", 0), ("torchvision", "legacy_plus_one", 1), ("detectron2", "continuous", 1)],
)
def test_each_programs_rule_takes_inclusive_corners(rule, convention, beyond):
    rng = np.random.default_rng(4)
    masks = rng.uniform(size=[20, 7, 7]).astype(np.float32)
    corners = rng.uniform(-3, 12, [20, 2])
    inclusive = np.concatenate([corners, corners + rng.uniform(0, 18, [20, 2])], axis=1).astype(np.float32)
    own = inclusive + np.float32([0, 0, beyond, beyond])
    encoded = encode_masks(masks, inclusive, HEIGHT, WIDTH, rule)
    decoded = np.stack([coco_mask.decode(rle).astype(bool) for rle in encoded])
    np.testing.assert_array_equal(decoded, paste_masks(masks, own, HEIGHT, WIDTH, convention))
