"""Readers of annotations: each makes an `AnnotationSet` of what a `Source` holds, and tells a report what is wrong."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfdet.data.annotations import AnnotationSet
    from tfdet.data.formats.source import Source
    from tfdet.data.problems import ProblemReport

FORMATS = {
    "coco": ("COCO json", "tfdet.data.formats.coco"),
    "cvat": ("CVAT for images 1.1 (xml)", "tfdet.data.formats.cvat"),
    "csv": ("CSV with a header", "tfdet.data.formats.csv_files"),
    "labelme": ("LabelMe json", "tfdet.data.formats.labelme"),
    "lvis": ("LVIS json", "tfdet.data.formats.coco"),
    "open_images": ("Open Images csv", "tfdet.data.formats.open_images"),
    "voc": ("Pascal VOC xml", "tfdet.data.formats.voc"),
    "yolo": ("YOLO txt", "tfdet.data.formats.yolo"),
    "records": ("TFRecords", ""),
}
"""Title and module of every format by its name; records are no annotations, and are read by `scan`."""


def title(name: str) -> str:
    """What people call a format."""
    return FORMATS[name][0]


def reader(name: str) -> Callable[[Source, ProblemReport], AnnotationSet]:
    """The function that reads a format."""
    return importlib.import_module(FORMATS[name][1]).read
