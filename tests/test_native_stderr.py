"""What TensorFlow's C++ part says: noise goes, everything else stays, whatever becomes of the program."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tfdet.native_stderr import is_noise, pass_on

ROOT = Path(__file__).resolve().parent.parent
CUINIT = (
    b"2026-12-01 04:47:53.466066: E external/local_xla/xla/stream_executor/cuda/cuda_platform.cc:51] failed call to "
    b"cuInit: INTERNAL: CUDA error: Failed call to cuInit: UNKNOWN ERROR (303)"
)
# Lines as TensorFlow 2.16 to 2.20 write them.
NOISE = [
    b"E0000 00:00:1733000000.123456    1234 cuda_dnn.cc:8310] Unable to register cuDNN factory: Attempting to register "
    b"factory for plugin cuDNN when one has already been registered",
    b"2024-12-01 12:00:00.000001: E external/local_xla/xla/stream_executor/cuda/cuda_blas.cc:1452] Unable to register "
    b"cuBLAS factory: Attempting to register factory for plugin cuBLAS when one has already been registered",
    b"W0000 00:00:1733000000.123456    1234 computation_placer.cc:177] computation placer already registered. Please "
    b"check linkage and avoid linking the same target more than once.",
    b"2026-12-01 05:01:30.310216: I tensorflow/core/util/port.cc:153] oneDNN custom operations are on. You may see "
    b"slightly different numerical results due to floating-point round-off errors",
    b"2026-12-01 05:01:30.868482: I tensorflow/core/platform/cpu_feature_guard.cc:210] This TensorFlow binary is "
    b"optimized to use available CPU instructions in performance-critical operations.",
    b"To enable the following instructions: AVX2 FMA, in other operations, rebuild TensorFlow with the appropriate "
    b"compiler flags.",
    b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    b"2024-12-01 12:00:00.000001: W tensorflow/core/framework/local_rendezvous.cc:404] Local rendezvous is aborting "
    b"with status: OUT_OF_RANGE: End of sequence",
    b"2026-12-01 04:48:02.090347: W tensorflow/core/framework/dataset.cc:993] Input of GeneratorDatasetOp::Dataset "
    b"will not be optimized because the dataset does not implement the AsGraphDefInternal() method",
    b"2026-12-01 10:31:12.320684: E tensorflow/core/util/util.cc:131] oneDNN supports DT_UINT8 only on platforms with "
    b"AVX-512. Falling back to the default Eigen-based implementation if present.",
    b"I0000 00:00:1796122388.159610   18447 devices.cc:67] Number of eligible GPUs (core count >= 8, compute "
    b"capability >= 0.0): 0",
    b"I0000 00:00:1796122388.165903   18447 single_machine.cc:376] Starting new session",
    b"W0000 00:00:1796122406.175571   18447 tf_tfl_flatbuffer_helpers.cc:364] Ignored output_format.",
    b"\x1b[0;93m2026-12-01 10:47:42.000637246 [W:onnxruntime:Default, upsamplebase.h:252 UpsampleBase] "
    b"`tf_half_pixel_for_nn` is deprecated since opset 13, yet this opset 18 model uses the deprecated attribute\x1b[m",
    b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.",
]
REAL = [
    b"\x1b[0;93m2026-12-01 10:47:42.000637246 [W:onnxruntime:Default, upsamplebase.h:252 UpsampleBase] out of memory",
    b"2026-12-01 05:00:00.000001: W external/local_xla/xla/tsl/framework/cpu_allocator_impl.cc:83] Allocation of "
    b"8294400000 exceeds 10% of free system memory.",
    b"2026-12-01 05:00:00.000001: E tensorflow/core/framework/node_def_util.cc:676] NodeDef mentions attribute x",
    b"2024-12-01 12:00:00.000001: W tensorflow/core/framework/local_rendezvous.cc:404] Local rendezvous is aborting "
    b"with status: INVALID_ARGUMENT: bad record",
    b"terminate called after throwing an instance of 'std::bad_alloc'",
    b"Premature end of JPEG file",
    b"my/failed call to cuInit.jpg cannot be read",
    b"",
]


@pytest.mark.parametrize("line", NOISE)
def test_noise_is_known(line):
    assert is_noise(line, has_gpu=False) and is_noise(line, has_gpu=True)


@pytest.mark.parametrize("line", REAL)
def test_all_else_stays(line):
    assert not is_noise(line, has_gpu=False)


def test_what_is_said_of_a_gpu_counts_where_there_is_one():
    for line in (
        CUINIT,
        b"2026-12-01 05:01:30.309741: W external/local_xla/xla/tsl/cuda/cudart_stub.cc:31] Could not find cuda drivers "
        b"on your machine, GPU will not be used.",
        b"W0000 00:00:1733000000.1    1 gpu_device.cc:2341] Cannot dlopen some GPU libraries. Please make sure the "
        b"missing libraries mentioned above are installed properly",
        b"Skipping registering GPU devices...",
    ):
        assert is_noise(line, has_gpu=False) and not is_noise(line, has_gpu=True)


def passed_on(*chunks, pause=0.0):
    """What arrives of chunks that are written one after the other."""
    reads, writes = os.pipe()
    arrives, outside = os.pipe()
    filtering = threading.Thread(target=pass_on, args=(reads, outside, False))
    filtering.start()
    for chunk in chunks:
        os.write(writes, chunk)
        if pause:
            threading.Event().wait(pause)
    os.close(writes)
    filtering.join()
    os.close(outside)
    with open(arrives, "rb") as file:
        return file.read()


def test_lines_arrive_whole_in_order_and_without_noise():
    assert passed_on(b"one\n" + CUINIT + b"\ntwo\nthr", b"ee\n", NOISE[0] + b"\n") == b"one\ntwo\nthree\n"
    assert passed_on(b"no end") == b"no end"
    assert passed_on(b"half of a ", b"line\nnext\n", pause=0.3) == b"half of a line\nnext\n"  # a prompt, say
    assert passed_on(CUINIT[:-10], CUINIT[-10:] + b"\nnext\n", pause=0.3) == b"next\n"


PROGRAM = """
import logging, os, signal, sys
from tfdet.native_stderr import quiet_tensorflow
with quiet_tensorflow():
    os.write(2, sys.stdin.buffer.read())
    print("of Python", file=sys.stderr)
    for text in ("5 out of the last 5 calls to %s triggered tf.function retracing.", "%s has no gradient"):
        logging.getLogger("tensorflow").warning(text, "step")
    os.system("echo of a subprocess >&2")
    if sys.argv[1:]:
        os.kill(os.getpid(), int(sys.argv[1]))
os.write(2, b"after\\n")
"""


@pytest.mark.parametrize("number", [None, signal.SIGKILL, signal.SIGABRT])
def test_nothing_real_is_lost_however_a_program_ends(number):
    command = [sys.executable, "-c", PROGRAM, *([] if number is None else [str(int(number))])]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1"}
    said = b"first\n" + CUINIT + b"\nlast words without an end"
    done = subprocess.run(command, input=said, capture_output=True, timeout=60, env=environment)
    assert done.returncode == (0 if number is None else -number)
    said = (b"first\n", b"last words without an end", b"of Python\n", b"step has no gradient\n", b"of a subprocess\n")
    for text in said:
        assert text in done.stderr
    assert b"cuInit" not in done.stderr and b"retracing" not in done.stderr
    assert (b"after\n" in done.stderr) == (number is None)
