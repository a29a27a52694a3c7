"""ONNX, written by tf2onnx and run by ONNX Runtime."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tfdet.export.formats.graph import FrozenDetector

OPSET = 18
"""Of ai.onnx: the newest that tf2onnx writes; ONNX Runtime reads it from version 1.14 on."""


def write(detector: FrozenDetector, path: str | os.PathLike, precision: str, calibration: Any = None) -> None:
    """Writes a frozen detector as one `.onnx` file.

    Args:
        detector: to write.
        path: of the file.
        precision: "float32".
        calibration: not used.
    """
    import tf2onnx

    function = detector.function
    inputs, outputs = ([tensor.name for tensor in tensors] for tensors in (function.inputs, function.outputs))
    names = {tensor: tensor.split(":")[0] for tensor in inputs} | dict(zip(outputs, detector.outputs, strict=True))
    with _quiet("tf2onnx", "tensorflow"):  # which warn of what tf2onnx itself calls
        model, _ = tf2onnx.convert.from_graph_def(
            function.graph.as_graph_def(),
            name="tfdet",
            input_names=inputs,
            output_names=outputs,
            opset=OPSET,
            tensors_to_rename=names,
        )
    with open(path, "wb") as file:
        file.write(model.SerializeToString())


@contextlib.contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Errors alone of these loggers."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class Session:
    """A model in ONNX Runtime on the CPU.

    Args:
        path: of the file.
        threads: 0: as many as there are cores.
    """

    def __init__(self, path: str | os.PathLike, threads: int = 0):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
        self._names = [output.name for output in self._session.get_outputs()]

    def __call__(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs by name."""
        return dict(zip(self._names, self._session.run(None, dict(feeds)), strict=True))
