"""One address -> one temporary file, going on where an earlier attempt was cut."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterable
from io import FileIO
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import requests

from tfdet.errors import UserError
from tfdet.fetch.object_stores import in_object_store, reading
from tfdet.fetch.progress import Bar, megabytes
from tfdet.fetch.record import part_file, part_record, read_part
from tfdet.fetch.settings import shown, silence
from tfdet.files import write_json

_CONNECT = 10.0  # seconds until the connection stands
_TRIES = 3  # that bring nothing new, one after the other
_PAUSE = 1.0  # seconds before the second try, twice as many before the third
_BLOCK = 1 << 16  # bytes; a connection that is cut loses the block that it was in
_BUSY = (408, 425, 429)  # and all from 500 on: worth another try
_MARGIN = 1 << 24  # bytes that stay free on the disk
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


class FetchError(Exception):
    """Why an address gave no file, in words.

    Attributes:
        again: whether another try may help.
    """

    def __init__(self, reason: str, again: bool = False):
        super().__init__(reason)
        self.again = again


def transfer(address: str, target: Path, bar: Bar, checked: bool) -> bool:
    """Fetches what an address offers into `part_file(target)`.

    An attempt that is cut is followed by others, which ask for the rest (`Range`), as long as they bring something.
    `If-Range` keeps the server from giving the rest of another file: it needs the server's name of the version, a
    strong ETag or else a date.

    Args:
        address: http, https, file, or one of an object store.
        target: what the file will be called.
        bar: told how far it is.
        checked: a checksum will tell whether the file is right, so that a rest is asked for without such a name too.

    Returns:
        Whether the file was put together of several answers.

    Raises:
        FetchError: it does not offer it, or stopped answering; what came is kept for the next time.
        UserError: the disk is full, or the folder cannot be written.
    """
    part, pieces, most, tries = part_file(target), 0, 0, 0
    while True:
        try:
            pieces += _attempt(address, target, bar, checked)
            return pieces > 1
        except FetchError as error:
            size = part.stat().st_size if part.is_file() else 0
            pieces, tries = pieces + bool(size), 0 if size > most else tries + 1
            most = max(most, size)
            if not error.again or tries >= _TRIES:
                raise
            time.sleep(_PAUSE * 2 ** max(tries - 1, 0))


def _attempt(address: str, target: Path, bar: Bar, checked: bool) -> int:
    """One request; the number of pieces that the file is of by now, 1 or 2."""
    if urlsplit(address).scheme == "file":
        return _copy(address, target, bar)
    if in_object_store(address):
        return _from_store(address, target, bar, checked)
    part, seconds = part_file(target), silence()
    known = read_part(target)
    have = part.stat().st_size if part.is_file() and known.get("address") == address else 0
    if not known.get("validator") and not checked:
        have = 0
    if have and have == known["total"]:  # the process ended before it gave the file its name
        return 1
    headers = {"Accept-Encoding": "identity", "User-Agent": "tfdet"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if known["validator"]:
            headers["If-Range"] = known["validator"]
    begun = False
    try:
        with requests.get(address, headers=headers, stream=True, timeout=(_CONNECT, seconds)) as response:
            begun = True
            if have and response.status_code == 416:  # the file is shorter by now, or whole already
                part_record(target).unlink(missing_ok=True)
                raise FetchError("the file changed while it was fetched", again=True)
            _check_answer(response, target)
            start = _start(response, have, known, target)
            total = _total(response, start)
            _check_space(target, start, total)
            _note_part(target, address, response, total)
            bar.begin(shown(address), start, total)
            _write(response.iter_content(_BLOCK), part, start, bar)
    except requests.RequestException as error:
        raise FetchError(why_not(error, seconds), again=begun or isinstance(error, requests.ReadTimeout)) from error
    size = part.stat().st_size
    if total is not None and size != total:
        raise FetchError(f"the connection ended after {size} of {total} bytes", again=True)
    return 2 if start else 1


def _from_store(address: str, target: Path, bar: Bar, checked: bool) -> int:
    """What `_attempt` does, of an object store; the store's library has tries and limits of time of its own."""
    part, known = part_file(target), read_part(target)
    have = part.stat().st_size if checked and part.is_file() and known.get("address") == address else 0
    try:
        with reading(address, have) as (total, blocks):
            _check_space(target, have, total)
            write_json(
                {"address": address, "validator": "", "total": -1 if total is None else total}, part_record(target)
            )
            bar.begin(shown(address), have, total)
            _write(blocks, part, have, bar)
    except FileNotFoundError as error:
        raise FetchError(str(error)) from error
    except OSError as error:
        raise FetchError(str(error), again=True) from error
    size = part.stat().st_size
    if total is not None and size != total:
        raise FetchError(f"the store gave {size} of {total} bytes", again=size < total)
    return 2 if have else 1


