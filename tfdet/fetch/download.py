"""A file by its addresses: from the cache, from a mirror, or from where it is published."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import filelock
import requests

from tfdet.errors import UserError
from tfdet.fetch.progress import Bar, say
from tfdet.fetch.record import check_kept, difference, lock_file, note, part_file, part_record, read_record, record_file
from tfdet.fetch.settings import candidates, offline, shown, silence
from tfdet.fetch.transfer import FetchError, transfer


def download(
    addresses: Sequence[str],
    target: str | os.PathLike,
    *,
    checksum: str | None = None,
    label: str | None = None,
    quiet: bool = False,
) -> Path:
    """The file at `target`; fetched where it is not there.

    Several processes may ask at once: one fetches, the others wait. The file gets its name when it is whole and its
    checksum is right. What a cut connection or a killed process left is continued by the next call.

    Args:
        addresses: where it is published, the best first; http, https, or of an object store.
        target: where it is kept; the folder is made.
        checksum: as published, such as "sha256:258fb6c6" or "md5:f10217"; the first digits alone will do. None: the
            first download is noted, and later ones are compared with it.
        label: what to call it in messages; None: the name of the file.
        quiet: shows nothing of how far it is.

    Returns:
        `target`.

    Raises:
        UserError: it is nowhere to be had, what came is another file, the disk is full, or the folder cannot be
            written. The line says which file to put where.

    Example:
        >>> from tfdet.fetch import cache_folder, download
        >>> path = download([address], cache_folder() / "weights" / "R-50.pkl")
    """
    target = Path(target)
    label = label or target.name
    if not os.path.isfile(target):
        by_hand = f"put the file of {shown(addresses[0])} as {target}"
        with _locked(target, label, by_hand, quiet):
            if not os.path.isfile(target):  # another process may have fetched it meanwhile
                _fetch(addresses, target, checksum, label, by_hand, quiet)
                return target
    check_kept(target, checksum)
    return target


def remote_size(addresses: Sequence[str]) -> int | None:
    """The bytes of a published file, as the first server that answers says it; None where none does."""
    for address in candidates(addresses):
        try:
            if urlsplit(address).scheme == "file":
                return os.path.getsize(url2pathname(urlsplit(address).path))
            if offline():
                continue
            headers = {"Accept-Encoding": "identity"}
            response = requests.head(address, headers=headers, allow_redirects=True, timeout=silence())
            length = response.headers.get("Content-Length", "")
            if response.ok and length.isdecimal():
                return int(length)
        except OSError:  # requests' exceptions among them
            continue
    return None


def _fetch(addresses: Sequence[str], target: Path, checksum: str | None, label: str, by_hand: str, quiet: bool) -> None:
    """The first address that gives the right file."""
    failed = []
    with Bar(label, quiet) as bar:
        for address in candidates(addresses):
            if offline() and urlsplit(address).scheme != "file":
                if address in addresses:
                    failed.append("TFDET_OFFLINE forbids the network")
                    break
                continue
            try:
                _fetch_from(address, target, checksum, bar)
                return
            except FetchError as error:
                failed.append(f"{shown(address)}: {error}")
    raise UserError(f"cannot fetch {label}: {'; '.join(failed)}. By hand: {by_hand}")


def _fetch_from(address: str, target: Path, checksum: str | None, bar: Bar) -> None:
    part, known = part_file(target), read_record(target)
    checked = checksum is not None or known is not None
    pieced = transfer(address, target, bar, checked)
    why, sha256 = difference(part, checksum, known)
    if why and pieced:  # perhaps of two versions of the file: once more, in one piece
        _give_up(target)
        transfer(address, target, bar, checked)
        why, sha256 = difference(part, checksum, known)
    if why:
        _give_up(target)
        forget = f" (if it was published anew, remove {record_file(target)})" if known is not None else ""
        raise FetchError(f"another file than it should be was sent and removed again: {why}{forget}")
    part.replace(target)
    part_record(target).unlink(missing_ok=True)
    note(target, shown(address), sha256)


def _give_up(target: Path) -> None:
    part_record(target).unlink(missing_ok=True)
    part_file(target).unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(target: Path, label: str, by_hand: str, quiet: bool) -> Iterator[None]:
    """While entered, no other process fetches this file."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(lock_file(target))
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            if not quiet:
                say(f"waiting for another process that fetches {label}")
            lock.acquire()
    except OSError as error:
        raise UserError(
            f"cannot fetch {label}: {target.parent} cannot be written: {error.strerror or error}. Let TFDET_CACHE name "
            f"a folder that can, or {by_hand}"
        ) from error
    try:
        yield
    finally:
        lock.release()
