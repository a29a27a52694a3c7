"""Masks as outlines: paths of SVG in the pixels of the picture that is shown."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfdet.data.masks import MaskError, read_segmentation
from tfdet.data.rle import mask_from_counts, rings_of_mask

_TOLERANCE = 0.7  # pixels that an outline may be off, of the picture that is shown


def outline(segmentation: Any, height: int, width: int, scale: float) -> str:
    """The outline of a mask.

    Args:
        segmentation: as COCO writes it; None: there is none.
        height, width: of the image that it refers to, in pixels.
        scale: pixels of the picture that is shown to one of the image, at most 1.

    Returns:
        The attribute `d` of a path, to be filled by the even-odd rule; empty where there is no mask that can be read.
    """
    try:
        checked = read_segmentation(segmentation, height, width)
    except MaskError:
        return ""
    if checked is None:
        return ""
    if checked.polygons:
        rings = [ring * scale for ring in checked.polygons]
    else:
        mask = mask_from_counts(checked.counts, height, width)
        rows, columns = (max(1, round(side * scale)) for side in mask.shape)
        if (rows, columns) != mask.shape:
            # The pixels at the centres of those that are shown.
            places = (((np.arange(n) + 0.5) * side / n).astype(int) for n, side in zip((rows, columns), mask.shape))
            mask = mask[np.ix_(*places)]
        rings = [ring.astype(float) for ring in rings_of_mask(mask)]
    return "".join(_path(simplified(ring, _TOLERANCE)) for ring in rings)


def simplified(ring: np.ndarray, tolerance: float) -> np.ndarray:
    """A ring with fewer corners, none of those that are left out further than `tolerance` from it (Douglas, Peucker).

    Args:
        ring: float [n, 2], corners; the last is joined to the first.
        tolerance: in the unit of the corners.

    Returns:
        float [m, 2], m <= n.
    """
    if len(ring) < 4:
        return ring
    far = int(np.argmax(((ring - ring[0]) ** 2).sum(axis=1)))
    closed = np.concatenate([ring, ring[:1]])
    keep = np.zeros(len(closed), bool)
    keep[[0, far, len(ring)]] = True
    waiting = [(0, far), (far, len(ring))]
    while waiting:
        first, last = waiting.pop()
        if last - first < 2:
            continue
        (x, y), (dx, dy) = closed[first], closed[last] - closed[first]
        points = closed[first + 1 : last]
        length = np.hypot(dx, dy)
        if length > 0:
            distance = np.abs((points[:, 0] - x) * dy - (points[:, 1] - y) * dx) / length
        else:
            distance = np.hypot(points[:, 0] - x, points[:, 1] - y)
        farthest = int(distance.argmax())
        if distance[farthest] > tolerance:
            middle = first + 1 + farthest
            keep[middle] = True
            waiting += [(first, middle), (middle, last)]
    return closed[:-1][keep[:-1]]


def _path(ring: np.ndarray) -> str:
    points = np.round(ring).astype(int).tolist()
    return "M" + "L".join(f"{x} {y}" for x, y in points) + "Z"
