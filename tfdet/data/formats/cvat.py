"""CVAT for images 1.1: one xml of boxes, polygons and masks.

Source: docs.cvat.ai/docs/dataset_management/formats/format-cvat.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np

from tfdet.arguments import MAX_PIXELS
from tfdet.data.annotations import AnnotationSet, ImageAnnotation
from tfdet.data.formats.builder import SetBuilder, box_around, size_of
from tfdet.data.formats.labelme import NOT_READ, box_of_part, rle_of_part
from tfdet.data.formats.source import Source, split_of_word
from tfdet.data.formats.xml_files import XmlError, parse_xml
from tfdet.data.problems import ProblemReport
from tfdet.data.values import image_side, real_number, shown, whole_id
from tfdet.errors import UserError

_OF_NO_EXTENT = ("points", "polyline", "skeleton", "cuboid", "tag")
_ELLIPSE_CORNERS = 72


def read(source: Source, report: ProblemReport) -> AnnotationSet:
    """Reads CVAT's xml.

    Classes are the labels of the task, in its order. A turned box and an ellipse become polygons. Polygons of one label
    and one group are the parts of one object.

    Args:
        source: with the xml files as annotations.
        report: receives the findings, each with the image and the number of the shape.

    Raises:
        UserError: a file cannot be read, or is CVAT's xml for video.
    """
    builder = SetBuilder(source, report)
    names: list[str] = []
    for file in source.annotations:
        try:
            root = parse_xml(file)
        except OSError as error:
            raise UserError(f"cannot read {file}: {error.strerror}") from None
        except XmlError as error:
            raise UserError(f"{file}: {error}") from None
        if root.tag != "annotations":
            raise UserError(f"{file} is no xml of CVAT: its root is <{root.tag}>, not <annotations>")
        if root.find("track") is not None:
            raise UserError(f"{file} is CVAT's xml for video: export the task as 'CVAT for images 1.1'")
        for label in root.iterfind("meta//labels/label"):
            name, kind = (label.findtext("name") or "").strip(), (label.findtext("type") or "").strip()
            if name and name not in names and kind not in ("tag", "points", "polyline", "skeleton"):
                names.append(name)
        for element in root.iterfind("image"):
            _read_image(element, file, builder)
    builder.add_unlabelled()
    return builder.finish(names or None, str(source.annotations[0]))


def _read_image(element: ElementTree.Element, file: Path, builder: SetBuilder) -> None:
    name = element.get("name", "").strip()
    # `default` is what CVAT calls what has no subset.
    split = split_of_word(element.get("subset", "")) or builder.source.tree.split_of(file)
    path = builder.find_image(name, file, split)
    if path is None:
        return
    try:
        sides = image_side(element.get("height")), image_side(element.get("width"))
    except ValueError:
        sides = 0, 0
    if not all(sides):
        sides = size_of(path)
    image = builder.add_image(path, *sides, split)
    groups: dict[tuple[str, str], list[np.ndarray]] = {}
    number = 0
    for shape in element:
        number += 1
        class_name, group = shape.get("label", "").strip(), shape.get("group_id", "0")
        label = f"image {name} {shape.tag} {number} {shown(class_name)}"
        if shape.tag in _OF_NO_EXTENT:
            builder.report.add(NOT_READ, file, image.image_id, f"{label} has none", "left out")
            continue
        try:
            if shape.tag == "polygon" and group != "0":
                groups.setdefault((class_name, group), []).append(_polygon(shape))
            else:
                _read_shape(shape, image, class_name, label, file, builder)
        except ValueError as error:
            builder.bad_object(image, file, f"{label}: {error}")
    for (class_name, group), polygons in groups.items():
        label = f"image {name} group {group} {shown(class_name)}"
        builder.add_object(image, class_name, box_around(polygons), file, label, polygons=polygons)


def _read_shape(shape: ElementTree.Element, image: ImageAnnotation, class_name, label, file, builder) -> None:
    """Adds the object of one shape; ValueError: it cannot be read."""
    if shape.tag == "box":
        left, top, right, bottom = (_number(shape, key) for key in ("xtl", "ytl", "xbr", "ybr"))
        if not (right > left and bottom > top):
            raise ValueError(f"xtl={left:g} ytl={top:g} xbr={right:g} ybr={bottom:g} has no extent")
        turned = real_number(shape.get("rotation", "0"))
        if not turned:
            builder.add_object(image, class_name, (left, top, right - left, bottom - top), file, label)
            return
        corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
        polygon = _turned(corners, ((left + right) / 2, (top + bottom) / 2), turned)
    elif shape.tag == "polygon":
        polygon = _polygon(shape)
    elif shape.tag == "ellipse":
        x, y, rx, ry = (_number(shape, key) for key in ("cx", "cy", "rx", "ry"))
        angles = 2 * math.pi * np.arange(_ELLIPSE_CORNERS) / _ELLIPSE_CORNERS
        outline = np.stack([x + rx * np.cos(angles), y + ry * np.sin(angles)], axis=-1)
        polygon = _turned(outline, (x, y), real_number(shape.get("rotation", "0")))
    elif shape.tag == "mask":
        _read_mask(shape, image, class_name, label, file, builder)
        return
    else:
        raise ValueError(f"<{shape.tag}> is no shape of CVAT")
    builder.add_object(image, class_name, box_around([polygon]), file, label, polygons=[polygon])


def _read_mask(shape: ElementTree.Element, image: ImageAnnotation, class_name, label, file, builder) -> None:
    """Adds the object of a mask: run lengths of its part of the image row by row, zeros first."""
    left, top, width, height = (whole_id(shape.get(key)) for key in ("left", "top", "width", "height"))
    counts = [whole_id(text) for text in shape.get("rle", "").split(",")]
    if (
        width * height > MAX_PIXELS
        or not 0 < width <= image.width
        or not 0 < height <= image.height
        or sum(counts) != width * height
    ):
        raise ValueError(f"its rle sums to {sum(counts)}, for {width}x{height} in {image.width}x{image.height}")
    inside = np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(height, width)
    rle = rle_of_part(inside, left, top, image.height, image.width)
    box = box_of_part(inside, left, top)
    builder.add_object(image, class_name, box, file, label, mask=rle, area=int(inside.sum()))


def _number(shape: ElementTree.Element, key: str) -> float:
    try:
        value = real_number(shape.get(key))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{key} is {shown(shape.get(key))}, and must be a number")
    return value


def _polygon(shape: ElementTree.Element) -> np.ndarray:
    """Points [n, 2] of `x,y;x,y;...`."""
    text = shape.get("points", "")
    try:
        points = np.array([[real_number(value) for value in pair.split(",")] for pair in text.split(";")], np.float64)
    except ValueError:
        points = np.zeros(0)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3 or not np.isfinite(points).all():
        raise ValueError(f"points {shown(text)} are no polygon of at least three x,y")
    return points


def _turned(points: np.ndarray, centre: tuple[float, float], degrees: float) -> np.ndarray:
    """Points [n, 2] turned clockwise about a point, as the image's y goes down."""
    angle = math.radians(degrees)
    x, y = (points - centre).T
    turned = [x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle)]
    return np.stack(turned, axis=-1) + centre
