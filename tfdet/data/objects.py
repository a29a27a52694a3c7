"""What becomes of the objects of one image: the same for conversion and for evaluation against a COCO file.

No TensorFlow here: conversion workers import this module.
"""

from __future__ import annotations

from typing import Any

from tfdet.data.annotations import ObjectAnnotation, judge_box
from tfdet.data.masks import NO_PIXEL, MaskError, Segmentation, covers_no_pixel, is_line, read_segmentation
from tfdet.data.problems import Problem
from tfdet.data.values import shown

TWICE = "annotation given twice"
APART = "box and mask apart"

_LEAST_IOU = 0.5  # of box and extent of the mask
_TOLERANCE = 2.0  # pixels that an edge of the two may lie apart whatever the IoU

JudgedObject = tuple[ObjectAnnotation, Segmentation | None]


def judge_objects(
    objects: list[ObjectAnnotation], height: int, width: int, file: str, image_id: int
) -> tuple[list[JudgedObject], list[Problem]]:
    """Sorts out the boxes and masks of one image.

    Args:
        objects: the objects as they were read.
        height, width: size of the image in pixels that boxes and masks refer to; 0 where it is not known: borders are
            not looked at then, and masks are left out.
        file: the image, for the findings.
        image_id: its number.

    Returns:
        The objects that stay, each with its checked segmentation or None; and what was found, in order.
    """
    judged: list[JudgedObject] = []
    problems: list[Problem] = []
    seen: dict[tuple, list[ObjectAnnotation]] = {}

    def note(kind: str, reason: str, action: str) -> None:
        problems.append(Problem(kind, file, image_id, reason, action))

    for item in objects:
        verdict = judge_box(item, height, width)
        if verdict.problem:
            note(verdict.problem, verdict.reason, "kept" if verdict.keep else "left out")
        if not verdict.keep:
            continue
        same = seen.setdefault((item.category_id, item.x, item.y, item.width, item.height, item.is_crowd), [])
        first = next((other for other in same if _same_mask(other.segmentation, item.segmentation)), None)
        same.append(item)
        if first is not None:
            reason = f"{_name(item)}: class, box and mask are those of {_name(first)}"
            note(TWICE, reason, "left out")
            continue
        segmentation = None
        if item.segmentation is not None:
            try:
                segmentation = _segmentation_of(item, height, width, note)
            except MaskError as error:
                note(error.kind, f"{_name(item)}: {error.reason}", "box kept without mask")
        judged.append((item, segmentation))
    return judged, problems


def _same_mask(one: Any, other: Any) -> bool:
    """Whether two masks are one as they are written; none is written as nothing, null or an empty list."""
    return one == other or (one in (None, []) and other in (None, []))


def _segmentation_of(item: ObjectAnnotation, height: int, width: int, note) -> Segmentation | None:
    """The checked segmentation of an object; `MaskError` where it cannot be used."""
    if not height or not width:
        raise MaskError("mask of an image without size", "the file does not say the height and width of the image")
    checked = read_segmentation(item.segmentation, height, width)
    if checked is None:
        return None
    if covers_no_pixel(checked, height, width):
        if is_line(checked):
            raise MaskError(NO_PIXEL, "all points of its polygons lie on a line")
        note(NO_PIXEL, f"{_name(item)}: its polygons cover no pixel of the image", "kept")
    box = (item.x, item.y, item.x + item.width, item.y + item.height)
    if not item.is_crowd and _is_apart(box, checked.extent):
        where = "x={:g} y={:g} to x={:g} y={:g}"
        reason = f"{_name(item)}: its box is {where.format(*box)}, its mask lies at {where.format(*checked.extent)}"
        note(APART, reason, "both kept")
    return checked


def _is_apart(box, extent) -> bool:
    if all(abs(a - b) <= _TOLERANCE for a, b in zip(box, extent, strict=True)):
        return False
    overlap = _overlap(box, extent)
    union = sum((right - left) * (bottom - top) for left, top, right, bottom in (box, extent)) - overlap
    return overlap < _LEAST_IOU * union


def _overlap(a, b) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return width * height if width > 0 and height > 0 else 0.0


def _name(item: ObjectAnnotation) -> str:
    if item.annotation_id is None:
        return f"object at x={item.x:g} y={item.y:g}"
    return f"annotation {shown(item.annotation_id)}"
