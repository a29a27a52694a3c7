"""The custom ops, and their kernels without TensorFlow, for tests that call them directly."""

import ctypes
import importlib.util
import shutil
from pathlib import Path

import pytest

from tfdet.ops import native

BUILD = Path(__file__).resolve().parents[2] / "custom_ops/gpu_check/build.py"


@pytest.fixture(scope="session")
def custom_ops():
    """The module of generated op functions; TFDET_OPS=native makes its absence an error instead of a skip."""
    if native.state().library is None:
        pytest.skip(f"custom ops: {native.state().reason}")
    return native.library()


@pytest.fixture(scope="session")
def kernels(tmp_path_factory):
    """All CPU kernels behind their C interface: built once, as for machines without TensorFlow."""
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    spec = importlib.util.spec_from_file_location("gpu_check_build", BUILD)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return ctypes.CDLL(str(module.build(tmp_path_factory.mktemp("kernels"), gpu=False)))
