"""The segmentation of one object: checked, kept as annotated for evaluation, and as polygon rings for training.

No TensorFlow here: conversion workers import this module.
"""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np

from tfdet.data.images import ImageError, decode_grey
from tfdet.data.rle import (
    counts_from_mask,
    counts_from_string,
    counts_to_string,
    extent_of_counts,
    mask_from_counts,
    rings_of_mask,
)
from tfdet.data.values import shown

# What can be wrong with a segmentation.
UNREADABLE = "unreadable mask"
ODD_COORDINATES = "mask polygon with an odd number of coordinates"
FEW_POINTS = "mask polygon of fewer than 3 points"
NOT_FINITE = "mask polygon not finite"
FAR_OUTSIDE = "mask polygon far outside the image"
WRONG_SIZE = "mask RLE of another size than the image"
WRONG_SUM = "mask RLE does not fill the image"
NO_PIXEL = "mask without a pixel"


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


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """A checked segmentation: safe for pycocotools, which trusts what it is given.

    Attributes:
        value: as COCO writes it: the polygons as annotated, or `{"size": [h, w], "counts": s}` with compressed counts.
        polygons: float64 [n, 2] each, x and y in pixels; empty for an RLE.
        counts: run lengths of an RLE, zeros first, that sum to height * width; empty for polygons.
        extent: `(x1, y1, x2, y2)` of the border in pixels, continuous corners.
    """

    value: Any
    polygons: list[np.ndarray]
    counts: list[int]
    extent: tuple[float, float, float, float]


def read_mask(segmentation, height: int, width: int, is_crowd: bool = False) -> ObjectMask | None:
    """Checks the segmentation of one object and finds its rings: `read_segmentation`, then `object_mask`."""
    checked = read_segmentation(segmentation, height, width)
    return None if checked is None else object_mask(checked, is_crowd)


def read_segmentation(segmentation, height: int, width: int) -> Segmentation | None:
    """Checks the segmentation of one object.

    An object with one bad polygon has no mask at all: the rest of it would be a wrong target.

    Args:
        segmentation: COCO's value: a list of polygons `[x1, y1, x2, y2, ...]`, an RLE `{"size", "counts"}` with counts
            as a list or compressed, or None or an empty list for an object without mask; or the bytes of a PNG of the
            size of the image, whose pixels are not 0 where the object is.
        height, width: size of the image in pixels, which the coordinates refer to.

    Returns:
        What was read; None when the object has no mask.

    Raises:
        MaskError: the segmentation cannot be used.
    """
    if segmentation is None or segmentation == []:
        return None
    if isinstance(segmentation, bytes):
        segmentation = _rle_of_png(segmentation, height * width)
    if isinstance(segmentation, dict):
        return _read_rle(segmentation, height, width)
    if not isinstance(segmentation, list) or not all(isinstance(polygon, list) for polygon in segmentation):
        reason = f"segmentation {shown(segmentation)} is neither a list of polygons nor an RLE with its size"
        raise MaskError(UNREADABLE, reason)
    polygons, extents = zip(*(_read_polygon(polygon, height, width) for polygon in segmentation), strict=True)
    left, top, right, bottom = zip(*extents, strict=True)
    extent = (float(min(left)), float(min(top)), float(max(right)), float(max(bottom)))
    return Segmentation(segmentation, list(polygons), [], extent)


def object_mask(checked: Segmentation, is_crowd: bool = False) -> ObjectMask:
    """The mask that a record stores.

    Args:
        checked: a segmentation that was read.
        is_crowd: leave out the rings.
    """
    if is_crowd:
        rings, parts = [], []
    elif checked.polygons:
        rings, parts = checked.polygons, list(range(len(checked.polygons)))
    else:
        rings = rings_of_mask(mask_from_counts(checked.counts, *checked.value["size"]))
        parts = [0] * len(rings)
    vertices = np.concatenate([np.zeros((0, 2)), *rings]).astype(np.float32)
    text = json.dumps(checked.value, separators=(",", ":"))
    return ObjectMask(text, vertices, tuple(len(ring) for ring in rings), tuple(parts))


def covers_no_pixel(checked: Segmentation, height: int, width: int) -> bool:
    """Whether polygons set no pixel of the image by COCO's rule.

    Args:
        checked: a segmentation that was read; an RLE without a pixel is refused when it is read.
        height, width: size of the image in pixels.
    """
    if not checked.polygons or any(_is_thick(polygon, height, width) for polygon in checked.polygons):
        return False
    from pycocotools import mask as coco_mask

    return not any(map(int, coco_mask.area(coco_mask.frPyObjects(checked.value, height, width))))


