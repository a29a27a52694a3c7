"""Predicted masks -> masks and run lengths of the whole image, in numpy."""

from __future__ import annotations

from typing import Literal

import numpy as np

from tfdet.ops.boxes import CONTINUOUS, LEGACY, extra_pixel

PasteRule = Literal["simpledet", "detectron2", "torchvision"]
PASTE_RULES = {"simpledet": (LEGACY, 0), "torchvision": (LEGACY, 1), "detectron2": (CONTINUOUS, 1)}
"""By program: the convention of `paste_mask`, and what its boxes have at x2 and y2 beyond inclusive corners, pixels."""

THRESHOLD = 0.5
"""The probability between outside and inside."""

_FAR = 2**30  # pixels; beyond it a corner would not fit an int32


def paste_mask(
    mask: np.ndarray, box: np.ndarray, height: int, width: int, convention: str = LEGACY
) -> tuple[np.ndarray, int, int]:
    """One mask in the pixels of its image, as far as it reaches.

    `"legacy_plus_one"` (SimpleDet, torchvision): the mask gets a rim of zeros, the box grows with it about its centre,
    its corners are cut to integers, the mask is stretched bilinearly over the pixels from corner to corner (OpenCV's
    rule), and what exceeds 0.5 is inside. `"continuous"` (Detectron2): the mask is sampled bilinearly at every pixel's
    centre, zero beyond its own, and 0.5 itself is inside.

    Args:
        mask: float32 [M, M], probabilities.
        box: float [4], `[x1, y1, x2, y2]` in pixels of the image, as `Detections.boxes`: inclusive corners, or edges
            where continuous.
        height, width: of the image.
        convention: `"legacy_plus_one"` (default) or `"continuous"`.

    Returns:
        bool [h, w], the part of the image that the mask covers (h and w may be 0), and the column and the row of its
        top left pixel.

    Source: SimpleDet models/maskrcnn/utils.py (segm_results, expand_boxes); Detectron2 layers/mask_ops.py.
    """
    values, left, top = _stretched(mask, box, height, width, convention)
    return values > THRESHOLD if extra_pixel(convention) > 0 else values >= THRESHOLD, left, top


def _stretched(mask, box, height: int, width: int, convention: str) -> tuple[np.ndarray, int, int]:
    """As `paste_mask`, but probabilities, float32 [h, w]."""
    padded, box = np.pad(np.asarray(mask, np.float32), 1), np.asarray(box, np.float32)
    legacy = extra_pixel(convention) > 0
    if legacy:
        size = mask.shape[0]
        half = (box[2:] - box[:2]) * np.float32(0.5) * np.float32((size + 2.0) / size)
        centre = (box[2:] + box[:2]) * np.float32(0.5)
        box = np.concatenate([centre - half, centre + half])
    if not np.all(np.isfinite(box)) or np.abs(box).max() > _FAR:
        return np.zeros([0, 0], np.float32), 0, 0
    if legacy:
        box = box.astype(np.int32)  # towards zero
    taps = _legacy_taps if legacy else _continuous_taps
    left, low, high, share = taps(len(padded), box[0], box[2], width)
    rows = padded[:, low] * (1 - share) + padded[:, high] * share
    top, low, high, share = taps(len(padded), box[1], box[3], height)
    return rows[low] * (1 - share[:, None]) + rows[high] * share[:, None], left, top


def paste_masks(masks: np.ndarray, boxes: np.ndarray, height: int, width: int, convention: str = LEGACY) -> np.ndarray:
    """Masks of the image's size.

    Args:
        masks: float32 [N, M, M], probabilities.
        boxes: float [N, 4].
        height, width, convention: as in `paste_mask`.

    Returns:
        bool [N, height, width].
    """
    pasted = np.zeros([len(masks), height, width], bool)
    for whole, mask, box in zip(pasted, masks, boxes, strict=True):
        part, left, top = paste_mask(mask, box, height, width, convention)
        whole[top : top + part.shape[0], left : left + part.shape[1]] = part
    return pasted


