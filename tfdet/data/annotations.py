"""What an annotation source hands to the converter, and SimpleDet's rule for which boxes count.

No TensorFlow here: conversion workers import this module.
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfdet.data.values import shown


@dataclasses.dataclass(frozen=True)
class Category:
    """One class: its id in the annotation files, its name, and in LVIS how many images have it ("r", "c" or "f")."""

    id: int
    name: str
    frequency: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class ObjectAnnotation:
    """One annotated object.

    Attributes:
        x, y, width, height: box in pixels of the annotated image, as COCO writes it (continuous, top-left corner).
        category_id: a category id of the set.
        area: area of the object in pixels (COCO: of its mask; otherwise width * height).
        is_crowd: a region of many objects: never a training target, ignored by evaluation.
        segmentation: the mask as COCO writes it, not checked yet: polygons, an RLE, or None; or the bytes of a PNG of
            the size of the image; see `masks.read_mask`.
        annotation_id: id of the annotation in its file, to name it in the report; None when it has none.
    """

    x: float
    y: float
    width: float
    height: float
    category_id: int
    area: float
    is_crowd: bool = False
    segmentation: Any = None
    annotation_id: Any = None


@dataclasses.dataclass
class ImageAnnotation:
    """One image and its objects.

    Attributes:
        image_id: integer id, unique in the set.
        file_name: the name that the annotation gives.
        path: the image file; None when `encoded` holds the image itself.
        height, width: size that the boxes refer to, in pixels; 0 when the annotation does not say.
        objects: the annotated objects.
        encoded: image bytes, for images that exist in memory only; or a function that reads them, for those within
            other files, which can be pickled and may raise OSError.
        split: the split of its source that it is of ("train", "val"); empty: none.
    """

    image_id: int
    file_name: str
    path: pathlib.Path | None
    height: int
    width: int
    objects: list[ObjectAnnotation] = dataclasses.field(default_factory=list)
    encoded: bytes | Callable[[], bytes] | None = None
    split: str = ""


@dataclasses.dataclass
class AnnotationSet:
    """Everything read from the annotation files of one data set, in their order."""

    categories: list[Category]
    images: Sequence[ImageAnnotation]


# What can be wrong with the annotations of one object.
DEGENERATE = "degenerate box"
OUTSIDE = "box outside the image"
PARTLY_OUTSIDE = "box partly outside the image"
TOO_SMALL = "box without a whole pixel"


@dataclasses.dataclass(frozen=True)
class BoxVerdict:
    """What becomes of one box: whether the record keeps it, and what is wrong with it (None: nothing)."""

    keep: bool
    problem: str | None = None
    reason: str = ""


_GOOD = BoxVerdict(True)


def inclusive_boxes(
    xmin: np.ndarray, ymin: np.ndarray, xmax: np.ndarray, ymax: np.ndarray, height: int, width: int, area: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """SimpleDet's rule from normalised corners to training boxes, in numpy (`schema.training_boxes` is the graph twin).

    Source: SimpleDet utils/generate_roidb.py: x1 = max(0, x), x2 = min(W - 1, x1 + max(0, w - 1)), the same for y; a
    box counts when area > 0, x2 >= x1 and y2 >= y1. Computed in float32 from the float32 values of the record, so
    that the counts in the manifest are those that the pipeline finds.

    Args:
        xmin, ymin, xmax, ymax: float32 [G], corners divided by the image size.
        height, width: image size in pixels.
        area: float32 [G], area of the object in pixels.

    Returns:
        boxes float32 [G, 4] `[x1, y1, x2, y2]` in pixels, inclusive corners; valid bool [G].
    """
    one, zero = np.float32(1), np.float32(0)

    def side(low, high, size):
        size = np.float32(size)
        start = np.asarray(low, np.float32) * size
        extent = (np.asarray(high, np.float32) - np.asarray(low, np.float32)) * size
        first = np.maximum(zero, start)
        return first, np.minimum(size - one, first + np.maximum(zero, extent - one))

    x1, x2 = side(xmin, xmax, width)
    y1, y2 = side(ymin, ymax, height)
    valid = are_boxes(xmin, ymin, xmax, ymax, area) & (np.asarray(area, np.float32) > 0) & (x2 >= x1) & (y2 >= y1)
    return np.stack([x1, y1, x2, y2], axis=-1).astype(np.float32), valid


def are_boxes(xmin, ymin, xmax, ymax, area) -> np.ndarray:
    """Which of the objects of a record have a box: finite numbers (infinity would be clipped to fit), no negative side.

    Args:
        xmin, ymin, xmax, ymax: float [G], corners.
        area: float [G].

    Returns:
        bool [G].
    """
    finite = np.isfinite(np.stack([xmin, ymin, xmax, ymax, area])).all(axis=0)
    return finite & (np.asarray(xmax) >= xmin) & (np.asarray(ymax) >= ymin)


def judge_box(item: ObjectAnnotation, height: int, width: int) -> BoxVerdict:
    """Decides what becomes of one annotated box.

    A point, a box without extent and area, or one wholly outside the image cannot be a target or be matched: the record
    leaves it out. A box over the border stays as annotated (reading clips it by SimpleDet's rule) and is reported when
    it goes over by more than one pixel; below that it is the rounding of the annotation tool. Boxes that the rule
    will not use for training stay too, because evaluation counts them.

    Args:
        item: the object.
        height, width: size of the image in pixels; 0 where it is not known, and borders are not looked at.

    Returns:
        The verdict.
    """
    x, y, area = item.x, item.y, item.area
    if not all(map(math.isfinite, (x, y, item.width, item.height, area))):
        return BoxVerdict(False, DEGENERATE, f"{_shown(item)} area={area:g} is not finite")
    if item.width < 0 or item.height < 0:
        return BoxVerdict(False, DEGENERATE, f"{_shown(item)} has a negative side")
    if item.width == 0 or item.height == 0:
        # SimpleDet trains on a box with one such side, one pixel wide, when its area is positive. A point is where a
        # tool had no box to write: 0, 0, 0, 0.
        if area > 0 and (item.width > 0 or item.height > 0):
            return BoxVerdict(True, DEGENERATE, f"{_shown(item)} has a side of 0 but area {area:g}: used as one pixel")
        return BoxVerdict(False, DEGENERATE, f"{_shown(item)} has no extent")
    if not height or not width:
        return _GOOD
    right, bottom = x + item.width, y + item.height
    if x >= width or y >= height or right <= 0 or bottom <= 0:
        return BoxVerdict(False, OUTSIDE, f"{_shown(item)} lies outside the image of {width}x{height}")
    if x < -1 or y < -1 or right > width + 1 or bottom > height + 1:
        reason = f"{_shown(item)} goes over the border of {width}x{height}: clipped on reading"
        return BoxVerdict(True, PARTLY_OUTSIDE, reason)
    # The rule can leave out only a box in the last pixel or without area; the float32 of the record moves less.
    if not item.is_crowd and not (x < width - 1.5 and y < height - 1.5 and area > 1e-30):
        size = np.array([width, height, width, height], np.float32)
        xmin, ymin, xmax, ymax = np.array([[x], [y], [right], [bottom]], np.float32) / size[:, None]
        _, valid = inclusive_boxes(xmin, ymin, xmax, ymax, height, width, np.array([area], np.float32))
        if not valid[0]:
            return BoxVerdict(True, TOO_SMALL, f"{_shown(item)} area={area:g}: counts in evaluation, not in training")
    return _GOOD


def _shown(item: ObjectAnnotation) -> str:
    name = "" if item.annotation_id is None else f"annotation {shown(item.annotation_id)}: "
    return f"{name}x={item.x:g} y={item.y:g} width={item.width:g} height={item.height:g}"
