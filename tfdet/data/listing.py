"""What a folder holds besides what was taken from it: files by their endings."""

from __future__ import annotations

import collections
import os
import pathlib
from collections.abc import Iterable

from tfdet.data.annotations import ImageAnnotation
from tfdet.data.problems import ProblemReport

FILE_TWICE = "one file under two image ids"
PASSED_OVER = "files passed over"
_MOST = 12  # endings that are named


def ending(name: str) -> str:
    """The ending of a file's name in lower case, with its dot; empty: none."""
    return os.path.splitext(name)[1].lower()


def count_endings(counts: collections.Counter[str]) -> str:
    """Endings with their counts in words, such as "3 .txt, 1 without ending", most frequent first.

    Args:
        counts: files by `ending`.
    """
    listed = [f"{count} {name or 'without ending'}" for name, count in counts.most_common(_MOST)]
    left = counts.total() - sum(count for _, count in counts.most_common(_MOST))
    return ", ".join([*listed, *([f"{left} of other endings"] if left else [])])


def note_unlisted(images: Iterable[ImageAnnotation], report: ProblemReport, besides: Iterable[str] = ()) -> None:
    """Notes the files that lie beside the images of a set and are none of them.

    Args:
        images: the set; images without a path take no part.
        report: receives one note, where there is such a file.
        besides: files that were read otherwise, the annotations.
    """
    used = {os.path.normpath(image.path) for image in images if image.path is not None}
    known = {os.path.realpath(path) for path in besides}
    counts: collections.Counter[str] = collections.Counter()
    folders = sorted({os.path.dirname(path) for path in used})
    for folder in folders:
        try:
            with os.scandir(folder or os.curdir) as entries:
                names = [entry.name for entry in entries if entry.is_file()]
        except OSError:
            continue  # its images are named where they are read
        left = (name for name in names if os.path.join(folder, name) not in used)
        counts.update(ending(name) for name in left if os.path.realpath(os.path.join(folder, name)) not in known)
    if counts:
        where = folders[0] if len(folders) == 1 else f"{os.path.commonpath(folders)} ({len(folders)} folders)"
        reason = f"{count_endings(counts)}: not among the images of the annotations"
        report.add(PASSED_OVER, where, None, reason, "not read", is_note=True)


class RealPaths:
    """Paths with links followed. Each folder is looked at once, of the file itself only a link needs a look."""

    def __init__(self):
        self._folders: dict[str, str] = {}

    def __call__(self, path: str) -> str:
        """The real path; ValueError: it has a null byte."""
        parent, name = os.path.split(path)
        if parent not in self._folders:
            self._folders[parent] = os.path.realpath(parent)
        real = os.path.join(self._folders[parent], name)
        return os.path.realpath(real) if name == ".." or os.path.islink(real) else real


def report_files_named_twice(images: Iterable[ImageAnnotation], report: ProblemReport) -> None:
    """Names files that two images of a set are, by one name or by links.

    Args:
        images: the set; images without a path take no part.
        report: receives the findings.
    """
    seen: dict[str, ImageAnnotation] = {}
    real_path = RealPaths()
    for image in images:
        if image.path is None or "\0" in str(image.path):
            continue
        first = seen.setdefault(os.path.normpath(real_path(os.fspath(image.path))), image)
        if first is not image:
            reason = (
                f"the image ids {first.image_id} and {image.image_id} name this file: does each have half its boxes?"
            )
            report.add(FILE_TWICE, image.path, image.image_id, reason, "both kept")


def files_by_stem(
    folder: pathlib.Path, endings: tuple[str, ...]
) -> tuple[dict[str, pathlib.Path], collections.Counter]:
    """The files of a folder that have one of some endings, in any case, by their names without it.

    Args:
        folder: the folder; one that is not there has no files.
        endings: in lower case, with the dot; of files that differ in the ending alone the first in this order is taken.

    Returns:
        Paths by stem, in the order of the names; and the count of the other files by ending.
    """
    rank = {name: place for place, name in enumerate(endings)}
    found: dict[str, tuple[tuple[int, str], pathlib.Path]] = {}
    others: collections.Counter[str] = collections.Counter()
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    for name in names:
        stem, own = os.path.splitext(name)
        if own.lower() not in rank:
            others[own.lower()] += not os.path.isdir(folder / name)
            continue
        order = (rank[own.lower()], "" if own == own.lower() else own)
        if stem not in found or order < found[stem][0]:
            found[stem] = order, folder / name
    return {stem: path for stem, (_, path) in found.items()}, +others