def paste_probabilities(masks, boxes, height: int, width: int, convention: str = LEGACY) -> np.ndarray:
    """As `paste_masks`, before the cut at one half: float32 [N, height, width]."""
    pasted = np.zeros([len(masks), height, width], np.float32)
    for whole, mask, box in zip(pasted, masks, boxes, strict=True):
        part, left, top = _stretched(mask, box, height, width, convention)
        whole[top : top + part.shape[0], left : left + part.shape[1]] = part
    return pasted


def encode_masks(masks: np.ndarray, boxes: np.ndarray, height: int, width: int, rule: str = "simpledet") -> list[dict]:
    """Masks of the image's size as COCO's compressed run lengths, without making them.

    Args:
        masks, height, width: as in `paste_masks`.
        boxes: float [N, 4], `[x1, y1, x2, y2]`, inclusive corners, as a detector returns them.
        rule: one of `PASTE_RULES`: "simpledet" (default), "torchvision" or "detectron2".

    Returns:
        For each mask `{"size": [height, width], "counts": text}`, ready for json.
    """
    from pycocotools import mask as coco_mask

    encoded = []
    convention, beyond = PASTE_RULES[rule]
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4) + np.float32([0, 0, beyond, beyond])
    for mask, box in zip(masks, boxes, strict=True):
        counts = _run_lengths(*paste_mask(mask, box, height, width, convention), height, width)
        rle = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
        encoded.append({"size": [height, width], "counts": rle["counts"].decode("ascii")})
    return encoded


def _legacy_taps(source: int, first: int, last: int, length: int):
    """The source pixels that a stretch over the pixels `first` to `last` reads within an image of `length` pixels.

    Returns the image's first such pixel, and for each from there on its two source pixels and the share of the second.
    """
    first, last = int(first), int(last)
    begin, end = min(max(first, 0), length), min(max(last + 1, 0), length)
    scale = 1.0 / (max(last - first + 1, 1) / source)
    place = np.float32((np.arange(begin, end) - first + 0.5) * scale - 0.5)
    low = np.floor(place).astype(np.int32)
    share = place - low.astype(np.float32)
    share[(low < 0) | (low >= source - 1)] = 0
    low = np.clip(low, 0, source - 1)
    return begin, low, np.minimum(low + 1, source - 1), share


def _continuous_taps(source: int, first: np.float32, last: np.float32, length: int):
    """As `_legacy_taps`, of samples at pixel centres of a mask between two edges."""
    begin, end = (int(np.clip(edge, 0, length)) for edge in (np.floor(first) - 1, np.ceil(last) + 1))
    # Of the mask without its rim [-1, 1], as grid_sample counts.
    unit = (np.arange(begin, end, dtype=np.float32) + np.float32(0.5) - first) / (last - first) * 2 - 1
    place = ((unit + 1) * np.float32(source - 2) - 1) / 2 + 1
    place = np.clip(np.nan_to_num(place), 0, source - 1)
    low = np.minimum(place.astype(np.int32), source - 2)
    return begin, low, low + 1, place - low.astype(np.float32)


def _run_lengths(part: np.ndarray, left: int, top: int, height: int, width: int) -> list[int]:
    """COCO's uncompressed counts, down the columns, outside first, of a mask that lies within the image."""
    rim = np.zeros([part.shape[1], part.shape[0] + 2], np.int8)
    rim[:, 1:-1] = part.T
    column, row = np.nonzero(np.diff(rim, axis=1))  # begins and ends take turns
    places = (left + column) * height + top + row
    # A column filled to its end goes on in the next: its end and the next begin are one place, and neither counts.
    same = places[1:] == places[:-1]
    kept = np.ones(len(places), bool)
    kept[1:] &= ~same
    kept[:-1] &= ~same
    counts = np.diff(places[kept], prepend=0, append=height * width).tolist()
    return counts[:-1] if counts[-1] == 0 else counts
