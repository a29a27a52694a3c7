"""What `tfdet predict` says while it works: a line an image, as wide as the terminal at most, and a bar."""

from __future__ import annotations

import collections
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from rich.cells import cell_len

from tfdet.predict.found import Found
from tfdet.text import one_line

_LEAST_NAME = 24  # columns that a file's name has at least
_EVERY = 5.0  # seconds between two lines of one video


def counts_of(names: list[str], width: int) -> str:
    """Classes with how often each was found, most frequent first, in at most so many columns.

    Args:
        names: of the class of each object.
        width: columns.

    Returns:
        "3 car, 1 bus", "3 car and 2 more classes", or "nothing".
    """
    counts = collections.Counter(map(one_line, names)).most_common()
    words = [f"{count} {name}" for name, count in counts]
    for shown in range(len(words), 0, -1):
        left = len(words) - shown
        text = ", ".join(words[:shown]) + (f" and {left} more class{'es' if left > 1 else ''}" if left else "")
        if cell_len(text) <= width:
            return text
    return f"{len(names)} object{'s' if len(names) > 1 else ''}" if names else "nothing"


def shortened(name: str, width: int) -> str:
    """A name in at most so many columns: of a longer one its end, with "..." in front."""
    name = one_line(name)
    if cell_len(name) <= width:
        return name
    while name and cell_len(name) > width - 3:
        name = name[1:]
    _, slash, below = name.partition("/")  # whole folders, unless the file's own name is the long one
    return f"...{slash}{below}" if below else f"...{name}"


def image_line(place: str, name: str, found: Found, seconds: float, width: int) -> str:
    """The line of one image: `12/120 photos/a.jpg: 3 car, 1 bus  0.42 s`.

    Args:
        place: "12/120".
        name: of the image.
        found: what was found.
        seconds: that it took.
        width: columns that it may have.
    """
    ending = f"  {seconds:.2f} s"
    room = width - cell_len(place) - cell_len(ending) - 3
    words = counts_of(found.class_names, max(room - min(_LEAST_NAME, cell_len(one_line(name))), 10))
    return f"{place} {shortened(name, max(room - cell_len(words), 8))}: {words}{ending}"


class VideoLines:
    """Says every few seconds how far a video is.

    Args:
        say: prints a line.
        name: of the video.
        count: of its frames; None: not known.
        width: columns of a line.
    """

    def __init__(self, say: Callable[[str], None], name: str, count: int | None, width: int):
        self._say, self._name, self._count, self._width = say, name, count, width
        self._begun = self._said = time.monotonic()
        self._frames = 0

    def frame(self, found: Found) -> None:
        """One frame is done."""
        self._frames += 1
        now = time.monotonic()
        if now - self._said >= _EVERY:
            self._said = now
            of = "" if self._count is None else f" of {self._count}"
            front = f"frame {(found.frame or 0) + 1}{of}, {self._frames / (now - self._begun):.1f}/s: "
            room = self._width - len(front)
            words = counts_of(found.class_names, max(room // 2, 12))
            self._say(f"{shortened(self._name, max(room - cell_len(words) - 2, 8))} {front}{words}")


@contextlib.contextmanager
def progress_bar(console: Any, total: int | None) -> Iterator[Callable[[], None]]:
    """A bar below the lines of a terminal with the time that is left; hands out what moves it on by one.

    Args:
        console: a `rich.console.Console`.
        total: of what there is to do; None: not known.
    """
    if not console.is_terminal or total == 1:
        yield lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

    left = TimeElapsedColumn() if total is None else TimeRemainingColumn()
    with Progress(BarColumn(30), MofNCompleteColumn(), left, console=console, transient=True) as bar:
        task = bar.add_task("predicting", total=total)
        yield lambda: bar.advance(task)
