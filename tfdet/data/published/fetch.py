"""A published data set becomes folders here: fetched, unpacked, converted, moved to their places.

Each step leaves something whole under its own name, or nothing: what a killed process left is gone on with by the next
call. The places of the parts are filled last, when what was needed on the way is removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tfdet.data.published.plan import Plan, Work, check_space, plan_fetch
from tfdet.data.published.table import Archive, CocoSource, Part, Published, VocSource
from tfdet.data.published.unpack import DamagedArchiveError, unpack
from tfdet.errors import UserError
from tfdet.fetch import download, forget, remove
from tfdet.fetch.progress import megabytes, say
from tfdet.files import is_in_place
from tfdet.interrupts import whole

if TYPE_CHECKING:
    from tfdet.data.annotations import AnnotationSet
    from tfdet.data.problems import ProblemReport

_FEW = 256  # images that one process converts before others have begun


def fetch(plan: Plan, console=None, num_workers: int | None = None) -> list[Path]:
    """Makes the parts of a data set that are not there.

    Of several processes that want the same one does it, and the others wait.

    Args:
        plan: of `plan_fetch`.
        console: a `rich.console.Console`, which is told what happens; None shows nothing but downloads.
        num_workers: processes that convert images; None takes the CPUs.

    Returns:
        The folders of its parts, those that another process made included.

    Raises:
        UserError: an archive is not to be had or is damaged, the disk is full or cannot be written.
    """
    work, parts = plan.work, plan.parts
    if not parts:
        return []
    try:
        work.output.mkdir(parents=True, exist_ok=True)
        with _locked(work.lock, lambda: say(f"waiting for another process that makes {plan.data_set.name}")):
            # By now another process may have done some or all of it.
            plan = plan_fetch(plan.data_set, work.output, parts, work.kept, dict(plan.archives))
            if plan.unconverted:
                check_space(plan)
                _convert_all(plan, console, num_workers)
            if plan.parts:
                _move(plan)
    except OSError as error:
        raise UserError(f"cannot write {work.output}: {error.strerror or error}; give --output=FOLDER") from error
    return [work.final(part) for part in parts]


def _convert_all(plan: Plan, console, num_workers: int | None) -> None:
    work = plan.work
    archives = plan.data_set.archives(plan.unconverted)
    for archive in archives:
        if not work.unpacked(archive).is_dir():
            file = download(archive.addresses, work.archive(archive))
            _note_size(archive, file)
    for archive in archives:
        if not work.unpacked(archive).is_dir():
            _unpack(archive, work, console)
    for part in plan.unconverted:
        _convert(plan.data_set, part, work, console, num_workers)


def _note_size(archive: Archive, file: Path) -> None:
    """Says where an archive is of another size than the published one; a mirror may have a part of it."""
    size = file.stat().st_size
    if not 0.5 < size / archive.size < 2:
        say(f"{file.name} has {megabytes(size)}; as published it has {megabytes(archive.size)}")


def _unpack(archive: Archive, work: Work, console) -> None:
    file = work.archive(archive)
    try:
        unpack(file, work.unpacked(archive), archive.wanted, console)
    except DamagedArchiveError as error:
        if work.kept is not None:
            raise UserError(f"{error}: remove it, and it is fetched anew") from error
        remove(file)
        forget(file)
        shutil.rmtree(work.unpacked(archive).parent, ignore_errors=True)
        raise UserError(f"{error}: it was removed, and the same command fetches it anew") from error
    if work.kept is None:
        remove(file)


def _convert(data_set: Published, part: Part, work: Work, console, num_workers: int | None) -> None:
    from tfdet.data.convert import convert
    from tfdet.data.problems import ProblemReport

    target = work.converted(part)
    # Nobody else works here: what begins like this was left by a process that was killed.
    for left in [*target.parent.glob(f".{part.name}.*"), *target.parent.glob(part.name)]:
        shutil.rmtree(left, ignore_errors=True)
    report = ProblemReport()
    try:
        annotations, source = _read(data_set, part, work, report)
        workers = 0 if len(annotations.images) < _FEW else num_workers
        manifest = convert(
            annotations, target, part.name, source, report, num_workers=workers, overwrite=False, console=console
        )
    except UserError as error:
        raise UserError(f"{error}; to begin anew remove {work.folder}") from error
    if console is not None:
        report.print_summary(console, shown_per_kind=2)
        shown = f"{manifest.num_images} images, {manifest.num_boxes} boxes, {manifest.num_masks} of them with a mask"
        console.print(f"{part.name}: {shown}", highlight=False)
        if manifest.num_images != part.images:
            console.print(f"{part.name} has {part.images} images as published", highlight=False)


def _read(data_set: Published, part: Part, work: Work, report: ProblemReport) -> tuple[AnnotationSet, str]:
    """The annotations of a part, and in words where they are from."""
    from tfdet.data.annotations import Category
    from tfdet.data.formats.coco import read_coco
    from tfdet.data.formats.voc import read_voc

    coco = [
        (_find(work.unpacked(one.annotations), one.file), _find(work.unpacked(one.images), one.folder))
        for one in part.sources
        if isinstance(one, CocoSource)
    ]
    if coco:
        return read_coco(coco, report), f"COCO: {', '.join(path.name for path, _ in coco)} ({data_set.name})"
    voc = [
        (_find(work.unpacked(one.archive), one.folder), one.split) for one in part.sources if isinstance(one, VocSource)
    ]
    classes = [Category(number, name) for number, name in enumerate(data_set.classes, 1)] or None
    splits = ", ".join(f"{folder.name} {split}" for folder, split in voc)
    return read_voc(voc, report, classes), f"Pascal VOC: {splits} ({data_set.name})"


def _find(folder: Path, name: str) -> Path:
    """A file or folder in an unpacked archive, whatever folders are around it."""
    for depth in range(4):
        found = sorted(folder.glob("*/" * depth + name))
        if found:
            return found[0]
    raise UserError(f"{folder} holds no {name}")


def _move(plan: Plan) -> None:
    """The parts go to their places; before, what was needed for them is removed."""
    work = plan.work
    shutil.rmtree(work.folder / "unpacked", ignore_errors=True)
    shutil.rmtree(work.folder / "archives", ignore_errors=True)
    for part in plan.parts:
        with whole():
            os.replace(work.converted(part), work.final(part))
    shutil.rmtree(work.folder, ignore_errors=True)


@contextlib.contextmanager
def _locked(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """While entered, no other process of this machine has the file. It is removed behind, as filelock does not do."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except OSError:
                break  # a disk without such locks
            if is_in_place(descriptor, path):
                break
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its owner has just removed it
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(descriptor)
