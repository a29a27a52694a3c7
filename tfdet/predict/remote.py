"""Images of the web: fetched into memory, with limits of size and time."""

from __future__ import annotations

import os
import re
import time
from urllib.parse import unquote, urlsplit

import numpy as np

from tfdet.data.images import ImageError, decode_image
from tfdet.errors import UserError

MAX_BYTES = 100 * 10**6
"""Most bytes of an image that is fetched."""
MAX_SECONDS = 120.0
"""That it may take from beginning to end."""

_ADDRESS = re.compile(r"https?://", re.IGNORECASE)
_CONNECT = 10.0  # seconds
_BLOCK = 1 << 16


def is_address(source: object) -> bool:
    """Whether it is a text that begins with http:// or https://."""
    return isinstance(source, str) and _ADDRESS.match(source) is not None


def base_name(address: str) -> str:
    """The last part of an address' path as the name of a file; "image" where there is none."""
    name = os.path.basename(unquote(urlsplit(address).path).replace("\0", "")).strip(". ")
    return re.sub(r"[/\\:*?\"<>|\x00-\x1f]", "_", name)[-100:] or "image"


def read_remote(address: str, max_pixels: int) -> np.ndarray:
    """The pixels of an image of the web, turned upright.

    Args:
        address: http:// or https://. Proxies and certificates are those of requests.
        max_pixels: most pixels, height times width.

    Returns:
        uint8 [H, W, 3], RGB.

    Raises:
        UserError: it cannot be had, is too long, or cannot be decoded; `TFDET_OFFLINE` forbids the network.
    """
    from tfdet.fetch.settings import offline, shown

    name = shown(address)
    if offline():
        raise UserError(f"cannot read image {name}: TFDET_OFFLINE forbids the network")
    encoded = _fetched(address, name)
    try:
        return decode_image(encoded, max_pixels)
    except ImageError as error:
        raise UserError(f"cannot decode image {name}: {error}") from None


def _fetched(address: str, name: str) -> bytes:
    import requests

    from tfdet.fetch.settings import silence
    from tfdet.fetch.transfer import why_not

    seconds, begun = silence(), time.monotonic()
    headers = {"User-Agent": "tfdet", "Accept": "image/*,*/*;q=0.5"}
    try:
        with requests.get(address, headers=headers, stream=True, timeout=(_CONNECT, seconds)) as response:
            if not response.ok:
                what = f"the server answers {response.status_code} {response.reason}".rstrip()
                raise UserError(f"cannot read image {name}: {what}")
            length = response.headers.get("Content-Length", "")
            content = bytearray()
            if length.isdecimal() and int(length) > MAX_BYTES:
                raise _too_long(name)
            for block in response.iter_content(_BLOCK):
                content += block
                if len(content) > MAX_BYTES:
                    raise _too_long(name)
                if time.monotonic() - begun > MAX_SECONDS:
                    raise UserError(f"cannot read image {name}: it was not here after {MAX_SECONDS:.0f} s")
            return bytes(content)
    except (requests.RequestException, ValueError, UnicodeError) as error:
        why = why_not(error, seconds) if isinstance(error, requests.RequestException) else "it is no address"
        raise UserError(f"cannot read image {name}: {why}") from None


def _too_long(name: str) -> UserError:
    return UserError(f"cannot read image {name}: it has more than {MAX_BYTES // 10**6} MB; fetch it and give the file")
