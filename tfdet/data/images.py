"""Image files as people have them -> 8-bit RGB. PIL only: conversion workers import this module without TensorFlow."""

from __future__ import annotations

import dataclasses
import functools
import io
import os
import warnings
import zlib

import numpy as np
from PIL import Image, ImageOps

from tfdet.arguments import MAX_PIXELS
from tfdet.data.image_limits import encoding_fault, size_fault
from tfdet.errors import UserError
from tfdet.files import irregular

IMAGE_ENDINGS = (
    ".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".jpe", ".jfif",
    ".jif", ".mpo", ".apng", ".dib", ".avif", ".jp2", ".j2k", ".jpf", ".jpx", ".j2c", ".jpc", ".tga", ".pcx",
)  # fmt: skip
"""How the names of image files end, in lower case: what is taken from a folder."""
_FORMATS = ("JPEG", "PNG", "BMP", "DIB", "WEBP", "GIF", "TIFF", "PPM", "AVIF", "JPEG2000", "TGA", "PCX")
"""Those of `IMAGE_ENDINGS`, as PIL names them. Others hold pictures within pictures (ICO, ICNS, IPTC), of which no
header tells, or are programs (EPS, WMF)."""
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_ORIENTATION_TAG = 0x0112
_JPEG_FORMATS = ("JPEG", "MPO")  # MPO: a JPEG with a second picture behind it, from some cameras
# What readers of the records decode to the pixels of `decode_image`: they repeat grey and look palettes up.
_KEPT_MODES = {**dict.fromkeys(_JPEG_FORMATS, ("RGB", "L")), "PNG": ("RGB", "L", "P", "1")}
TURNED = "rotated by its EXIF orientation"
"""What `PreparedImage.changes` says of such an image."""
_POSTSCRIPT = (b"%!PS", b"\xc5\xd0\xd3\xc6")
_RECORD_FORMATS = (*_JPEG_FORMATS, "PNG", "GIF")
_SIXTEEN_BIT_MODES = ("I;16", "I;16B", "I;16L", "I;16N")


class ImageError(Exception):
    """The image cannot be used; the message says why, without the file name."""


@dataclasses.dataclass(frozen=True)
class PreparedImage:
    """An encoded image that every reader of the records can decode to 8-bit RGB.

    Attributes:
        encoded: the bytes of the file.
        format: "jpeg" or "png".
        height, width: in pixels, after rotation.
        changes: what was done to the original, in words; empty when `encoded` is the original file, byte for byte.
    """

    encoded: bytes
    format: str
    height: int
    width: int
    changes: tuple[str, ...] = ()