def is_line(checked: Segmentation) -> bool:
    """Whether all points of every polygon lie on one line, so that it has no inside at any size."""

    def flat(polygon: np.ndarray) -> bool:
        rays = polygon - polygon[0]
        longest = rays[np.argmax(np.abs(rays).sum(axis=1))]
        return bool(np.all(np.abs(rays[:, 0] * longest[1] - rays[:, 1] * longest[0]) <= 1e-6 * np.abs(longest).sum()))

    return bool(checked.polygons) and all(flat(polygon) for polygon in checked.polygons)


def _is_thick(polygon: np.ndarray, height: int, width: int) -> bool:
    """Whether a polygon surely has a pixel: it is more than a pixel thick in the mean, and not outside the image."""
    (left, top), (right, bottom) = polygon.min(axis=0), polygon.max(axis=0)
    if left < 0 or top < 0 or right > width or bottom > height:
        return False
    x, y = polygon[:, 0] - left, polygon[:, 1] - top
    area = abs(np.dot(x[:-1], y[1:]) - np.dot(y[:-1], x[1:]) + x[-1] * y[0] - y[-1] * x[0]) / 2
    return bool(area > 2 * max(right - left, bottom - top))


def _read_polygon(polygon: list, height: int, width: int) -> tuple[np.ndarray, tuple[float, float, float, float]]:
    """The corners float64 [n, 2] of one polygon, and its extent x1, y1, x2, y2."""
    if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in polygon):
        raise MaskError(UNREADABLE, f"polygon {shown(polygon)} holds something that is no number")
    if len(polygon) % 2:
        raise MaskError(ODD_COORDINATES, f"polygon {shown(polygon)} has {len(polygon)} coordinates")
    if len(polygon) < 6:
        raise MaskError(FEW_POINTS, f"polygon {shown(polygon)} has {len(polygon) // 2} points")
    if not all(math.isfinite(value) for value in polygon if isinstance(value, float)):
        raise MaskError(NOT_FINITE, f"polygon {shown(polygon)} holds a coordinate that is not finite")
    xs, ys = polygon[0::2], polygon[1::2]
    left, top, right, bottom = min(xs), min(ys), max(xs), max(ys)
    # Rasterising takes memory by the length of the border, also where that lies outside.
    if left < -width or top < -height or right > 2 * width or bottom > 2 * height:
        reason = f"polygon {shown(polygon)} goes over the border by more than the image is large, {width}x{height}"
        raise MaskError(FAR_OUTSIDE, reason)
    return np.array(polygon, np.float64).reshape(-1, 2), (left, top, right, bottom)


def _rle_of_png(encoded: bytes, num_pixels: int) -> dict[str, Any]:
    """COCO's run lengths of a mask that is a picture, of any size up to that of the image."""
    try:
        # One channel as it is stored: 1 is a pixel of the object as well as 255.
        mask = decode_grey(encoded, max(num_pixels, 1))
    except ImageError as error:
        raise MaskError(UNREADABLE, f"its PNG {error}") from None
    return {"size": list(mask.shape), "counts": counts_from_mask(mask > 0)}


def _read_rle(segmentation: dict, height: int, width: int) -> Segmentation:
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if not isinstance(size, list) or len(size) != 2 or not all(type(value) is int for value in size):
        raise MaskError(UNREADABLE, f"RLE has the size {shown(size)}; expected [height, width]")
    if size != [height, width]:
        raise MaskError(WRONG_SIZE, f"RLE is {shown(size[1])}x{shown(size[0])}, the image {width}x{height}")
    if isinstance(counts, bytes):  # pycocotools gives its own so
        counts = counts.decode("latin-1")
    if isinstance(counts, str):
        try:
            counts = counts_from_string(counts)
        except ValueError as error:
            raise MaskError(UNREADABLE, f"RLE counts {shown(counts)}: {error}") from None
    elif not isinstance(counts, list) or not all(type(value) is int and value >= 0 for value in counts):
        raise MaskError(UNREADABLE, f"RLE counts {shown(counts)}: expected whole numbers or a string")
    if sum(counts) != height * width:
        raise MaskError(WRONG_SUM, f"RLE counts sum to {shown(sum(counts))}, the image has {height * width} pixels")
    if not any(counts[1::2]):
        raise MaskError(NO_PIXEL, "RLE covers no pixel")
    value = {"size": size, "counts": counts_to_string(counts)}
    return Segmentation(value, [], counts, extent_of_counts(counts, height))
