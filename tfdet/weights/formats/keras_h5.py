"""Reader of Keras's HDF5 files: `.weights.h5` of Keras 3 and the older `.h5`."""

from __future__ import annotations

import json
import mmap
import os
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from tfdet.errors import UserError
from tfdet.weights.formats import h5_child
from tfdet.weights.formats.file_bytes import broken, to_array

_KIND = "HDF5"
CPU_SECONDS = 5
"""What the library may take for a small file; one second more for each 16 MB."""
_MEMORY = 384 << 20  # address space of the other program: Python, NumPy and HDF5 with their libraries take 114 MB
_WALL = 20  # times CPU_SECONDS, for a machine that is busy elsewhere


def read_keras_h5(path: str | Path) -> dict[str, np.ndarray]:
    """Arrays of a Keras weight file by name.

    Names are paths in the file. Keras 3 numbers layers of a kind (`layers/conv2d_7/vars/0`) and writes their names
    beside: those are taken, `conv2_block1_1_conv/kernel`, with the parts called by what Keras's layers hold in this
    order. Links to other files are not followed. HDF5's library works in a process of its own (`h5_child` says why).

    Raises:
        UserError: the file is truncated, of another format, or refers to data outside of it.
    """
    size = Path(path).stat().st_size
    seconds = CPU_SECONDS + (size >> 24)
    # The expansion that h5_child allows is checked there; the address space stops what gets around it.
    limits = [str(seconds), str(_MEMORY + 4 * size + 2 * h5_child.EXPANSION_FREE)]
    # The stacks of the threads of linear algebra would be counted, some 10 MB for each core.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with tempfile.TemporaryFile() as output:
        command = [sys.executable, h5_child.__file__, str(path), *limits]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.PIPE, timeout=seconds * _WALL,
                env=environment,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise broken(path, _KIND, "reading it does not end") from error
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from error
        if done.returncode:
            raise broken(path, _KIND, _end(done, seconds))
        data = memoryview(mmap.mmap(output.fileno(), 0, access=mmap.ACCESS_READ))
    return _with_parts(_arrays(path, data))


def _end(done: subprocess.CompletedProcess, seconds: int) -> str:
    if done.returncode < 0:  # a signal: of the limit of time, or of a crash of the library
        return f"HDF5's library fails on it or needs more than {seconds} s"
    return (done.stderr.decode(errors="replace").strip().splitlines() or ["HDF5's library fails on it"])[-1][:200]


def _arrays(path: str | Path, data: memoryview) -> dict[str, np.ndarray]:
    length = struct.unpack("<Q", data[:8])[0]
    listed, position = json.loads(bytes(data[8 : 8 + length])), 8 + length
    if isinstance(listed, dict):
        raise broken(path, _KIND, listed["error"])
    arrays = {}
    for name, kind, shape in listed:
        count = int(np.prod(shape, dtype=np.int64)) * (2 if kind == "bfloat16" else np.dtype(kind).itemsize)
        array = to_array(data[position : position + count], kind, shape)
        if array is None:
            raise broken(path, _KIND, f"{count} bytes for {name} of shape {shape}")
        position += count
        arrays[name] = array
    return arrays


def _with_parts(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """`layer/0` -> `layer/kernel` and so on: layers save what is trained first, each in the order it was made."""
    counts: dict[str, int] = {}
    for name in arrays:
        layer, _, index = name.rpartition("/")
        if layer and index.isdigit():
            counts[layer] = counts.get(layer, 0) + 1
    named = {}
    for name, array in arrays.items():
        layer, _, index = name.rpartition("/")
        parts = ("kernel", "bias")
        if f"{layer}/0" in arrays and arrays[f"{layer}/0"].ndim == 1:
            parts = ("gamma", "beta", "moving_mean", "moving_variance")
            if layer.endswith("bn_data"):  # its gamma is fixed and stands with what is not trained
                parts = ("beta", "gamma", "moving_mean", "moving_variance")
        known = layer in counts and index.isdigit() and int(index) < len(parts) and counts[layer] <= len(parts)
        named[f"{layer}/{parts[int(index)]}" if known else name] = array
    return named
