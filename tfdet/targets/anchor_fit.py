"""Anchors that fit the objects of a data set: how well given ones do, and which would do better. In NumPy alone."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_STEP, _LEAST_STEP = 0.5, 0.02  # of the search, in logarithms: a factor of 1.65 down to one of 1.02
_OF_A_LEVEL = (2.0, 12.0)
"""Scales where levels share the objects: cells of one see too little of larger objects, however well a box fits."""

_MOST_OBJECTS = 4000
"""So many are looked at, drawn with a fixed seed: more move no digit that is shown."""


class Objects(NamedTuple):
    """Boxes as the network sees them.

    Attributes:
        sizes: float64 [N, 2], width and height in pixels of the network's input.
        centres: float64 [N, 2], x and y.
    """

    sizes: np.ndarray
    centres: np.ndarray


class Anchors(NamedTuple):
    """Of every level: the pixels between two cells, and the shapes of a cell.

    Attributes:
        strides: of the levels.
        scales: roots of the anchors' areas in strides.
        ratios: height / width.
    """

    strides: tuple[int, ...]
    scales: tuple[float, ...]
    ratios: tuple[float, ...]


class Fit(NamedTuple):
    """How anchors do on the objects of a data set.

    Attributes:
        mean: of the objects' best IoU with an anchor.
        recall: share of the objects whose best IoU is at least 0.5.
        sure: share of those at 0.7 or more: the RPN of Faster R-CNN learns these from each such anchor, and the others
            from their best one alone.
    """

    mean: float
    recall: float
    sure: float


def objects_of(boxes: np.ndarray, image_sizes: np.ndarray, short_sides: Sequence[int], long_side: int) -> Objects:
    """Boxes on the network's input, once for every short side.

    Args:
        boxes: float [N, 4], x, y, width and height in pixels of the image.
        image_sizes: int [N, 2], height and width of each box's image.
        short_sides, long_side: of the resize (`tfdet.data.resize`), pixels.
    """
    if len(boxes) > _MOST_OBJECTS:
        kept = np.sort(np.random.default_rng(0).choice(len(boxes), _MOST_OBJECTS, replace=False))
        boxes, image_sizes = boxes[kept], image_sizes[kept]
    boxes, sides = np.asarray(boxes, np.float64).reshape(-1, 4), np.asarray(image_sizes, np.float64).reshape(-1, 2)
    scaled = []
    for short_side in short_sides:
        scale = np.minimum(short_side / sides.min(axis=1), long_side / sides.max(axis=1))
        scaled.append(boxes * scale[:, None])
    found = np.concatenate(scaled)
    return Objects(np.maximum(found[:, 2:], 1.0), found[:, :2] + found[:, 2:] / 2)


def best_ious(objects: Objects, anchors: Anchors) -> np.ndarray:
    """The IoU of each object with the anchor that fits it best, on the grids that the anchors stand on.

    Anchors are centred in their cells. Those that reach beyond the image count too.

    Returns:
        float64 [N].
    """
    best = np.zeros(len(objects.sizes))
    shapes = [(s / np.sqrt(r), s * np.sqrt(r)) for s, r in itertools.product(anchors.scales, anchors.ratios)]
    for stride in anchors.strides:
        off = np.abs((objects.centres / stride) % 1 - 0.5) * stride  # from the middle of the cell it lies in
        for shape in np.array(shapes) * stride:
            # Along each axis two intervals of the lengths a and b whose middles are `off` apart.
            common = np.minimum((objects.sizes + shape) / 2 - off, np.minimum(objects.sizes, shape))
            overlap = np.prod(np.maximum(common, 0.0), axis=1)
            np.maximum(best, overlap / (np.prod(objects.sizes, axis=1) + np.prod(shape) - overlap), out=best)
    return best


def measure(objects: Objects, anchors: Anchors) -> Fit:
    """How anchors do; all 0 where there is no object."""
    if not len(objects.sizes):
        return Fit(0.0, 0.0, 0.0)
    ious = best_ious(objects, anchors)
    return Fit(float(ious.mean()), float((ious >= 0.5).mean()), float((ious >= 0.7).mean()))


def fit(objects: Objects, strides: Sequence[int], num_scales: int, num_ratios: int) -> Anchors:
    """The anchors with the highest sum of mean best IoU and recall that a search by coordinates finds.

    It begins once at the quantiles of the objects' ratios and once at 1 : 2, 1 : 1 and 2 : 1, with scales that part an
    octave, and halves its step when no scale and no ratio gains by it. The same objects give the same anchors.

    Args:
        objects: of the network's input, at least one.
        strides: of the levels.
        num_scales, num_ratios: how many of each; a cell has their product.

    Returns:
        Anchors with sorted scales and ratios, rounded to two decimals.
    """
    found = [_climb(objects, tuple(strides), *start) for start in _starts(objects, strides, num_scales, num_ratios)]
    return max(found, key=lambda anchors: _worth(objects, anchors))


def _worth(objects: Objects, anchors: Anchors) -> float:
    found = measure(objects, anchors)
    return found.mean + found.recall


def _starts(objects: Objects, strides: Sequence[int], num_scales: int, num_ratios: int):
    sizes = np.log(np.sqrt(np.prod(objects.sizes, axis=1)))
    low, high = np.quantile(sizes, [0.05, 0.95])
    span = np.log(strides[-1] / strides[0])
    if len(strides) > 1:  # levels part the sizes among themselves: a cell's scales part what is between two of them
        middle, octave = (low + high - span) / 2 - np.log(strides[0]), np.log(2)
        scales = middle + octave * (np.arange(num_scales) - (num_scales - 1) / 2) / num_scales
    else:
        scales = np.quantile(sizes, (np.arange(num_scales) + 0.5) / num_scales) - np.log(strides[0])
    ratios = np.log(objects.sizes[:, 1] / objects.sizes[:, 0])
    yield scales, np.quantile(ratios, (np.arange(num_ratios) + 0.5) / num_ratios)
    yield scales, np.linspace(-np.log(2), np.log(2), num_ratios) if num_ratios > 1 else np.zeros(1)


def _climb(objects: Objects, strides: tuple[int, ...], scales: np.ndarray, ratios: np.ndarray) -> Anchors:
    place, count, step = np.concatenate([scales, ratios]), len(scales), _STEP

    def of(point: np.ndarray) -> Anchors:
        scales, ratios = np.exp(point[:count]), np.exp(point[count:])
        if len(strides) > 1:
            scales = np.clip(scales, *_OF_A_LEVEL)
        return Anchors(strides, *(tuple(sorted(max(round(float(x), 2), 0.01) for x in v)) for v in (scales, ratios)))

    best = _worth(objects, of(place))
    while step >= _LEAST_STEP:
        gained = False
        for axis, sign in itertools.product(range(len(place)), (1, -1)):
            moved = place.copy()
            moved[axis] += sign * step
            value = _worth(objects, of(moved))
            if value > best + 1e-6:
                place, best, gained = moved, value, True
        step = step if gained else step / 2
    return of(place)
