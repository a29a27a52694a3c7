"""The entries of COCO annotations, one by one: images, annotations and categories, each value by its rule.

Nothing here ends a conversion: what an entry lacks is told to the report, and the entry is left out. No TensorFlow.
"""

from __future__ import annotations

import math
from typing import Any

from tfdet.data.annotations import ImageAnnotation, ObjectAnnotation
from tfdet.data.masks import MaskError, read_segmentation
from tfdet.data.problems import ProblemReport
from tfdet.data.suspicious import OFF_BY_ONE, off_by_one
from tfdet.data.tiny_boxes import TinyBoxes
from tfdet.data.values import flag, image_number, image_side, real_number, shown, whole_id

UNUSABLE_IMAGE = "unusable image entry"
SIZE_NOT_READ = "image size not read"
NAME_AS_ID = "image id replaced"
USED_TWICE = "duplicate image id"
NO_IMAGE = "annotation without image"
UNUSABLE_ANNOTATION = "unusable annotation entry"
UNKNOWN_CATEGORY = "unknown category"
UNREADABLE_BOX = "degenerate box"
UNKNOWN_FLAG = "unknown flag"
IGNORE_FLAG = "flag not read"
AREA_REPLACED = "area replaced"
BOX_FROM_MASK = "box from the mask"
CORNERS = "boxes look like corners"

_INF = math.inf
_REAL = frozenset((int, float))
_LARGEST_AREA = 1e15  # no image has so many pixels
_LEAST_OVER = 0.1  # of the boxes that go over the border, for all to be taken for corners


def read_images(entries: list, file: str, report: ProblemReport, need_name: bool = True) -> dict[int, ImageAnnotation]:
    """Reads the images of one file.

    An id that stands for two different files in it makes both unusable: nobody knows whose the boxes are.

    Args:
        entries: the list `images`.
        file: name of the annotation file, for the findings.
        report: receives the findings.
        need_name: leave out images without `file_name`.

    Returns:
        By number, in order; paths are not set.
    """
    images: dict[int, ImageAnnotation] = {}
    ambiguous: dict[int, list[str]] = {}
    for entry in entries:
        image = _read_image(entry, file, report, need_name)
        if image is None:
            continue
        known = images.get(image.image_id)
        if known is None:
            images[image.image_id] = image
        elif known.file_name == image.file_name:
            reason = f"{file} lists it twice under id {image.image_id}"
            report.add(USED_TWICE, image.file_name, image.image_id, reason, "used once")
        else:
            ambiguous.setdefault(image.image_id, [known.file_name]).append(image.file_name)
    for image_id, names in ambiguous.items():
        del images[image_id]
        for name in names:
            others = ", ".join(other for other in names if other != name)
            reason = f"{file} gives the id {image_id} to {others} too, so it is not known whose boxes are whose"
            report.add(USED_TWICE, name, image_id, reason, "both images and their boxes left out")
    return images


def _read_image(entry: Any, file: str, report: ProblemReport, need_name: bool) -> ImageAnnotation | None:
    if not isinstance(entry, dict):
        report.add(UNUSABLE_IMAGE, file, None, f"{shown(entry)} is no object with 'id' and 'file_name'", "left out")
        return None
    name = entry.get("file_name")
    if name is None and is_text(entry.get("coco_url")):  # LVIS: images of COCO by their addresses
        name = entry["coco_url"].rpartition("/")[2]
    if not need_name and not is_text(name):
        name = ""
    elif not is_text(name) or "\0" in name or (need_name and not name):
        label = shown(entry["id"]) if "id" in entry else "without id"
        reason = f"image {label} has the file_name {shown(name)}, which names no file"
        report.add(UNUSABLE_IMAGE, file, None, reason, "left out")
        return None
    try:
        image_id, is_name = image_number(entry.get("id"))
    except ValueError as error:
        reason = f"its id {error}" if "id" in entry else "it has no id"
        report.add(UNUSABLE_IMAGE, name or file, None, f"{reason}; an id is 0 to 2^63 - 1, or a name", "left out")
        return None
    if is_name:
        reason = f"the id {shown(entry['id'])} is a name"
        report.add(NAME_AS_ID, name, image_id, reason, f"numbered {image_id}", is_note=True)
    try:
        height, width = image_side(entry.get("height")), image_side(entry.get("width"))
    except ValueError as error:
        height = width = 0
        reason = f"height {shown(entry.get('height'))} and width {shown(entry.get('width'))}: {error}"
        report.add(SIZE_NOT_READ, name or file, image_id, reason, "taken from the image itself")
    return ImageAnnotation(image_id, name, None, height, width)


