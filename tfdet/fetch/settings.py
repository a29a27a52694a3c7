"""What the environment says about fetching.

- `TFDET_CACHE`: the folder that files are kept in; by default the user's cache folder, such as ~/.cache/tfdet.
- `TFDET_CACHE_LIMIT`: the most that shards of remote data sets take in it, such as 200GB; by default what the disk has.
- `TFDET_MIRROR`: one or more addresses or folders, with blanks between, that are asked before the published ones.
- `TFDET_OFFLINE=1`: no network; mirrors that are folders are read still.
- `TFDET_CHECKSUMS=first`: published checksums are passed over, for mirrors that hold files of one's own under published
  names; a file is compared with what was fetched first.
- `TFDET_TIMEOUT`: the seconds that a server may be silent, by default 30; a whole transfer has no limit.

Proxies and certificates are those of requests: `https_proxy`, `no_proxy`, `REQUESTS_CA_BUNDLE`.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import platformdirs

from tfdet.errors import UserError
from tfdet.files import at_home

_SCHEMES = ("http", "https", "file")
_SILENCE = 30.0
_NO = ("", "0", "false", "no", "off")


def cache_folder() -> Path:
    """The folder of everything that was fetched, which need not exist yet."""
    chosen = os.environ.get("TFDET_CACHE")
    return at_home(chosen) if chosen else Path(platformdirs.user_cache_dir("tfdet"))


def cache_limit() -> int | None:
    """Bytes that shards of remote data sets may take; None: no limit but the disk.

    Raises:
        UserError: `TFDET_CACHE_LIMIT` is no size.
    """
    text = os.environ.get("TFDET_CACHE_LIMIT", "").strip()
    if not text:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]?)B?", text.upper())
    if not found or not float(found[1]):
        raise UserError(f"TFDET_CACHE_LIMIT={text}: give a size above 0, such as 200GB or 1.5TB")
    return int(float(found[1]) * 1000 ** " KMGT".index(found[2] or " "))


def offline() -> bool:
    """Whether `TFDET_OFFLINE` forbids the network."""
    return os.environ.get("TFDET_OFFLINE", "").strip().lower() not in _NO


def published_checksums() -> bool:
    """Whether files must have the checksums that their makers published.

    Raises:
        UserError: `TFDET_CHECKSUMS` is neither "published" nor "first".
    """
    chosen = os.environ.get("TFDET_CHECKSUMS") or "published"
    if chosen not in ("published", "first"):
        raise UserError(f"TFDET_CHECKSUMS={chosen}: give published, or first for files of your own on a mirror")
    return chosen == "published"


def silence() -> float:
    """Seconds that a server may be silent.

    Raises:
        UserError: `TFDET_TIMEOUT` is no number above 0.
    """
    text = os.environ.get("TFDET_TIMEOUT") or str(_SILENCE)
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise UserError(f"TFDET_TIMEOUT={text}: give the seconds that a server may be silent, such as 30")
    return seconds


def candidates(addresses: Sequence[str]) -> list[str]:
    """Where to look for a file, in order: on the mirrors, then at its addresses.

    Of `https://host/path` a mirror has `MIRROR/host/path`, or `MIRROR/path`.

    Args:
        addresses: as published, newest first.

    Raises:
        UserError: a mirror is neither an address of http, https or file nor the path of a folder.
    """
    found = []
    for mirror in map(_mirror, os.environ.get("TFDET_MIRROR", "").split()):
        for parts in map(urlsplit, addresses):
            path = parts.path + (f"?{parts.query}" if parts.query else "")
            found += [f"{mirror}/{parts.netloc}{path}", f"{mirror}{path}"]
    return list(dict.fromkeys([*found, *addresses]))


def shown(address: str) -> str:
    """An address for a message: without the name and password that may stand in it."""
    parts = urlsplit(address)
    if "@" not in parts.netloc:
        return address
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _mirror(text: str) -> str:
    if urlsplit(text).scheme in _SCHEMES:
        return text.rstrip("/")
    folder = at_home(text)
    if not os.path.isdir(folder):
        raise UserError(f"TFDET_MIRROR={text}: neither an address (http://, https://, file://) nor a folder")
    return folder.resolve().as_uri()
