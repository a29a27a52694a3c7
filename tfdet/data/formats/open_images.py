"""Open Images: a CSV of boxes as parts of the image, and one with the names of the classes.

Source: storage.googleapis.com/openimages/web/download_v7.html, "Data formats".
"""

from __future__ import annotations

import collections
from pathlib import Path

from tfdet.data.annotations import AnnotationSet, ImageAnnotation
from tfdet.data.formats.builder import SetBuilder, size_of, to_pixels
from tfdet.data.formats.coco_entries import NO_IMAGE
from tfdet.data.formats.source import Source, split_of_word
from tfdet.data.problems import ProblemReport
from tfdet.data.values import flag, real_number
from tfdet.errors import UserError

DESCRIPTIONS_HEADER = ["LabelName", "DisplayName"]
_BOX = ("XMin", "XMax", "YMin", "YMax")
_NEEDED = ("ImageID", "LabelName", *_BOX)
UNNAMED = "class without name"
_MOST_NAMED = 3


def is_boxes_header(header: list[str]) -> bool:
    """Whether the cells of a first line are those of Open Images' boxes."""
    return set(_NEEDED) <= {name.strip() for name in header}


def read(source: Source, report: ProblemReport) -> AnnotationSet:
    """Reads Open Images' boxes.

    Groups (`IsGroupOf`) are crowds. Classes are those that have a box, by their names. Of images that are not here, as
    most are where a part was downloaded, the boxes are counted.

    Args:
        source: with the CSV files of boxes as annotations; names of classes are found beside them.
        report: receives the findings.

    Raises:
        UserError: a file cannot be read.
    """
    from tfdet.data.formats.csv_files import rows_of

    names = _class_names(source)
    builder = SetBuilder(source, report)
    images: dict[str, ImageAnnotation | None] = {}
    unnamed: collections.Counter[str] = collections.Counter()
    for file in source.annotations:
        rows = rows_of(file, ",")
        header = [name.strip() for name in next(rows, (1, []))[1]]
        if not is_boxes_header(header):
            raise UserError(f"{file}: its header lacks {', '.join(n for n in _NEEDED if n not in header)}")
        place = {name: number for number, name in enumerate(header)}
        split = next(filter(None, map(split_of_word, file.stem.split("-"))), "") or source.tree.split_of(file)
        absent: collections.Counter[str] = collections.Counter()
        for line, cells in rows:
            if len(cells) < len(header):
                builder.bad_object(None, file, f"line {line} has {len(cells)} cells, the header {len(header)}")
                continue
            image_id = cells[place["ImageID"]].strip()
            if image_id not in images:
                path = source.finder.find(image_id, file.parent, split, any_ending=True)
                images[image_id] = None if path is None else builder.add_image(path, *size_of(path), split)
            image = images[image_id]
            if image is None:
                absent[image_id] += 1
                continue
            code = cells[place["LabelName"]].strip()
            if code not in names and code.startswith("/"):
                unnamed[code] += 1
            _object(builder, image, names.get(code, code), cells, place, file, line)
        if absent:
            shown = ", ".join(list(absent)[:_MOST_NAMED])
            reason = f"{absent.total()} boxes of {len(absent)} images that are not here, such as {shown}"
            report.add(NO_IMAGE, file, None, reason, "left out", is_note=True)
    for code, count in unnamed.items():
        reason = f"no file of class names beside it has {code}, of {count} boxes"
        report.add(UNNAMED, source.annotations[0], None, reason, f"called {code}")
    builder.add_unlabelled()
    return builder.finish(what=str(source.annotations[0]))


def _object(builder: SetBuilder, image: ImageAnnotation, name: str, cells, place, file: Path, line: int) -> None:
    label = f"line {line}"
    try:
        left, right, top, bottom = (real_number(cells[place[key]]) for key in _BOX)
        group = place.get("IsGroupOf")
        is_crowd = group is not None and flag_of(cells[group])
    except ValueError as error:
        builder.bad_object(image, file, f"{label}: {error}")
        return
    if not (0 <= left < right <= 1.001 and 0 <= top < bottom <= 1.001):
        values = f"XMin={left:g} XMax={right:g} YMin={top:g} YMax={bottom:g}"
        builder.bad_object(image, file, f"{label}: {values} is no box within 0 to 1")
        return
    if not image.width:
        return  # its conversion names it
    (x1, x2), (y1, y2) = to_pixels((left, right), image.width), to_pixels((top, bottom), image.height)
    box = (x1, y1, x2 - x1, y2 - y1)
    builder.add_object(image, name, box, file, label, is_crowd=is_crowd, may_be_fractions=False)


def flag_of(cell: str) -> bool:
    """A flag of Open Images: 1, 0, or -1 for not known, which is read as 0."""
    return False if cell.strip() == "-1" else flag(cell)


def _class_names(source: Source) -> dict[str, str]:
    """Display names by code, of all files of class names beside the boxes; with a header or without."""
    from tfdet.data.formats.csv_files import rows_of

    names: dict[str, str] = {}
    for path in source.tree.others:
        if path.suffix.lower() != ".csv" or path in source.annotations:
            continue
        if "class" not in path.name.lower() and "description" not in path.name.lower():
            continue
        for _, cells in rows_of(path, ","):
            if len(cells) == 2 and cells != DESCRIPTIONS_HEADER:
                names.setdefault(cells[0].strip(), cells[1].strip())
    return names
