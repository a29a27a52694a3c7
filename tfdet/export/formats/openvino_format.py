"""OpenVINO's intermediate representation, converted from the SavedModel and run by OpenVINO."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfdet.errors import UserError
from tfdet.export.formats.graph import FrozenDetector


def write(detector: FrozenDetector, path: str | os.PathLike, precision: str, calibration: Any = None) -> None:
    """Writes a frozen detector as `.xml` with a `.bin` beside it.

    Args:
        detector: to write.
        path: of the `.xml`.
        precision: "float32", or "float16": of the stored weights.
        calibration: not used.

    Raises:
        UserError: OpenVINO cannot convert it.
    """
    import openvino

    with detector.saved_model() as folder:
        try:
            model = openvino.convert_model(folder)
        except Exception as error:  # its own classes, and RuntimeError
            what = next((line for line in str(error).splitlines() if "Check" in line), type(error).__name__)
            raise UserError(f"OpenVINO cannot convert this detector: {what[:300]}") from error
    openvino.save_model(model, os.fspath(path), compress_to_fp16=precision == "float16")


class Session:
    """A model in OpenVINO on the CPU, computed in float32.

    Args:
        path: of the `.xml`.
        threads: 0: as many as there are cores.
    """

    def __init__(self, path: str | os.PathLike, threads: int = 0):
        import openvino

        settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        settings |= {"INFERENCE_NUM_THREADS": threads} if threads else {}
        self._model = openvino.Core().compile_model(os.fspath(path), "CPU", settings)

    def __call__(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs by name."""
        found = self._model(dict(feeds))
        return {name: np.array(value) for port, value in found.items() for name in port.get_names()}
