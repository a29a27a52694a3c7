"""The columns of a CSV file of boxes, by the names that tools give them."""

from __future__ import annotations

import csv
import dataclasses
import re

_IMAGE = (
    "filename", "file_name", "file", "image", "image_name", "imagename", "image_path", "imagepath", "path", "filepath",
    "file_path", "image_id", "imageid", "img", "img_path", "image_file", "img_name",
)  # fmt: skip
_CLASS = (
    "class", "class_name", "classname", "label", "label_name", "labelname", "category", "category_name", "name",
    "object", "type", "label_text", "class_id", "label_id", "category_id",
)  # fmt: skip
_CORNERS = (
    ("xmin", "ymin", "xmax", "ymax"), ("x_min", "y_min", "x_max", "y_max"), ("x1", "y1", "x2", "y2"),
    ("left", "top", "right", "bottom"), ("xtl", "ytl", "xbr", "ybr"), ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2"),
    ("x0", "y0", "x1", "y1"),
)  # fmt: skip
_SIZES = (
    ("x", "y", "w", "h"), ("x", "y", "width", "height"), ("xmin", "ymin", "width", "height"),
    ("x_min", "y_min", "width", "height"), ("xmin", "ymin", "w", "h"), ("left", "top", "width", "height"),
    ("bbox_x", "bbox_y", "bbox_width", "bbox_height"), ("bbox_x", "bbox_y", "bbox_w", "bbox_h"),
    ("bbox_left", "bbox_top", "bbox_width", "bbox_height"), ("bb_x", "bb_y", "bb_w", "bb_h"),
)  # fmt: skip
_CENTRES = (
    ("x_center", "y_center", "width", "height"), ("xcenter", "ycenter", "width", "height"), ("cx", "cy", "w", "h"),
    ("x_center", "y_center", "w", "h"), ("center_x", "center_y", "width", "height"), ("cx", "cy", "width", "height"),
)  # fmt: skip
_TOGETHER = ("bbox", "box", "bounding_box")
_IMAGE_SIDES = (("image_height", "image_width"), ("img_height", "img_width"), ("height", "width"))
_CROWD = ("iscrowd", "is_crowd", "isgroupof", "is_group_of", "group_of", "crowd")
_SPLIT = ("split", "subset", "set", "partition")


@dataclasses.dataclass(frozen=True)
class Columns:
    """Where the columns of a file are, as places from 0; None or empty: there is none.

    Attributes:
        form: of a box: "corners", "sizes" (left upper corner and sides), "centres", or "together" (x, y, width and
            height in one cell).
        box: the four columns, or the one.
        image, label, height, width, crowd, split: columns; height and width are those of the image.
        fault: why the header is none, in words; None: it is one.
    """

    form: str = ""
    box: tuple[int, ...] = ()
    image: int | None = None
    label: int | None = None
    height: int | None = None
    width: int | None = None
    crowd: int | None = None
    split: int | None = None
    fault: str | None = None


def of_header(header: list[str]) -> Columns:
    """Finds the columns by the names in a header.

    Args:
        header: the cells of the first line.
    """
    place: dict[str, int] = {}
    for number, name in enumerate(header):
        place.setdefault(re.sub(r"[\s.-]+", "_", name.strip().lower()), number)

    def first(names) -> int | None:
        return next((place[name] for name in names if name in place), None)

    image = first(_IMAGE)
    if image is None:
        return Columns(fault="has no column for the image, such as 'filename'")
    form, box = "", ()
    for kind, groups in (("corners", _CORNERS), ("sizes", _SIZES), ("centres", _CENTRES)):
        names = next((group for group in groups if all(name in place for name in group)), None)
        if names:
            form, box = kind, tuple(place[name] for name in names)
            break
    if not form and (together := first(_TOGETHER)) is not None:
        form, box = "together", (together,)
    if not form:
        return Columns(fault="has no columns for boxes, such as 'xmin,ymin,xmax,ymax' or 'x,y,w,h'")
    label = first(name for name in _CLASS if name in place and place[name] != image)
    height, width = next(
        ((place[h], place[w]) for h, w in _IMAGE_SIDES if h in place and w in place and place[h] not in box),
        (None, None),
    )
    return Columns(form, box, image, label, height, width, first(_CROWD), first(_SPLIT))


def split_line(line: str) -> list[str]:
    """The cells of a line, divided by what divides it."""
    return next(csv.reader([line], delimiter=delimiter_of(line)), [])


def delimiter_of(line: str) -> str:
    """What divides the cells of a line: a tab, a semicolon or a comma, whichever there are most of."""
    return max(",;\t", key=line.count)
