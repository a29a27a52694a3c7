"""Files of what was found on many images: COCO's json, YOLO's text files, Pascal VOC's XML, CSV."""

from __future__ import annotations

import contextlib
import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from tfdet.errors import UserError
from tfdet.files import replacing, write_json
from tfdet.predict.formats import CSV_COLUMNS, csv_rows, json_objects, voc_xml, yolo_text
from tfdet.predict.found import Found, Labels
from tfdet.text import printable

JSON_FILE = "detections.json"
CSV_FILE = "detections.csv"
YOLO_FOLDER, VOC_FOLDER, YAML_FILE = "labels", "annotations", "data.yaml"


class Writer(Protocol):
    """Writes what was found, image by image."""

    def add(self, found: Found, number: int, name: str, picture: str | None) -> None:
        """One image.

        Args:
            found: what was found.
            number: of the image, from 1, counting those that could not be read.
            name: its file's without the ending, unlike that of any other image.
            picture: the annotated one's file name; None: none was written.
        """

    def finish(self) -> str:
        """Behind the last image; returns what was written, within the folder."""


class CocoWriter:
    """One json file in COCO's format, with `score`, `class_name` and `file_name` added to each annotation.

    It holds `images` (id, file_name, width, height, picture, and of a video frame and time), `categories` and
    `annotations`: boxes `[x, y, width, height]` in pixels of the image turned upright; of a detector with masks also
    `segmentation`, COCO's compressed run lengths.

    Args:
        output: the folder.
        labels: the model's names.
    """

    def __init__(self, output: str, labels: Labels):
        self._path, self._labels = os.path.join(output, JSON_FILE), labels
        self._images: list[dict] = []
        self._annotations: list[dict] = []
        self._kinds = set(range(len(labels.classes)))

    def add(self, found: Found, number: int, name: str, picture: str | None) -> None:
        """One image."""
        height, width = found.image.shape[:2]
        more: dict[str, Any] = {"picture": picture} if picture else {}
        if found.frame is not None:
            more |= {"frame": found.frame, "time": found.time}
        self._images.append({"id": number, "file_name": found.path, "width": width, "height": height, **more})
        self._kinds.update(int(kind) for kind in found.class_ids)
        for entry in json_objects(found):
            place = {"id": len(self._annotations) + 1, "image_id": number, "file_name": found.path}
            self._annotations.append({**place, **entry})

    def finish(self) -> str:
        """Writes the file."""
        labels = self._labels
        categories = [{"id": labels.category_id(kind), "name": labels.name(kind)} for kind in sorted(self._kinds)]
        content = {"images": self._images, "categories": categories, "annotations": self._annotations}
        write_json(content, self._path)
        return JSON_FILE


class YoloWriter:
    """A text file an image in `labels`, empty where nothing was found, and `data.yaml` with the names of the classes.

    Args:
        output: the folder.
        labels: the model's names.
        scores: the score at the end of each line.
    """

    def __init__(self, output: str, labels: Labels, scores: bool = False):
        self._folder, self._output, self._scores = Path(output) / YOLO_FOLDER, Path(output), scores
        self._labels, self._kinds = labels, len(labels.classes)

    def add(self, found: Found, number: int, name: str, picture: str | None) -> None:
        """One image."""
        self._kinds = max(self._kinds, int(found.class_ids.max(initial=-1)) + 1)
        with replacing(self._folder / f"{name}.txt") as temporary:
            temporary.write_text(yolo_text(found, self._scores), encoding="utf-8")

    def finish(self) -> str:
        """Writes the names."""
        names = [f"  {kind}: {_yaml_text(self._labels.name(kind))}\n" for kind in range(self._kinds)]
        with replacing(self._output / YAML_FILE) as temporary:
            text = f"nc: {self._kinds}\nnames:\n{''.join(names)}" if names else "nc: 0\nnames: {}\n"
            temporary.write_text(text, encoding="utf-8")
        return f"{YOLO_FOLDER}{os.sep}"


class VocWriter:
    """An XML file an image in `annotations`.

    Args:
        output: the folder.
    """

    def __init__(self, output: str):
        self._folder = Path(output) / VOC_FOLDER

    def add(self, found: Found, number: int, name: str, picture: str | None) -> None:
        """One image."""
        file = name if found.frame is not None else os.path.basename(found.path or name)
        with replacing(self._folder / f"{name}.xml") as temporary:
            temporary.write_text(voc_xml(found, file), encoding="utf-8", errors="backslashreplace")

    def finish(self) -> str:
        """Nothing is left to write."""
        return f"{VOC_FOLDER}{os.sep}"


class CsvWriter:
    """One table, a row an object. It gets its name at the end.

    Args:
        output: the folder.
        open_files: closes the file where the work is given up.
    """

    def __init__(self, output: str, open_files: contextlib.ExitStack):
        self._path = os.path.join(output, CSV_FILE)
        self._stack = open_files.enter_context(contextlib.ExitStack())
        temporary = self._stack.enter_context(replacing(self._path))
        file = open(temporary, "w", newline="", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
        self._file = self._stack.enter_context(file)
        self._rows = csv.writer(self._file)
        self._rows.writerow(CSV_COLUMNS)

    def add(self, found: Found, number: int, name: str, picture: str | None) -> None:
        """One image."""
        self._rows.writerows(csv_rows(found))

    def finish(self) -> str:
        """Gives the file its name."""
        self._stack.close()
        return CSV_FILE


FORMATS = ("coco", "yolo", "voc", "csv")


def check_formats(names: Sequence[str]) -> list[str]:
    """Names of formats, each once.

    Raises:
        UserError: there is no such format, or none is named.
    """
    unknown = [name for name in names if name not in FORMATS]
    if unknown or not names:
        raise UserError(f"no format {', '.join(map(repr, unknown)) or 'is named'}: give some of {', '.join(FORMATS)}")
    return list(dict.fromkeys(names))


def make_writers(
    formats: Sequence[str], output: str, labels: Labels, open_files: contextlib.ExitStack, yolo_scores: bool = False
) -> list[Writer]:
    """The writers of some formats.

    Args:
        formats: of `FORMATS`.
        output: the folder to write to.
        labels: the model's names.
        open_files: what is written in one piece is given up when it is closed with an exception.
        yolo_scores: as in `YoloWriter`.

    Raises:
        UserError: there is no such format, or a file cannot be written.
    """
    made: dict[str, Writer] = {}
    for name in check_formats(formats):
        if name == "coco":
            made[name] = CocoWriter(output, labels)
        elif name == "yolo":
            made[name] = YoloWriter(output, labels, yolo_scores)
        elif name == "voc":
            made[name] = VocWriter(output)
        else:
            made[name] = CsvWriter(output, open_files)
    return list(made.values())


def _yaml_text(text: str) -> str:
    """A text as YAML and JSON both have it."""
    import json

    return json.dumps(printable(text), ensure_ascii=False)