def read_image(path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Reads an image file, whatever its ending, turned upright by its EXIF orientation.

    Args:
        path: the file, of one of the kinds in `IMAGE_ENDINGS`.
        max_pixels: most pixels, height times width.

    Returns:
        uint8 [H, W, 3], RGB.

    Raises:
        UserError: the file is missing, no file, too large or cannot be decoded.
    """
    try:
        encoded = read_file(path, max_pixels)
    except (OSError, ImageError) as error:
        raise UserError(f"cannot read image {path}: {getattr(error, 'strerror', None) or error}") from None
    try:
        return decode_image(encoded, max_pixels)
    except ImageError as error:
        raise UserError(f"cannot decode image {path}: {error}") from None


def read_file(path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> bytes:
    """The bytes of an image file; a pipe or device, which may have no end, is not read.

    Raises:
        ImageError: no file, of an impossible name, or longer than any image of so many pixels.
        OSError: it is not there, or cannot be read.
    """
    try:
        status = os.stat(path)
    except ValueError:
        raise ImageError("has a null byte in its name") from None
    if (kind := irregular(status.st_mode)) is not None:
        raise ImageError(f"is a {kind}, not a file")
    if status.st_size > 8 * max_pixels + (1 << 20):  # four channels of 16 bits
        raise ImageError(f"has {status.st_size} bytes: more than an image of {max_pixels} pixels takes")
    with open(path, "rb") as file:
        return file.read()


def upright_size(path: str | os.PathLike) -> tuple[int, int]:
    """Height and width of an image file turned upright, by its header alone.

    Raises:
        OSError: it cannot be read, or is no image.
    """
    try:
        if (kind := irregular(os.stat(path).st_mode)) is not None:
            raise OSError(f"is a {kind}, not a file")
        with open(path, "rb") as file:
            image = _guarded(lambda: Image.open(file, formats=_formats()))
            width, height = image.size
            try:
                turned = image.getexif().get(_ORIENTATION_TAG, 1) in (5, 6, 7, 8)
            except Exception:  # a broken EXIF block does not make the picture unusable
                turned = False
    except (ImageError, ValueError) as error:
        raise OSError(str(error)) from None
    return (width, height) if turned else (height, width)


def decode_image(encoded: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decodes image bytes to upright RGB.

    Args:
        encoded: the bytes of an image file.
        max_pixels: most pixels, height times width.

    Returns:
        uint8 [H, W, 3], RGB.

    Raises:
        ImageError: the bytes are not an image, or end too early, or it is too large.
    """
    return upright_rgb(_open(encoded, max_pixels), max_pixels)


def stored_rgb(encoded: bytes, max_side: int | None = None, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The pixels of a stored image as training decodes it, which is not turned by an EXIF orientation.

    Args:
        encoded: the bytes of a record's image.
        max_side: a larger image is made smaller, so that its longer side has so many pixels; a JPEG is then decoded
            at a fraction of its size, which is quick. None: as it is.
        max_pixels: most pixels, height times width.

    Returns:
        uint8 [H, W, 3], RGB.

    Raises:
        ImageError: the bytes are not an image, or end too early, or it is too large.
    """
    if not encoded:
        raise ImageError("is empty")
    image = _header(encoded, max_pixels)
    scale = 1.0 if max_side is None else max_side / max(image.size)
    size = tuple(max(1, round(side * scale)) for side in image.size)
    if scale < 1 and image.format in _JPEG_FORMATS:
        image.draft(None, size)
    _load(image, max_pixels)
    image = _to_rgb(image)
    return np.array(image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0) if scale < 1 else image)


def decode_grey(encoded: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The first channel of an image as it is stored, not turned: of a mask.

    Returns:
        [H, W], of the type that the image is stored in.

    Raises:
        ImageError: the bytes are no image, or it is too large.
    """
    values = np.asarray(_open(encoded, max_pixels))
    return values if values.ndim == 2 else values[..., 0]


def upright_rgb(image: Image.Image, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The pixels of a PIL image of any mode, turned upright by its EXIF orientation.

    Returns:
        uint8 [H, W, 3], RGB; alpha is dropped and 16 bits keep their high byte.

    Raises:
        ImageError: it has no pixels, they are floating-point numbers, or cannot be decoded.
    """
    if 0 in image.size:
        raise ImageError("has no pixels: it is {}x{}".format(*image.size))
    _load(image, max_pixels)  # PIL reads a file's pixels when they are first asked for
    return np.array(_to_rgb(_transpose(image)))


def prepare_image(
    encoded: bytes, annotated_height: int = 0, annotated_width: int = 0, max_pixels: int = MAX_PIXELS
) -> PreparedImage:
    """Checks that an image decodes, and makes it one that decodes to 8-bit RGB, for the records.

    EXIF rotation: boxes refer to the size that the annotation gives. When the picture turned upright has that size, it
    is turned (and what is stored needs no EXIF); when only the picture as stored has it, the annotator's tool did not
    turn it, and neither do we. Turning by 180 degrees and mirroring leave the size alone: then the upright picture is
    taken, which is what annotation tools, browsers and cv2.imread (SimpleDet) show.

    A JPEG or PNG that decodes to 8-bit RGB already, grey and palette included, keeps its bytes. A changed JPEG (CMYK,
    rotated) is stored as JPEG of quality 95 without chroma subsampling, anything else as PNG, which loses nothing.

    Args:
        encoded: the bytes of the image file.
        annotated_height, annotated_width: size in pixels that the boxes refer to; 0 when unknown.
        max_pixels: most pixels, height times width.

    Returns:
        The image to store.

    Raises:
        ImageError: undecodable or truncated, too large, or its size is not the annotated one either way.
    """
    image = _open(encoded, max_pixels)
    upright = _transpose(image)
    annotated = (annotated_width, annotated_height)
    if 0 in annotated or upright.size == annotated:
        chosen = upright
    elif image.size == annotated:
        chosen = image
    else:
        exchanged = ": its width and height are exchanged" if image.size == annotated[::-1] else ""
        raise ImageError(
            f"is {image.width}x{image.height} but the annotation says {annotated_width}x{annotated_height}{exchanged}"
        )
    changes = []
    if chosen is not image:
        changes.append(TURNED)
    kept_modes = _KEPT_MODES.get(image.format, ())
    if chosen.mode not in (*kept_modes, "RGB"):
        changes.append(f"converted from {_describe_mode(chosen)} to RGB")
    elif not kept_modes:
        changes.append(f"converted from {image.format}")
    elif image.format == "PNG" and (_png_bit_depth(encoded) > 8 or "transparency" in image.info):
        changes.append(f"converted from 16-bit or transparent {_describe_mode(chosen)} to 8-bit RGB")
    elif image.format == "PNG" and not _png_is_whole(encoded):
        changes.append("written anew: PIL reads all its pixels, but a checksum or the end of the file is damaged")
    if not changes:
        return PreparedImage(encoded, "png" if image.format == "PNG" else "jpeg", image.height, image.width)
    stored, buffer = _to_rgb(chosen), io.BytesIO()
    if image.format in _JPEG_FORMATS:
        stored.save(buffer, format="JPEG", quality=95, subsampling=0)
        kind = "jpeg"
    else:
        stored.save(buffer, format="PNG")
        kind = "png"
    return PreparedImage(buffer.getvalue(), kind, stored.height, stored.width, tuple(changes))


def image_size(encoded: bytes, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Height and width from the header alone, not rotated (as TensorFlow decodes it).

    Raises:
        ImageError: the header is that of no image, of one that is too large, or of one that records cannot hold:
            their decoder (`schema.decode_rgb`) takes JPEG of every mode, PNG of every depth and GIF of one frame; of
            WebP it makes pixels of another shape, and others it refuses.
    """
    image = _header(encoded, max_pixels)
    frames = _guarded(lambda: getattr(image, "n_frames", 1)) if image.format == "GIF" else 1
    if image.format not in _RECORD_FORMATS or frames > 1:
        what = f"a GIF of {frames} frames" if frames > 1 else image.format
        raise ImageError(f"is {what}, which training cannot decode: convert the images and their annotations anew")
    return image.size[::-1]


def _refuse(fault: str) -> None:
    if fault:
        raise ImageError(fault)


@functools.cache
def _formats() -> tuple[str, ...]:
    """Those of `_FORMATS` that this version of PIL has."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _load(image: Image.Image, max_pixels: int) -> None:
    _refuse(size_fault(*image.size, max_pixels))
    _guarded(image.load)
    _refuse(size_fault(*image.size, max_pixels))  # some formats know their size only now


def _header(encoded: bytes, max_pixels: int) -> Image.Image:
    """The image, not decoded yet: a few bytes can mean gigabytes."""
    if encoded[:4] in _POSTSCRIPT:
        raise ImageError("is PostScript, a program that PIL would have run")
    _refuse(encoding_fault(encoded, max_pixels))
    # PIL has limits of its own, twice the one it warns from; asked for more, it has to be told.
    allowed = Image.MAX_IMAGE_PIXELS
    try:
        if allowed is not None and max_pixels > 2 * allowed:
            Image.MAX_IMAGE_PIXELS = max_pixels
        image = _guarded(lambda: Image.open(io.BytesIO(encoded), formats=_formats()))
    finally:
        Image.MAX_IMAGE_PIXELS = allowed
    _refuse(size_fault(*image.size, max_pixels))
    return image


def _guarded(function):
    """PIL's decoders raise nearly anything on broken input (OSError, SyntaxError, ValueError, struct.error, ...)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function()
    except Image.UnidentifiedImageError:
        raise ImageError("is not an image of a known kind") from None
    except Image.DecompressionBombError:
        raise ImageError("is a decompression bomb: more pixels than are taken (--max_pixels)") from None
    except Exception as error:
        raise ImageError(f"cannot be decoded: {str(error) or type(error).__name__}") from None


def _open(encoded: bytes, max_pixels: int) -> Image.Image:
    if not encoded:
        raise ImageError("is empty")
    image = _header(encoded, max_pixels)
    _load(image, max_pixels)
    return image


def _transpose(image: Image.Image) -> Image.Image:
    """The image turned upright; the same object when there is nothing to turn."""
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # a broken EXIF block does not make the picture unusable
        return image
    if orientation not in range(2, 9):
        return image
    return _guarded(lambda: ImageOps.exif_transpose(image))


def _describe_mode(image: Image.Image) -> str:
    names = {
        "1": "black and white", "L": "grey", "LA": "grey with alpha", "P": "palette", "PA": "palette with alpha",
        "RGBA": "RGB with alpha", "I": "16-bit grey",
    }  # fmt: skip
    return "16-bit grey" if image.mode in _SIXTEEN_BIT_MODES else names.get(image.mode, image.mode)


def _png_bit_depth(encoded: bytes) -> int:
    return encoded[24] if len(encoded) > 24 else 0  # IHDR: signature 8, length 4, type 4, width 4, height 4, depth


def _png_is_whole(encoded: bytes) -> bool:
    """Whether every chunk has its checksum, and there is a last one: libpng, which reads the records, asks for that."""
    at, view = len(_PNG_SIGNATURE), memoryview(encoded)
    while at + 12 <= len(encoded):
        length = int.from_bytes(view[at : at + 4], "big")
        kind, end = encoded[at + 4 : at + 8], at + 8 + length
        if zlib.crc32(view[at + 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            return False
        if kind == b"IEND":
            return True
        at = end + 4
    return False


def _to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB; alpha is dropped and 16 bits keep their high byte, as cv2.imread(IMREAD_COLOR) does."""
    if image.mode == "RGB":
        return image
    if image.mode in _SIXTEEN_BIT_MODES or image.mode == "I":
        values = np.asarray(image).astype(np.int64)
        values = values >> 8 if image.mode != "I" or values.max(initial=0) > 255 else values
        return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ImageError("has floating-point pixels, whose range is unknown; store it with 8 or 16 bits")
    return _guarded(lambda: image.convert("RGB"))