def _copy(address: str, target: Path, bar: Bar) -> int:
    """A file of a mirror that is a folder."""
    source = Path(url2pathname(urlsplit(address).path))
    try:
        with open(source, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            _check_space(target, 0, size)
            part_record(target).unlink(missing_ok=True)
            bar.begin(address, 0, size)
            _write(iter(lambda: file.read(_BLOCK), b""), part_file(target), 0, bar)
    except OSError as error:
        raise FetchError(error.strerror or str(error)) from error
    return 1


def _check_answer(response: requests.Response, target: Path) -> None:
    status = response.status_code
    if not response.ok:
        again = status in _BUSY or status >= 500
        raise FetchError(f"the server answers {status} {response.reason}".rstrip(), again)
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind == "text/html" and target.suffix not in (".html", ".htm"):
        raise FetchError("the answer is a web page, not the file (a login page of the network?)")


def _start(response: requests.Response, have: int, known: dict, target: Path) -> int:
    """From which byte on the answer is; the whole file where the server does not give rests, or the file changed."""
    if response.status_code != 206:
        return 0
    found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    other = known.get("validator") and _validator(response) not in ("", known["validator"])
    longer = found and found[2] != "*" and known.get("total", -1) not in (-1, int(found[2]))
    if not found or int(found[1]) != have or other or longer:
        part_record(target).unlink(missing_ok=True)
        raise FetchError("the file changed while it was fetched", again=True)
    return have


def _total(response: requests.Response, start: int) -> int | None:
    """The bytes of the whole file, None where the server does not say it."""
    length = response.headers.get("Content-Length", "")
    encoded = response.headers.get("Content-Encoding", "identity").lower() != "identity"
    return start + int(length) if length.isdecimal() and not encoded else None


def _validator(response: requests.Response) -> str:
    """What names this version of the file: a strong ETag, else the date of its change, else nothing."""
    tag = response.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")


def _note_part(target: Path, address: str, response: requests.Response, total: int | None) -> None:
    write_json(
        {"address": address, "validator": _validator(response), "total": -1 if total is None else total},
        part_record(target),
    )


def _check_space(target: Path, start: int, total: int | None) -> None:
    if total is None:
        return
    # What is there of an earlier attempt is written over.
    old = part_file(target).stat().st_size if part_file(target).is_file() else 0
    needed, free = total - max(start, old), shutil.disk_usage(target.parent).free
    if needed + _MARGIN > free:
        raise UserError(
            f"{target} needs {megabytes(max(needed, 0))} and the disk has {megabytes(free)}: free some space, or let "
            "TFDET_CACHE name a folder on another disk"
        )


def _write(blocks: Iterable[bytes], part: Path, start: int, bar: Bar) -> None:
    with _opened(part, start) as file:
        for block in blocks:
            try:
                rest = memoryview(block)
                while rest:  # a disk that becomes full takes a part first
                    rest = rest[file.write(rest) :]
            except OSError as error:
                raise _disk_error(part, error) from error
            bar.advance(len(block))


def _opened(part: Path, start: int) -> FileIO:
    """The temporary file, its first `start` bytes kept; unbuffered, so that an error is one of `write`."""
    try:
        file = open(part, "r+b" if start else "wb", buffering=0)  # noqa: SIM115
        file.truncate(start)
        file.seek(start)
    except OSError as error:
        raise _disk_error(part, error) from error
    return file


def _disk_error(part: Path, error: OSError) -> UserError:
    return UserError(
        f"cannot write {part}: {error.strerror or error}. Free some space, or let TFDET_CACHE name another folder; "
        "the same command goes on from here"
    )


def why_not(error: requests.RequestException, seconds: float) -> str:
    """An exception of requests in a few words; its own text is a nest of objects."""
    text = str(error)
    for kind, words in (
        (requests.exceptions.ProxyError, "the proxy does not answer (https_proxy, http_proxy)"),
        (requests.exceptions.SSLError, "its certificate is not valid here (REQUESTS_CA_BUNDLE names others)"),
        (requests.ConnectTimeout, f"no connection within {_CONNECT:g} s"),
        (requests.ReadTimeout, f"the server was silent for {seconds:g} s (TFDET_TIMEOUT)"),
        (requests.TooManyRedirects, "it redirects without end"),
        (requests.exceptions.ChunkedEncodingError, "the connection was cut"),
    ):
        if isinstance(error, kind):
            return words
    if "Read timed out" in text:
        return f"the server was silent for {seconds:g} s (TFDET_TIMEOUT)"
    for mark, words in (
        ("NameResolution", "its host is not found (is there a network?)"),
        ("refused", "the connection is refused"),
        ("unreachable", "the network is not reachable"),
    ):
        if mark in text:
            return words
    return "the connection broke" if isinstance(error, requests.ConnectionError) else f"{type(error).__name__}: {text}"
