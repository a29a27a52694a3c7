"""Training on the console: a start-up table, then a live line; plain lines where nobody watches."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import rich.console
from rich.cells import cell_len
from rich.live import Live
from rich.table import Table

from tfdet.terminal import Console, folded, shown
from tfdet.training.figures import AP, TOTAL_LOSS, TRAIN_AP
from tfdet.training.observer import Best, Ending, Observer, Progress

LOG_WIDTH = 80
"""Columns of a line in a file or a pipe."""

_MUCH_WAITING = 0.1  # share of the time: less is not worth a word


class ConsoleReport(Observer):
    """Shows a run on the console, AP from 0 to 100.

    On a terminal the last line is renewed in place and all else scrolls above it; into a file or a pipe
    every report is a line of its own.

    Args:
        console: where to; by default standard output.
    """

    def __init__(self, console: rich.console.Console | None = None):
        self.console = console or make_console()
        self._live: Live | None = None
        self._best: Best | None = None

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
        line = progress_line(progress, self.console.width)
        if not self.console.is_terminal:
            self._print(line)
            return
        if self._live is None:
            self._live = Live(console=self.console, auto_refresh=False, transient=False)
            self._live.start()
        self._live.update(shown(line), refresh=True)

    def best(self, best: Best) -> None:
        self._best = best

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        best = self._best if self._best is not None and self._best.step == step else None
        self._print(evaluation_line(step, metrics, best, self.console.width))

    def noted(self, text: str) -> None:
        self._print(text)

    def warned(self, text: str) -> None:
        self._print(f"warning: {text}", style="yellow")

    def ended(self, ending: Ending) -> None:
        self.closed()
        for line in closing_lines(ending, self.console.width):
            self.console.print(shown(line), soft_wrap=True)

    def closed(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _print(self, text: str, style: str = "") -> None:
        for line in folded(text, self.console.width):
            self.console.print(shown(line, style), soft_wrap=True)


def make_console() -> Console:
    """A console on standard output, 80 columns wide where it is no terminal."""
    if sys.stdout.isatty():
        return Console(file=sys.stdout, highlight=False)
    return Console(file=sys.stdout, highlight=False, width=LOG_WIDTH)


def progress_line(progress: Progress, width: int = LOG_WIDTH) -> str:
    """One report as text: step, loss, rate, speed, data wait, memory, time left.

    Each loss by itself is left out, and the least of these where the line would be wider than `width` columns:
    TensorBoard and metrics.csv have all.
    """
    parts = [  # how soon it is left out, the figure
        (0, f"step {progress.step}/{progress.total_steps}"),
        (0, f"loss {progress.total:.4f}"),
        (3, f"lr {progress.learning_rate:.3g}"),
    ]
    if progress.loss_scale != 1:
        parts.append((4, f"scale {progress.loss_scale:g} skipped {progress.skipped_steps}"))
    if progress.images_per_second is not None:
        parts.append((1, f"{progress.images_per_second:.1f} img/s"))
    if progress.data_wait is not None and progress.data_wait >= _MUCH_WAITING:
        parts.append((2, f"data wait {100 * progress.data_wait:.0f}%"))
    if progress.gpu_memory_peak is not None:
        parts.append((5, f"{progress.gpu_memory_peak / 2**30:.1f} GiB"))
    if progress.seconds_left is not None:
        parts.append((0, f"{duration(progress.seconds_left)} left"))
    return fitted(parts, width)


def evaluation_line(step: int, metrics: Mapping[str, float], best: Best | None, width: int = LOG_WIDTH) -> str:
    """An evaluation as text, AP from 0 to 100: a figure that there is no room for is left out.

    Args:
        step: of training.
        metrics: figures by name.
        best: this evaluation, where it is the best so far.
        width: columns.
    """
    head, parts = f"evaluation at step {step}: ", []
    for order, name, label in (
        (0, "AP", "AP"), (2, "AP50", "AP50"), (5, "AP75", "AP75"), (1, "mask_AP", "mask AP"),
    ):  # fmt: skip
        if name in metrics:
            parts.append((order, f"{label} {100 * metrics[name]:.1f}"))
    if TOTAL_LOSS in metrics:
        parts.append((3, f"loss {metrics[TOTAL_LOSS]:.4f}"))
    if TRAIN_AP in metrics:
        parts.append((1, f"train AP {100 * metrics[TRAIN_AP]:.1f}"))
    if best is not None:
        parts.append((0, "best" if best.metric.key == AP else f"best {best.metric.name}"))
    return head + fitted(parts, width - len(head))


def closing_lines(ending: Ending, width: int = LOG_WIDTH) -> list[str]:
    """What a person wants to know at the end: how good, where, how long, and what to do next, as lines."""
    lines = [""]
    if ending.seconds is not None:  # else it was said that nothing is left to do
        early = "" if ending.early is None else f", early: {ending.early}"
        lines += folded(f"finished: {ending.step} steps in {duration(ending.seconds)}{early}", width)
    folder = shown_path(ending.model_dir)
    if ending.best is not None:
        best = ending.best
        said = f"best {best.metric.describe(best.value)}, at step {best.step}: {shown_path(best.checkpoint)}"
        lines += folded(said, width)
    else:
        lines += folded(f"checkpoints: {shown_path(Path(ending.model_dir) / 'checkpoints')}", width)
    name = Path(os.path.abspath(ending.model_dir)).name
    commands = (
        # Without an evaluation there is no data set that the command would take by itself.
        ["tfdet", "report", folder, *([] if ending.best else ["--data=FOLDER"])],
        ["tfdet", "predict", f"--model_dir={folder}", "PHOTO.jpg"],
        ["tfdet", "export", f"--model_dir={folder}", f"--output={name}_exported"],
    )
    lines.append("next:")
    for command in commands:
        lines += _command_lines([shlex.quote(word) for word in command], width)
    return lines


def shown_path(path: str | os.PathLike) -> str:
    """A path as short as it can be copied: from the current folder where that is shorter and does not go up."""
    absolute = os.path.abspath(path)
    relative = os.path.relpath(absolute)
    given = os.fspath(path)
    return min((text for text in (given, relative) if not text.startswith("..")), key=len, default=absolute)


def fitted(parts: Sequence[tuple[int, str]], width: int) -> str:
    """Figures beside each other; where they are too wide, those of the highest number are left out, one by one."""
    kept = list(parts)
    while True:
        line = "  ".join(text for _, text in kept)
        last = max((order for order, _ in kept), default=0)
        if cell_len(line) <= width or not last:
            return line
        kept.remove(next(part for part in reversed(kept) if part[0] == last))


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


def _command_lines(words: Sequence[str], width: int) -> list[str]:
    """A command to be copied, over several lines, as a shell takes them, where it is too wide for one."""
    line = "  " + " ".join(words)
    if cell_len(line) <= width:
        return [line]
    return [f"  {' '.join(words[:2])} \\", *(f"      {word} \\" for word in words[2:-1]), f"      {words[-1]}"]
