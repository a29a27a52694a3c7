"""Several workers on this machine: their processes, from start to end."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

from tfdet.cluster.environment import CONTROL_PORT, OFF, TF_CONFIG
from tfdet.errors import EXIT_OK, EXIT_WORKER_LOST, UserError
from tfdet.text import printable

_HOST = "127.0.0.1"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SIGNAL_CODE = 128
_GPUS = "CUDA_VISIBLE_DEVICES"


def launch(command: Sequence[str], count: int) -> int:
    """Runs a command of tfdet in several processes that train together, and waits for them.

    The console is that of worker 0; lines of the others have `worker 1: ` in front, on standard error. Signals go to
    worker 0, which ends them all. GPUs are shared out evenly.

    Args:
        command: such as ("train", "--gin_file=tiny.gin").
        count: of the processes, at least 1.

    Returns:
        The exit code of the worker that was the cause: who lost another has the lesser say. That of a process that a
        signal ended is 128 and the signal's number.

    Raises:
        UserError: there are GPUs, and fewer than processes.
    """
    shares, processes = _shares_of_gpus(os.environ, count), []
    *ports, control = _free_ports(count + 1)
    addresses = [f"{_HOST}:{port}" for port in ports]
    readers = []
    with _forwarded_to(processes):
        try:
            for number in range(count):
                task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": number}}
                environment = os.environ | {TF_CONFIG: json.dumps(task), CONTROL_PORT: str(control)} | shares[number]
                environment.pop(OFF, None)
                pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} if number else {}
                # Not in the session of the terminal, which sends Ctrl-C to all of them.
                process = subprocess.Popen(
                    [sys.executable, "-m", "tfdet", *command], env=environment, start_new_session=True, **pipes
                )
                processes.append(process)
                if process.stdout is not None:
                    readers.append(threading.Thread(target=_repeat, args=(number, process.stdout), daemon=True))
                    readers[-1].start()
            codes = [process.wait() for process in processes]
        except BaseException:
            for process in processes:
                process.terminate()
            raise
    for reader in readers:
        reader.join(timeout=5.0)
    return verdict(codes)


def verdict(codes: Sequence[int]) -> int:
    """The exit code of all. Args: codes, of the processes, negative for a signal."""
    found = [_SIGNAL_CODE - code if code < 0 else code for code in codes]
    causes = [code for code in found if code not in (EXIT_OK, EXIT_WORKER_LOST)]
    return causes[0] if causes else max(found)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server((_HOST, 0))) for _ in range(count)]
        return [server.getsockname()[1] for server in servers]


def _shares_of_gpus(variables: Mapping[str, str], count: int) -> list[dict[str, str]]:
    """What `CUDA_VISIBLE_DEVICES` is in each process; nothing where there is no GPU."""
    if variables.get(_GPUS) is not None:
        gpus = [gpu for gpu in variables[_GPUS].split(",") if gpu.strip() not in ("", "-1")]
    elif shutil.which("nvidia-smi"):
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False).stdout
        gpus = [str(number) for number, line in enumerate(listed.splitlines()) if line.startswith("GPU ")]
    else:
        gpus = []
    if gpus and len(gpus) < count:
        raise UserError(f"{count} workers on {len(gpus)} GPU(s): start as many at most, or set {_GPUS}=-1 for the CPU")
    each = len(gpus) // count
    return [{_GPUS: ",".join(gpus[number * each : (number + 1) * each])} if gpus else {} for number in range(count)]


def _repeat(number: int, output: IO[bytes]) -> None:
    for line in output:
        text = printable(line.decode(errors="replace").rstrip("\n"))
        print(f"worker {number}: {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _forwarded_to(processes: Sequence[subprocess.Popen]) -> Iterator[None]:
    """While entered, signals go to the first process, and from the second one on to all."""
    received = 0

    def forward(number: int, frame: object) -> None:
        nonlocal received
        received += 1
        for process in processes if received > 1 else processes[:1]:
            process.send_signal(number)

    numbers = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, forward) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
