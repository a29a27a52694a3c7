"""The segmentation of one object: checked, kept as annotated for evaluation, and as polygon rings for training.

No TensorFlow here: conversion workers import this module.
"""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np

from tfdet.data.rle import counts_from_string, counts_to_string, mask_from_counts, rings_of_mask

# What can be wrong with a segmentation.
UNREADABLE = "unreadable mask"
ODD_COORDINATES = "mask polygon with an odd number of coordinates"
FEW_POINTS = "mask polygon of fewer than 3 points"
NOT_FINITE = "mask polygon not finite"
FAR_OUTSIDE = "mask polygon far outside the image"
WRONG_SIZE = "mask RLE of another size than the image"
WRONG_SUM = "mask RLE does not fill the image"
NO_PIXEL = "mask without a pixel"

_SHOWN = 60  # characters of a bad value in the report


class MaskError(Exception):
    """The segmentation cannot be used.

    Attributes:
        kind: what is wrong, one of the names above.
        reason: what exactly, for a person.
    """

    def __init__(self, kind: str, reason: str):
        super().__init__(reason)
        self.kind, self.reason = kind, reason


@dataclasses.dataclass(frozen=True)
class ObjectMask:
    """The mask of one object.

    Attributes:
        segmentation: json text of the COCO segmentation: the polygons as annotated, or `{"size": [h, w], "counts": s}`
            with the compressed counts.
        vertices: float32 [V, 2], x and y of the corners of all rings one after the other, in pixels of the image; empty
            for crowds, which are no training targets.
        ring_lengths: corners of each ring.
        ring_parts: the part of the object that each ring belongs to, 0..; see `structures.py` for what parts mean.
    """

    segmentation: str
    vertices: np.ndarray
    ring_lengths: tuple[int, ...]
    ring_parts: tuple[int, ...]


def read_mask(segmentation, height: int, width: int, is_crowd: bool = False) -> ObjectMask | None:
    """Checks the segmentation of one object and finds its rings.

    An object with one bad polygon has no mask at all: the rest of it would be a wrong target.

    Args:
        segmentation: COCO's value: a list of polygons `[x1, y1, x2, y2, ...]`, an RLE `{"size", "counts"}` with counts
            as a list or compressed, or None or an empty list for an object without mask.
        height, width: size of the image in pixels, which the coordinates refer to.
        is_crowd: leave out the rings.

    Returns:
        The mask; None when the object has none.

    Raises:
        MaskError: the segmentation cannot be used.
    """
    if segmentation is None or segmentation == []:
        return None
    if isinstance(segmentation, dict):
        return _read_rle(segmentation, height, width, is_crowd)
    if not isinstance(segmentation, list) or not all(isinstance(polygon, list) for polygon in segmentation):
        reason = f"segmentation {str(segmentation)[:_SHOWN]} is neither a list of polygons nor an RLE with its size"
        raise MaskError(UNREADABLE, reason)
    rings = [_read_polygon(polygon, height, width) for polygon in segmentation]
    parts = range(len(rings))
    return _object_mask(segmentation, [] if is_crowd else rings, () if is_crowd else parts)


def _object_mask(segmentation, rings, parts) -> ObjectMask:
    vertices = np.concatenate([np.zeros((0, 2)), *rings]).astype(np.float32)
    text = json.dumps(segmentation, separators=(",", ":"))
    return ObjectMask(text, vertices, tuple(len(ring) for ring in rings), tuple(parts))


def _read_polygon(polygon: list, height: int, width: int) -> np.ndarray:
    """The corners float64 [n, 2] of one polygon."""
    shown = str(polygon)[:_SHOWN]
    if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in polygon):
        raise MaskError(UNREADABLE, f"polygon {shown} holds something that is no number")
    if len(polygon) % 2:
        raise MaskError(ODD_COORDINATES, f"polygon {shown} has {len(polygon)} coordinates")
    if len(polygon) < 6:
        raise MaskError(FEW_POINTS, f"polygon {shown} has {len(polygon) // 2} points")
    if not all(math.isfinite(value) for value in polygon if isinstance(value, float)):
        raise MaskError(NOT_FINITE, f"polygon {shown} holds a coordinate that is not finite")
    # Rasterising takes memory by the length of the border, also where that lies outside.
    for values, size in ((polygon[0::2], width), (polygon[1::2], height)):
        if min(values) < -size or max(values) > 2 * size:
            reason = f"polygon {shown} goes over the border by more than the image is large, {width}x{height}"
            raise MaskError(FAR_OUTSIDE, reason)
    return np.array(polygon, np.float64).reshape(-1, 2)


def _read_rle(segmentation: dict, height: int, width: int, is_crowd: bool) -> ObjectMask:
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if not isinstance(size, list) or len(size) != 2 or not all(isinstance(value, int) for value in size):
        raise MaskError(UNREADABLE, f"RLE has the size {str(size)[:_SHOWN]}; expected [height, width]")
    if size != [height, width]:
        raise MaskError(WRONG_SIZE, f"RLE is {size[1]}x{size[0]}, the image {width}x{height}")
    if isinstance(counts, str):
        try:
            counts = counts_from_string(counts)
        except ValueError as error:
            raise MaskError(UNREADABLE, f"RLE counts {counts[:_SHOWN]!r}: {error}") from None
    elif not isinstance(counts, list) or not all(type(value) is int and value >= 0 for value in counts):
        raise MaskError(UNREADABLE, f"RLE counts {str(counts)[:_SHOWN]}: expected whole numbers or a string")
    if sum(counts) != height * width:
        raise MaskError(WRONG_SUM, f"RLE counts sum to {sum(counts)}, the image has {height * width} pixels")
    if not any(counts[1::2]):
        raise MaskError(NO_PIXEL, "RLE covers no pixel")
    rings = [] if is_crowd else rings_of_mask(mask_from_counts(counts, height, width))
    return _object_mask({"size": size, "counts": counts_to_string(counts)}, rings, [0] * len(rings))
