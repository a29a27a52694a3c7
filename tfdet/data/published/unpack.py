"""An archive -> a folder, which appears when all of it is there; what a killed process left is gone on with."""

from __future__ import annotations

import fnmatch
import gzip
import io
import os
import re
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

from tfdet.data.convert import progress_bar
from tfdet.errors import UserError

_BLOCK = 1 << 20
_MOST_FILES = 2_000_000
_MOST_AT_ONCE = 1 << 28  # bytes that a tar file's own records may have
_RATIO, _LEAST = 100, 1 << 30  # an archive may unpack to so many times its bytes, and to so many bytes whatever it has
_DAMAGES = (
    zipfile.BadZipFile, zlib.error, tarfile.TarError, gzip.BadGzipFile, EOFError, NotImplementedError, ValueError,
)  # fmt: skip


class DamagedArchiveError(UserError):
    """An archive that is cut off, changed or of another kind, or whose names or sizes are no data set's."""


def unpack(archive: Path, folder: Path, wanted: Sequence[str], console=None) -> None:
    """Unpacks the wanted files of a zip or tar file.

    Until all of them are there the folder has another name. A further call goes on: what is there of a zip file is
    compared by its checksum, what is there of a tar file is written again.

    Args:
        archive: .zip, .tar or .tar.gz, known by its first bytes.
        folder: where to; it must not exist.
        wanted: patterns of `fnmatch`, compared with whole names in the archive.
        console: a `rich.console.Console` for the progress bar; None shows none.

    Raises:
        DamagedArchiveError: it is no such archive, is damaged, has none of these files, names files outside of the
            folder or has more than a data set would.
        UserError: the disk is full, or cannot be written.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    chosen = re.compile("|".join(fnmatch.translate(pattern) for pattern in wanted))
    try:
        partial.mkdir(parents=True, exist_ok=True)
        with _opened(archive) as members:
            files = list(_checked(members.files(chosen), archive))
            if not files:
                raise DamagedArchiveError(f"{archive} holds none of {', '.join(wanted)}")
            _check_space(sum(size for _, size in files), partial)
            with progress_bar(console, len(files), f"unpacking {archive.name}") as advance:
                members.write(partial, advance)
        partial.replace(folder)
    except _DAMAGES as error:
        raise DamagedArchiveError(f"{archive} is damaged ({str(error) or type(error).__name__})") from error
    except OSError as error:
        raise UserError(
            f"cannot unpack {archive} into {folder}: {error.strerror or error}; the same command goes on from here"
        ) from error


def _opened(archive: Path) -> _Zip | _Tar:
    with open(archive, "rb") as file:
        first = file.read(512)
    if first[:2] == b"PK":
        return _Zip(archive)
    if first[:2] == b"\x1f\x8b" or first[257:262] == b"ustar":
        return _Tar(archive, zipped=first[:2] == b"\x1f\x8b")
    raise DamagedArchiveError(f"{archive} is neither a zip nor a tar file")


def _checked(files: Iterator[tuple[str, int]], archive: Path) -> Iterator[tuple[str, int]]:
    """Names and sizes, as far as they are a data set's; the first one that is not ends it."""
    most, total = _most(archive), 0
    seen: set[str] = set()
    for count, (name, size) in enumerate(files, 1):
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\0" in name:
            raise DamagedArchiveError(f"{archive} names a file outside of its folder: {name!r:.200}")
        if str(path) in seen:
            raise DamagedArchiveError(f"{archive} has {name!r:.200} twice")
        seen.add(str(path))
        total += size
        if total > most or count > _MOST_FILES:
            raise DamagedArchiveError(
                f"{archive} unpacks to more than {most >> 20} MB or {_MOST_FILES} files: it is no data set"
            )
        yield name, size


def _most(archive: Path) -> int:
    """The bytes that it may unpack to."""
    return max(_LEAST, _RATIO * archive.stat().st_size)


def _check_space(needed: int, folder: Path) -> None:
    needed -= sum(entry.stat().st_size for entry in folder.rglob("*") if entry.is_file())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(f"{folder.parent} needs {needed >> 20} MB and the disk has {free >> 20} MB: free some space")


class _Zip:
    """The files of a zip archive."""

    def __init__(self, archive: Path):
        self._file = zipfile.ZipFile(archive)
        self._chosen: list[zipfile.ZipInfo] = []

    def __enter__(self) -> _Zip:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def files(self, chosen: re.Pattern) -> Iterator[tuple[str, int]]:
        """Names and sizes of those that a pattern fits."""
        for info in self._file.infolist():
            kind = (info.external_attr >> 16) & 0o170000
            if not info.is_dir() and kind in (0, 0o100000) and chosen.match(info.filename):
                if info.flag_bits & 1:
                    raise zipfile.BadZipFile("it is encrypted")
                self._chosen.append(info)
                yield info.filename, info.file_size

    def write(self, folder: Path, advance: Callable[[], None]) -> None:
        """Writes them below a folder."""
        for info in self._chosen:
            path = folder / info.filename
            if not (path.is_file() and path.stat().st_size == info.file_size and _crc(path) == info.CRC):
                with self._file.open(info) as source:  # at its end its checksum is compared
                    _write(source, path)
            advance()


class _Tar:
    """The files of a tar archive; links, devices and the like are left out."""

    def __init__(self, archive: Path, zipped: bool):
        self._source: BinaryIO = gzip.open(archive) if zipped else open(archive, "rb")  # type: ignore[assignment]  # noqa: SIM115
        self._file = tarfile.open(fileobj=_Bounded(self._source), mode="r:")  # noqa: SIM115
        self._most = _most(archive)
        self._chosen: list[tarfile.TarInfo] = []

    def __enter__(self) -> _Tar:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._source.close()

    def files(self, chosen: re.Pattern) -> Iterator[tuple[str, int]]:
        """Names and sizes of those that a pattern fits."""
        for count, member in enumerate(self._file):
            if count > _MOST_FILES or member.offset_data + member.size > self._most:
                raise tarfile.TarError(f"it unpacks to more than {self._most >> 20} MB or {_MOST_FILES} files")
            if member.isreg() and chosen.match(member.name):
                self._chosen.append(member)
                yield member.name, member.size
        self._source.seek(self._file.offset)
        if self._source.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # to tarfile any end is one
            raise EOFError("it is cut off")

    def write(self, folder: Path, advance: Callable[[], None]) -> None:
        """Writes them below a folder."""
        for member in self._chosen:
            source = self._file.extractfile(member)
            assert source is not None
            path = folder / member.name
            _write(source, path)
            if path.stat().st_size != member.size:
                raise EOFError(f"it ends within {member.name}")
            advance()


class _Bounded(io.RawIOBase):
    """A file of which no one asks for too much at once: a tar file's header says how long the next one is."""

    def __init__(self, file: BinaryIO):
        self._file = file

    def read(self, size: int = -1) -> bytes:  # type: ignore[override]
        """So many bytes; `tarfile.TarError` where they are too many."""
        if size < 0 or size > _MOST_AT_ONCE:
            raise tarfile.TarError("a header of it is too long")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As of any file."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """As of any file."""
        return self._file.tell()

    def seekable(self) -> bool:
        """Always."""
        return True

    def readable(self) -> bool:
        """Always."""
        return True


def _write(source: IO[bytes], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        shutil.copyfileobj(source, file, _BLOCK)


def _crc(path: Path) -> int:
    value = 0
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            value = zlib.crc32(block, value)
    return value
