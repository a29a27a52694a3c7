"""Exports in other programs' formats, opened again: what they find, by the program that runs them."""

from __future__ import annotations

import os
from typing import Any, get_args

from tfdet.data.resize import Resize, Rule
from tfdet.errors import UserError
from tfdet.export.formats import FORMATS, format_of
from tfdet.export.formats.graph import Canvas
from tfdet.export.formats.predictor import GraphPredictor
from tfdet.predict.exported import labels_of, read_labels_file
from tfdet.predict.found import Labels
from tfdet.strict_json import field

LABELS = "labels.json"


def open_export(folder: str | os.PathLike) -> GraphPredictor:
    """What detects with an export of ONNX, LiteRT or OpenVINO, as the export command wrote it.

    Args:
        folder: of the export.

    Raises:
        UserError: it is none or damaged, its `labels.json` is missing or wrong, or its program is not installed.
    """
    name = format_of(folder)
    if name is None:
        raise UserError(f"{folder} is no export of {', '.join(FORMATS)}")
    path = os.path.join(folder, LABELS)
    described = read_labels_file(path, _described)
    if described is None:
        raise UserError(f"{path} not found: it says the classes and the resize; copy the whole folder of the export")
    labels, resize, canvas = described
    return GraphPredictor(FORMATS[name].session(name, os.path.join(folder, FORMATS[name].file)), resize, canvas, labels)


def _described(content: Any) -> tuple[Labels, Resize, Canvas | None]:
    sides = [field(content, name, int) for name in ("short_side", "long_side")]
    rule = field(content, "resize", str)
    if rule not in get_args(Rule):
        raise ValueError(f"'resize' must be one of {', '.join(get_args(Rule))}, not {rule[:40]!r}")
    canvas = None if content.get("canvas") is None else field(content, "canvas", list)
    if canvas is not None and (len(canvas) != 2 or any(type(side) is not int or side < 1 for side in canvas)):
        raise ValueError("'canvas' must be two whole numbers from 1")
    if min(sides) < 1:
        raise ValueError("'short_side' and 'long_side' must be at least 1")
    return labels_of(content), Resize(*sides, rule), None if canvas is None else Canvas(*canvas)
