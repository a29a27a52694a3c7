"""Data sets at addresses: their manifest and index in the cache folder, their shards when they are needed.

    CACHE/data/NAME-DIGEST/       manifest.json, index.npz, the shards that are here, and remote.json with the address
    CACHE/data/.DIGEST.json       of an address the folder that it was last, for TFDET_OFFLINE

The digest is of address and manifest: a set that is published anew becomes another folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import quote, urlsplit

from tfdet.data.index import INDEX_FILE
from tfdet.errors import UserError
from tfdet.fetch import cache_folder, download, forget, offline, remove
from tfdet.fetch.progress import say
from tfdet.fetch.settings import shown
from tfdet.files import replacing, write_json
from tfdet.strict_json import field, parse_json, read_json
from tfdet.text import printable

REMOTE_FILE = "remote.json"
OTHER_SUFFIXES = (".json", ".npz", ".lock", ".part")
"""Of files in such a folder that are no shards."""


@dataclasses.dataclass(frozen=True)
class RemoteShard:
    """A shard that is fetched when it is needed: address, place on this machine, size in bytes, SHA-256 in hex."""

    address: str
    path: Path
    bytes: int
    sha256: str


def local_copy(address: str, manifest_file: str) -> Path:
    """The folder of the data set at an address, which holds manifest and index; fetched where it changed.

    Args:
        address: of the folder: `https://host/coco`, or one that fsspec knows, such as `gs://bucket/coco`.
        manifest_file: name of the manifest.

    Raises:
        UserError: there is no data set, it cannot be fetched and is not here from before, or the cache folder cannot
            be written.
    """
    address = address.rstrip("/")
    root = cache_folder() / "data"
    pointer = root / f".{_digest(address)}.json"
    if offline():
        if (kept := _kept(pointer, root, manifest_file)) is None:
            raise UserError(f"data set {shown(address)} is not in the cache, and TFDET_OFFLINE forbids the network")
        return kept
    try:
        text = _fetch_text(file_address(address, manifest_file), root, f"the manifest of {shown(address)}")
    except UserError as error:
        if (kept := _kept(pointer, root, manifest_file)) is None:
            reason = str(error).partition(". By hand:")[0]
            raise UserError(f"{shown(address)} gives no data set: {reason}") from error
        say(f"{shown(address)} does not answer: taken as it was when it was fetched last")
        return kept
    folder = root / f"{_name(address)}-{_digest(address, text)}"
    download(
        [file_address(address, INDEX_FILE)],
        folder / INDEX_FILE,
        checksum=_index_checksum(text, f"{shown(address)}/{manifest_file}"),
        label=f"the index of {shown(address)}",
        quiet=True,
    )
    if not os.path.isfile(folder / manifest_file):
        write_json({"address": address}, folder / REMOTE_FILE)
        with replacing(folder / manifest_file) as temporary:
            temporary.write_bytes(text)
    write_json({"folder": folder.name}, pointer)
    return folder


def address_of(folder: Path) -> str | None:
    """The address of the data set that a folder of the cache is of; None for any other folder."""
    if not os.path.isfile(folder / REMOTE_FILE):
        return None
    return field(read_json(folder / REMOTE_FILE, "the record of a remote data set"), "address", str)


def remote_shards(address: str, folder: Path, shards: Sequence) -> list[RemoteShard]:
    """The shards of a `Manifest`, where they are and where they go.

    Raises:
        UserError: the name of one leads out of the folder, or is taken.
    """
    found = []
    for shard in shards:
        path = PurePosixPath(shard.file)
        hidden = any(part.startswith(".") for part in path.parts)
        if path.is_absolute() or "\\" in shard.file or hidden or path.suffix in OTHER_SUFFIXES:
            raise UserError(
                f"{shown(address)}: the shard {printable(shard.file)} lies outside of the data set's folder, or has no "
                "name of a record file: such a set is not read from an address"
            )
        found.append(RemoteShard(file_address(address, shard.file), folder / path, shard.bytes, shard.sha256))
    return found


def file_address(address: str, name: str) -> str:
    """The address of a file in a folder; where it is one of the web, its name is quoted."""
    parts = urlsplit(address)
    if parts.scheme in ("http", "https"):
        rest = f"?{parts.query}" if parts.query else ""  # such as a token of access
        return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}/{quote(name)}{rest}"
    return f"{address}/{name}"


def _fetch_text(address: str, root: Path, label: str) -> bytes:
    """A small file as it is now: it is fetched each time."""
    target = root / f".{_digest(address)}-{os.getpid()}-{threading.get_ident()}.json"
    forget(target)
    try:
        return download([address], target, label=label, quiet=True).read_bytes()
    finally:
        with contextlib.suppress(UserError):
            remove(target)
        forget(target)


def _kept(pointer: Path, root: Path, manifest_file: str) -> Path | None:
    try:
        folder = root / Path(field(read_json(pointer, "the record"), "folder", str)).name
    except (OSError, ValueError, UserError):
        return None
    return folder if os.path.isfile(folder / manifest_file) else None


def _index_checksum(text: bytes, what: str) -> str | None:
    try:
        digits = field(parse_json(text), "index_sha256", str, "")
    except (ValueError, UserError, TypeError, AttributeError):
        raise UserError(f"{what} is no manifest of a data set: `tfdet convert_data` writes one") from None
    return f"sha256:{digits}" if digits else None


def _name(address: str) -> str:
    name = PurePosixPath(urlsplit(address).path).name or urlsplit(address).netloc
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "_" for c in name)[:60] or "data"


def _digest(address: str, content: bytes = b"") -> str:
    return hashlib.sha256(json.dumps(address).encode() + b"\0" + content).hexdigest()[:20]
