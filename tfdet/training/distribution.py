"""Which devices hold a replica of the detector."""

from __future__ import annotations

import os

import tensorflow as tf

from tfdet.errors import UserError


def make_strategy(num_replicas: int | None = None) -> tf.distribute.MirroredStrategy:
    """MirroredStrategy over all GPUs or, where there is none, over CPU devices.

    Without GPUs, `num_replicas` above 1 splits the CPU into so many virtual devices: slower than one, yet
    the way to run an 8-replica recipe, its normalisers and its batch, on any machine. Call it before
    TensorFlow runs anything.

    Args:
        num_replicas: None for every GPU, or one CPU.

    Returns:
        The strategy; `num_replicas_in_sync` says how many replicas it has.

    Raises:
        UserError: more replicas than GPUs, TensorFlow already started with fewer CPU devices, or `TF_CONFIG`
            asks for several machines.
    """
    if os.environ.get("TF_CONFIG"):
        raise UserError("The environment variable TF_CONFIG is set, but training uses one machine: unset TF_CONFIG")
    if num_replicas is not None and num_replicas < 1:
        raise UserError(f"The number of replicas must be at least 1. Received: {num_replicas}")
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        return _over_gpus(gpus, num_replicas)
    wanted = num_replicas or 1
    available = _cpu_devices(wanted)
    if available < wanted:
        raise UserError(
            f"{wanted} replicas asked for, but TensorFlow already runs with {available} CPU device(s): "
            "make the strategy before anything else, or ask for fewer replicas"
        )
    devices = [f"/cpu:{index}" for index in range(wanted)]
    # Collective ops of two group sizes do not live together in one process, and CPUs have no use for them.
    return tf.distribute.MirroredStrategy(devices, cross_device_ops=tf.distribute.ReductionToOneDevice())


def count_replicas(num_replicas: int | None = None) -> int:
    """How many `make_strategy` will have, without making anything. Args: as there."""
    return num_replicas or len(tf.config.list_physical_devices("GPU")) or 1


def device_names(strategy: tf.distribute.Strategy) -> list[str]:
    """Names for people, such as `GPU:0 NVIDIA H100` or `CPU:0`."""
    names = []
    for device in strategy.extended.worker_devices:
        short = ":".join(device.rsplit("/", 1)[-1].split(":")[-2:])
        kind, index = short.split(":")
        if kind == "GPU":
            physical = tf.config.list_physical_devices("GPU")[int(index)]
            short += " " + tf.config.experimental.get_device_details(physical).get("device_name", "")
        names.append(short.strip())
    return names


def gpu_memory_peak(strategy: tf.distribute.Strategy) -> int | None:
    """Largest peak of allocated bytes over the strategy's GPUs since the start; None without GPUs."""
    peaks = [
        tf.config.experimental.get_memory_info(":".join(device.rsplit(":", 2)[-2:]))["peak"]
        for device in strategy.extended.worker_devices
        if "GPU:" in device
    ]
    return max(peaks) if peaks else None


def _over_gpus(gpus: list, num_replicas: int | None) -> tf.distribute.MirroredStrategy:
    if num_replicas is not None and num_replicas > len(gpus):
        raise UserError(f"{num_replicas} replicas asked for, but there are {len(gpus)} GPU(s): ask for fewer")
    try:
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError:
        pass  # TensorFlow already runs: whoever started it chose how memory is taken
    return tf.distribute.MirroredStrategy([f"/gpu:{index}" for index in range(num_replicas or len(gpus))])


def _cpu_devices(wanted: int) -> int:
    """Number of logical CPU devices, after asking for `wanted` where TensorFlow can still be asked."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    if wanted > 1 and tf.config.get_logical_device_configuration(cpu) is None:
        try:
            tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * wanted)
        except RuntimeError:
            pass  # already running; the count below says with what
    return len(tf.config.list_logical_devices("CPU"))
