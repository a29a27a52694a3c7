"""LiteRT (TensorFlow Lite), in its built-in ops alone, written by TensorFlow's converter and run by ai-edge-litert."""

from __future__ import annotations

import contextlib
import io
import os
import re
import warnings
from collections.abc import Iterable, Mapping

import numpy as np
import tensorflow as tf

from tfdet.errors import UserError
from tfdet.export.formats.graph import FrozenDetector

SIGNATURE = "serving_default"
# Ops by the names of what they give. The last layer of a head has no ReLU in its own: it stays float32.
_EIGHT_BITS = (
    (".*([Rr]elu|backbone|neck).*", ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")),
    (".*(backbone|neck).*", ("ADD", "MAX_POOL_2D", "PAD", "RELU", "RESIZE_NEAREST_NEIGHBOR")),
)


def write(
    detector: FrozenDetector,
    path: str | os.PathLike,
    precision: str,
    calibration: Iterable[Mapping[str, np.ndarray]] | None = None,
) -> None:
    """Writes a frozen detector as one `.tflite` file.

    Args:
        detector: to write.
        path: of the file.
        precision: "float32"; "float16": of the stored weights; "int8": of weights and of what convolutions and fully
            connected layers read and give, but the last of each head.
        calibration: for "int8", inputs by name of real images.

    Raises:
        UserError: an op of the detector is none of LiteRT's.
    """
    with detector.saved_model() as folder:
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[SIGNATURE])
        if precision == "float16":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        try:
            content = converter.convert()
        except Exception as error:  # its own class, which is not public
            ops = sorted(set(re.findall(r"^\s*tf\.(\w+)\(", str(error), re.MULTILINE)))
            if not ops:
                raise
            raise UserError(
                f"LiteRT has no built-in {', '.join(ops)}, of which this detector needs: export another format"
            ) from error
    if precision == "int8":
        content = _quantized(bytes(content), list(calibration or []))
    with open(path, "wb") as file:
        file.write(content)


def _quantized(content: bytes, calibration: list[Mapping[str, np.ndarray]]) -> bytes:
    """A float32 model with 8-bit backbone, neck and heads, their ranges measured on inputs.

    What a head gives to the decoding of boxes, and that itself, stays float32: a step of 8 bits is pixels there.
    """
    from ai_edge_quantizer import qtyping, quantizer

    if not calibration:
        raise UserError("--precision int8 needs images to calibrate on: give --eval_data or --images")
    tool = quantizer.Quantizer(content)
    for pattern, names in _EIGHT_BITS:
        for name in names:
            tool.add_static_config(pattern, qtyping.TFLOperationName[name], activation_num_bits=8, weight_num_bits=8)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):  # bars and sizes
        return bytes(tool.quantize(_ranges(content, calibration)).quantized_model)


def _ranges(content: bytes, inputs: list[Mapping[str, np.ndarray]]) -> dict[str, dict[str, np.ndarray]]:
    """Smallest and largest value of what each op gives, by name, as the quantizer takes them.

    Its own calibration stops at the tensors of loops, which have no memory outside of them.
    """
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer.utils.tfl_flatbuffer_utils import read_model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # keeping all tensors takes memory
        interpreter = Interpreter(
            model_content=content, experimental_preserve_all_tensors=True, num_threads=os.cpu_count()
        )
    run, ranges = interpreter.get_signature_runner(SIGNATURE), {}
    made = {
        place for operator in read_model(content).subgraphs[0].operators for place in operator.outputs
    }  # no constant
    known = [
        entry
        for entry in interpreter.get_tensor_details()
        if entry["index"] in made and entry["name"] and entry["dtype"] is np.float32
    ]
    for feeds in inputs:
        run(**feeds)
        for entry in known:
            try:
                values = interpreter.get_tensor(entry["index"])
            except ValueError:  # of a loop, or folded into a neighbour
                continue
            values = values[np.isfinite(values)]
            if values.size:
                low, high = ranges.get(entry["name"], (np.inf, -np.inf))
                ranges[entry["name"]] = min(low, values.min()), max(high, values.max())
    return {
        name: {"min": np.array([[low]], np.float32), "max": np.array([[high]], np.float32)}
        for name, (low, high) in ranges.items()
    }


class Session:
    """A model in ai-edge-litert's interpreter on the CPU.

    Args:
        path: of the file.
        threads: 0: as many as there are cores.
    """

    def __init__(self, path: str | os.PathLike, threads: int = 0):
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(os.fspath(path), num_threads=threads or os.cpu_count())
        self._run = self._interpreter.get_signature_runner(SIGNATURE)

    def __call__(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs by name."""
        return self._run(**feeds)
