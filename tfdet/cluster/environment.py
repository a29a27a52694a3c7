"""Which processes train one run together: read from `TF_CONFIG` or from Slurm's variables, without TensorFlow."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tfdet.errors import UserError
from tfdet.strict_json import parse_json

TF_CONFIG = "TF_CONFIG"
OFF = "TFDET_CLUSTER"
"""The variable that, set to `none`, makes a process train alone whatever the other variables say."""
CONTROL_PORT = "TFDET_CONTROL_PORT"
"""The variable with the port on which worker 0 listens for the other workers."""
CONTROL_OFFSET = 1000
"""Without that variable: so far above the port of worker 0."""

_JOBS = ("chief", "worker")
_LAST_PORT = 65535
_NODES = r"(?:[\w.-]|\[[\d,-]+\])+"
# Slurm names no ports: a block for each job, whose first port is for control.
_SLURM_FIRST, _SLURM_BLOCKS, _SLURM_BLOCK = 20000, 500, 64


@dataclass(frozen=True)
class Cluster:
    """The workers of one run, as one of them sees it.

    Attributes:
        jobs: addresses `host:port` of TensorFlow's servers by job, "chief" and "worker".
        job, task: this process among them.
        control_port: port of worker 0 for what workers say to each other beside TensorFlow.
        local: (number, count) of this process among those of its machine that share its GPUs; (0, 1) where it has what
            it sees.
        source: where it was read: "TF_CONFIG" or "Slurm".
    """

    jobs: Mapping[str, tuple[str, ...]]
    job: str
    task: int
    control_port: int
    local: tuple[int, int] = (0, 1)
    source: str = TF_CONFIG

    @property
    def addresses(self) -> tuple[str, ...]:
        """`host:port` by worker; worker 0 is the chief, or the first of the workers where there is no chief."""
        return tuple(address for job in _JOBS for address in self.jobs.get(job, ()))

    @property
    def number(self) -> int:
        """Of this worker, from 0."""
        return self.task + (len(self.jobs.get("chief", ())) if self.job == "worker" else 0)

    @property
    def count(self) -> int:
        """How many workers there are."""
        return len(self.addresses)

    def name(self, number: int) -> str:
        """A worker for people: `worker 2 (node7:20003)`."""
        return f"worker {number} ({self.addresses[number]})"


def find_cluster(environment: Mapping[str, str] | None = None) -> Cluster | None:
    """The cluster that this process is a part of; None where it trains alone.

    `TF_CONFIG` counts before Slurm's variables, and those where `srun` started more than one task.

    Args:
        environment: variables by name; None: those of this process.

    Raises:
        UserError: the variables contradict themselves, or ask for what tfdet does not do.
    """
    variables = os.environ if environment is None else environment
    off = variables.get(OFF, "")
    if off not in ("", "none"):
        raise UserError(f"The environment variable {OFF} = {off!r}: none trains alone; leave it out otherwise")
    if off:
        return None
    text = variables.get(TF_CONFIG, "").strip()
    cluster = _of_tf_config(text, variables) if text else _of_slurm(variables)
    return cluster if cluster is not None and cluster.count > 1 else None


def cluster_size(environment: Mapping[str, str] | None = None) -> int:
    """How many workers train together: 1 where this process trains alone. Args: as in `find_cluster`."""
    cluster = find_cluster(environment)
    return 1 if cluster is None else cluster.count


def _of_tf_config(text: str, variables: Mapping[str, str]) -> Cluster | None:
    try:
        content = parse_json(text)
        jobs = {str(job): tuple(map(_address, _tasks(tasks))) for job, tasks in (content.get("cluster") or {}).items()}
        task = content.get("task") or {}
        job, index = task.get("type"), task.get("index")
    except (ValueError, AttributeError, TypeError) as error:
        raise _refused(f"is no JSON of a cluster ({error})") from None
    if not jobs:
        return None
    if job == "evaluator":
        raise _refused("makes this process an evaluator, but the workers evaluate: start workers alone")
    others = [name for name in jobs if name not in (*_JOBS, "evaluator")]
    if others:
        raise _refused(f"has the job {others[0]!r}, but training knows chief and worker alone")
    if len(jobs.get("chief", ())) > 1:
        raise _refused("names more than one chief")
    if isinstance(index, str) and index.isdigit():  # as some launchers write it
        index = int(index)
    if job not in _JOBS or not isinstance(index, int) or not 0 <= index < len(jobs.get(job, ())):
        raise _refused(f"names no task of its cluster as its own. Received: type {job!r}, index {index!r}")
    jobs = {name: jobs[name] for name in _JOBS if jobs.get(name)}
    addresses = [address for name in jobs for address in jobs[name]]
    if len(set(addresses)) < len(addresses):
        twice = next(address for address in addresses if addresses.count(address) > 1)
        raise _refused(f"names the address {twice} twice")
    return Cluster(jobs, job, index, _control_port(variables, _port(addresses[0]) + CONTROL_OFFSET))


def _tasks(tasks: Any) -> list:
    # A list, or a dictionary of the tasks that a process knows, which must be all here.
    if isinstance(tasks, Mapping):
        return [tasks[key] for key in sorted(tasks, key=int)]
    if not isinstance(tasks, list):
        raise TypeError("the tasks of a job are a list")
    return tasks


def _address(text: Any) -> str:
    if not isinstance(text, str) or not text.rpartition(":")[0] or not text.rpartition(":")[2].isdigit():
        raise ValueError(f"{text!r} is no address host:port")
    if not 0 < _port(text) <= _LAST_PORT:
        raise ValueError(f"{text!r} has no port from 1 to {_LAST_PORT}")
    return text


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


def host_of(address: str) -> str:
    """The host of `host:port`, brackets of an IPv6 address left out."""
    return address.rpartition(":")[0].strip("[]")


def _control_port(variables: Mapping[str, str], usual: int) -> int:
    text = variables.get(CONTROL_PORT, "").strip()
    if text and not (text.isdigit() and 0 < int(text) <= _LAST_PORT):
        raise UserError(f"The environment variable {CONTROL_PORT} = {text!r}: give a port from 1 to {_LAST_PORT}")
    if text:
        return int(text)
    return usual if usual <= _LAST_PORT else usual - 2 * CONTROL_OFFSET


def _of_slurm(variables: Mapping[str, str]) -> Cluster | None:
    """The tasks of a job step, in the order of its nodes.

    TensorFlow's `SlurmClusterResolver` sorts the nodes by name, so that node10 comes before node2 and tasks take each
    other's addresses; and it asks nvidia-smi. Slurm numbers tasks node by node, as `--distribution=block` has it.
    """
    names = [f"SLURM_{name}" for name in ("PROCID", "STEP_NUM_TASKS", "STEP_NODELIST", "STEP_TASKS_PER_NODE")]
    if any(not variables.get(name) for name in names):
        return None
    rank, count, nodes, tasks = (variables[name] for name in names)
    try:
        if int(count) < 2:
            return None
        hosts, shares = expand_nodes(nodes), expand_counts(tasks)
        number, total, job = int(rank), int(count), int(variables.get("SLURM_JOB_ID", "0"))
    except ValueError as error:
        raise UserError(f"Slurm's variables cannot be read ({error}): {', '.join(names)}") from None
    if len(hosts) != len(shares) or sum(shares) != total or not 0 <= number < total:
        raise UserError(
            f"Slurm's variables do not fit together: {names[2]} = {nodes}, {names[3]} = {tasks}, {names[1]} = {count}, "
            f"{names[0]} = {rank}"
        )
    if max(shares) >= _SLURM_BLOCK:
        raise UserError(f"{names[3]} = {tasks}: at most {_SLURM_BLOCK - 1} workers run on one node")
    first = _SLURM_FIRST + job % _SLURM_BLOCKS * _SLURM_BLOCK
    places = [(host, index, share) for host, share in zip(hosts, shares) for index in range(share)]
    addresses = tuple(f"{host}:{first + 1 + index}" for host, index, _ in places)
    own_gpus = variables.get("SLURM_GPUS_PER_TASK") or variables.get("SLURM_TRES_PER_TASK")
    local = (0, 1) if own_gpus else places[number][1:]
    return Cluster({"worker": addresses}, "worker", number, _control_port(variables, first), local, "Slurm")


def expand_nodes(text: str) -> list[str]:
    """The hosts of Slurm's `node[1-3,07],gpu5`, in its order; `ValueError` for anything else."""
    hosts: list[str] = []
    if not re.fullmatch(rf"{_NODES}(,{_NODES})*", text):
        raise ValueError(f"{text!r} is no list of nodes")
    for part in re.findall(_NODES, text):
        pieces = re.split(r"\[([^\[\]]*)\]", part)  # texts and, between them, ranges
        found = [pieces[0]]
        for ranges, rest in zip(pieces[1::2], pieces[2::2]):
            found = [f"{host}{number}{rest}" for host in found for number in _numbers(ranges)]
        hosts += found
    if len(set(hosts)) < len(hosts):
        raise ValueError(f"{text!r} names a node twice")
    return hosts


def _numbers(ranges: str) -> list[str]:
    numbers = []
    for part in ranges.split(","):
        first, dash, last = part.partition("-")
        if not first.isdigit() or dash and not last.isdigit():
            raise ValueError(f"[{ranges}] is no range of nodes")
        numbers += [f"{number:0{len(first)}d}" for number in range(int(first), int(last or first) + 1)]
    return numbers


def expand_counts(text: str) -> list[int]:
    """Tasks of each node in Slurm's `2(x3),1`: [2, 2, 2, 1]; `ValueError` for anything else."""
    counts: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part)
        if match is None:
            raise ValueError(f"{text!r} are no counts of tasks")
        counts += [int(match[1])] * int(match[2] or 1)
    return counts


def _refused(what: str) -> UserError:
    return UserError(
        f"The environment variable {TF_CONFIG} {what}; {OFF}=none trains on this machine alone (docs/clusters.md)"
    )
