"""Signals that end a program: what is half done is put away first."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class Terminated(BaseException):
    """SIGTERM or SIGHUP. Like KeyboardInterrupt no `Exception`, so that no handler of errors takes it for one.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextlib.contextmanager
def terminated_by_exception() -> Iterator[None]:
    """While entered, the first SIGTERM or SIGHUP raises `Terminated` in the main thread; further ones are ignored.

    So what stands in `finally` runs, as it does for Ctrl-C: temporary folders and worker processes go. A SIGHUP that is
    ignored (nohup) stays so. Outside the main thread Python allows no handlers, and nothing changes.
    """
    raised = False

    def receive(number: int, frame: FrameType | None) -> None:
        nonlocal raised
        if not raised:
            raised = True
            raise Terminated(number)

    with _handlers(_SIGNALS, receive):
        yield


@contextlib.contextmanager
def whole() -> Iterator[None]:
    """For short work that is to be done whole, such as two renames: signals that end the program wait for its end."""
    received: list[int] = []
    try:
        with _handlers((*_SIGNALS, signal.SIGINT), lambda number, frame: received.append(number)):
            yield
    finally:
        for number in received[:1]:
            signal.raise_signal(number)


def as_worker() -> None:
    """For a process that works for another: it leaves signals to that one, and ends when that one has ended.

    A terminal and a job's end signal all processes alike; then the one that gave out the work stops the others. One
    that was killed can not.
    """
    for number in (*_SIGNALS, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextlib.contextmanager
def _handlers(numbers: Sequence[int], handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    before = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for number in numbers:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    before[number] = signal.signal(number, handler)
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
