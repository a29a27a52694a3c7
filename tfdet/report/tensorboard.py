"""Event files for TensorBoard."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from tfdet.report.figures import figures_of
from tfdet.training.observer import Observer, Progress

_ERRORS = (tf.errors.OpError, OSError)


class EventWriter:
    """Writes scalars, text, pictures and graphs to one folder; the event file appears with the first of them.

    What cannot be written, on a full disk say, is lost and warned about, once until something can be written again: the
    figures of a run are worth less than the run.

    Args:
        folder: such as `RunDirectory.train_events`.
        warn: receives that line.
    """

    def __init__(self, folder: str | os.PathLike, warn: Callable[[str], None] = warnings.warn):
        self._folder, self._warn = str(folder), warn
        self._writer: tf.summary.SummaryWriter | None = None
        self._failed = False

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Args: step, of all values; values, by tag; a `/` in a tag makes a group."""

        def write() -> None:
            for tag, value in values.items():
                tf.summary.scalar(tag, value)

        self._write(step, write)

    def text(self, step: int, tag: str, text: str) -> None:
        """Args: text, shown as it is, in a fixed-width font."""
        block = "\n".join("    " + line for line in text.splitlines())  # Markdown's code block
        self._write(step, lambda: tf.summary.text(tag, block))

    def images(self, step: int, tag: str, images: np.ndarray) -> None:
        """Args: images, uint8 [N, H, W, 3], RGB; one slider for each."""
        self._write(step, lambda: tf.summary.image(tag, images, max_outputs=len(images)))

    def graph(self, graph: tf.Graph) -> None:
        """Args: graph, shown in the tab Graphs."""
        self._write(0, lambda: tf.summary.graph(graph))

    def close(self) -> None:
        """Closes the event file; a later write begins another."""
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                writer.close()
            except _ERRORS as error:
                self._tell(error)

    def _write(self, step: int, write: Callable[[], object]) -> None:
        """Writes, and makes it visible to TensorBoard: an error shows at a flush, often at that of the next event."""
        for is_last in (False, True):
            try:
                if self._writer is None:
                    self._writer = tf.summary.create_file_writer(self._folder)
                with self._writer.as_default(step=step):
                    write()
                self._writer.flush()
                self._failed = False
                return
            except _ERRORS as error:
                self._writer = None  # readers stop at an event that is cut short: the next one begins another file
                if is_last:
                    self._tell(error)

    def _tell(self, error: Exception) -> None:
        if not self._failed:
            reason = str(getattr(error, "message", error)).splitlines()[0]
            self._warn(f"TensorBoard's files in {self._folder} cannot be written ({reason}): figures are lost there")
        self._failed = True


class TensorBoardReport(Observer):
    """Writes every figure of a run to `train/` of its directory, the first ones when its first step is done.

    Args:
        folder: for the event files.
        warn: receives a line where they cannot be written.
    """

    def __init__(self, folder: str | os.PathLike, warn: Callable[[str], None] = warnings.warn):
        self._events = EventWriter(folder, warn)
        self._texts: dict[str, str] = {}  # of a run that may still be refused

    def started(self, table: Mapping[str, str]) -> None:
        width = max(len(name) for name in table)
        self._texts["run"] = "\n".join(f"{name:<{width}}  {value}" for name, value in table.items())

    def configured(self, operative_config: str) -> None:
        self._texts["operative_config"] = operative_config

    def first_step(self, seconds: float) -> None:
        for tag, text in self._texts.items():
            self._events.text(0, tag, text)

    def traced(self, graph: tf.Graph) -> None:
        self._events.graph(graph)

    def progressed(self, progress: Progress) -> None:
        self._events.scalars(progress.step, figures_of(progress))

    def closed(self) -> None:
        self._events.close()
