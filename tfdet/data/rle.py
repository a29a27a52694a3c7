"""COCO's run-length encoding of masks, read and written, and the rings along the pixel borders of a mask. Numpy alone.

The strings of annotation files, which anyone may have written, are decoded here with checks when a data set is made,
and stored as written here: pycocotools, whose decoder trusts its input, reads those in evaluation.
"""

from __future__ import annotations

import numpy as np

_FIRST_CHARACTER = 48  # "0" stands for 0; a character carries 5 bits and whether another follows
_MAX_DIGITS = 12  # 60 bits: more than any run of any image


def counts_from_string(text: str) -> list[int]:
    """Decodes COCO's compressed counts.

    Source: cocoapi common/maskApi.c, rleFrString: 5 bits a character, lowest first, in two's complement; from the
    fourth count on it is the difference to the one two before.

    Args:
        text: `counts` of a compressed RLE.

    Returns:
        Lengths of the runs, zeros first, in column-major order.

    Raises:
        ValueError: not such a string, or it stands for a negative length.
    """
    counts: list[int] = []
    value = digits = 0
    for character in text:
        code = ord(character) - _FIRST_CHARACTER
        if not 0 <= code < 64:
            raise ValueError(f"character {character!r} is not of a compressed RLE")
        value |= (code & 31) << (5 * digits)
        digits += 1
        if code & 32:
            if digits == _MAX_DIGITS:
                raise ValueError("a count is too long")
            continue
        if code & 16:
            value -= 1 << (5 * digits)
        if len(counts) > 2:
            value += counts[-2]
        if value < 0:
            raise ValueError("a count is negative")
        counts.append(value)
        value = digits = 0
    if digits:
        raise ValueError("the string ends within a count")
    return counts


def counts_to_string(counts: list[int]) -> str:
    """COCO's compressed form of run lengths; the inverse of `counts_from_string` (maskApi.c, rleToString)."""
    characters = []
    for number, count in enumerate(counts):
        value = count - counts[number - 2] if number > 2 else count
        more = True
        while more:
            code = value & 31
            value >>= 5
            more = value != (-1 if code & 16 else 0)
            characters.append(chr(code + 32 * more + _FIRST_CHARACTER))
    return "".join(characters)


def mask_from_counts(counts: list[int], height: int, width: int) -> np.ndarray:
    """The mask of run lengths that sum to height * width: bool [height, width]."""
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(width, height).T


def counts_from_mask(mask: np.ndarray) -> list[int]:
    """Run lengths of a mask bool [H, W], zeros first, in column-major order."""
    flat = np.asarray(mask, bool).T.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    return [0, *counts] if flat.size and flat[0] else counts


def extent_of_counts(counts: list[int], height: int) -> tuple[float, float, float, float]:
    """The box around the set pixels of run lengths that have some: x1, y1, x2, y2, continuous corners in pixels."""
    ends = np.cumsum(counts)[1::2]
    starts = ends - np.array(counts[1::2])
    starts, ends = starts[starts < ends], ends[starts < ends]
    first, last = starts // height, (ends - 1) // height  # columns
    one_column = first == last
    top = np.where(one_column, starts % height, 0).min()
    bottom = np.where(one_column, (ends - 1) % height, height - 1).max() + 1
    return float(first.min()), float(top), float(last.max() + 1), float(bottom)


def rings_of_mask(mask: np.ndarray) -> list[np.ndarray]:
    """The border of a mask as rectilinear rings along the pixel borders; exact under the even-odd rule.

    A point of the pixel grid is a corner of the border when an odd number of its four pixels is set, and two corners
    when the set ones lie diagonally. Along every grid line the corners, in order, are the two ends of one border piece
    after the other; so each corner has one partner in its row and one in its column, and going to them in turn closes
    every ring. Outer borders and those of holes come out alike.

    Args:
        mask: bool [H, W].

    Returns:
        For each ring its corners int64 [n, 2], x and y in pixels (pixel k spans k to k + 1), n even and at least 4.

    Example:
        one set pixel in the first column of the second row gives [[0, 1], [1, 1], [1, 2], [0, 2]].
    """
    padded = np.pad(np.asarray(mask, bool), 1)
    upper_left, upper_right, lower_left, lower_right = (
        padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:],
    )  # fmt: skip
    odd = upper_left ^ upper_right ^ lower_left ^ lower_right
    diagonal = (upper_left == lower_right) & (upper_right == lower_left) & (upper_left != upper_right)
    rows, columns = np.nonzero(odd | diagonal)
    copies = np.where(diagonal[rows, columns], 2, 1)
    y, x = np.repeat(rows, copies), np.repeat(columns, copies)
    # Row by row the corners come in pairs, so the partner in the row of corner i is i ^ 1.
    by_column = np.lexsort((y, x))
    partner = np.empty(len(x), np.int64)
    partner[by_column[0::2]], partner[by_column[1::2]] = by_column[1::2], by_column[0::2]
    in_column = partner.tolist()
    points = np.stack([x, y], axis=-1).astype(np.int64)
    rings, done = [], bytearray(len(x))
    for first in range(len(x)):
        if done[first]:
            continue
        ring, corner = [], first
        while not done[corner]:
            other = corner ^ 1
            done[corner] = done[other] = 1
            ring += (corner, other)
            corner = in_column[other]
        rings.append(points[ring])
    return rings
