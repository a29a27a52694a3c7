"""How the workers of a run find each other: every one of them connects to worker 0."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Mapping

from tfdet.cluster.environment import CONTROL_PORT, Cluster, host_of
from tfdet.cluster.wire import Message, Wire
from tfdet.cluster.workers import differences
from tfdet.errors import UserError

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_HELLO_SECONDS = 20.0  # whoever connects says within these who it is
_TOLD_EVERY = 30.0
_LOOKS_EVERY = 0.2


def meet(cluster: Cluster, facts: Mapping[str, str], timeout: float, say: Callable[[str], None]) -> dict[int, Wire]:
    """Waits until all workers are there and agree.

    Args:
        cluster: of the run.
        facts: what all workers have to agree on before they understand each other, such as versions.
        timeout: seconds to wait at most.
        say: told whom it waits for, each half minute.

    Returns:
        On worker 0 the wires to the others by their numbers, on these the wire to worker 0.

    Raises:
        UserError: a worker did not come, came twice, or differs.
    """
    listed = dict(facts) | {"the workers": ", ".join(cluster.addresses)}
    if cluster.number == 0:
        return _Host(cluster, listed, say).meet(timeout)
    return {0: _join(cluster, listed, timeout, say)}


class _Host:
    """Worker 0, to which the others come."""

    def __init__(self, cluster: Cluster, facts: Mapping[str, str], say: Callable[[str], None]):
        self._cluster, self._facts, self._say = cluster, facts, say
        self._wires: dict[int, Wire] = {}

    def meet(self, timeout: float) -> dict[int, Wire]:
        end, told = time.monotonic() + timeout, time.monotonic()
        try:
            with self._listen() as server:
                server.settimeout(_LOOKS_EVERY)
                while len(self._wires) < self._cluster.count - 1:
                    if time.monotonic() > end:
                        raise UserError(
                            f"waited {timeout:.0f} s for {self._missing()}: start tfdet on every machine of the "
                            f"cluster, and let them reach port {self._cluster.control_port} of worker 0"
                        )
                    if time.monotonic() > told + _TOLD_EVERY:
                        told = time.monotonic()
                        self._say(f"waiting for {self._missing()}")
                    with contextlib.suppress(TimeoutError):
                        self._admit(server.accept()[0])
        except BaseException as error:
            for wire in self._wires.values():
                with contextlib.suppress(OSError):
                    wire.send(Message("refused", value=str(error) or type(error).__name__))
                wire.close()
            raise
        for wire in self._wires.values():
            wire.send(Message("welcome"))
        return self._wires

    def _listen(self) -> socket.socket:
        host, port = host_of(self._cluster.addresses[0]), self._cluster.control_port
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            return socket.create_server((host if host in _LOOPBACK else "", port), family=family)
        except OSError as error:
            raise UserError(
                f"worker 0 cannot listen on port {port} ({error.strerror}): end what uses it, or set {CONTROL_PORT} to "
                "another one on all workers"
            ) from None

    def _missing(self) -> str:
        numbers = [number for number in range(1, self._cluster.count) if number not in self._wires]
        more = f" and {len(numbers) - 8} more" if len(numbers) > 8 else ""
        return ", ".join(map(self._cluster.name, numbers[:8])) + more

    def _admit(self, connection: socket.socket) -> None:
        wire = Wire(connection)
        connection.settimeout(_HELLO_SECONDS)
        try:
            hello = wire.receive()
            number, facts = int(hello.value["number"]), {str(k): str(v) for k, v in hello.value["facts"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, UnicodeDecodeError):
            wire.close()  # none of ours, such as a probe that looks whether the port is open
            return
        connection.settimeout(None)
        problem = None
        if not 0 < number < self._cluster.count or (differ := differences(facts, self._facts)):
            name = self._cluster.name(number) if 0 < number < self._cluster.count else f"worker {number}"
            differ = differences(facts, self._facts)
            problem = f"{name} cannot take part: {differ or 'there is no worker of this number'}"
        elif number in self._wires:
            problem = f"{self._cluster.name(number)} was started twice: every process has a number of its own"
        if problem is not None:
            with contextlib.suppress(OSError):
                wire.send(Message("refused", value=problem))
            wire.close()
            raise UserError(problem)
        self._wires[number] = wire


def _join(cluster: Cluster, facts: Mapping[str, str], timeout: float, say: Callable[[str], None]) -> Wire:
    host, port = host_of(cluster.addresses[0]), cluster.control_port
    end, told = time.monotonic() + timeout, time.monotonic()
    reason = "it does not answer"
    while True:
        left = end - time.monotonic()
        if left <= 0:
            raise UserError(
                f"{cluster.name(cluster.number)} waited {timeout:.0f} s for worker 0 at {host}:{port} ({reason}): is "
                "tfdet started there, and is the port open?"
            )
        try:
            connection = socket.create_connection((host, port), timeout=min(10.0, left))
            break
        except OSError as error:  # its name may not be known yet either
            reason = error.strerror or str(error)
        if time.monotonic() > told + _TOLD_EVERY:
            told = time.monotonic()
            say(f"waiting for worker 0 at {host}:{port} ({reason})")
        time.sleep(min(_LOOKS_EVERY, max(0.0, left)))
    wire = Wire(connection)
    connection.settimeout(max(1.0, end - time.monotonic()))
    try:
        wire.send(Message("hello", value={"number": cluster.number, "facts": dict(facts)}))
        answer = wire.receive()
    except (OSError, ValueError) as error:
        wire.close()
        raise UserError(f"{cluster.name(0)} ended before all workers had come ({error})") from None
    connection.settimeout(None)
    if answer.kind != "welcome":
        wire.close()
        raise UserError(str(answer.value))
    return wire
