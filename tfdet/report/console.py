"""Training on the console: a start-up table, then a live line; plain lines where nobody watches."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import rich.console
from rich.live import Live
from rich.table import Table

from tfdet.terminal import Console, shown
from tfdet.training.observer import Observer, Progress

_LOG_WIDTH = 200  # of a line in a file: long enough that no figure breaks


class ConsoleReport(Observer):
    """Shows a run on the console.

    On a terminal the last line is renewed in place and all else scrolls above it; into a file or a pipe
    every report is a line of its own.

    Args:
        console: where to; by default standard output.
    """

    def __init__(self, console: rich.console.Console | None = None):
        self.console = console or make_console()
        self._live: Live | None = None

    def started(self, table: Mapping[str, str]) -> None:
        rows = Table(title="training", title_justify="left", show_header=False)
        rows.add_column(no_wrap=True)
        rows.add_column(overflow="fold")
        for name, value in table.items():
            rows.add_row(name, shown(value))
        self.console.print(rows)

    def first_step(self, seconds: float) -> None:
        self._print(f"time to the first training step: {seconds:.1f} s")

    def progressed(self, progress: Progress) -> None:
        line = progress_line(progress)
        if not self.console.is_terminal:
            self._print(line)
            return
        if self._live is None:
            self._live = Live(console=self.console, auto_refresh=False, transient=False)
            self._live.start()
        self._live.update(shown(line), refresh=True)

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        figures = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items() if "/" not in name)
        self._print(f"evaluation at step {step}: {figures}")

    def noted(self, text: str) -> None:
        self._print(text)

    def warned(self, text: str) -> None:
        self._print(f"warning: {text}", style="yellow")

    def closed(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _print(self, text: str, style: str | None = None) -> None:
        self.console.print(shown(text, style or ""), soft_wrap=True)


def make_console() -> Console:
    """A console on standard output that does not break lines where it is no terminal."""
    if sys.stdout.isatty():
        return Console(file=sys.stdout, highlight=False)
    return Console(file=sys.stdout, highlight=False, width=_LOG_WIDTH)


def progress_line(progress: Progress) -> str:
    """One report as text: step, losses, rate, speed, data wait, time left."""
    parts = [f"step {progress.step}/{progress.total_steps}", f"loss {progress.total:.4f}"]
    if len(progress.losses) > 1:
        parts.append(" ".join(f"{name} {value:.4f}" for name, value in progress.losses.items()))
    parts.append(f"lr {progress.learning_rate:.3g}")
    if progress.loss_scale != 1:
        parts.append(f"scale {progress.loss_scale:g} skipped {progress.skipped_steps}")
    if progress.images_per_second is not None:
        parts.append(f"{progress.images_per_second:.1f} img/s")
    if progress.data_wait is not None:
        parts.append(f"data wait {100 * progress.data_wait:.0f}%")
    if progress.gpu_memory_peak is not None:
        parts.append(f"memory {progress.gpu_memory_peak / 2**30:.1f} GiB")
    if progress.seconds_left is not None:
        parts.append(f"{duration(progress.seconds_left)} left")
    return " | ".join(parts)


def duration(seconds: float) -> str:
    """`45s`, `3m 20s`, `2h 05m`, `3d 04h`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d {whole % 86400 // 3600:02d}h"
