"""The library of custom ops: found, checked and loaded once, or the reason why not.

`TFDET_OPS` chooses: `auto` (default) uses the library where it fits this TensorFlow and this machine, and TensorFlow's
own ops elsewhere; `native` makes a library that cannot be used an error; `python` never loads it. `make ops` builds it.
`TFDET_OPS_LIBRARY` names another file than the one in the package.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
from pathlib import Path
from typing import NamedTuple

import tensorflow as tf

from tfdet.errors import UserError
from tfdet.ops import library_file

MODES = ("auto", "native", "python")
OPS = (
    "TfdetRoiAlign",
    "TfdetRoiAlignGrad",
    "TfdetGenerateProposals",
    "TfdetBatchedNms",
    "TfdetMatchBoxes",
    "TfdetDeformColumns",
    "TfdetDeformColumnsGrad",
    "TfdetFitImage",
)
BUILD = "Build it with `make ops` (`make ops CUDA=1` for GPUs) in tfdet's source folder."

# Where `make ops` puts it: in a folder that is no package, or Python would take it for an extension module.
_INSTALLED = Path(__file__).resolve().parent / "lib" / "_tfdet_ops.so"
_INFO = re.compile(rb"tfdet_ops_build\{tensorflow=([^;}]*);cuda=([^;}]*);archs=([^;}]*)\}")

_forced: list[str] = []  # of the `implementation` blocks that are open, innermost last


class BuildInfo(NamedTuple):
    """What a library was built for, read from its file without loading it."""

    tensorflow: str
    cuda: str | None  # version of the toolkit; None without GPU kernels
    archs: tuple[str, ...]  # compute capabilities with machine code, such as "90"


class State(NamedTuple):
    """Whether the custom ops can be used, and why."""

    mode: str  # TFDET_OPS
    path: Path | None  # of the library, where one was found
    info: BuildInfo | None
    library: object | None  # module of generated op functions; None when not in use
    reason: str  # one line


def in_use() -> bool:
    """Whether an op that is called or traced here is the custom one."""
    if _forced:
        return _forced[-1] == "native"
    return state().library is not None


def library():
    """The module with a function per custom op, such as `tfdet_roi_align`.

    Raises:
        UserError: when the library cannot be used; the message says why.
    """
    found = state()
    if found.library is None:
        raise UserError(f"the custom ops are not in use: {found.reason}")
    return found.library


def exchanged() -> bool:
    """Whether what is traced here goes to another program's format, see `implementation`."""
    return bool(_forced) and _forced[-1] == "exchange"


@contextlib.contextmanager
def implementation(name: str):
    """Inside the block, ops are `"python"` (TensorFlow's own, which any program can load) or `"native"`.

    `"exchange"`: TensorFlow's own as well, and of those the few that ONNX, LiteRT and OpenVINO have too: no lists of
    tensors of several sizes, no float64. One image at a time.

    Raises:
        UserError: for another name, or for `"native"` when the library cannot be used.
    """
    if name not in ("python", "native", "exchange"):
        raise UserError(f'ops: expected "python", "native" or "exchange". Received: {name!r}')
    if name == "native":
        library()
    _forced.append(name)
    try:
        yield
    finally:
        _forced.pop()


@functools.cache
def state() -> State:
    """Finds and loads the library, once a process.

    Raises:
        UserError: TFDET_OPS is none of `MODES`, or it is `native` and the library cannot be used.
    """
    mode = os.environ.get("TFDET_OPS", "auto") or "auto"
    if mode not in MODES:
        raise UserError(f"TFDET_OPS={mode}: expected one of {', '.join(MODES)}.")
    if mode == "python":
        return State(mode, None, None, None, "switched off by TFDET_OPS=python")
    found = _load(mode)
    if mode == "native" and found.library is None:
        raise UserError(f"TFDET_OPS=native, but {found.reason}")
    return found


def describe() -> str:
    """Which ops are in use here and why, in one line for people."""
    found = state()
    if not in_use():
        return f"TensorFlow's own ({found.reason})"
    cuda = f" and CUDA {found.info.cuda} (sm {', '.join(found.info.archs)})" if found.info.cuda else ""
    return f"custom, for CPU{cuda}: {found.path}"


def _load(mode: str) -> State:
    path = Path(os.environ.get("TFDET_OPS_LIBRARY") or _INSTALLED)
    if not os.path.isfile(path):
        return State(mode, None, None, None, f"{path} not found. {BUILD}")
    try:
        content = path.read_bytes()
    except OSError as error:
        return State(mode, path, None, None, f"{path} cannot be read ({error.strerror}). {BUILD}")
    info = build_info(content)
    if info is None:
        return State(mode, path, None, None, f"{path} is no library of tfdet's ops. {BUILD}")
    if info.tensorflow != tf.__version__:
        reason = f"{path} was built for TensorFlow {info.tensorflow}, this is {tf.__version__}. {BUILD}"
        return State(mode, path, info, None, reason)
    if info.cuda is None and tf.config.list_physical_devices("GPU"):
        reason = f"{path} has no GPU kernels and TensorFlow sees a GPU. Build them with `make ops CUDA=1`."
        return State(mode, path, info, None, reason)
    damage = library_file.damage(content)
    if damage is not None:  # loading it could end the process
        return State(mode, path, info, None, f"{path} {damage}. {BUILD}")
    try:
        loaded = tf.load_op_library(str(path))
    except (tf.errors.OpError, OSError, RuntimeError) as error:
        return State(mode, path, info, None, f"{path} does not load: {str(error).splitlines()[0]}. {BUILD}")
    missing = [op for op in OPS if not hasattr(loaded, _function_name(op))]
    if missing:
        return State(mode, path, info, None, f"{path} is of another version: it lacks {', '.join(missing)}. {BUILD}")
    return State(mode, path, info, loaded, f"loaded from {path}")


def build_info(content: bytes) -> BuildInfo | None:
    """What a library says about itself in its bytes; None when it is not one of tfdet's."""
    match = _INFO.search(content)
    if match is None:
        return None
    tensorflow, cuda, archs = (group.decode() for group in match.groups())
    return BuildInfo(tensorflow, None if cuda == "none" else cuda, tuple(a for a in archs.split(",") if a))


def _function_name(op: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", op).lower()
