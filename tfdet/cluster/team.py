"""Several processes that train one run: what they say to each other beside TensorFlow's collectives."""

from __future__ import annotations

import collections
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tfdet.cluster.code import code_facts
from tfdet.cluster.environment import Cluster
from tfdet.cluster.gate import Gate
from tfdet.cluster.meeting import meet
from tfdet.cluster.wire import Message, Wire
from tfdet.cluster.workers import Workers, differences
from tfdet.errors import EXIT_WORKER_LOST, UserError, WorkerLostError

START_TIMEOUT = "TFDET_START_TIMEOUT"
"""The variable with the seconds for which workers wait for each other at the start."""
WORKER_TIMEOUT = 60.0
"""Seconds without a word after which a worker counts as lost, unless `Trainer.worker_timeout` says another number."""
GRACE = 30.0
"""Seconds in which a worker ends by itself once another is lost; then its process is ended."""

_START_SECONDS = 1800.0
_TICK = 0.2
_BEATS = 10  # in a timeout


class Team(Workers):
    """The workers of a cluster. Each has a connection to worker 0, on which both sides say every few seconds that they
    are there; worker 0 tells the others who is not.

    TensorFlow's own check is not used: `MultiWorkerMirroredStrategy` looks after its workers by a thread whose retries
    are not reached by the error that a dead worker gives, or by a service that ends processes by itself. Neither
    names the worker or sees one that hangs.

    Make it before TensorFlow runs anything.

    Args:
        cluster: of the run.
        say: told whom it waits for.
        timeout: seconds to wait for the others to come; None: `TFDET_START_TIMEOUT`, or half an hour.

    Attributes:
        gate: at which step all stop.
        on_lost: called, in another thread, once a worker is lost; None.
        on_stop: called, in another thread, once all have agreed on where to stop; None.
        shared_error: that of worker 0 which `of_chief` raised on all of them; None.

    Raises:
        UserError: a worker did not come or is another one than it should be.
    """

    cluster: Cluster

    def __init__(self, cluster: Cluster, say: Callable[[str], None], timeout: float | None = None):
        self.cluster = cluster
        self.number, self.count = cluster.number, cluster.count
        self.worker_timeout = WORKER_TIMEOUT
        self.on_lost: Callable[[], None] | None = None
        self.on_stop: Callable[[], None] | None = None
        self.shared_error: UserError | None = None
        self._changed = threading.Condition()
        self.gate = Gate(self._changed)
        self._lost: str | None = None
        self._lost_at = 0.0
        self._closing = False
        self._left: set[int] = set()
        self._asked: str | None = None  # by a signal to this process, whose handler does no more than that
        self._asked_already = False
        self._held: dict[int, int] | None = None  # on the chief: steps that each has begun, while all hold
        self._inbox: dict[tuple[int, str], collections.deque[Message]] = collections.defaultdict(collections.deque)
        self._wires = meet(cluster, code_facts(), _start_seconds() if timeout is None else timeout, say)
        for number, wire in self._wires.items():
            threading.Thread(target=self._listen, args=(number, wire), daemon=True).start()
        threading.Thread(target=self._watch, daemon=True).start()

    @property
    def lost(self) -> str | None:
        return self._lost

    def of_chief(self, key: str, make: Callable[[], Any]) -> Any:
        if not self.is_chief:
            answer = self._wait_for(0, key).value
            if "error" in answer:
                self.shared_error = UserError(answer["error"])
                raise self.shared_error
            return answer["value"]
        self.check()
        try:
            value = make()
        except UserError as error:
            self.shared_error = error
            self._tell(Message("value", key, {"error": str(error)}))
            raise
        self._tell(Message("value", key, {"value": value}))
        return value

    def arrays_of_chief(self, key: str, make: Callable[[], Mapping[str, np.ndarray]]) -> Mapping[str, np.ndarray]:
        if not self.is_chief:
            return self._wait_for(0, key).arrays
        self.check()
        arrays = make()
        self._tell(Message("value", key, arrays=arrays))
        return arrays

    def gather(self, key: str, value: Any) -> Sequence[Any]:
        if not self.is_chief:
            self._tell(Message("value", key, value))
            return []
        return [value, *(self._wait_for(number, key).value for number in range(1, self.count))]

    def agree(self, key: str, facts: Mapping[str, str]) -> None:
        given = self.gather(f"{key}: facts", dict(facts))

        def compare() -> None:
            for number, other in enumerate(given):
                if (differ := differences(other, given[0])) is not None:
                    raise UserError(f"{self.cluster.name(number)} cannot take part: {differ}")

        self.of_chief(key, compare)

    def check(self) -> None:
        """`WorkerLostError` where a worker is lost."""
        if self._lost is not None:
            raise WorkerLostError(self._lost)

    def verdict(self) -> str | None:
        """Which worker is lost, after the failure of a collective: worker 0 may be about to learn it."""
        with self._changed:
            self._changed.wait_for(lambda: self._lost is not None, self.worker_timeout + 2 * _TICK)
            return self._lost

    def ask_to_stop(self, reason: str) -> None:
        """All workers shall stop at a step that they agree on. Does so little that a signal's handler may call it."""
        self._asked = self._asked or reason

    def may_begin(self, step: int) -> bool:
        """Whether this worker may begin a step; False where all stop before it. Waits where that is being decided."""
        return self.gate.begin(step, self.check)

    def fail(self, text: str) -> None:
        self._end(Message("failed", value=text))

    def close(self) -> None:
        self._end(Message("bye"))

    def _end(self, message: Message) -> None:
        """This worker ends by itself: it is watched no longer, and the others learn why."""
        with self._changed:
            told, self._closing = self._closing or self._lost is not None, True
        if not told:
            self._tell(message, strict=False)

    def _tell(self, message: Message, strict: bool = True) -> None:
        """Sends to worker 0, or from there to all. Who is gone is found by the thread that listens to it."""
        for wire in self._wires.values():
            try:
                wire.send(message)
            except OSError:
                if strict:
                    self.verdict()
                    self.check()

    def _wait_for(self, number: int, key: str) -> Message:
        with self._changed:
            while not self._inbox[number, key]:
                self.check()
                if number in self._left:
                    raise WorkerLostError(f"{self.cluster.name(number)} has ended, and this worker has not")
                self._changed.wait(1.0)
            return self._inbox[number, key].popleft()

    def _listen(self, number: int, wire: Wire) -> None:
        """What one other worker says, in a thread of its own."""
        while True:
            try:
                message = wire.receive()
            except (OSError, ValueError):
                if number not in self._left and not self._closing:
                    self._lose(
                        f"{self.cluster.name(number)} ended without a word: killed, or its machine is gone", wire
                    )
                return
            if message.kind == "value":
                with self._changed:
                    self._inbox[number, message.key].append(message)
                    self._changed.notify_all()
            elif message.kind == "stop":
                self._hold_all(str(message.value))
            elif message.kind == "hold":
                wire.send_if_free(Message("beat"))
                self._answer(wire)
            elif message.kind == "held":
                self._count(number, int(message.value))
            elif message.kind == "last":
                self._release(int(message.key), str(message.value))
            elif message.kind == "failed":
                self._lose(f"{self.cluster.name(number)} ended: {message.value}", wire)
            elif message.kind == "lost":
                self._lose(str(message.value), None)
            elif message.kind == "bye":
                with self._changed:
                    self._left.add(number)
                    self._changed.notify_all()

    def _answer(self, wire: Wire) -> None:
        try:
            wire.send(Message("held", value=self.gate.hold()))
        except OSError:
            pass  # the thread that listens says so

    def _hold_all(self, reason: str) -> None:
        """On the chief: asks all workers to hold, once."""
        with self._changed:
            if self._held is not None:
                return
            self._held, self._reason = {}, reason
        self._tell(Message("hold"), strict=False)
        self._count(0, self.gate.hold())

    def _count(self, number: int, begun: int) -> None:
        """On the chief: a worker holds after so many steps; once all do, the last step of all is known."""
        with self._changed:
            held = self._held
            if held is None:
                return
            held[number] = begun
            if len(held) < self.count:
                return
            last = max(held.values())
        self._tell(Message("last", str(last), self._reason), strict=False)
        self._release(last, self._reason)

    def _release(self, last: int, reason: str) -> None:
        self.gate.release_until(last, reason)
        if self.on_stop is not None:
            self.on_stop()

    def _lose(self, text: str, wire: Wire | None) -> None:
        """Notes that a worker is lost, wakes whoever waits, and, on the chief, tells the others."""
        with self._changed:
            if self._lost is not None or self._closing:
                return
            self._lost, self._lost_at = text, time.monotonic()
            self._changed.notify_all()
        if wire is not None:
            wire.close()  # a thread may be sending to it, for ever
        if self.is_chief:
            for other in self._wires.values():
                if other is not wire:
                    threading.Thread(target=_last_word, args=(other, text), daemon=True).start()
        if self.on_lost is not None:
            self.on_lost()

    def _watch(self) -> None:
        """Says that this worker is there, looks whether the others are, and ends a process that cannot end."""
        ticked = beat = time.monotonic()
        while not self._closing:
            time.sleep(_TICK)
            now, before, ticked = time.monotonic(), ticked, time.monotonic()
            if self._lost is not None:
                if now > self._lost_at + GRACE:
                    print(f"tfdet: error: {self._lost}", file=sys.stderr, flush=True)
                    os._exit(EXIT_WORKER_LOST)
                continue
            if self._asked is not None and not self._asked_already:
                self._asked_already = True
                if self.is_chief:
                    self._hold_all(self._asked)
                else:
                    self._tell(Message("stop", value=self._asked), strict=False)
            if now > beat + self.worker_timeout / _BEATS:
                beat = now
                for wire in self._wires.values():
                    wire.send_if_free(Message("beat"))
            if now > before + self.worker_timeout / 2:
                continue  # this process stood still: it looks again once it has heard what came meanwhile
            for number, wire in self._wires.items():
                silence = now - wire.heard
                if silence > self.worker_timeout and number not in self._left:
                    self._lose(f"{self.cluster.name(number)} has not answered for {silence:.0f} s", wire)


def _last_word(wire: Wire, text: str) -> None:
    try:
        wire.send(Message("lost", value=text))
    except OSError:
        pass


def _start_seconds() -> float:
    text = os.environ.get(START_TIMEOUT, "").strip()
    try:
        seconds = float(text or _START_SECONDS)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise UserError(f"The environment variable {START_TIMEOUT} = {text!r}: give a number of seconds")
    return seconds
