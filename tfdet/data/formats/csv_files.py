"""CSV with a header, one object a line, as spreadsheets, Roboflow and the Object Detection API's tutorials write it."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from pathlib import Path

from tfdet.data.annotations import AnnotationSet, ImageAnnotation
from tfdet.data.formats.builder import SetBuilder, size_of, to_pixels
from tfdet.data.formats.coco_entries import UNKNOWN_FLAG, UNUSABLE_ANNOTATION
from tfdet.data.formats.columns import Columns, delimiter_of, of_header
from tfdet.data.formats.source import Source, split_of_word
from tfdet.data.problems import ProblemReport
from tfdet.data.values import flag, image_side, real_number, shown
from tfdet.errors import UserError
from tfdet.files import read_regular
from tfdet.text import decode

UNITS = "units of the boxes"
ONE_CLASS = "no column for the class"
THE_CLASS = "object"
"""What objects are called where the file has no column for it."""
_LARGEST_FRACTION = 1.001  # a box to the border, rounded


def read(source: Source, report: ProblemReport) -> AnnotationSet:
    """Reads CSV files; see `columns.of_header` for the columns.

    Corners are continuous: a box is xmax - xmin wide. A line with an empty box is an image without objects.

    Args:
        source: with the files as annotations.
        report: receives the findings, each with its line.

    Raises:
        UserError: a file cannot be read, or its header has no columns for images and boxes.
    """
    builder = SetBuilder(source, report)
    images: dict[Path, ImageAnnotation] = {}
    for file in source.annotations:
        _File(file, builder, images).read()
    builder.add_unlabelled()
    return builder.finish(what=str(source.annotations[0]))


def rows_of(file: Path, delimiter: str = "") -> Iterator[tuple[int, list[str]]]:
    """The lines of a CSV file with their numbers from 1, the header first; blank ones are passed over.

    Args:
        file: in UTF-8, or with a byte order mark.
        delimiter: of cells; empty: what divides the first line.

    Raises:
        UserError: it cannot be read.
    """
    try:
        text = decode(read_regular(file))
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: byte {error.start} is not of {error.encoding.upper()}; save it as UTF-8") from None
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from None
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = delimiter or delimiter_of(first)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise UserError(f"{file} line {reader.line_num}: {error}") from None


class _File:
    """One file: its lines become objects of `images`, by their files."""

    def __init__(self, file: Path, builder: SetBuilder, images: dict[Path, ImageAnnotation]):
        self._file, self._builder, self._images = file, builder, images
        self._split = split_of_word(file.stem.split("_")[0]) or builder.source.tree.split_of(file)
        self._missing: dict[str, int] = {}

    def read(self) -> None:
        rows = list(rows_of(self._file))
        if not rows:
            raise UserError(f"{self._file} is empty")
        columns = of_header(rows[0][1])
        if columns.fault:
            raise UserError(f"{self._file}: the header {shown(','.join(rows[0][1]))} {columns.fault}")
        boxes = [(line, cells, self._numbers(line, cells, columns)) for line, cells in rows[1:]]
        fractions = self._are_fractions([box for _, _, box in boxes if box])
        for line, cells, box in boxes:
            self._row(line, cells, columns, box, fractions)
        report = self._builder.report
        for name, count in self._missing.items():
            finder = self._builder.source.finder
            reason = f"{finder.why_not(name, self._file.parent, self._split)}; {count} lines"
            report.add("annotation without image", self._file, None, reason, "left out")
        if columns.label is None:
            reason = f"the header has none, so all objects are called {THE_CLASS!r}"
            report.add(ONE_CLASS, self._file, None, reason, "one class", is_note=True)

    def _numbers(self, line: int, cells: list[str], columns: Columns) -> list[float] | None:
        """The four numbers of a line; [] for an empty box, None, and a finding, where they are none."""
        texts = [cells[place].strip() if place < len(cells) else "" for place in columns.box]
        if columns.form == "together":
            texts = texts[0].strip("[]() ").replace(";", ",").replace(",", " ").split()
        if not any(texts):
            return []
        try:
            numbers = [real_number(text) for text in texts]
            if len(numbers) != 4 or not all(map(math.isfinite, numbers)):
                raise ValueError(f"{shown(' '.join(texts))} is no box of four numbers")
            return numbers
        except ValueError as error:
            self._builder.bad_object(None, self._file, f"line {line}: {error}")
            return None

    def _are_fractions(self, boxes: list[list[float]]) -> bool:
        asked, largest = self._builder.source.coordinates, max((max(map(abs, box)) for box in boxes), default=0.0)
        fractions = asked == "fractions" or (asked == "auto" and 0 < largest <= _LARGEST_FRACTION)
        if boxes:
            what = "parts of the image, 0 to 1" if fractions else "pixels"
            other = "pixels" if fractions else "fractions"
            reason = f"the largest of {len(boxes)} boxes is {largest:g}"
            action = f"read as {what}; --coordinates={other} reads the other"
            self._builder.report.add(UNITS, self._file, None, reason, action, is_note=True)
        return fractions

    def _row(self, line: int, cells: list[str], columns: Columns, box: list[float] | None, fractions: bool) -> None:
        def cell(place: int | None) -> str:
            return cells[place].strip() if place is not None and place < len(cells) else ""

        name = cell(columns.image)
        builder, label = self._builder, f"line {line}"
        if not name:
            builder.report.add(UNUSABLE_ANNOTATION, self._file, None, f"{label} names no image", "left out")
            return
        split = split_of_word(cell(columns.split)) or self._split
        path = builder.source.finder.find(name, self._file.parent, split)
        if path is None:
            self._missing[name] = self._missing.get(name, 0) + 1
            return
        image = self._images.get(path)
        if image is None:
            image = self._images[path] = builder.add_image(path, *self._size(path, columns, cell, fractions), split)
        if not box:
            return
        if fractions:
            if not image.width:
                return  # its conversion names it
            sides = [image.width, image.height, image.width, image.height]
            box = [to_pixels([value], side)[0] for value, side in zip(box, sides, strict=True)]
        x, y, width, height = box
        if columns.form == "corners":
            width, height = width - x, height - y
        elif columns.form == "centres":
            x, y = x - width / 2, y - height / 2
        if not (width > 0 and height > 0):
            shown_box = " ".join(f"{value:g}" for value in box)
            builder.bad_object(image, self._file, f"{label}: {columns.form} {shown_box} have no extent")
            return
        try:
            is_crowd = flag(cell(columns.crowd))
        except ValueError as error:
            builder.report.add(UNKNOWN_FLAG, self._file, image.image_id, f"{label}: {error}", "read as 0")
            is_crowd = False
        class_name = cell(columns.label) if columns.label is not None else THE_CLASS
        builder.add_object(
            image, class_name, (x, y, width, height), self._file, label, is_crowd=is_crowd,
            may_be_fractions=not fractions,
        )  # fmt: skip

    def _size(self, path: Path, columns: Columns, cell, fractions: bool) -> tuple[int, int]:
        """Height and width that the file gives; of the image itself where boxes are parts of it."""
        if fractions:
            return size_of(path)
        try:
            return image_side(cell(columns.height) or None), image_side(cell(columns.width) or None)
        except ValueError:
            return 0, 0