def is_text(value: Any) -> bool:
    """Whether a value is text that a file can be called: json can hold halves of a surrogate pair, too.

    Bytes that are no UTF-8 are text as `os.fsdecode` has them.
    """
    try:
        return isinstance(value, str) and value.encode("utf-8", "surrogateescape") is not None
    except UnicodeEncodeError:
        return False


class AnnotationReader:
    """Reads the annotations of one file into the objects of its images.

    Args:
        images: of the file, by number; objects are added to them.
        categories: the known category ids.
        file: name of the annotation file, for the findings.
        report: receives the findings.
    """

    def __init__(self, images: dict[int, ImageAnnotation], categories, file: str, report: ProblemReport):
        self._images, self._categories, self._file, self._report = images, categories, file, report
        self._tiny, self._num_over = TinyBoxes(), 0
        self._can_be_corners = True
        self._unknown: set[int] = set()
        self._first_over = ""

    def read(self, entries: list) -> None:
        """Reads the list `annotations`, and says what its boxes have in common."""
        images, categories = self._images, self._categories
        for entry in entries:
            if type(entry) is not dict:
                reason = f"{shown(entry)} is no object with 'image_id', 'category_id' and 'bbox'"
                self._report.add(UNUSABLE_ANNOTATION, self._file, None, reason, "left out")
                continue
            image_id, category_id = entry.get("image_id"), entry.get("category_id")
            image = images.get(image_id) if type(image_id) is int else self._image_of(image_id)
            if image is None:
                self._no_image(entry)
                continue
            if type(category_id) is not int or category_id not in categories:
                category_id = self._category_of(entry, image)
                if category_id is None:
                    continue
            item = self._object(entry, category_id, image)
            if item is not None:
                image.objects.append(item)
        self._say_what_is_common()

    def _image_of(self, image_id: Any) -> ImageAnnotation | None:
        try:
            return self._images.get(image_number(image_id)[0])
        except ValueError:
            return None

    def _no_image(self, entry: dict) -> None:
        reason = f"{_label(entry)} belongs to image id {shown(entry.get('image_id'))}, which this file does not list"
        self._report.add(NO_IMAGE, self._file, None, f"{reason}, or not once", "left out")

    def _category_of(self, entry: dict, image: ImageAnnotation) -> int | None:
        value = entry.get("category_id")
        try:
            if whole_id(value) in self._categories:
                return whole_id(value)
            self._unknown.add(whole_id(value))
        except ValueError:
            pass  # named below
        reason = f"has category id {shown(value)}, which {self._file} does not define"
        self._tell(UNKNOWN_CATEGORY, entry, image, reason, "left out")
        return None

    def _object(self, entry: dict, category_id: int, image: ImageAnnotation) -> ObjectAnnotation | None:
        crowd = entry.get("iscrowd", 0)
        if type(crowd) is not int or not 0 <= crowd <= 1:
            crowd = self._flag(entry, "iscrowd", image)
        if "ignore" in entry or "difficult" in entry:
            self._say_what_is_ignored(entry, image)
        segmentation, box = entry.get("segmentation"), entry.get("bbox")
        numbers = _four_numbers(box)
        if numbers is None or not _is_box(*numbers):
            if segmentation and (found := _box_of_mask(segmentation, image)) is not None:
                action = "x={:g} y={:g} width={:g} height={:g} used".format(*found)
                self._tell(BOX_FROM_MASK, entry, image, f"has bbox {shown(box)}, its mask has a real one", action)
                numbers = found
            elif numbers is None:
                self._tell(UNREADABLE_BOX, entry, image, f"has bbox {shown(box)}; expected four numbers", "left out")
                return None
        x, y, width, height = numbers
        area = entry.get("area", _ABSENT)
        if type(area) not in _REAL or not 0 < area < _LARGEST_AREA:
            area = self._area(entry, width * height, image)
        self._survey(entry, x, y, width, height, image)
        return ObjectAnnotation(
            x, y, width, height, category_id, float(area), bool(crowd), segmentation, entry.get("id")
        )  # fmt: skip

    def _tell(self, kind: str, entry: dict, image: ImageAnnotation, reason: str, action: str) -> None:
        self._report.add(kind, image.file_name or self._file, image.image_id, f"{_label(entry)} {reason}", action)

    def _flag(self, entry: dict, key: str, image: ImageAnnotation) -> bool:
        try:
            return flag(entry.get(key))
        except ValueError as error:
            self._tell(UNKNOWN_FLAG, entry, image, f"has {key} {error}", "read as 0")
            return False

    def _say_what_is_ignored(self, entry: dict, image: ImageAnnotation) -> None:
        for key in ("ignore", "difficult"):
            if self._flag(entry, key, image):
                reason = f"has '{key}', which is not read, as in COCO's own evaluation"
                action = "trained on and measured like any other; an ignore region needs iscrowd 1"
                self._tell(IGNORE_FLAG, entry, image, reason, action)

    def _area(self, entry: dict, extent: float, image: ImageAnnotation) -> float:
        """The area where the annotation gives no positive number; that of the box, named when the file says another."""
        value = entry.get("area", _ABSENT)
        if value is _ABSENT:
            return extent
        try:
            area = real_number(value)
        except ValueError:
            area = math.nan
        if 0 < area < _LARGEST_AREA:
            return area  # a number as text
        if not 0 < extent < math.inf:
            return area if area == 0 else extent  # there is no real box either; the verdict on it names it
        self._tell(AREA_REPLACED, entry, image, f"has area {shown(value)}, its box {extent:g}", "that of the box used")
        return extent

    def _survey(self, entry: dict, x, y, width, height, image: ImageAnnotation) -> None:
        """Counts what the boxes of a file that are written in another way have in common."""
        if self._tiny.add(width < 1 and height < 1):
            self._tiny.first = _place(entry, image)
        if self._can_be_corners:
            if width < x or height < y or (image.width and (width > image.width + 1 or height > image.height + 1)):
                self._can_be_corners = False
            elif image.width and (x + width > image.width + 1 or y + height > image.height + 1):
                self._num_over += 1
                self._first_over = self._first_over or _place(entry, image)

    def _say_what_is_common(self) -> None:
        if self._unknown:
            used = {item.category_id for image in self._images.values() for item in image.objects}
            if reason := off_by_one(used | self._unknown, self._categories):
                self._report.add(OFF_BY_ONE, self._file, None, reason, "such objects left out")
        self._tiny.tell(self._file, self._report, "are they normalised, 0 to 1? Boxes are in pixels")
        count, over = self._tiny.num_boxes, self._num_over
        if self._can_be_corners and over and over >= _LEAST_OVER * count:
            reason = (
                f"{over} of {count} boxes go over the border ({self._first_over}), and none would if they were "
                "[x1, y1, x2, y2]: are they corners? Boxes are [x, y, width, height]"
            )
            self._report.add(CORNERS, self._file, None, reason, "kept as they are")


