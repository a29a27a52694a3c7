"""SIGTERM and SIGINT end a run between two steps instead of in the middle of one."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


class Stopped(BaseException):
    """A signal asked the run to end. Not an error: the state is saved and the exit code says so.

    Like KeyboardInterrupt no `Exception`, so that no handler of errors on the way takes it for one.
    """


class StopSignals:
    """While entered, the first SIGTERM, SIGINT or SIGHUP only sets `requested`; a second SIGINT interrupts at once.

    Further ones of the others change nothing: who ends a job sends several, milliseconds apart, and the state is still
    to be saved. Outside the main thread Python allows no handlers, and `requested` then stays None. A SIGHUP that is
    ignored (nohup) stays so.
    """

    def __init__(self):
        self._requested: str | None = None
        self._interruptible = False
        self._interrupts = 0
        self._previous = {}

    @property
    def requested(self) -> str | None:
        """Name of the signal received, or None."""
        return self._requested

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *exception) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def check(self) -> None:
        """Raises `Stopped` if a signal was received."""
        if self.requested:
            raise Stopped(self.requested)

    def start_at(self, step: int) -> None:
        """Args: step, which is done when the run begins or goes on."""

    def may_begin(self, step: int) -> bool:
        """Whether a step may begin. Args: step, the number that it will have."""
        return self.requested is None

    def preparing(self) -> contextlib.AbstractContextManager[None]:
        """The same as `interruptible`, for work before the first step."""
        return self.interruptible()

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """For work that changes no state, such as an evaluation: a signal ends it at once, by `Stopped`."""
        self._interruptible = True
        try:
            self.check()
            yield
        finally:
            self._interruptible = False

    def _receive(self, number: int, frame) -> None:
        self._interrupts += number == signal.SIGINT
        if self._interrupts > 1:
            raise KeyboardInterrupt
        if self.requested:
            return
        self._requested = signal.Signals(number).name
        if self._interruptible:
            raise Stopped(self.requested)
