"""Annotation set -> data set folder, with worker processes."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import math
import multiprocessing
import os
import sys
import types
from collections.abc import Iterator

from tfdet.arguments import MAX_PIXELS
from tfdet.data.annotations import AnnotationSet
from tfdet.data.manifest import Manifest
from tfdet.data.prepare import prepare_records
from tfdet.data.problems import ProblemReport
from tfdet.data.writer import DatasetWriter
from tfdet.errors import UserError
from tfdet.interrupts import as_worker

_IMAGES_PER_TASK = 8
_IMAGES_PER_SHARD = 512


class StrictError(Exception):
    """`strict` was asked for and something was found; nothing was written."""


def convert(
    annotations: AnnotationSet,
    folder,
    name: str,
    source: str,
    report: ProblemReport,
    num_shards: int | None = None,
    num_workers: int | None = None,
    strict: bool = False,
    overwrite: bool = False,
    console=None,
    max_pixels: int = MAX_PIXELS,
) -> Manifest:
    """Writes an annotation set as a data set folder.

    Workers read, check and convert the images; this process frames the records, in the order of the annotations, so
    the result does not depend on the number of workers.

    Args:
        annotations: what to write.
        folder: the folder to make.
        name: name of the data set.
        source: where the data comes from, in words, for the manifest.
        report: receives the findings; it is also written beside the manifest.
        num_shards: number of shards; None gives one for every 512 images.
        num_workers: worker processes; None takes the CPUs, 0 works in this process.
        strict: write nothing when anything but notes was found.
        overwrite: replace a data set that is there.
        console: a `rich.console.Console` for the progress bar; None shows none.
        max_pixels: most pixels of an image, height times width; larger ones are left out.

    Returns:
        The manifest of the new data set.

    Raises:
        StrictError: `strict`, and the report has problems.
        UserError: nothing to write, bad arguments, or the disk does not take it.
    """
    images = annotations.images
    if not images:
        raise UserError("the annotations list no image that could be used")
    num_shards = num_shards or math.ceil(len(images) / _IMAGES_PER_SHARD)
    if not 0 < num_shards <= len(images):
        raise UserError(f"--num_shards {num_shards} must lie between 1 and the number of images, {len(images)}")
    num_workers = _cpu_count() if num_workers is None else num_workers
    shard_starts = {round(number * len(images) / num_shards) for number in range(num_shards)}
    with DatasetWriter(folder, name, annotations.categories, source, overwrite) as writer:
        with progress_bar(console, len(images), "converting images") as advance:
            for position, record in enumerate(_prepared(images, num_workers, max_pixels)):
                if position in shard_starts:
                    writer.start_shard()
                report.extend(record.problems)
                if record.image is not None:
                    writer.add(record)
                advance()
        if strict and report.has_problems:
            raise StrictError
        return writer.commit(report)


def _cpu_count() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _prepared(images, num_workers: int, max_pixels: int):
    """Yields the prepared records in order; only a few tasks are under way, so memory stays small."""
    tasks = [images[start : start + _IMAGES_PER_TASK] for start in range(0, len(images), _IMAGES_PER_TASK)]
    if num_workers == 0:
        for task in tasks:
            yield from prepare_records(task, max_pixels)
        return
    # A fork of a process with TensorFlow's threads can hang; spawned workers do not import TensorFlow.
    context = multiprocessing.get_context("spawn")
    workers = min(num_workers, len(tasks))
    executor = concurrent.futures.ProcessPoolExecutor(workers, mp_context=context, initializer=as_worker)
    pending: collections.deque = collections.deque()
    try:
        for task in tasks:
            with _without_main():
                pending.append(executor.submit(prepare_records, task, max_pixels))
            if len(pending) >= 3 * workers:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    except concurrent.futures.process.BrokenProcessPool:
        raise UserError(
            "a conversion worker died, most likely for lack of memory; try a smaller --num_workers (0: none)"
        ) from None
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """While entered, a worker that is started does not import the program's file: it may have no guard."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextlib.contextmanager
def progress_bar(console, total: int, label: str):
    """A rich progress bar.

    Args:
        console: a `rich.console.Console`; None shows nothing.
        total: number of steps.
        label: what is going on.

    Yields:
        A function to call after each step.
    """
    if console is None:
        yield lambda: None
        return
    from rich import progress

    columns = (
        progress.TextColumn("{task.description}"), progress.BarColumn(), progress.MofNCompleteColumn(),
        progress.TextColumn("{task.fields[rate]}"), progress.TimeRemainingColumn(),
    )  # fmt: skip
    with progress.Progress(*columns, console=console) as bar:
        task = bar.add_task(label, total=total, rate="")

        def advance():
            speed = bar.tasks[0].speed
            bar.update(task, advance=1, rate=f"{speed:.0f}/s" if speed else "")

        yield advance