_ABSENT = object()


def _label(entry: dict) -> str:
    return f"annotation {shown(entry['id'])}" if "id" in entry else "annotation without id"


def _place(entry: dict, image: ImageAnnotation) -> str:
    return f"{_label(entry)} of {image.file_name}: bbox {entry.get('bbox')}"


def _four_numbers(box: Any) -> tuple[float, ...] | None:
    """The numbers of a box, maybe not finite ones, which the verdict on it names; None where it is not four numbers.

    Python's callers may have an array for a list.
    """
    try:
        if type(box) is list and _REAL.issuperset(map(type, box)):
            numbers = tuple(map(float, box))
        else:
            numbers = () if isinstance(box, (str, bytes, dict)) else tuple(map(real_number, box))
    except OverflowError:  # an integer of hundreds of digits
        numbers = tuple(map(real_number, box))
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == 4 else None


def _is_box(x: float, y: float, width: float, height: float) -> bool:
    return 0 < width < _INF and 0 < height < _INF and -_INF < x < _INF and -_INF < y < _INF


def _box_of_mask(segmentation: Any, image: ImageAnnotation) -> tuple[float, float, float, float] | None:
    """The box around a mask: x, y, width, height; None where the mask is none, or has no extent."""
    height, width = image.height, image.width
    if isinstance(segmentation, dict) and not height:
        try:
            height, width = map(image_side, segmentation.get("size"))
        except (TypeError, ValueError):
            return None
    try:
        # Where the size is not known the points may lie anywhere; the size of the image itself is looked at later.
        checked = read_segmentation(segmentation, height or 2**31, width or 2**31)
    except MaskError:
        return None
    if checked is None:
        return None
    left, top, right, bottom = checked.extent
    return (left, top, right - left, bottom - top) if right > left and bottom > top else None
