"""What has to be fetched for a data set, how large it is, and whether a person agrees."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfdet.data.manifest import is_data_set
from tfdet.data.published.table import Archive, Part, Published, fetch_command
from tfdet.errors import UserError
from tfdet.fetch import offline, remote_size
from tfdet.fetch.progress import megabytes
from tfdet.files import at_home, check_local

FREELY = 10**9
"""Bytes up to which a data set is fetched without a question."""

# For each byte of an archive that is to be fetched, of one that is here, and of unpacked files: bytes that the disk has
# to take. Records are as large as the files; an archive is removed when its files are there.
_FETCHED, _HERE, _UNPACKED = 2.1, 2.0, 1.0


@dataclass(frozen=True)
class Work:
    """Where a data set is while it is made: a hidden folder beside its parts, removed at the end.

    Attributes:
        output: the folder of the parts.
        name: of the data set.
        kept: a folder that has the archives, or is to have them, and keeps them; None: they go with the rest.
    """

    output: Path
    name: str
    kept: Path | None

    @property
    def folder(self) -> Path:
        """All of it."""
        return self.output / f".{self.name}"

    @property
    def lock(self) -> Path:
        """The file that the process which works here has locked."""
        return self.output / f".{self.name}.lock"

    def archive(self, archive: Archive) -> Path:
        """Where an archive is."""
        return (self.kept or self.folder / "archives") / archive.name

    def unpacked(self, archive: Archive) -> Path:
        """The folder of its files, there when all of them are."""
        return self.folder / "unpacked" / archive.folder

    def converted(self, part: Part) -> Path:
        """A data set folder before it goes to its place, there when it is whole."""
        return self.folder / "sets" / part.name

    def final(self, part: Part) -> Path:
        """Its place."""
        return self.output / part.name


@dataclass(frozen=True)
class Plan:
    """What there is to do for a data set.

    Attributes:
        data_set: which one.
        work: where.
        parts: those that are not there.
        unconverted: of these, those that have to be converted still.
        archives: those that have to be fetched for them, with their bytes.
    """

    data_set: Published
    work: Work
    parts: tuple[Part, ...]
    unconverted: tuple[Part, ...]
    archives: tuple[tuple[Archive, int], ...]

    @property
    def size(self) -> int:
        """Bytes to fetch."""
        return sum(size for _, size in self.archives)

    @property
    def space(self) -> int:
        """Bytes that it takes on the disk while it is made, about, those that are there already left out."""
        total, sizes = 0.0, dict(self.archives)
        for archive in self.data_set.archives(self.unconverted):
            file, folder = self.work.archive(archive), self.work.unpacked(archive)
            if os.path.isdir(folder):
                total += _UNPACKED * _bytes_of(folder)
            elif os.path.isfile(file):
                total += _HERE * file.stat().st_size
            else:
                total += (_FETCHED if self.work.kept is None else _HERE) * sizes.get(archive, archive.size)
        folder = self.work.folder
        begun = _bytes_of(folder / "archives", ".*.part") + _bytes_of(folder / "unpacked", ".*/**/*")
        return max(int(total) - begun, 0)

    @property
    def command(self) -> str:
        """What a person types to have it."""
        return fetch_command(self.data_set, self.work.output)

    def describe(self) -> str:
        """In a line: what is fetched, how much, what it becomes."""
        names = ", ".join(f"{archive.name} {megabytes(size)}" for archive, size in self.archives)
        parts = ", ".join(str(self.work.final(part)) for part in self.parts)
        fetched = f"fetches {megabytes(self.size)} ({names})" if names else "fetches nothing more"
        return f"{self.data_set.name} {fetched} and makes {parts}; terms: {self.data_set.terms}, {self.data_set.page}"


def plan_fetch(
    data_set: Published,
    output: str | os.PathLike = "data",
    parts: Sequence[Part] | None = None,
    archives: str | os.PathLike | None = None,
    sizes: Mapping[Archive, int] | None = None,
) -> Plan:
    """What there is to do for a data set; fetches nothing.

    Args:
        data_set: which one.
        output: the folder of its parts.
        parts: those that are wanted; None: all.
        archives: a folder with the archives, or to keep them in.
        sizes: of archives, as servers said them before; None: they are asked.

    Raises:
        UserError: something else is in the place of a part; `TFDET_OFFLINE` is set and an archive is not here.
    """
    check_local(output, "--output")
    work = Work(at_home(output), data_set.name, None if archives is None else at_home(archives))
    missing = tuple(part for part in parts or data_set.parts if not is_data_set(work.final(part)))
    for part in missing:
        _check_place(work.final(part))
    unconverted = tuple(part for part in missing if not is_data_set(work.converted(part)))
    needed = [
        archive
        for archive in data_set.archives(unconverted)
        if not work.unpacked(archive).is_dir() and not os.path.isfile(work.archive(archive))
    ]
    if sizes is None:
        sizes = _remote_sizes(needed, work)
    return Plan(data_set, work, missing, unconverted, tuple((one, sizes.get(one, one.size)) for one in needed))


def confirm(plans: Sequence[Plan], yes: bool = False) -> None:
    """Asks a person, where more than `FREELY` is to be fetched.

    Args:
        plans: all that is to be fetched now.
        yes: it is agreed already.

    Raises:
        UserError: the person does not want it, or there is nobody to ask: the line says the command.
    """
    size = sum(plan.size for plan in plans)
    if yes or size <= FREELY:
        return
    lines = [plan.describe() for plan in plans if plan.size]
    commands = " and ".join(f"`{plan.command}`" for plan in plans if plan.size)
    if not (sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()):
        missing = ", ".join(str(plan.work.final(part)) for plan in plans if plan.size for part in plan.parts)
        raise UserError(f"{missing}: not there, and {megabytes(size)} to fetch: {commands} makes it")
    from tfdet.terminal import Console

    console = Console(file=sys.stderr, soft_wrap=True, highlight=False)
    for line in lines:
        console.print(line)
    space = sum(plan.space for plan in plans)
    console.print(f"Fetch {megabytes(size)}, with up to {megabytes(space)} of the disk on the way? [y/N] ", end="")
    try:
        answer = input()
    except EOFError:
        answer = ""
    if answer.strip().lower() not in ("y", "yes"):
        raise UserError(f"nothing was fetched; {commands} fetches without a question")


def check_space(plan: Plan) -> None:
    """`UserError` where the disk does not take what is fetched and made."""
    folder = plan.work.output
    while not os.path.isdir(folder) and folder != folder.parent:  # the nearest that is there
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if plan.space > free:
        raise UserError(
            f"{plan.work.output}: {plan.data_set.name} takes about {megabytes(plan.space)} while it is made, and the "
            f"disk has {megabytes(free)}: free some space, or give --output=FOLDER on another disk"
        )


def _check_place(folder: Path) -> None:
    """`UserError` where something is in the place of a part that is no data set."""
    if os.path.lexists(folder) and (not os.path.isdir(folder) or any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not a data set: move it away, or give --output=FOLDER")


def _remote_sizes(archives: Sequence[Archive], work: Work) -> dict[Archive, int]:
    """The bytes of archives that are not here; as published, where no server says it."""
    said = {archive: remote_size(archive.addresses) for archive in archives}
    absent = [archive for archive, size in said.items() if size is None]
    if absent and offline():
        raise UserError(
            f"TFDET_OFFLINE forbids the network, and {', '.join(one.name for one in absent)} "
            f"{'is' if len(absent) == 1 else 'are'} not here: put {', '.join(one.addresses[0] for one in absent)} "
            f"into {work.archive(absent[0]).parent}, or give --archives=FOLDER of `tfdet data fetch`"
        )
    return {archive: archive.size if size is None else size for archive, size in said.items()}


def _bytes_of(folder: Path, pattern: str = "**/*") -> int:
    """What is in a folder, in bytes."""
    return (
        sum(entry.stat().st_size for entry in folder.glob(pattern) if entry.is_file()) if os.path.isdir(folder) else 0
    )
