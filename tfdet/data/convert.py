"""Annotation set -> data set folder, with worker processes."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
import itertools
import math
import multiprocessing
import os
import sys
import types
from collections.abc import Callable, Container, Iterable, Iterator, Sequence

from tfdet.arguments import MAX_PIXELS
from tfdet.data.annotations import AnnotationSet, ImageAnnotation
from tfdet.data.images import TURNED
from tfdet.data.manifest import Manifest
from tfdet.data.prepare import prepare_records
from tfdet.data.problems import ProblemReport
from tfdet.data.suspicious import BoxCensus, suspicious_problems
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
    target = Target(annotations, folder, name, source)
    return convert_all([target], report, num_shards, num_workers, strict, overwrite, console, max_pixels)[0]


@dataclasses.dataclass(frozen=True)
class Target:
    """A set to write: what, into which folder, under which name, and where it comes from in words."""

    annotations: AnnotationSet
    folder: str | os.PathLike
    name: str
    source: str


def convert_all(
    targets: Sequence[Target],
    report: ProblemReport,
    num_shards: int | None = None,
    num_workers: int | None = None,
    strict: bool = False,
    overwrite: bool = False,
    console=None,
    max_pixels: int = MAX_PIXELS,
) -> list[Manifest]:
    """Writes several annotation sets, such as the splits of one source: all of them or none.

    Args:
        targets: what to write.
        report: receives the findings; beside each manifest are those of reading and of its own images.
        num_shards, num_workers, strict, overwrite, console, max_pixels: as for `convert`.

    Returns:
        The manifests, in order.

    Raises:
        StrictError, UserError: as for `convert`.
    """
    num_workers = check_arguments(targets, num_shards, num_workers)
    before = list(report.problems)
    reports = []
    with contextlib.ExitStack() as stack:
        writers = [
            stack.enter_context(DatasetWriter(one.folder, one.name, one.annotations.categories, one.source, overwrite))
            for one in targets
        ]
        total = sum(len(target.annotations.images) for target in targets)
        advance = stack.enter_context(progress_bar(console, total, "converting images"))
        for target, writer in zip(targets, writers, strict=True):
            own = ProblemReport()
            own.extend(before)
            images = target.annotations.images
            starts = shard_starts(len(images), num_shards)
            try:
                census = write_images(writer, images, set(starts), own, num_workers, max_pixels, advance)
            finally:
                report.extend(own.problems[len(before) :])
            if not len(writer):
                raise UserError("no image could be used, so no data set was written; the findings above say why")
            suspicious = list(suspicious_problems(census, target.name, own.counts()))
            own.extend(suspicious)
            report.extend(suspicious)
            reports.append(own)
        if strict and report.has_problems:
            raise StrictError
        return [writer.commit(own) for writer, own in zip(writers, reports, strict=True)]


def check_arguments(targets: Sequence[Target], num_shards: int | None, num_workers: int | None) -> int:
    """The worker processes to take; `UserError` where there is nothing to write, or a number is out of range."""
    if num_workers is not None and num_workers < 0:
        raise UserError(f"--num_workers {num_workers} must not be negative")
    for target in targets:
        count = len(target.annotations.images)
        if not count:
            raise UserError("the annotations list no image that could be used")
        if num_shards is not None and not 0 < num_shards <= count:
            raise UserError(f"--num_shards {num_shards} must lie between 1 and the number of images, {count}")
    return _cpu_count() if num_workers is None else num_workers


def shard_starts(num_images: int, num_shards: int | None) -> list[int]:
    """The number of the first image of each shard; `num_shards` None: one for every 512 images."""
    shards = num_shards or math.ceil(num_images / _IMAGES_PER_SHARD)
    return [round(number * num_images / shards) for number in range(shards)]


def write_images(
    writer: DatasetWriter,
    images: Sequence[ImageAnnotation],
    starts: Container[int],
    report: ProblemReport,
    num_workers: int,
    max_pixels: int,
    advance: Callable[[], None],
) -> BoxCensus:
    """Prepares images in other processes and writes those that can be used, in their order.

    Args:
        writer: receives them.
        images: to write.
        starts: places in `images` at which a shard begins.
        report: receives the findings.
        num_workers: worker processes; 0: none.
        max_pixels: most pixels of an image.
        advance: called after each image.

    Returns:
        The boxes of all images that were written.
    """
    census = BoxCensus()
    for position, record in enumerate(_prepared(images, num_workers, max_pixels)):
        if position in starts:
            writer.start_shard()
        report.extend(record.problems)
        if record.image is not None:
            writer.add(record)
            turned = TURNED in record.image.changes
            census.add(record.annotated, record.image.height, record.image.width, turned)
        advance()
    return census


def _cpu_count() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _tasks(images: Iterable[ImageAnnotation]) -> Iterator[list[ImageAnnotation]]:
    """A few images at a time; those of records are read only when it is their turn."""
    rest = iter(images)
    while task := list(itertools.islice(rest, _IMAGES_PER_TASK)):
        yield task


def _prepared(images: Sequence[ImageAnnotation], num_workers: int, max_pixels: int):
    """Yields the prepared records in order; only a few tasks are under way, so memory stays small."""
    tasks = _tasks(images)
    if num_workers == 0:
        for task in tasks:
            yield from prepare_records(task, max_pixels)
        return
    # A fork of a process with TensorFlow's threads can hang; spawned workers do not import TensorFlow.
    context = multiprocessing.get_context("spawn")
    workers = min(num_workers, math.ceil(len(images) / _IMAGES_PER_TASK))
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
