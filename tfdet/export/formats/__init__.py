"""Formats of other programs: one module each that writes a detector and runs what was written."""

from __future__ import annotations

import importlib
import importlib.util
import os
from typing import Any, Literal, NamedTuple

from tfdet.errors import UserError

ExportFormat = Literal["saved_model", "onnx", "litert", "openvino"]
Precision = Literal["float32", "float16", "int8"]


class Format(NamedTuple):
    """What is known of a format before its packages are imported."""

    title: str
    file: str  # in the export's folder
    packages: tuple[str, ...]  # that write and run it; the extra of setup.py has the format's name
    runtime: str  # that of them which runs it
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

    def session(self, name: str, path: str) -> Any:
        """A `Session` of the file `path`, in the format `name`.

        Raises:
            UserError: the package that runs it is not installed, or refuses the file.
        """
        if importlib.util.find_spec(self.runtime) is None:
            raise UserError(f"{path} needs {self.runtime}: pip install 'tfdet[{name}]'")
        module = importlib.import_module(f"tfdet.export.formats.{name}_format")
        try:
            return module.Session(path)
        except Exception as error:  # of a damaged file every runtime raises what it likes
            what = (str(error).splitlines() or [""])[0] or type(error).__name__
            raise UserError(f"cannot load {path}: {what[:300]}; copy it again, or export the model again") from error


FORMATS: dict[str, Format] = {
    "onnx": Format("ONNX", "model.onnx", ("tf2onnx", "onnx", "onnxruntime"), "onnxruntime", ("float32",), False),
    "litert": Format(
        "LiteRT",
        "model.tflite",
        ("ai_edge_litert", "ai_edge_quantizer"),
        "ai_edge_litert",
        ("float32", "float16", "int8"),
        True,
    ),
    "openvino": Format("OpenVINO", "model.xml", ("openvino",), "openvino", ("float32", "float16"), False),
}
"""Beside "saved_model", which `tfdet.export.saved_model` writes."""


def format_of(folder: str | os.PathLike) -> str | None:
    """The format of the export in a folder; None where there is none of these."""
    found = [name for name, known in FORMATS.items() if os.path.isfile(os.path.join(folder, known.file))]
    return found[0] if found else None


def check_format(name: str, precision: str) -> None:
    """`UserError` where a format is unknown, or has no such precision."""
    if name != "saved_model" and name not in FORMATS:
        raise UserError(f"--format {name}: expected one of saved_model, {', '.join(FORMATS)}")
    has = FORMATS[name].precisions if name in FORMATS else ("float32",)
    if precision not in has:
        raise UserError(f"--format {name} is written in {', '.join(has)}. Received: --precision {precision}")
