"""Colours of classes: told apart from each other, and seen on light and dark ground."""

from __future__ import annotations

import functools

import numpy as np

# Okabe and Ito's palette without its black, then Paul Tol's "bright" and "vibrant" colours that differ from it:
# hues that people with the common forms of colour blindness tell apart. Neighbours differ most.
_PALETTE = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (213, 94, 0),
    (0, 114, 178),
    (204, 121, 167),
    (238, 51, 119),
    (187, 187, 187),
    (34, 136, 51),
    (170, 51, 119),
    (51, 187, 238),
)
_NUM_COLORS = 240
_LIGHTNESS = (0.5, 0.92)  # of OKLab: neither lost on black nor on white
_LEVELS = 14  # of red, green and blue each, among which further colours are looked for

Color = tuple[int, int, int]


def class_color(index: int) -> Color:
    """The colour of a class, the same in every picture and run.

    Args:
      index: the class, 0..C-1. The first 12 are a palette for people who see fewer colours; every further one, up to
        240, differs as much as it can from all before. Then they come again.

    Returns:
      Red, green, blue, 0..255.
    """
    index %= _NUM_COLORS
    return _PALETTE[index] if index < len(_PALETTE) else _further()[index - len(_PALETTE)]


def ink_on(color: Color) -> Color:
    """Black or white, whichever is read better on a colour: by relative luminance (ITU-R BT.709)."""
    return (0, 0, 0) if 0.2126 * color[0] + 0.7152 * color[1] + 0.0722 * color[2] > 110 else (255, 255, 255)


@functools.cache
def _further() -> list[Color]:
    """The colours behind the palette's: each time the one that is farthest from all that are taken."""
    levels = np.linspace(0, 255, _LEVELS).round().astype(int)
    every = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    places = _oklab(every)
    fitting = (places[:, 0] >= _LIGHTNESS[0]) & (places[:, 0] <= _LIGHTNESS[1])
    every, places = every[fitting], places[fitting]
    taken = _oklab(np.array(_PALETTE))
    distance = ((places[:, None] - taken[None]) ** 2).sum(axis=-1).min(axis=1)
    found = []
    for _ in range(_NUM_COLORS - len(_PALETTE)):
        farthest = int(distance.argmax())
        found.append(tuple(every[farthest].tolist()))
        distance = np.minimum(distance, ((places - places[farthest]) ** 2).sum(axis=1))
    return found


def _oklab(colors: np.ndarray) -> np.ndarray:
    """sRGB 0..255 [N, 3] in OKLab, where distances are as people see them (Björn Ottosson, 2020)."""
    value = colors / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    cones = linear @ np.array(
        [[0.4122214708, 0.2119034982, 0.0883024619], [0.5363325363, 0.6806995451, 0.2817188376],
         [0.0514459929, 0.1073969566, 0.6299787005]]
    )  # fmt: skip
    return np.cbrt(cones) @ np.array(
        [[0.2104542553, 1.9779984951, 0.0259040371], [0.7936177850, -2.4285922050, 0.7827717662],
         [-0.0040720468, 0.4505937099, -0.8086757660]]
    )  # fmt: skip
