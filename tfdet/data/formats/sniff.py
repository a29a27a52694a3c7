"""What kind of annotation a file is, by its first bytes or its keys; the readers check the rest."""

from __future__ import annotations

import json
import mmap
import os
import re
from pathlib import Path

from tfdet.data.formats.columns import of_header, split_line
from tfdet.data.formats.open_images import DESCRIPTIONS_HEADER, is_boxes_header
from tfdet.data.listing import ending
from tfdet.data.values import shown
from tfdet.files import irregular
from tfdet.text import decode

COCO, LVIS, LABELME, VOC, CVAT, YOLO, CSV, OPEN_IMAGES, RECORDS = (
    "coco", "lvis", "labelme", "voc", "cvat", "yolo", "csv", "open_images", "records",
)  # fmt: skip
HELPER = "of a format"
"""A file that belongs to a format and holds no boxes: a list, names of classes, data.yaml."""
_HEAD = 1 << 16
_LINES = 5  # of a text file that are looked at
_LABEL = re.compile(r"\s*\d+(?:\.0*)?(?:\s+-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?){4,}\s*")
_JSON_ENDS, _RECORD_ENDS = (".json",), (".tfrecord", ".tfrecords", ".record", ".records")
_SHARD = re.compile(r".*-\d{5}-of-\d{5}")


class Kind:
    """What a file is.

    Attributes:
        format: the name of the format that reads it, `HELPER`, or empty.
        words: what it looks like, where no format reads it.
    """

    def __init__(self, format: str, words: str = ""):
        self.format, self.words = format, words


def kind_of(path: Path) -> Kind | None:
    """What a file is; None for one that has nothing to do with annotations.

    Args:
        path: a file that is no image.
    """
    own = ending(path.name)
    try:
        if irregular(os.stat(path).st_mode) is not None:
            return None
        if own in _RECORD_ENDS or _SHARD.fullmatch(path.name):
            return Kind(RECORDS)
        if own in _JSON_ENDS:
            return _json(path)
        reader = {".xml": _xml, ".csv": _csv, ".tsv": _csv, ".txt": _txt, ".yaml": _yaml, ".yml": _yaml}.get(own)
        return None if reader is None else reader(_head(path))
    except OSError as error:
        return Kind("", f"a file that cannot be read ({error.strerror})")


def _head(path: Path) -> str:
    with open(path, "rb") as file:
        content = file.read(_HEAD)
    # A character may be cut in two at the end.
    return decode(content, errors="replace")


_COCO_RESULT = re.compile(rb'\[\s*\{[^{}]*"score"')
_CREATE_ML = re.compile(rb'\[\s*\{\s*"(?:image|imagefilename|annotations)"')


def _json(path: Path) -> Kind:
    if not os.path.getsize(path):
        return Kind("", "an empty file")
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        content: bytes | mmap.mmap = mapped
        encoding = json.detect_encoding(mapped[:4])
        if not encoding.startswith("utf-8"):
            content = mapped[:].decode(encoding, "replace").encode()

        def has(key: str) -> bool:
            return re.search(rb'"' + key.encode() + rb'"\s*:', content) is not None

        start = content[:2000]
        if has("shapes") and (has("imagePath") or has("imageData")):
            return Kind(LABELME)
        if has("images") and has("categories"):
            if not has("annotations"):
                return Kind(HELPER)  # a list of images to detect on
            return Kind(LVIS if has("neg_category_ids") or has("frequency") else COCO)
        if has("images") and has("annotations"):
            return Kind(HELPER if has("caption") else COCO)  # what it lacks is said by its reader
        if has("format") and has("category_ids") and has("shards"):
            return Kind("", "the manifest of a data set of tfdet")
        if _COCO_RESULT.match(start.lstrip()):
            return Kind("", "results of a detector, as COCO has them")
        if has("_via_img_metadata") or has("shape_attributes"):
            return Kind("", "VGG Image Annotator's json")
        if _CREATE_ML.match(start.lstrip()) and has("coordinates"):
            return Kind("", "CreateML's json")
        if has("classTitle") and has("exterior"):
            return Kind("", "Supervisely's json")
        if has("rectanglelabels") or has("completed_by"):
            return Kind("", "Label Studio's json")
        if has("items") and has("label_id"):
            return Kind("", "Datumaro's json")
        keys = re.findall(rb'"([\w ]{1,30})"\s*:', start)[:4]
        return Kind("", f"json with {', '.join(shown(key.decode()) for key in keys)}" if keys else "other json")


def _xml(text: str) -> Kind:
    match = re.search(
        r"<([A-Za-z_][\w.:-]*)[\s/>]", re.sub(r"<\?.*?\?>|<!--.*?-->|<!DOCTYPE[^>]*>", "", text, flags=re.S)
    )
    root = match[1].rpartition(":")[2].lower() if match else ""
    if root == "annotation":
        return Kind(VOC)
    if root == "annotations":
        if re.search(r"<track\s", text) and not re.search(r"<image\s", text):
            return Kind("", "CVAT for video; export it as 'CVAT for images 1.1'")
        return Kind(CVAT)
    return Kind("", f"xml with the root <{root}>" if root else "no xml")


def _csv(text: str) -> Kind:
    line = next((line for line in text.splitlines() if line.strip()), "")
    header = split_line(line)
    if is_boxes_header(header):
        return Kind(OPEN_IMAGES)
    if [name.strip() for name in header] == DESCRIPTIONS_HEADER or re.match(r"/[mgt]/", line):
        return Kind(HELPER)
    columns = of_header(header)
    if columns.fault is None:
        return Kind(CSV)
    if any(re.fullmatch(r"\s*-?\d+(\.\d+)?\s*", cell) for cell in header):
        return Kind("", f"CSV without a header ({shown(line[:50])}): name its columns in a first line")
    return Kind("", f"CSV whose header {columns.fault}")


def _txt(text: str) -> Kind | None:
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return Kind(HELPER)
    return Kind(YOLO) if any(_LABEL.fullmatch(line) for line in lines[:_LINES]) else None


def _yaml(text: str) -> Kind | None:
    return Kind(YOLO) if re.search(r"^names\s*:", text, re.M) else None
