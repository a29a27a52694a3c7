"""The images that a person names: files, folders and patterns, addresses, arrays, PIL images."""

from __future__ import annotations

import collections
import glob
import os
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from tfdet.arguments import MAX_PIXELS
from tfdet.data.images import IMAGE_ENDINGS, ImageError, read_image, upright_rgb
from tfdet.data.listing import count_endings, ending
from tfdet.errors import UserError
from tfdet.files import check_local, literal_beginning
from tfdet.predict.patterns import matches, why_nothing_matches
from tfdet.predict.remote import is_address, read_remote
from tfdet.predict.video import is_video

ImageSource: TypeAlias = "str | os.PathLike | np.ndarray | Image.Image"
"""A file, folder, pattern or address (http, https); an array, RGB uint8 [H, W, 3], or grey, with alpha, of 16 bits; a
PIL image of any mode but "F". Files and PIL images are turned upright by their EXIF orientation."""


def find_images(
    inputs: Sequence[str], passed_over: collections.Counter[str] | None = None, unmatched: list[str] | None = None
) -> list[str]:
    """Finds the images that files, folders and patterns name.

    Args:
      inputs: each a file, a folder (its images by their endings, not those of folders inside), a pattern (`**` goes
        into folders), an address (http, https), or a camera (`camera:0`).
      passed_over: receives the other files of the folders, counted by ending.
      unmatched: receives a line for each folder or pattern that has no image: why.

    Returns:
      Paths and addresses, in the order of the inputs, sorted within a folder or pattern, each once. A file that is
      named itself is among them even when it is not there, or a video: reading it will say so.

    Raises:
      UserError: there is no image.
    """
    paths: dict[str, None] = {}
    others: collections.Counter[str] = collections.Counter() if passed_over is None else passed_over
    reasons: list[str] = [] if unmatched is None else unmatched
    for entry in inputs:
        if is_address(entry):
            paths[entry] = None
            continue
        check_local(entry, "image")
        if os.path.isdir(entry):
            names = sorted(os.listdir(entry))
            found = [os.path.join(entry, name) for name in names if ending(name) in IMAGE_ENDINGS]
            left = (os.path.join(entry, name) for name in names if ending(name) not in IMAGE_ENDINGS)
            own = collections.Counter(ending(path) for path in left if not os.path.isdir(path))
            others.update(own)
            if not found:
                besides = f" ({count_endings(own)} passed over)" if own else ": it is empty, or has folders alone"
                reasons.append(f"no image found in {entry}{besides}")
        elif os.path.lexists(entry) or not glob.has_magic(entry):
            found = [entry]
        else:
            found = matches(literal_beginning(entry))
            if not found:
                reasons.append(f"no image found in {entry}: {why_nothing_matches(entry)}")
        paths.update(dict.fromkeys(found))
    if not paths:
        why = "; ".join(reasons) or "no image is named"
        raise UserError(f"{why}. Give image files, folders of them, patterns or addresses")
    return list(paths)


def named_images(images: ImageSource | Iterable[ImageSource]) -> list[ImageSource]:
    """One image, or several, as a list with folders and patterns replaced by the files in them.

    Raises:
      UserError: there is no image.
    """
    # An array of any library, TensorFlow's too, is one image: rows of pixels are not.
    one = isinstance(images, (str, bytes, os.PathLike, Image.Image)) or hasattr(images, "__array__")
    several: Any = [images] if one or not isinstance(images, Iterable) else images  # the wrong ones: when they are read
    listed: list[ImageSource] = []
    for entry in several:
        listed += find_images([os.fspath(entry)]) if isinstance(entry, (str, os.PathLike)) else [entry]
    if not listed:
        raise UserError("no image given: give image files, folders of them, patterns, addresses, arrays or PIL images")
    return listed


def read_source(source: ImageSource, index: int = 0, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The pixels of one image.

    Args:
      source: a file, an address, an array or a PIL image.
      index: its place among the images given, for messages.
      max_pixels: most pixels of a file or a PIL image, height times width.

    Returns:
      uint8 [H, W, 3], RGB; alpha is left out and 16 bits keep their high byte.

    Raises:
      UserError: it cannot be read, or is none of these.
    """
    if isinstance(source, str) and is_address(source):
        return read_remote(source, max_pixels)
    if isinstance(source, (str, os.PathLike)):
        if is_video(source):
            raise UserError(f"{os.fspath(source)} is a video: `tfdet predict` and, in Python, predict_video read it")
        return read_image(source, max_pixels)
    try:
        if isinstance(source, Image.Image):
            return upright_rgb(source, max_pixels)
        if hasattr(source, "__array__"):
            return _rgb_of(np.asarray(source))
    except ImageError as error:
        raise UserError(f"image {index} {error}") from None
    raise UserError(f"image {index} is a {type(source).__name__}: give a file's path, an array or a PIL image")


def _rgb_of(array: np.ndarray) -> np.ndarray:
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim in (2, 3) and 0 in array.shape[:2]:
        raise ImageError(f"is an array of shape {list(array.shape)}, without a pixel")
    if array.ndim not in (2, 3) or channels not in (1, 3, 4):
        raise ImageError(
            f"is an array of shape {list(array.shape)}: give [H, W, 3], RGB, or [H, W], grey, and several images as a "
            "list"
        )
    if array.dtype == np.uint16:
        array = array >> 8
    elif array.dtype != np.uint8:
        raise ImageError(f"is an array of {array.dtype}: give uint8, 0..255, or uint16")
    array = array.astype(np.uint8).reshape(*array.shape[:2], channels)[..., :3]
    return np.ascontiguousarray(np.broadcast_to(array, [*array.shape[:2], 3]))
