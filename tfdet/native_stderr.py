"""What TensorFlow's C++ part says at its start, without the lines that mean nothing to a person.

`TF_CPP_MIN_LOG_LEVEL` cannot tell them apart: "cuInit failed" on a machine without a GPU is of the same level as the
errors that matter. So the file descriptor of standard error leads to a process of its own, which passes on every line
but those that are known. Python writes past it: a message, a traceback or a warning of Python never goes through.

The filter is a process, forked before TensorFlow is there, and no thread: what a program writes while it crashes still
arrives, and nothing of it is lost where the program is killed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import select
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

_PREFIX = rb"^(?:\d{4}-\d\d-\d\d [\d:.]+: )?[IWE](?:\d{4} [\d:.]+\s+\d+)? ?.*?"
_NOISE = (
    rb"Unable to register cu(?:DNN|FFT|BLAS) factory",
    rb"computation placer already registered",
    rb"oneDNN custom operations are on",
    rb"oneDNN supports DT_\w+ only on platforms with AVX-512",
    rb"This TensorFlow binary is optimized to use available CPU instructions",
    rb"Local rendezvous is aborting with status: OUT_OF_RANGE: End of sequence",
    # tf.data of `distribute_datasets_from_function`: it is not optimised as a graph, which costs nothing here.
    rb"Input of GeneratorDatasetOp::Dataset will not be optimized",
    rb"Could not find TensorRT",
    rb"MLIR V1 optimization pass is not enabled",
    # Of several workers: that one began to serve, and, once one is lost, what tfdet says in a line of its own.
    rb"grpc_server_lib\.cc:\d+\] Started server with target",
    rb"base_collective_executor\.cc:\d+\] BaseCollectiveExecutor::StartAbort",
    # Of a conversion to ONNX, LiteRT or OpenVINO: TensorFlow's grappler, and options that its converter has no use for.
    rb"devices\.cc:\d+\] Number of eligible GPUs",
    rb"single_machine\.cc:\d+\] Starting new session",
    rb"tf_tfl_flatbuffer_helpers\.cc:\d+\] Ignored (?:output_format|drop_control_dependency)",
)
# On a machine with an NVIDIA driver that is not hidden these say why the GPU is not used.
_NOISE_WITHOUT_GPU = (
    rb"failed call to cuInit",
    rb"Could not find cuda drivers on your machine",
    rb"Cannot dlopen some GPU libraries",
    rb"(?:kernel driver does not appear to be running|no NVIDIA GPU device is present)",
    rb"cuda_diagnostics\.cc",
)
_CONTINUED = (  # lines without a prefix of their own
    rb"^WARNING: All log messages before absl::InitializeLog\(\) is called are written to STDERR\s*$",
    rb"^To enable the following instructions: .*rebuild TensorFlow with the appropriate compiler flags\.\s*$",
    rb"^Skipping registering GPU devices\.\.\.\s*$",
)
_OF_OTHERS = (  # not TensorFlow's
    # ONNX Runtime, of the resize that TensorFlow's nearest neighbour needs; it is coloured.
    rb"\[W:onnxruntime:.*`tf_half_pixel_for_nn` is deprecated",
    rb"^INFO: Created TensorFlow Lite XNNPACK delegate for CPU\.",
)
_DRIVER_FILES = ("/dev/nvidia0", "/dev/nvidiactl", "/proc/driver/nvidia/version", "/dev/dxg")
_PATIENCE = 0.2  # seconds that a line without an end is waited for
_LAST_WORDS = 2.0  # seconds for the filter to pass on what is left, at the end


def is_noise(line: bytes, has_gpu: bool) -> bool:
    """Whether a line of TensorFlow's C++ part says nothing that a person could act on.

    Args:
        line: as it was written, without its end.
        has_gpu: the machine has an NVIDIA driver that this process may use: what is said of GPUs then counts.
    """
    known = _NOISE if has_gpu else (*_NOISE, *_NOISE_WITHOUT_GPU)
    if re.search(_PREFIX + rb"(?:" + rb"|".join(known) + rb")", line) or re.search(rb"|".join(_OF_OTHERS), line):
        return True
    return any(re.search(pattern, line) for pattern in _CONTINUED[: 2 if has_gpu else 3])


def has_gpu() -> bool:
    """Whether the machine has an NVIDIA driver, and `CUDA_VISIBLE_DEVICES` does not hide every GPU."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    hidden = visible is not None and visible.strip() in ("", "-1", "NoDevFiles")
    return not hidden and any(Path(file).exists() for file in _DRIVER_FILES)


