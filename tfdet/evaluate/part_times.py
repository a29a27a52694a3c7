"""How long each part of an evaluation takes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

_Item = TypeVar("_Item")


class PartTimes:
    """Wall-clock seconds by part of an evaluation, as the thread that runs it spends them: where it waits.

    Attributes:
        seconds: by part, in the order in which parts first began.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def of(self, part: str) -> Iterator[None]:
        """Counts what is done while entered."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - start

    def each(self, part: str, items: Iterable[_Item]) -> Iterator[_Item]:
        """The items; counts how long each took to come."""
        iterator = iter(items)
        while True:
            with self.of(part):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item
