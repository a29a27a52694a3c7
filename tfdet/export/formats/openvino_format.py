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
    _without_batches(model)
    openvino.save_model(model, os.fspath(path), compress_to_fp16=precision == "float16")


def _without_batches(model: Any) -> int:
    """Takes the batch, which is of one image, out of gathers; returns of how many.

    With several threads OpenVINO 2026.4 reads other rows, or beyond the end of memory, in gathers with a batch.
    """
    import openvino.opset8 as ops

    changed = 0
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Gather" or node.get_attributes()["batch_dims"] != 1:
            continue
        values, places, axis = (node.input_value(number) for number in range(3))
        first, along = ops.constant([0]), axis.get_node()
        if along.get_type_name() != "Constant":
            continue
        axis = ops.constant(int(along.data) - 1)
        alone = ops.gather(ops.squeeze(values, first), ops.squeeze(places, first), axis)
        result = ops.unsqueeze(alone, first).output(0)
        for target in list(node.output(0).get_target_inputs()):
            target.replace_source_output(result)
        changed += 1
    return changed


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