@contextlib.contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """Within it, lines that `is_noise` knows do not reach standard error; in subprocesses neither.

    TensorFlow's logger in Python does not say that a function was traced again: where that matters, tfdet says it.

    It does nothing where TensorFlow is there already, whose threads would be forked, and where a system cannot fork.
    Python's `sys.stderr` writes where it wrote before, past the filter.
    """
    if "tensorflow" in sys.modules or not hasattr(os, "fork") or sys.stderr is None:
        yield
        return
    try:
        outside = os.dup(2)
    except OSError:  # no standard error at all
        yield
        return
    reads, writes = os.pipe()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _run_filter(reads, writes, outside)
    os.close(reads)
    os.dup2(writes, 2)
    os.close(writes)
    logger = logging.getLogger("tensorflow")
    logger.addFilter(_is_not_of_retracing)
    python_stderr, own = sys.stderr, _on(outside, sys.stderr)
    sys.stderr = own
    try:
        yield
    finally:
        own.flush()
        logger.removeFilter(_is_not_of_retracing)
        if sys.stderr is own:
            sys.stderr = python_stderr
        os.dup2(outside, 2)  # closes the last end of the pipe that this process has: the filter comes to its end
        _wait_for(child)


def _is_not_of_retracing(record: logging.LogRecord) -> bool:
    return "triggered tf.function retracing" not in str(record.msg)


def _on(descriptor: int, like):
    """A text stream on a descriptor, written line by line, in the encoding of another stream."""
    return open(  # closed with the process: what holds `sys.stderr` may write until then
        descriptor,
        "w",
        buffering=1,
        encoding=getattr(like, "encoding", None) or "utf-8",
        errors="backslashreplace",
        closefd=False,
    )


def _wait_for(child: int) -> None:
    """Waits for the filter; not for ever, for a process that was started within may hold its pipe open."""
    end = time.monotonic() + _LAST_WORDS
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(child, os.WNOHANG) == (0, 0) and time.monotonic() < end:
            time.sleep(0.002)


def _run_filter(reads: int, writes: int, outside: int) -> None:
    """The forked process: passes lines on until nobody can write any more. It does not return."""
    try:
        # A signal to the whole group, such as Ctrl-C, ends those who write; what they then say still arrives.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):  # a reader of the program's output is not to wait for this process
            os.dup2(nowhere, descriptor)
        os.close(writes)
        pass_on(reads, outside, has_gpu())
    finally:
        os._exit(0)


def pass_on(reads: int, outside: int, with_gpu: bool) -> None:
    """Copies lines from one descriptor to another, but for noise, until the end of the first.

    A line without an end, such as the first half of a long one, is passed on after a moment.
    """
    rest, passed = b"", None  # passed: whether the first part of a line was passed on or dropped, None at its beginning
    while True:
        ready, _, _ = select.select([reads], [], [], _PATIENCE if rest else None)
        chunk = os.read(reads, 65536) if ready else b""
        if not chunk:
            if rest:
                passed = not is_noise(rest, with_gpu) if passed is None else passed
                _write(outside, rest if passed else b"")
            rest = b""
            if ready:
                return
            continue
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if not is_noise(line, with_gpu) if passed is None else passed:
                _write(outside, line + b"\n")
            passed = None


def _write(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]
