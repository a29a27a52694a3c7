"""How far a download is: a bar on a terminal, else one line."""

from __future__ import annotations

import sys

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from tfdet.terminal import Console


def megabytes(size: float) -> str:
    """A size for people: `0.3 MB`, `167 MB`, `19.3 GB`."""
    if size >= 1e9:
        return f"{size / 1e9:.1f} GB"
    return f"{size / 1e6:.0f} MB" if size >= 1e7 else f"{size / 1e6:.1f} MB"


def say(line: str) -> None:
    """A line beside a program's results: on standard error."""
    Console(file=sys.stderr, soft_wrap=True).print(line, highlight=False)


class Bar:
    """Shows how far a download is; a context, which takes the bar away again.

    Args:
        label: what is fetched.
        quiet: shows nothing.
    """

    def __init__(self, label: str, quiet: bool = False):
        self._console = Console(file=sys.stderr)
        columns = (
            TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
            TimeRemainingColumn(),
        )  # fmt: skip
        self._label = label
        self._progress = Progress(
            *columns, console=self._console, transient=True, disable=quiet or not self._console.is_terminal
        )
        self._task = self._progress.add_task(label, total=None)
        self._said = quiet

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begin(self, address: str, done: int, total: int | None) -> None:
        """A transfer begins, or goes on after `done` of `total` bytes; without a terminal the first one is told."""
        self._progress.update(self._task, completed=done, total=total)
        if not self._said and not self._console.is_terminal:
            size = f", {megabytes(total)}" if total is not None else ""
            rest = f", {megabytes(done)} are here" if done else ""
            say(f"fetching {self._label} from {address}{size}{rest}")
        self._said = True

    def advance(self, count: int) -> None:
        """So many bytes more."""
        self._progress.advance(self._task, count)
