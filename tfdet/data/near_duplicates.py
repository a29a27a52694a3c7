"""Pictures that are nearly the same: resized, compressed anew, brighter, mirrored, a frame later. No TensorFlow."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np

from tfdet.data.images import ImageError, stored_rgb

_GRID = 16
_LEAST_ALIKE = 0.92  # correlation of the grids
_LEAST_SAME_SLOPES = 0.75  # share of the grids' slopes with the same sign
_LEAST_CONTRAST = 2.0  # standard deviation, grey levels; below it a picture is blank, and like any other blank one
_ROWS = 512  # compared at a time


@dataclasses.dataclass(frozen=True)
class Fingerprint:
    """What a picture is recognised by.

    Attributes:
        sha256: of its file.
        grid: uint8 [16, 16], the picture in grey, made so small; None where it could not be decoded.
    """

    sha256: bytes
    grid: np.ndarray | None


def fingerprint(encoded: bytes) -> Fingerprint:
    """The fingerprint of an image file, of pixels as training decodes them."""
    from PIL import Image

    digest = hashlib.sha256(encoded).digest()
    try:
        pixels = stored_rgb(encoded, 4 * _GRID)
    except ImageError:
        return Fingerprint(digest, None)
    grey = Image.fromarray(pixels).convert("L").resize((_GRID, _GRID), Image.Resampling.BILINEAR)
    return Fingerprint(digest, np.asarray(grey))


@dataclasses.dataclass(frozen=True)
class Duplicates:
    """Pictures that are the same or nearly so.

    Attributes:
        members: int, their numbers, ascending.
        exact: whether all of them are one file, byte for byte.
    """

    members: list[int]
    exact: bool


def find_duplicates(prints: Sequence[Fingerprint]) -> list[Duplicates]:
    """Groups of pictures of which each is nearly the same as another one of its group.

    Two are nearly the same when their grids, or the grid of one and the mirrored grid of the other, correlate by 0.92
    and three quarters of their slopes go the same way. Of the photos that this was tried on, a copy of a third of the
    size, of JPEG quality 25, brighter by 30 % or mirrored had 0.97 or more, two different ones at most 0.87.

    Args:
        prints: of N pictures.

    Returns:
        The groups, in the order of their first members. Time grows with N^2: of 10,000 pictures a second or two.
    """
    group = np.arange(len(prints))
    first_of: dict[bytes, int] = {}
    for number, own in enumerate(prints):
        group[number] = first_of.setdefault(own.sha256, number)
    several = [number for number in first_of.values() if _has_contrast(prints[number])]
    numbers = np.array(several, int)
    if len(numbers) > 1:
        grids = np.stack([prints[number].grid for number in several]).astype(np.float32)
        _join(group, numbers, grids)
    members: dict[int, list[int]] = {}
    for number, own in enumerate(group.tolist()):
        members.setdefault(own, []).append(number)
    found = sorted(own for own in members.values() if len(own) > 1)
    return [Duplicates(own, len({prints[number].sha256 for number in own}) == 1) for own in found]


def _has_contrast(own: Fingerprint) -> bool:
    return own.grid is not None and float(own.grid.std()) >= _LEAST_CONTRAST


def _join(group: np.ndarray, numbers: np.ndarray, grids: np.ndarray) -> None:
    """Gives the pictures `numbers` that are nearly the same one number in `group`, in place."""
    mirrored = grids[:, :, ::-1]
    unit, unit_mirrored = _unit(grids), _unit(mirrored)
    slopes, slopes_mirrored = _slopes(grids), _slopes(mirrored)
    for start in range(0, len(grids), _ROWS):
        rows, rest = unit[start : start + _ROWS], slice(start, None)
        for others, others_slopes in ((unit, slopes), (unit_mirrored, slopes_mirrored)):
            alike = rows @ others[rest].T >= _LEAST_ALIKE
            for row in np.flatnonzero(alike.sum(axis=1) > 0):
                columns = np.flatnonzero(alike[row])
                known = group[numbers[start + columns]] == group[numbers[start + row]]
                columns = columns[(columns > row) & ~known]
                same = (slopes[start + row] == others_slopes[start + columns]).mean(axis=1) >= _LEAST_SAME_SLOPES
                near = numbers[start + columns[same]]
                labels = np.unique(group[np.append(near, numbers[start + row])])
                if len(labels) > 1:
                    group[np.isin(group, labels)] = labels[0]


def _unit(grids: np.ndarray) -> np.ndarray:
    """Float32 [N, 256] of mean 0 and length 1: the product of two is their correlation."""
    flat = grids.reshape(len(grids), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return flat / np.linalg.norm(flat, axis=1, keepdims=True)


def _slopes(grids: np.ndarray) -> np.ndarray:
    """Bool [N, 480], whether the picture gets brighter to the right, and downwards."""
    across, down = grids[:, :, 1:] > grids[:, :, :-1], grids[:, 1:] > grids[:, :-1]
    return np.concatenate([across.reshape(len(grids), -1), down.reshape(len(grids), -1)], axis=1)
