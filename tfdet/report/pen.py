"""Boxes and their labels on a PIL picture, in proportion to it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tfdet.report.colors import Color, ink_on
from tfdet.report.fonts import draw_text, measure
from tfdet.report.labels import Corners, LabelPlaces

_LEAST_LETTERS, _SMALLEST_LETTERS = 10, 8  # pixels; the latter where a label would be wider than the picture
_LETTERS = 56  # of the longer side of the picture is one letter's height
_MOST_CHARACTERS = 40


@dataclasses.dataclass(frozen=True)
class _PlacedLabel:
    """A label with its letters' size, the room around them, its baseline, its place and its box."""

    text: str
    size: int
    pad: int
    baseline: int
    color: Color
    place: Corners
    box: Corners


def line_width(side: int) -> int:
    """Pixels of a line on a picture whose longer side has so many."""
    return max(1, round(side / 400))


class Pen:
    """Lines first, then all labels, so that no line crosses a word.

    Args:
        draw: a PIL ImageDraw.
        size: width and height of the picture.
    """

    def __init__(self, draw: Any, size: tuple[int, int]):
        self._draw = draw
        self._width, self._height = size
        self._line = line_width(max(size))
        self._letters = max(_LEAST_LETTERS, round(max(size) / _LETTERS))
        self._pending: list[tuple[Corners, str, Color, bool]] = []

    def box(self, box: np.ndarray, color: Color, label: str) -> None:
        """A full line with a dark one on both sides of it, which keeps it visible on a ground of its own colour."""
        corners = self._inside(box)
        if corners is None:
            return
        left, top, right, bottom = corners
        line = self._line_of(corners)
        halo = max(1, line // 3)
        outer = (left - halo, top - halo, right + halo, bottom + halo)
        self._draw.rectangle(outer, outline=(0, 0, 0), width=line + 2 * halo)
        self._draw.rectangle(corners, outline=color, width=line)
        self._pending.append((corners, label, color, True))

    def dashed_box(self, box: np.ndarray, color: Color, label: str) -> None:
        """A dashed line on a white one."""
        corners = self._inside(box)
        if corners is None:
            return
        left, top, right, bottom = corners
        line = self._line_of(corners)
        halo = max(1, line // 3)
        outer = (left - halo, top - halo, right + halo, bottom + halo)
        self._draw.rectangle(outer, outline=(255, 255, 255), width=line + 2 * halo)
        dash = max(3, 4 * line)
        for x in range(left, right + 1, 2 * dash):
            end = min(x + dash, right)
            self._draw.rectangle((x, top, end, min(top + line - 1, bottom)), fill=color)
            self._draw.rectangle((x, max(bottom - line + 1, top), end, bottom), fill=color)
        for y in range(top, bottom + 1, 2 * dash):
            end = min(y + dash, bottom)
            self._draw.rectangle((left, y, min(left + line - 1, right), end), fill=color)
            self._draw.rectangle((max(right - line + 1, left), y, right, end), fill=color)
        self._pending.append((corners, label, color, False))

    def labels(self) -> None:
        """Draws the labels of all boxes so far: places are given to the last box first, which lies on top."""
        places = LabelPlaces(self._width, self._height, np.array([corners for corners, *_ in self._pending]))
        found = [self._placed(places, *pending) for pending in reversed(self._pending)]
        labels = [label for label in found if label is not None]
        for label in labels:
            self._leader(label)
        for label in labels:
            left, top, right, bottom = label.place
            self._draw.rectangle((left, top, right, bottom), fill=label.color)
            draw_text(self._draw, (left + label.pad, label.baseline), label.text, label.size, ink_on(label.color))
        self._pending.clear()

    def _placed(
        self, places: LabelPlaces, corners: Corners, label: str, color: Color, above: bool
    ) -> _PlacedLabel | None:
        text, size, pad = self._fitting(label)
        width, high, low = measure(text, size)
        # All labels of a size are of one height, whatever letters they have.
        _, least_high, least_low = measure("Hg", size)
        high, low = max(high, least_high), max(low, least_low)
        width, height = width + 2 * pad, high + low + 2 * pad
        place = places.find(corners, width, height, above)
        if place is None:
            return None
        left, top = place
        own = (left, top, left + width - 1, top + height - 1)
        return _PlacedLabel(text, size, pad, top + pad + high, color, own, corners)

    def _leader(self, label: _PlacedLabel) -> None:
        """A line from a label that stands away from its box to the box."""
        left, top, right, bottom = label.place
        if bottom < label.box[1] - 1:
            ends = (label.box[1], bottom)
        elif top > label.box[3] + 1:
            ends = (label.box[3], top)
        else:
            return
        middle = (left + right) // 2
        x = int(np.clip(middle, label.box[0], label.box[2]))
        self._draw.line((x, ends[0], middle, ends[1]), fill=label.color, width=max(1, self._line // 2))

    def _fitting(self, label: str) -> tuple[str, int, int]:
        """A label, the size of its letters and the room around it, so that it is no wider than the picture."""
        name, _, score = label.rpartition(" ") if label.endswith("%") else (label, "", "")
        if len(name) > _MOST_CHARACTERS:
            name = name[: _MOST_CHARACTERS - 1] + "…"
        size, pad = self._letters, max(1, self._letters // 8)
        while True:
            text = f"{name} {score}" if score else name
            width = measure(text, size)[0] + 2 * pad
            if width <= self._width or len(name) <= 2:
                return text, size, pad
            if size > _SMALLEST_LETTERS:
                size, pad = max(_SMALLEST_LETTERS, size * self._width // width), 1
            else:
                name = name[:-2].rstrip() + "…"

    def _line_of(self, corners: Corners) -> int:
        """The width of a box's line, thinner where the box is so small that a line would fill it."""
        left, top, right, bottom = corners
        return max(1, min(self._line, min(right - left, bottom - top) // 6))

    def _inside(self, box: np.ndarray) -> Corners | None:
        if not np.all(np.isfinite(box)):
            return None
        left, right = (int(np.clip(round(float(value)), 0, self._width - 1)) for value in box[[0, 2]])
        top, bottom = (int(np.clip(round(float(value)), 0, self._height - 1)) for value in box[[1, 3]])
        return (left, top, right, bottom) if right >= left and bottom >= top else None
