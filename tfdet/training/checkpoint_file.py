"""Reading of a run's checkpoints: which there are, and the numbers of one, checked before they are used.

A run may be anyone's: nothing in its files is taken for what this program wrote.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfdet.errors import UserError
from tfdet.files import irregular, literal
from tfdet.weights.formats.tf_index import check_index

PREFIX = "ckpt"
"""What the files of a checkpoint are called, before `-<step>`."""
OTHER_RUN = "use the gin file of that run (config.gin in its directory), or another --model_dir"
"""What to do about a checkpoint of something else, for messages."""
_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
_RECORD = "record/.ATTRIBUTES/py_state"  # the name in the file of the `PythonState` called "record"
# A checkpoint that says this is perhaps whole: it is not passed over for an older one.
_UNREADABLE = (tf.errors.PermissionDeniedError, tf.errors.ResourceExhaustedError, tf.errors.UnavailableError)


class CheckpointFile:
    """What was read of a checkpoint.

    Args:
        folder: it lies in.
        step: of the checkpoint.
        tensors: the numbers by their names in the file.
        record: JSON of the `RunRecord`; None where it has none.
    """

    def __init__(self, folder: Path, step: int, tensors: Mapping[str, np.ndarray], record: bytes | None):
        self.source = folder / f"{PREFIX}-{step}"
        self.step = step
        self.record = record
        self._tensors = tensors

    def get(self, group: str, name: str) -> np.ndarray | None:
        """A tensor by its group and the name in it, None where there is none."""
        return self._tensors.get(_key(group, name))

    def weights(self, raw: bool = False) -> dict[str, np.ndarray]:
        """The detector's tensors and, unless `raw`, their averages, as `weights.maps.own` reads them."""
        groups = ("detector/",) if raw else ("detector/", "averages/")
        kept = {name: value for name, value in self._tensors.items() if name.startswith(groups)}
        return {name.removesuffix(_SUFFIX): value for name, value in kept.items()}

    def number(self, group: str, name: str) -> int:
        """A single number; `UserError` where there is none, or something else."""
        value = self.get(group, name)
        if value is None:
            raise UserError(f"The checkpoint {self.source} lacks the number {group}/{name}: {OTHER_RUN}")
        if np.shape(value) or not np.issubdtype(value.dtype, np.number) or not np.isfinite(value):
            raise UserError(f"The checkpoint {self.source} holds no number as {group}/{name}: {OTHER_RUN}")
        return int(value)

    def check(self, group: str, variables: Mapping[str, tf.Variable], kept_as: tf.DType | None = None) -> None:
        """`UserError` where the shape or type of a tensor is not that of its variable; those that miss may.

        Args:
            group: of the tensors.
            variables: by the names of the tensors.
            kept_as: the type in the file where it is not that of the variable.
        """
        for name, variable in variables.items():
            value = self.get(group, name)
            if value is None:
                continue
            if np.shape(value) != tuple(variable.shape):
                raise UserError(
                    f"The checkpoint {self.source} holds {name} with shape {list(np.shape(value))} but the detector's "
                    f"is {list(variable.shape)}: {OTHER_RUN}"
                )
            dtype = tf.as_dtype(kept_as or variable.dtype)
            if value.dtype != dtype.as_numpy_dtype:
                raise UserError(
                    f"The checkpoint {self.source} holds {name} as {value.dtype} but the detector's is {dtype.name}: "
                    f"{OTHER_RUN}"
                )


def saved_steps(folder: Path) -> list[int]:
    """Steps of the complete checkpoints, ascending. The index is written last, so it marks a complete one."""
    names = [path.stem.removeprefix(f"{PREFIX}-") for path in folder.glob(f"{PREFIX}-*.index")]
    return sorted(int(name) for name in names if name.isdigit())


def read_newest(folder: Path, warn: Callable[[str], None]) -> CheckpointFile:
    """The newest checkpoint that is whole.

    Args:
        folder: with at least one.
        warn: receives a line about each that is passed over.

    Raises:
        UserError: none is, or one cannot be read.
    """
    for step in reversed(saved_steps(folder)):
        saved = read_checkpoint(folder, step)
        if saved is not None:
            return saved
        warn(f"the checkpoint of step {step} in {folder} is damaged; trying an older one")
    raise UserError(
        f"Every checkpoint in {folder} is damaged: put back a copy of one, or choose another --model_dir to start again"
    )


def read_checkpoint(folder: Path, step: int) -> CheckpointFile | None:
    """Every number of a checkpoint, or None where a file of it is missing, cut short or corrupt.

    Raises:
        UserError: it cannot be read, or a pipe or another thing that is no file stands for a file of it.
    """
    try:
        for path in [folder / f"{PREFIX}-{step}.index", *folder.glob(f"{PREFIX}-{step}.data-*")]:
            if (kind := irregular(os.stat(path).st_mode)) is not None:
                raise UserError(f"Cannot read the checkpoint of step {step} in {folder}: {path.name} is a {kind}")
            path.open("rb").close()
    except PermissionError as error:
        raise _unreadable(folder, step, error) from None
    except OSError:
        return None
    try:
        check_index(folder / f"{PREFIX}-{step}")
        with literal(folder) as name:
            reader = tf.train.load_checkpoint(f"{name}/{PREFIX}-{step}")
            dtypes, shapes = reader.get_variable_to_dtype_map(), reader.get_variable_to_shape_map()
            numeric = [key for key, dtype in dtypes.items() if dtype.is_floating or dtype.is_integer or dtype.is_bool]
            tensors = {key: reader.get_tensor(key) for key in numeric}
            # Single ones alone, whose lengths `check_index` knows. Each is read, for its checksum.
            texts = {key: reader.get_tensor(key) for key in dtypes if dtypes[key] == tf.string and not shapes[key]}
    except (*_UNREADABLE, PermissionError) as error:
        raise _unreadable(folder, step, error) from None
    except (UserError, tf.errors.OpError, OSError, ValueError, RuntimeError, IndexError, TypeError):
        return None
    return (
        CheckpointFile(folder, step, tensors, texts.get(_RECORD))
        if _key("progress", "global_step") in tensors
        else None
    )


def _unreadable(folder: Path, step: int, error: Exception) -> UserError:
    reason = str(getattr(error, "message", error)).splitlines()[0]
    return UserError(f"Cannot read the checkpoint of step {step} in {folder} ({reason}): free it first")


def _key(group: str, name: str) -> str:
    """The name of a variable inside the checkpoint file; TensorFlow escapes dots and slashes of dict keys."""
    return f"{group}/{name.replace('.', '..').replace('/', '.S')}{_SUFFIX}"
