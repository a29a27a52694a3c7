"""What is known of a fetched file: where it came from and its SHA-256, in a hidden file beside it.

Where nobody published a checksum, that of the first download is what later ones are compared with: it stays when the
file is removed.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from tfdet.errors import UserError
from tfdet.fetch.settings import published_checksums
from tfdet.files import write_json
from tfdet.strict_json import field, read_json

_BLOCK = 1 << 20


class Record(NamedTuple):
    """What was noted of a file.

    Fields:
        address: where it came from; "" for one that a person put there.
        sha256: of all its bytes.
        size: in bytes.
        modified: the file's time of change in nanoseconds, by which one that was changed since is known.
        date: of the download.
    """

    address: str
    sha256: str
    size: int
    modified: int
    date: str


def record_file(target: Path) -> Path:
    """Where the record of a file is."""
    return target.with_name(f".{target.name}.json")


def part_file(target: Path) -> Path:
    """The temporary name of a file while it is fetched."""
    return target.with_name(f".{target.name}.part")


def part_record(target: Path) -> Path:
    """Where it is noted what a temporary file is the beginning of."""
    return target.with_name(f".{target.name}.part.json")


def lock_file(target: Path) -> Path:
    """The file that the process which fetches has locked."""
    return target.with_name(f".{target.name}.lock")


def read_record(target: str | os.PathLike) -> Record | None:
    """The record of a file, None where there is none that can be read."""
    try:
        content = read_json(record_file(Path(target)), "the record")
        kinds = (str, str, int, int, str)
        return Record(*(field(content, name, kind) for name, kind in zip(Record._fields, kinds, strict=True)))
    except (OSError, ValueError, UserError):
        return None


def digests(path: str | os.PathLike, algorithms: Iterable[str] = ("sha256",)) -> dict[str, str]:
    """Checksums of a file, as hexadecimal digits by the name of the algorithm in hashlib; the file is read once."""
    hashes = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms}
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            for one in hashes.values():
                one.update(block)
    return {name: one.hexdigest() for name, one in hashes.items()}


def note(target: Path, address: str, sha256: str) -> None:
    """Writes the record of a file; a folder that cannot be written leaves it without one."""
    status = target.stat()
    date = datetime.date.today().isoformat()
    with contextlib.suppress(UserError):
        write_json(
            Record(address, sha256, status.st_size, status.st_mtime_ns, date)._asdict(),
            record_file(target),
        )


def difference(file: Path, checksum: str | None, known: Record | None) -> tuple[str, str]:
    """How a file differs from what it should be.

    Args:
        file: whole, perhaps under its temporary name.
        checksum: as published: `ALGORITHM:DIGITS`, where the digits may be the first ones alone; None: not published.
        known: of the first download.

    Returns:
        What differs, in words, or ""; and the file's SHA-256.
    """
    algorithm, _, digits = (published_checksums() and checksum or "sha256:").partition(":")
    found = digests(file, {algorithm, "sha256"})
    digits = digits.lower()
    if not found[algorithm].startswith(digits):
        return f"its {algorithm} is {found[algorithm][: max(len(digits), 8)]}, published is {digits}", found["sha256"]
    if known is not None and known.sha256 != found["sha256"]:
        first = f"the file fetched first, on {known.date}, had {known.sha256[:12]}"
        return f"its sha256 is {found['sha256'][:12]}, {first}", found["sha256"]
    return "", found["sha256"]


def check_kept(target: str | os.PathLike, checksum: str | None = None, whole: bool = False) -> None:
    """Checks a file of the cache: at once where nothing touched it since it was fetched, else by its checksum.

    A file without record, which a person put there, is given one.

    Args:
        target: the file.
        checksum: as in `difference`.
        whole: read it even where nothing seems to have touched it.

    Raises:
        UserError: it is not the file that was fetched, or that was published; or it cannot be read.
    """
    target, known = Path(target), read_record(target)
    try:
        status = target.stat()
        untouched = known is not None and (known.size, known.modified) == (status.st_size, status.st_mtime_ns)
        if untouched and not whole:
            return
        why, sha256 = difference(target, checksum, known)
    except OSError as error:
        raise UserError(f"cannot read {target}: {error.strerror or error}") from error
    if why:
        raise UserError(f"{target} is damaged or another file: {why}; remove it, and it is fetched anew")
    if not untouched:
        note(target, known.address if known else "", sha256)


def remove(target: str | os.PathLike) -> int:
    """Removes a fetched file and what is left of unfinished downloads; the record stays, to compare the next with.

    Returns:
        The bytes that were freed.

    Raises:
        UserError: it cannot be removed.
    """
    target, freed = Path(target), 0
    for file in (target, part_file(target), part_record(target), lock_file(target)):
        if not os.path.isfile(file):
            continue
        try:
            freed += file.stat().st_size
            file.unlink()
        except OSError as error:
            raise UserError(f"cannot remove {file}: {error.strerror or error}") from error
    return freed


def forget(target: str | os.PathLike) -> None:
    """Removes the record of a file, so that another one may take its place."""
    with contextlib.suppress(FileNotFoundError):
        record_file(Path(target)).unlink()


def read_part(target: Path) -> dict[str, Any]:
    """What was noted of the temporary file: `address`, `validator` and `total`; empty where nothing was."""
    try:
        content = read_json(part_record(target), "the record")
        return {
            "address": field(content, "address", str),
            "validator": field(content, "validator", str),
            "total": field(content, "total", int),
        }
    except (OSError, ValueError, UserError):
        return {}
