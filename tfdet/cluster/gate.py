"""At which step all workers stop: one is asked to, and none may be a step further than another."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Gate:
    """Lets one worker's steps pass until the workers have agreed on the last one.

    Each step is a collective of all workers: one that begins a step which another never takes waits for ever. So when
    a stop is asked for, every worker holds: it begins no further step and says how many it has begun. The largest of
    these is the last step of all, and those that are behind still take theirs. It costs no message in a step.

    Args:
        condition: of the worker's state; waiting ends where `given_up` says so.
    """

    def __init__(self, condition: threading.Condition):
        self._condition = condition
        self._begun = 0
        self._held = False
        self._last: int | None = None
        self.reason: str | None = None  # why all stop, once they have agreed

    @property
    def last(self) -> int | None:
        """The step at which all stop; None before they have agreed on one."""
        with self._condition:
            return self._last

    def start_at(self, step: int) -> None:
        """Args: step, which a run that goes on has done."""
        with self._condition:
            self._begun = max(self._begun, step)

    def hold(self) -> int:
        """No further step begins from here on. Returns how many have begun."""
        with self._condition:
            self._held = True
            return self._begun

    def release_until(self, step: int, reason: str) -> None:
        """All have agreed: steps up to this one begin, and no more."""
        with self._condition:
            self._last, self.reason = step, reason
            self._condition.notify_all()

    def begin(self, step: int, given_up: Callable[[], None]) -> bool:
        """Whether a step may begin; waits where that is being decided.

        Args:
            step: the number it will have.
            given_up: called without arguments while waiting; raises where there is nothing to wait for any more.
        """
        with self._condition:
            while True:
                given_up()
                if self._last is not None:
                    if step <= self._last:
                        self._begun = max(self._begun, step)
                    return step <= self._last
                if not self._held:
                    self._begun = max(self._begun, step)
                    return True
                self._condition.wait(1.0)
