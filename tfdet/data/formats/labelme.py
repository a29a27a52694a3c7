"""LabelMe: a json file beside each image, with rectangles, polygons, circles and masks.

Source: github.com/wkentaro/labelme, labelme/label_file.py and examples/instance_segmentation/labelme2coco.py.
X-AnyLabeling and AnyLabeling write the same.
"""

from __future__ import annotations

import base64
import binascii
import functools
import math
from pathlib import Path
from typing import Any

import numpy as np

from tfdet.arguments import MAX_PIXELS
from tfdet.data.annotations import AnnotationSet, ImageAnnotation
from tfdet.data.formats.builder import SetBuilder, box_around
from tfdet.data.formats.coco_entries import is_text
from tfdet.data.formats.source import Source
from tfdet.data.images import ImageError, decode_grey
from tfdet.data.problems import ProblemReport
from tfdet.data.rle import counts_from_mask, counts_to_string
from tfdet.data.values import image_side, real_number, shown
from tfdet.files import read_regular
from tfdet.strict_json import parse_json

NOT_READ = "shape without extent"
_OF_NO_EXTENT = ("point", "points", "line", "linestrip")
_LEAST_CIRCLE = 12  # corners
_LARGEST_RADIUS = 1e5  # pixels


def read(source: Source, report: ProblemReport) -> AnnotationSet:
    """Reads LabelMe's files.

    Rectangles are boxes; polygons, circles and masks are objects with a mask and the box around it. Polygons of one
    label and one `group_id` are the parts of one object. An image that is not there is taken from `imageData`.

    Args:
        source: with the json files as annotations.
        report: receives the findings, each with the number of the shape.

    Raises:
        UserError: no shape has a label.
    """
    builder = SetBuilder(source, report)
    for file in source.annotations:
        try:
            content = _load(file)
        except (OSError, ValueError) as error:
            report.add("unreadable annotation", file, None, getattr(error, "strerror", None) or str(error), "left out")
            continue
        image = _image(content, file, builder)
        if image is not None:
            _Shapes(file, image, builder).read(content["shapes"])
    builder.add_unlabelled(why="have no json file")
    return builder.finish(what=str(source.tree.roots[0]))


def image_data(file: Path) -> bytes:
    """The image that a LabelMe file holds.

    Raises:
        OSError: it holds none, or cannot be read.
    """
    try:
        return base64.b64decode(parse_json(read_regular(file))["imageData"], validate=False)
    except (ValueError, TypeError, KeyError, binascii.Error) as error:
        raise OSError(f"imageData of {file.name}: {error}") from None


def _load(file: Path) -> dict[str, Any]:
    content = parse_json(read_regular(file))
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise ValueError("it has no list 'shapes', as LabelMe's files have")
    return content


def _image(content: dict[str, Any], file: Path, builder: SetBuilder) -> ImageAnnotation | None:
    name, finder = content.get("imagePath"), builder.source.finder
    split = builder.source.tree.split_of(file)
    path = finder.find(name, file.parent, split) if is_text(name) and name else None
    if path is None:  # renamed with its json after it was labelled
        path = finder.find(file.stem, file.parent, split, any_ending=True)
    height, width = _sides(content, file, builder)
    if path is not None:
        return builder.add_image(path, height, width, split)
    label = name if is_text(name) and name else f"{file.stem}.jpg"
    if content.get("imageData"):
        shown_name = label.replace("\\", "/").rpartition("/")[2]
        encoded = functools.partial(image_data, file)
        return builder.add_image(None, height, width, split, shown_name, encoded)
    reason = f"{finder.why_not(label, file.parent, split)}, and imageData is empty"
    builder.report.add("annotation without image", file, None, reason, "left out")
    return None


def _sides(content: dict[str, Any], file: Path, builder: SetBuilder) -> tuple[int, int]:
    try:
        return image_side(content.get("imageHeight")), image_side(content.get("imageWidth"))
    except ValueError as error:
        builder.report.add("image size not read", file, None, str(error), "taken from the image itself")
        return 0, 0


