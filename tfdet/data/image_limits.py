"""What an encoded image may ask of its decoder, by its bytes alone: sides, pixels, tiles and scans."""

from __future__ import annotations

import re
import struct

MAX_SIDE = 65_535
"""Pixels of a side of an image: what a JPEG or GIF can say. Resizing a longer one takes memory for each of its rows."""
MAX_SCANS = 100
"""Scans of a JPEG: each passes over all pixels. Encoders write about 10; libtiff's own limit is this."""
SCAN_MARKER = b"\xff\xda"
_JPEG_MARKER = re.compile(rb"\xff+([^\x00\xff])", re.DOTALL)
_BARE_MARKERS = (0x01, *range(0xD0, 0xD9))  # without a length: TEM, RST0 to RST7, SOI
_END_OF_IMAGE, _START_OF_SCAN = 0xD9, 0xDA
_TIFF_SIDES = {256: "width", 257: "height", 322: "tile width", 323: "tile height"}
_TIFF_NUMBERS = {1: "B", 3: "H", 4: "I", 16: "Q"}  # BYTE, SHORT, LONG, LONG8


def size_fault(width: int, height: int, max_pixels: int) -> str:
    """Why an image of such a size is not taken; empty when it is."""
    if width * height > max_pixels:
        return (
            f"is {width}x{height}, more than the {max_pixels} pixels that are taken; --max_pixels, from Python "
            "max_pixels, allows more"
        )
    if max(width, height) > MAX_SIDE:
        return f"is {width}x{height}, with a side longer than the {MAX_SIDE} pixels that are taken"
    return ""


def encoding_fault(encoded: bytes, max_pixels: int) -> str:
    """Why a decoder would take more memory or time than the size of an image says; empty when it would not."""
    if encoded[:2] == b"\xff\xd8" and _has_too_many_scans(encoded):
        return f"is a JPEG of more than the {MAX_SCANS} scans that are taken"
    if encoded[:2] in (b"II", b"MM"):
        return _tiff_fault(encoded, max_pixels)
    return ""


def _has_too_many_scans(encoded: bytes) -> bool:
    if encoded.count(SCAN_MARKER) <= MAX_SCANS:  # inside of segments and behind the image there may be some too
        return False
    at = scans = 0
    while scans <= MAX_SCANS and (found := _JPEG_MARKER.search(encoded, at)):
        marker, at = found[1][0], found.end()
        if marker == _END_OF_IMAGE:
            return False
        if marker not in _BARE_MARKERS:
            at += int.from_bytes(encoded[at : at + 2], "big")
        scans += marker == _START_OF_SCAN
    return scans > MAX_SCANS


def _tiff_fault(encoded: bytes, max_pixels: int) -> str:
    """libtiff decodes whole tiles, and reads the directory itself: of a tag that is there twice, the largest counts.

    Strips need no limit: libtiff makes them no higher than the image.
    """
    order = "<" if encoded[:2] == b"II" else ">"
    is_big = 43 in encoded[2:4]  # BigTIFF
    try:
        (at,) = struct.unpack_from(order + ("Q" if is_big else "I"), encoded, 8 if is_big else 4)
        (count,) = struct.unpack_from(order + ("Q" if is_big else "H"), encoded, at)
        sides = dict.fromkeys(_TIFF_SIDES, 0)
        for number in range(count):
            entry = at + (8 + 20 * number if is_big else 2 + 12 * number)
            tag, kind = struct.unpack_from(order + "HH", encoded, entry)
            if tag not in sides:
                continue
            if kind not in _TIFF_NUMBERS or (kind == 16 and not is_big):
                return f"is a TIFF whose {_TIFF_SIDES[tag]} is no whole number"
            (side,) = struct.unpack_from(order + _TIFF_NUMBERS[kind], encoded, entry + (12 if is_big else 8))
            sides[tag] = max(sides[tag], side)
    except struct.error:
        return "is a TIFF whose directory is not whole"
    fault = size_fault(sides[256], sides[257], max_pixels)
    if fault:
        return fault
    if sides[322] * sides[323] > max(max_pixels, 256):  # their sides are multiples of 16
        return f"has tiles of {sides[322]}x{sides[323]}, more than the {max_pixels} pixels that are taken"
    return ""
