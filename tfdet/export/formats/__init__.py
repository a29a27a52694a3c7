"""Formats of other programs: one module each that writes a detector and runs what was written."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any, Literal, NamedTuple

from tfdet.errors import UserError

ExportFormat = Literal["saved_model", "onnx", "litert", "openvino"]
Precision = Literal["float32", "float16", "int8"]


class Format(NamedTuple):
    """What is known of a format before its packages are imported."""

    title: str
    file: str  # in the export's folder
    packages: tuple[str, ...]  # that write and run it; the extra of setup.py has the format's name
    precisions: tuple[Precision, ...]
    needs_canvas: bool  # whether its images have one size

    def module(self, name: str) -> Any:
        """The module of the format `name`, with `write` and `Session`.

        Raises:
            UserError: a package is not installed.
        """
        absent = [package for package in self.packages if importlib.util.find_spec(package) is None]
        if absent:
            raise UserError(f"--format {name} needs {', '.join(absent)}: pip install 'tfdet[{name}]'")
        return importlib.import_module(f"tfdet.export.formats.{name}_format")


FORMATS: dict[str, Format] = {
    "onnx": Format("ONNX", "model.onnx", ("tf2onnx", "onnx", "onnxruntime"), ("float32",), False),
    "litert": Format(
        "LiteRT", "model.tflite", ("ai_edge_litert", "ai_edge_quantizer"), ("float32", "float16", "int8"), True
    ),
    "openvino": Format("OpenVINO", "model.xml", ("openvino",), ("float32", "float16"), False),
}
"""Beside "saved_model", which `tfdet.export.saved_model` writes."""


def check_format(name: str, precision: str) -> None:
    """`UserError` where a format is unknown, or has no such precision."""
    if name != "saved_model" and name not in FORMATS:
        raise UserError(f"--format {name}: expected one of saved_model, {', '.join(FORMATS)}")
    has = FORMATS[name].precisions if name in FORMATS else ("float32",)
    if precision not in has:
        raise UserError(f"--format {name} is written in {', '.join(has)}. Received: --precision {precision}")
