"""What was found on one image in the forms of other programs: YOLO's text, Pascal VOC's XML, rows of CSV, COCO's json.

Boxes are in pixels of the image turned upright, masks pasted by the rule of the model's program.
"""

from __future__ import annotations

import os
from typing import Any
from xml.etree import ElementTree

import numpy as np

from tfdet.ops.paste_masks import PASTE_RULES, encode_masks, paste_mask
from tfdet.predict.polygons import outline
from tfdet.text import printable

CSV_COLUMNS = (
    "image", "frame", "time", "width", "height", "class_id", "category_id", "class_name", "score", "x1", "y1", "x2",
    "y2",
)  # fmt: skip
"""Of `csv_rows`: boxes as edges in pixels, `class_id` from 0, `frame` and `time` (seconds) of a video's image alone."""


def yolo_text(found: Any, scores: bool = False) -> str:
    """A line an object, as YOLO's label files have them: the class from 0, then numbers that are parts of the image.

    `class x_centre y_centre width height`; of a model with masks `class x1 y1 x2 y2 ...`, the outline of the object's
    largest part, its holes filled, or of its box where its mask is empty.

    Args:
        found: a `Found`.
        scores: the score at the end of each line, as detections have it; labels of a data set do not.
    """
    height, width = found.image.shape[:2]
    lines = []
    for number, (kind, box, score) in enumerate(zip(found.class_ids, found.boxes, found.scores, strict=True)):
        if found.mask_probabilities is None:
            x1, y1, x2, y2 = np.clip(box.astype(np.float64) / [width, height, width, height], 0, 1)
            values = [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]
        else:
            polygon = outline_of(found, number)
            values = np.clip(polygon / [width, height], 0, 1).ravel().tolist()
        ending = [f"{float(score):.5f}"] if scores else []
        lines.append(" ".join([str(int(kind)), *(f"{value:.6f}" for value in values), *ending]))
    return "".join(f"{line}\n" for line in lines)


def outline_of(found: Any, number: int) -> np.ndarray:
    """The outline of an object of a model with masks: float64 [P, 2], pixels; of its box where the mask is empty."""
    assert found.mask_probabilities is not None
    convention, beyond = PASTE_RULES[found.labels.mask_paste]
    height, width = found.image.shape[:2]
    box = found.inclusive_corners()[number] + np.array([0, 0, beyond, beyond], np.float32)
    part, left, top = paste_mask(found.mask_probabilities[number], box, height, width, convention)
    points = outline(part, left, top) if part.size else np.zeros([0, 2])
    if len(points):
        return points
    x1, y1, x2, y2 = found.boxes[number]
    return np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], np.float64)


def voc_xml(found: Any, name: str | None = None) -> str:
    """An annotation as Pascal VOC has it, with `confidence` for each object.

    Corners are whole pixels, the first of which is 1, both inclusive. Masks have no place in it.

    Args:
        found: a `Found`.
        name: of the image's file; None: of `found.path`.
    """
    height, width = found.image.shape[:2]
    file = name if name is not None else os.path.basename(found.path or "")
    root = ElementTree.Element("annotation")
    _add(root, "filename", file)
    size = ElementTree.SubElement(root, "size")
    for tag, value in (("width", width), ("height", height), ("depth", 3)):
        _add(size, tag, str(value))
    _add(root, "segmented", "0")
    for class_name, score, box in zip(found.class_names, found.scores, found.boxes.tolist(), strict=True):
        entry = ElementTree.SubElement(root, "object")
        _add(entry, "name", class_name)
        for tag, text in (("pose", "Unspecified"), ("truncated", "0"), ("difficult", "0")):
            _add(entry, tag, text)
        _add(entry, "confidence", f"{float(score):.5f}")
        corners = ElementTree.SubElement(entry, "bndbox")
        x1, y1, x2, y2 = box
        left, top = min(max(round(x1), 0), width - 1) + 1, min(max(round(y1), 0), height - 1) + 1
        right, bottom = max(min(round(x2), width), left), max(min(round(y2), height), top)
        for tag, value in (("xmin", left), ("ymin", top), ("xmax", right), ("ymax", bottom)):
            _add(corners, tag, str(value))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _add(parent: ElementTree.Element, tag: str, text: str) -> None:
    ElementTree.SubElement(parent, tag).text = printable(text)  # XML has no control characters


def csv_rows(found: Any, name: str | None = None) -> list[list[str]]:
    """A row an object, of `CSV_COLUMNS`.

    Args:
        found: a `Found`.
        name: of the image; None: `found.path`.
    """
    height, width = found.image.shape[:2]
    frame = "" if found.frame is None else str(found.frame)
    time = "" if found.time is None else f"{found.time:.3f}"
    image = [printable(name if name is not None else found.path or ""), frame, time, str(width), str(height)]
    columns = zip(
        found.class_ids, found.category_ids, found.class_names, found.scores, found.boxes.tolist(), strict=True
    )
    return [
        [*image, str(int(kind)), str(category), printable(class_name), f"{float(score):.5f}"]
        + [f"{value:.2f}" for value in box]
        for kind, category, class_name, score, box in columns
    ]


def json_objects(found: Any) -> list[dict]:
    """A dict an object: `category_id`, `class_name`, `bbox` (`[x, y, width, height]`, pixels), `score`; of a model with
    masks also `segmentation`, COCO's compressed run lengths.

    By the boxes' edges, so that a run and its export write the same.
    """
    segments: list[dict] = [{}] * len(found)
    if found.mask_probabilities is not None:
        (height, width), rule = found.image.shape[:2], found.labels.mask_paste
        encoded = encode_masks(found.mask_probabilities, found.drawing_boxes(), height, width, rule)
        segments = [{"segmentation": segment} for segment in encoded]
    boxes = np.concatenate([found.boxes[:, :2], found.boxes[:, 2:] - found.boxes[:, :2]], axis=1)
    rows = zip(found.category_ids, found.class_names, boxes.tolist(), found.scores.tolist(), segments, strict=True)
    return [
        {
            "category_id": category_id,
            "class_name": name,
            "bbox": [round(value, 2) for value in box],
            "score": round(score, 5),
            **segment,
        }
        for category_id, name, box, score, segment in rows
    ]