class _Shapes:
    """The shapes of one file."""

    def __init__(self, file: Path, image: ImageAnnotation, builder: SetBuilder):
        self._file, self._image, self._builder = file, image, builder

    def read(self, shapes: list) -> None:
        groups: dict[tuple, list[np.ndarray]] = {}
        for number, shape in enumerate(shapes, 1):
            label = f"shape {number}"
            if not isinstance(shape, dict):
                self._bad(f"{label} is {shown(shape)}, and must be an object")
                continue
            name, kind = shape.get("label"), shape.get("shape_type") or "polygon"
            name = name.strip() if isinstance(name, str) else "" if name is None else str(name)
            label = f"{label} {shown(name)}"
            if kind in _OF_NO_EXTENT:
                self._builder.report.add(
                    NOT_READ, self._file, self._image.image_id, f"{label} is a {shown(kind)}", "left out"
                )
                continue
            try:
                points = _points(shape.get("points"))
                group = shape.get("group_id")
                if kind == "rectangle":
                    self._box(name, label, points)
                elif kind == "mask":
                    self._mask(name, label, points, shape.get("mask"))
                elif group is not None and kind in ("polygon", "rotation"):
                    groups.setdefault((name, shown(group)), []).append(_outline(kind, points))
                else:
                    self._polygons(name, label, [_outline(kind, points)])
            except ValueError as error:
                self._bad(f"{label}: {error}")
        for (name, group), polygons in groups.items():
            self._polygons(name, f"group {group} {shown(name)}", polygons)

    def _bad(self, reason: str) -> None:
        self._builder.bad_object(self._image, self._file, reason)

    def _box(self, name: str, label: str, points: np.ndarray) -> None:
        if len(points) not in (2, 4):
            raise ValueError(f"a rectangle has 2 points, not {len(points)}")
        x, y, width, height = box_around([points])
        if not (width > 0 and height > 0):
            raise ValueError(f"the rectangle {points.tolist()} has no extent")
        self._builder.add_object(self._image, name, (x, y, width, height), self._file, label)

    def _polygons(self, name: str, label: str, polygons: list[np.ndarray]) -> None:
        box = box_around(polygons)
        self._builder.add_object(self._image, name, box, self._file, label, polygons=polygons)

    def _mask(self, name: str, label: str, points: np.ndarray, encoded: Any) -> None:
        height, width = self._image.height, self._image.width
        if not isinstance(encoded, str) or not height or not width:
            raise ValueError("a mask needs 'mask', imageHeight and imageWidth")
        try:
            inside = decode_grey(base64.b64decode(encoded)) > 0
        except (ImageError, binascii.Error, ValueError) as error:
            raise ValueError(f"its mask {error}") from None
        rle = rle_of_part(inside, int(points[0, 0]), int(points[0, 1]), height, width)
        box = box_of_part(inside, int(points[0, 0]), int(points[0, 1]))
        self._builder.add_object(self._image, name, box, self._file, label, mask=rle, area=int(inside.sum()))


def rle_of_part(inside: np.ndarray, left: int, top: int, height: int, width: int) -> dict[str, Any]:
    """COCO's run lengths of a mask that is a part of the image.

    Args:
        inside: bool [h, w].
        left, top: where it lies in the image, in pixels.
        height, width: of the image.

    Raises:
        ValueError: it covers no pixel, or goes over the border.
    """
    if height * width > MAX_PIXELS:
        raise ValueError(
            f"its mask is of an image of {width}x{height}, more than the {MAX_PIXELS} pixels that are taken"
        )
    if not inside.any():
        raise ValueError("its mask covers no pixel")
    if left < 0 or top < 0 or top + inside.shape[0] > height or left + inside.shape[1] > width:
        raise ValueError(f"its mask of {inside.shape[1]}x{inside.shape[0]} at {left}, {top} goes over the border")
    whole = np.zeros((height, width), bool)
    whole[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return {"size": [height, width], "counts": counts_to_string(counts_from_mask(whole))}


def box_of_part(inside: np.ndarray, left: int, top: int) -> tuple[int, int, int, int]:
    """x, y, width, height of the pixels of a mask bool [h, w] that lies at left, top."""
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    return (
        left + int(columns[0]), top + int(rows[0]), int(columns[-1] - columns[0]) + 1, int(rows[-1] - rows[0]) + 1,
    )  # fmt: skip


def _points(value: Any) -> np.ndarray:
    """Points [n, 2] in pixels."""
    try:
        points = np.array([[real_number(x), real_number(y)] for x, y in value], np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"its points {shown(value)} are no list of [x, y]") from None
    if not len(points) or not np.isfinite(points).all():
        raise ValueError(f"its points {shown(value)} are no list of [x, y]")
    return points


def _outline(kind: str, points: np.ndarray) -> np.ndarray:
    """A polygon [n, 2] of a shape."""
    if kind in ("polygon", "rotation", "quadrilateral"):
        if len(points) < 3:
            raise ValueError(f"a {kind} has at least 3 points, not {len(points)}")
        return points
    if kind != "circle":
        raise ValueError(f"shape_type {shown(kind)} is not known")
    if len(points) != 2:
        raise ValueError(f"a circle has 2 points, not {len(points)}")
    centre, radius = points[0], float(np.hypot(*(points[1] - points[0])))
    if not 0 < radius < _LARGEST_RADIUS:
        raise ValueError(f"the circle has the radius {radius:g}")
    # As many corners as leave a pixel at most between the circle and its sides, as labelme2coco has them.
    corners = max(int(math.pi / math.acos(1 - 1 / radius)) if radius > 1 else 0, _LEAST_CIRCLE)
    angles = 2 * math.pi * np.arange(corners) / corners
    return centre + radius * np.stack([np.sin(angles), np.cos(angles)], axis=-1)
