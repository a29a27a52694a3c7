"""Files in object stores, such as gs://bucket/a and s3://bucket/a, by fsspec, which is not installed with tfdet."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from tfdet.errors import UserError

_EXTRAS = {"gs": "gs", "gcs": "gs", "s3": "s3", "s3a": "s3"}  # scheme -> extra of setup.py
_SHOWN = 200  # characters of a store's own message


def in_object_store(address: str) -> bool:
    """Whether an address is one for fsspec."""
    return urlsplit(address).scheme not in ("http", "https", "file")


@contextlib.contextmanager
def reading(address: str, start: int) -> Iterator[tuple[int | None, Iterator[bytes]]]:
    """Opens a file for reading.

    Args:
        address: `scheme://bucket/path`.
        start: byte to begin at.

    Yields:
        Its size in bytes, None where the store does not say it, and its bytes from `start` on in blocks.

    Raises:
        UserError: fsspec, or what it needs for this store, is not installed.
        OSError: the store does not give the file; the message says why.
    """
    system, path = _file_system(address)
    with _as_os_error():
        size = system.info(path).get("size")
        file = system.open(path, "rb", cache_type="readahead", block_size=1 << 22)
    with contextlib.closing(file):
        with _as_os_error():
            file.seek(start)

        def blocks() -> Iterator[bytes]:
            while True:
                with _as_os_error():
                    block = file.read(1 << 20)
                if not block:
                    return
                yield block

        yield size, blocks()


def _file_system(address: str) -> tuple[Any, str]:
    scheme = urlsplit(address).scheme
    extra = _EXTRAS.get(scheme, "remote")
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise UserError(f"{address} is read by fsspec: pip install 'tfdet[{extra}]'") from None
    try:
        return url_to_fs(address)
    except ImportError:
        more = "what fsspec needs for it" if extra == "remote" else f"'tfdet[{extra}]'"
        raise UserError(f"{scheme}:// needs a package more: pip install {more}") from None
    except ValueError as error:
        raise UserError(f"{address}: fsspec reads no such address ({_words(error)})") from None
    except Exception as error:  # of the store's own library, such as missing credentials
        raise OSError(_words(error)) from error


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    """Stores raise errors of their own libraries."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError("the store has no such file") from error
    except Exception as error:
        raise OSError(_words(error)) from error


def _words(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text[:_SHOWN] or type(error).__name__
