"""What a run would find here: versions, custom ops, devices, precision, memory."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from typing import NamedTuple

PACKAGES = (
    "tfdet",
    "tensorflow",
    "keras",
    "tf-models-official",
    "numpy",
    "pycocotools",
    "gin-config",
    "protobuf",
    "Pillow",
    "matplotlib",
    "rich",
)


class Finding(NamedTuple):
    """One line of the report."""

    subject: str
    value: str
    problem: str | None = None  # what is wrong and what to do; None where nothing is


def findings() -> list[Finding]:
    """Looks at everything that decides how tfdet runs on this machine.

    Imports TensorFlow and Keras and initialises the devices, as a run would.

    Returns:
        The lines of `tfdet doctor`, in its order.
    """
    return [*_versions(), *_devices(), _ops(), *_precision(), *_memory()]


def _versions() -> list[Finding]:
    found = [
        Finding("Python", f"{platform.python_version()} ({sys.executable})"),
        Finding("system", platform.platform()),
    ]
    for name in PACKAGES:
        try:
            found.append(Finding(name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            found.append(Finding(name, "-", "not installed: pip install -e . in tfdet's folder"))
    wanted = {"tensorflow": "2.20.", "gin-config": "0.5"}
    return [
        entry._replace(problem=f"tfdet is made for {wanted[entry.subject]}*: pip install -e . corrects it")
        if entry.problem is None and not entry.value.startswith(wanted.get(entry.subject, ""))
        else entry
        for entry in found
    ]


def _devices() -> list[Finding]:
    import tensorflow as tf

    build = tf.sysconfig.get_build_info()
    cuda = f"CUDA {build.get('cuda_version', '?')}, cuDNN {build.get('cudnn_version', '?')}"
    built_with_cuda = tf.test.is_built_with_cuda()
    found = [
        Finding("TensorFlow's build", cuda if built_with_cuda else "CPU alone"),
        Finding("CPU", f"{os.cpu_count()} cores, {cpu_model()}"),
    ]
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        details = tf.config.experimental.get_device_details(gpu)
        capability = ".".join(map(str, details.get("compute_capability", ())))
        found.append(
            Finding(gpu.name.split(":", 1)[1], f"{details.get('device_name', '?')}, compute capability {capability}")
        )
    if gpus:
        return found
    driver, hidden = os.path.exists("/dev/nvidiactl"), os.environ.get("CUDA_VISIBLE_DEVICES")
    if not driver:
        found.append(Finding("GPU", "none"))
    elif hidden is not None:
        found.append(Finding("GPU", f"hidden by CUDA_VISIBLE_DEVICES={hidden}"))
    else:
        found.append(
            Finding("GPU", "there, but TensorFlow cannot use it", "CUDA libraries missing? pip install -e '.[cuda]'")
        )
    return found


def _ops() -> Finding:
    from tfdet.errors import UserError
    from tfdet.ops import native

    try:
        return Finding("ops", native.describe())
    except UserError as error:
        return Finding("ops", "the custom ones cannot be used", str(error))


def _precision() -> list[Finding]:
    import keras
    import tensorflow as tf

    capabilities = [
        tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0))
        for gpu in tf.config.list_physical_devices("GPU")
    ]
    if not capabilities:
        advice = "float32; mixed_float16 works on a CPU and is slower there"
    elif min(capabilities) >= (8, 0):
        advice = "float32, mixed_float16 and mixed_bfloat16 at full speed"
    elif min(capabilities) >= (7, 0):
        advice = "float32 and mixed_float16 at full speed"
    else:
        advice = "float32; these GPUs have no fast half precision"
    backend = keras.backend.backend()
    problem = None if backend == "tensorflow" else "set KERAS_BACKEND=tensorflow; tfdet's own commands do"
    return [Finding("Keras backend", backend, problem), Finding("precision", advice)]


def _memory() -> list[Finding]:
    import tensorflow as tf

    found = []
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            fields = dict(line.split(":", 1) for line in file)
        total, free = (int(fields[name].split()[0]) / 2**20 for name in ("MemTotal", "MemAvailable"))
        found.append(Finding("memory", f"{free:.1f} of {total:.1f} GiB available"))
    except (OSError, KeyError, ValueError):  # not Linux
        found.append(Finding("memory", "unknown on this system"))
    for index, device in enumerate(tf.config.list_logical_devices("GPU")):
        use = tf.config.experimental.get_memory_info(f"GPU:{index}")
        found.append(
            Finding(f"memory of {device.name.split('/')[-1]}", f"{use['peak'] / 2**30:.2f} GiB used by TensorFlow")
        )
    return found


def cpu_model() -> str:
    """The processor, as it calls itself."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
