"""Formats of weight files, one module each, and the choice between them by content. NumPy alone, nothing of tfdet."""

from __future__ import annotations

import functools
import os
import struct
from pathlib import Path

import numpy as np

from tfdet.errors import UserError
from tfdet.weights.formats.file_bytes import check_expansion
from tfdet.weights.formats.keras_h5 import read_keras_h5
from tfdet.weights.formats.mxnet_params import parse_params, read_params, write_params
from tfdet.weights.formats.npz import read_npz
from tfdet.weights.formats.pickled_arrays import read_pkl
from tfdet.weights.formats.safetensors import read_safetensors
from tfdet.weights.formats.tf_checkpoint import checkpoint_prefix, read_tf_checkpoint
from tfdet.weights.formats.torch_files import LEGACY_MAGIC, read_torch_legacy, read_torch_zip
from tfdet.weights.formats.zipped import open_zip, read_entry

__all__ = ["read_params", "read_weights", "write_params"]

_FORMATS = ".params, .pkl, .pth, .pt, .safetensors, .npz, .h5 and TensorFlow checkpoints"


def read_weights(path: str | Path) -> dict[str, np.ndarray]:
    """The tensors of a weight file by name, whatever its format; what it is is found from its first bytes.

    Args:
        path: a file, or the prefix, a file or the folder of a TensorFlow checkpoint.

    Returns: name -> array in the stored dtype and shape (bfloat16 as float32), read-only as a rule.

    Raises:
        UserError: missing, truncated, of none of the formats, or a pickle that calls something.
    """
    path = Path(path)
    if not os.path.isfile(path) or path.suffix == ".index" or ".data-" in path.name:
        if checkpoint_prefix(path) is not None:
            return read_tf_checkpoint(path)
        if os.path.isdir(path):
            raise UserError(f"{path}: a folder without a TensorFlow checkpoint; give a file with weights")
        if not os.path.isfile(path):
            raise UserError(f"{path}: no such file")
    try:
        with open(path, "rb") as file:
            head = file.read(16)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    reader = _reader(path, head)
    if reader is None:
        raise UserError(f"{path}: {_foreign(path)}; weights are read from {_FORMATS}")
    return reader(path)


def _reader(path: Path, head: bytes):
    if head[:8] == b"\x89HDF\r\n\x1a\n":
        return read_keras_h5
    if head[:8] == struct.pack("<Q", 0x112):
        return read_params
    if head[:2] == b"PK":
        return _zip_reader(path)
    if head[:1] == b"\x80" and head[1:2] and head[1] <= 5:
        return read_torch_legacy if _is_legacy_torch(path) else read_pkl
    if len(head) > 8 and head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] <= path.stat().st_size:
        return read_safetensors
    by_suffix = {".params": read_params, ".pkl": read_pkl, ".safetensors": read_safetensors}
    return by_suffix.get(path.suffix)


def _zip_reader(path: Path):
    with open_zip(path, "zip") as archive:
        names = archive.namelist()
    if any(name == "data.pkl" or name.endswith("/data.pkl") for name in names):
        return read_torch_zip
    if any(name.endswith(".npy") for name in names):
        return read_npz
    params = [name for name in names if name.endswith(".params")]
    if len(params) == 1:
        return functools.partial(_read_zipped_params, member=params[0])
    if params:
        raise UserError(f"{path}: an archive with {len(params)} .params files; unpack it and give the path of one")
    if "model.weights.h5" in names:
        raise UserError(f"{path}: a whole Keras model; save its weights alone: model.save_weights('x.weights.h5')")
    return None


def _read_zipped_params(path: Path, member: str) -> dict[str, np.ndarray]:
    """The checkpoint in an archive such as SimpleDet publishes, with its configuration and log."""
    with open_zip(path, "zip") as archive:
        check_expansion(path, "zip", archive.getinfo(member).file_size, path.stat().st_size)
        data = read_entry(archive, archive.getinfo(member))
    return parse_params(data, f"{path}/{member}")


def _is_legacy_torch(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            # The magic number is a pickle of its own, 14 bytes.
            return int.from_bytes(file.read(64)[4:14], "little") == LEGACY_MAGIC
    except OSError:
        return False


def _foreign(path: Path) -> str:
    return "empty" if path.stat().st_size == 0 else "a format that is not read"
