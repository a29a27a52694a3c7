"""The outlines of masks as polygons, for formats that have no other masks."""

from __future__ import annotations

from typing import Any

import numpy as np

_TOLERANCE = 0.5  # pixels that a simplified outline may be off


def outline(mask: np.ndarray, left: int = 0, top: int = 0) -> np.ndarray:
    """The outline of the largest part of a mask, its holes filled.

    Args:
        mask: bool [h, w], a part of an image.
        left, top: where in the image it stands.

    Returns:
        float64 [P, 2], x and y in pixels of the image (pixel k spans k to k + 1), not closed; P is 0 or at least 3.
    """
    import contourpy

    if not mask.any():
        return np.zeros([0, 2])
    padded = np.pad(mask, 1).astype(np.float32)
    rings: Any = contourpy.contour_generator(z=padded).lines(0.5)
    ring = max(rings, key=lambda points: abs(_signed_area(points)))
    # A pixel's value stands at its centre, one further for the rim.
    points = simplified(ring[:-1]) + [left - 0.5, top - 0.5]
    return points if len(points) >= 3 else np.zeros([0, 2])


def simplified(ring: np.ndarray, tolerance: float = _TOLERANCE) -> np.ndarray:
    """A closed ring with fewer points: Douglas and Peucker's, between its two points farthest from each other.

    Args:
        ring: float [P, 2], not closed.
        tolerance: the most that a point left out may be off the line, in the unit of the ring.
    """
    if len(ring) < 4:
        return ring
    far = int(np.argmax(((ring - ring[0]) ** 2).sum(1)))
    closed = np.concatenate([ring, ring[:1]])
    kept = np.zeros(len(closed), bool)
    kept[[0, far, len(ring)]] = True
    waiting = [(0, far), (far, len(ring))]
    while waiting:
        first, last = waiting.pop()
        if last - first < 2:
            continue
        line = closed[last] - closed[first]
        points = closed[first + 1 : last] - closed[first]
        length = float(np.hypot(*line))
        off = np.abs(points @ [line[1], -line[0]]) / length if length else np.hypot(*points.T)
        worst = int(np.argmax(off))
        if off[worst] > tolerance:
            middle = first + 1 + worst
            kept[middle] = True
            waiting += [(first, middle), (middle, last)]
    return ring[kept[:-1]]


def _signed_area(ring: np.ndarray) -> float:
    x, y = ring[:-1].T
    return float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2
