"""tfdet: object detection on TensorFlow and Keras.

    import tfdet

    model = tfdet.load("runs/cells")               # or tfdet.build("faster_r50v1_fpn", num_classes=3)
    for found in model.predict(["street.jpg"]):
        found.draw().save("street_found.jpg")

`load`, `build`, `train`, `convert_data`, `browse`, `write_report` and `list_models` are the functions, `Model`, `Found`
and `Report` what they give; docs/python.md shows them at work. TensorFlow is imported by the first call that needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfdet.data.conversion import convert_data
    from tfdet.errors import UserError
    from tfdet.exported_model import ExportedModel
    from tfdet.model import Model, build, list_models, load
    from tfdet.predict.found import Found
    from tfdet.report.browse.run import browse
    from tfdet.run import train
    from tfdet.run_report import Report, write_report
    from tfdet.training.loop import Run

__version__ = "0.1.0"

_HOMES = {
    "ExportedModel": "tfdet.exported_model",
    "Found": "tfdet.predict.found",
    "Model": "tfdet.model",
    "Report": "tfdet.run_report",
    "Run": "tfdet.training.loop",
    "UserError": "tfdet.errors",
    "browse": "tfdet.report.browse.run",
    "build": "tfdet.model",
    "convert_data": "tfdet.data.conversion",
    "list_models": "tfdet.model",
    "load": "tfdet.model",
    "train": "tfdet.run",
    "write_report": "tfdet.run_report",
}

__all__ = [
    "ExportedModel",
    "Found",
    "Model",
    "Report",
    "Run",
    "UserError",
    "browse",
    "build",
    "convert_data",
    "list_models",
    "load",
    "train",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """Imports what is asked for where it is asked for: `import tfdet` itself takes milliseconds."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
