"""Reader of TensorFlow checkpoints: the files `PREFIX.index` and `PREFIX.data-00000-of-00001`."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tfdet.errors import UserError
from tfdet.files import has_pattern
from tfdet.weights.formats.file_bytes import broken
from tfdet.weights.formats.tf_index import check_index

_KIND = "TensorFlow checkpoint"
_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"


def checkpoint_prefix(path: str | Path) -> Path | None:
    """The prefix of the checkpoint that `path` means: its prefix, one of its files, or a folder with one or several.

    None where there is none. Of several in a folder the one of the highest number counts.
    """
    path = Path(path)
    if os.path.isdir(path):
        found = [p.with_suffix("") for p in path.glob("*.index")]
        return max(found, key=lambda p: [int(n) for n in re.findall(r"\d+", p.name)][-1:] or [-1], default=None)
    for prefix in (path, Path(re.sub(r"\.(index|data-\d+-of-\d+)$", "", str(path)))):
        if os.path.isfile(f"{prefix}.index"):
            return prefix
    return None


def read_tf_checkpoint(path: str | Path) -> dict[str, np.ndarray]:
    """Numeric arrays of a TensorFlow checkpoint by name, without the suffix that Keras and tf.Module variables have.

    Optimizer slots and the graph of objects are left out.

    Raises:
        UserError: a file is missing, truncated or changed.
    """
    import tensorflow as tf

    prefix = checkpoint_prefix(path)
    if prefix is None:
        raise UserError(f"{path}: no TensorFlow checkpoint (no file {path}.index)")
    check_index(prefix)
    arrays = {}
    try:
        with _literal(prefix) as name:
            reader = tf.train.load_checkpoint(name)
            dtypes = reader.get_variable_to_dtype_map()
            numeric = [n for n in sorted(dtypes) if dtypes[n].is_floating or dtypes[n].is_integer or dtypes[n].is_bool]
            for name in numeric:
                if ".OPTIMIZER_SLOT" not in name and "_CHECKPOINTABLE_OBJECT_GRAPH" not in name:
                    array = reader.get_tensor(name)
                    arrays[name.removesuffix(_SUFFIX)] = array.astype(np.float32) if array.dtype.kind == "V" else array
    except (tf.errors.OpError, ValueError, RuntimeError, IndexError, TypeError, UnicodeDecodeError) as error:
        raise broken(prefix, _KIND, str(error).splitlines()[0][:200]) from error
    return arrays


@contextlib.contextmanager
def _literal(prefix: Path) -> Iterator[str]:
    """A prefix of the same files that TensorFlow does not take for a pattern, while the block runs."""
    if not has_pattern(prefix):
        yield str(prefix)
        return
    with tempfile.TemporaryDirectory() as folder:
        beginnings = (f"{prefix.name}.index", f"{prefix.name}.data-")
        for path in [p for p in prefix.parent.iterdir() if p.name.startswith(beginnings)]:
            (Path(folder) / f"ckpt{path.name[len(prefix.name) :]}").symlink_to(path.absolute())
        yield f"{folder}/ckpt"
