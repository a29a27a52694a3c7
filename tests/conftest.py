"""Shared by all tests: 8 virtual CPU devices, no GPU, a guard against hanging, float32 after every test."""

import os

os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# No test asks the network, or finds what a person fetched; those about fetching set both.
os.environ["TFDET_OFFLINE"] = "1"
os.environ["TFDET_CACHE"] = "/nonexistent/tfdet"

import contextlib  # noqa: E402
import faulthandler  # noqa: E402
import gc  # noqa: E402
from pathlib import Path  # noqa: E402

import gin  # noqa: E402
import keras  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import tensorflow as tf  # noqa: E402

from tfdet import config  # noqa: E402
from tfdet.ops import native  # noqa: E402

GOLDEN_OPS = Path(__file__).parent / "golden" / "ops"
NUM_VIRTUAL_CPUS = 8
HANG_SECONDS = 600  # longer than any test may take on a busy machine

gc.freeze()  # the million objects of the imports are there to stay: no collection looks at them again
gc.set_threshold(20_000, 10, 20)  # graphs are many small objects: by default collecting them took a tenth of all time

tf.config.set_logical_device_configuration(  # before anything runs on a device
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * NUM_VIRTUAL_CPUS
)


@pytest.fixture
def mirrored():
    """Makes a MirroredStrategy over so many virtual devices.

    Do not make a tf.data iterator under one of 8 replicas: its end can stall.
    """
    return _mirrored


@pytest.fixture(params=[1, 2, 8], ids=lambda count: f"replicas{count}")
def strategy(request) -> tf.distribute.MirroredStrategy:
    """MirroredStrategy over 1, 2 and 8 virtual devices, one after the other."""
    return _mirrored(request.param)


@pytest.fixture(params=["python", "native"])
def implementation(request):
    """Runs a test once with TensorFlow's own ops and once with the custom ones (`make ops` builds those)."""
    if request.param == "native" and native.state().library is None:
        pytest.skip(f"custom ops: {native.state().reason}")  # TFDET_OPS=native turns this into an error
    with native.implementation(request.param):
        yield request.param


@pytest.fixture
def golden():
    """`golden(name)`: the stored inputs and outputs of one of SimpleDet's operators."""

    def load(name):
        with np.load(GOLDEN_OPS / f"{name}.npz") as arrays:
            return dict(arrays)

    return load


class Configured:
    """Parses, and keeps the configuration active until the test ends or the next call; `now` is the active one."""

    def __init__(self, stack: contextlib.ExitStack):
        self._stack, self.now = stack, None

    def __call__(self, gin_files=(), gin_params=()) -> config.Configuration:
        self._stack.close()
        self.now = config.parse(gin_files, gin_params)
        return self._stack.enter_context(self.now.active())


@pytest.fixture
def configured():
    """`configured(gin_files, gin_params)`: what is built in the rest of the test takes its parameters from these."""
    with contextlib.ExitStack() as stack:
        yield Configured(stack)


@pytest.fixture(autouse=True)
def clean_configuration():
    """No gin binding of one test reaches another."""
    assert not gin.config._CONFIG
    yield
    assert not gin.config._CONFIG


@pytest.fixture(autouse=True)
def clean_tensorflow():
    """The state every test starts from and leaves behind."""
    faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
    keras.mixed_precision.set_global_policy("float32")
    keras.utils.set_random_seed(0)
    yield
    keras.mixed_precision.set_global_policy("float32")
    keras.backend.clear_session(free_memory=False)  # a collection after every test took two thirds of all time
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(autouse=True, scope="module")
def collected_garbage():
    """What the tests of a file leave in cycles, graphs above all, does not add up, and what is left is left alone."""
    yield
    gc.collect()
    gc.freeze()


def _mirrored(num_replicas: int) -> tf.distribute.MirroredStrategy:
    # Strategies of several sizes live in one process only without collective ops.
    devices = [f"/cpu:{index}" for index in range(num_replicas)]
    return tf.distribute.MirroredStrategy(devices, cross_device_ops=tf.distribute.ReductionToOneDevice())
