"""Which devices hold a replica of the detector."""

from __future__ import annotations

from typing import Literal

import tensorflow as tf

from tfdet.cluster import Cluster, cluster_size
from tfdet.errors import UserError

Communication = Literal["auto", "nccl", "ring"]
"""What sums gradients over several machines: NCCL between GPUs, TensorFlow's ring over gRPC between any devices."""


def make_strategy(
    num_replicas: int | None = None, cluster: Cluster | None = None, communication: Communication = "auto"
) -> tf.distribute.Strategy:
    """MirroredStrategy over all GPUs or, where there is none, over CPU devices; in a cluster
    MultiWorkerMirroredStrategy.

    Without GPUs, `num_replicas` above 1 splits the CPU into so many virtual devices: slower than one, yet
    the way to run an 8-replica recipe, its normalisers and its batch, on any machine. Call it before
    TensorFlow runs anything.

    Args:
        num_replicas: of this machine; None for every GPU, or one CPU.
        cluster: the workers of the run, of which this process is one; None: it is alone.
        communication: between the workers of a cluster; "auto" is NCCL where they have GPUs, else the ring.

    Returns:
        The strategy; `num_replicas_in_sync` says how many replicas it has, over all workers.

    Raises:
        UserError: more replicas than GPUs, or TensorFlow already started, with fewer CPU devices or without the
            cluster.
    """
    if num_replicas is not None and num_replicas < 1:
        raise UserError(f"The number of replicas must be at least 1. Received: {num_replicas}")
    gpus = tf.config.list_physical_devices("GPU")
    if cluster is not None:
        return _over_workers(cluster, gpus, num_replicas, communication)
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
    """How many `make_strategy` will have, over all workers of the cluster, without making anything. Args: as there."""
    return cluster_size() * (num_replicas or len(tf.config.list_physical_devices("GPU")) or 1)


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
    _let_memory_grow(gpus)
    return tf.distribute.MirroredStrategy([f"/gpu:{index}" for index in range(num_replicas or len(gpus))])


def _over_workers(
    cluster: Cluster, gpus: list, num_replicas: int | None, communication: Communication
) -> tf.distribute.Strategy:
    own = _own_gpus(gpus, *cluster.local)[:num_replicas]
    if gpus and len(own) < (num_replicas or 1):
        raise UserError(
            f"{num_replicas or 1} replicas asked for on {cluster.name(cluster.number)}, which has {len(own)} GPU(s)"
        )
    if not gpus and num_replicas is not None and num_replicas > 1:
        raise UserError(
            f"Trainer.replicas = {num_replicas}, but a worker of a cluster has one replica on its CPU: "
            "set it to None, and start more workers"
        )
    if not gpus and communication == "nccl":
        raise UserError("Trainer.communication = 'nccl', but this machine has no GPU: use 'ring', or 'auto'")
    implementation = tf.distribute.experimental.CommunicationImplementation
    kinds = {"auto": implementation.AUTO, "nccl": implementation.NCCL, "ring": implementation.RING}
    kind = kinds[communication if gpus or communication != "auto" else "ring"]
    try:
        if gpus:
            tf.config.set_visible_devices(own, "GPU")
            _let_memory_grow(own)
        _leave_the_watch_to_the_team()
        strategy = tf.distribute.MultiWorkerMirroredStrategy(
            tf.distribute.cluster_resolver.SimpleClusterResolver(
                tf.train.ClusterSpec({job: list(addresses) for job, addresses in cluster.jobs.items()}),
                task_type=cluster.job,
                task_id=cluster.task,
                num_accelerators={"GPU": len(own)},
                rpc_layer="grpc",
            ),
            tf.distribute.experimental.CommunicationOptions(implementation=kind),
        )
    except RuntimeError as error:
        raise UserError(
            f"TensorFlow already runs and cannot join a cluster any more ({str(error).splitlines()[0]}): train in a "
            "new process, from tfdet.build"
        ) from None
    # Else every `next` of the input asks all workers whether one has a batch left; ours never end.
    strategy.extended.experimental_enable_get_next_as_optional = False
    return strategy


def abort_collectives(reason: str) -> None:
    """Ends the collectives that wait for a lost worker, and all later ones, with an error; from any thread."""
    from tensorflow.python.eager import context

    if context.context()._context_handle is not None:  # else TensorFlow has not begun to run
        context.context().abort_collective_ops(tf.errors.UNAVAILABLE, reason)


def _leave_the_watch_to_the_team() -> None:
    """TensorFlow looks after its workers in two ways, which say less than `cluster.Team`, and later; neither has a
    public switch. With a coordination service configured, if one without a name, its own does not start.
    """
    from tensorflow.python.distribute.collective_all_reduce_strategy import CollectiveAllReduceExtended
    from tensorflow.python.eager import context

    CollectiveAllReduceExtended._enable_check_health = False
    context.context().configure_coordination_service(service_type="", coordinated_jobs=[])


def _own_gpus(gpus: list, number: int, count: int) -> list:
    """The part of a machine's GPUs that one of its workers takes, evenly."""
    each = len(gpus) // count
    return gpus[number * each : (number + 1) * each]


def _let_memory_grow(gpus: list) -> None:
    try:
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError:
        pass  # TensorFlow already runs: whoever started it chose how memory is taken


def _cpu_devices(wanted: int) -> int:
    """Number of logical CPU devices, after asking for `wanted` where TensorFlow can still be asked."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    if wanted > 1 and tf.config.get_logical_device_configuration(cpu) is None:
        try:
            tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * wanted)
        except RuntimeError:
            pass  # already running; the count below says with what
    return len(tf.config.list_logical_devices("CPU"))
