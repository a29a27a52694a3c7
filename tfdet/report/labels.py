"""Where labels of boxes stand: inside the picture, not upon each other, and on as little of other boxes as can be."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

_FURTHER = 3  # heights of a label that it may stand away from its box
_MOST_COVERED = 0.25  # of the picture by labels, but for the first
_SMALL = 4.0  # areas of a label, below which a box is one that should not be covered

Corners = tuple[int, int, int, int]
"""Left, top, right and bottom pixel, all inside."""


class LabelPlaces:
    """Finds a place for one label after the other.

    Args:
        width, height: of the picture, pixels.
        boxes: int [N, 4], left, top, right, bottom of all boxes that are drawn.
    """

    def __init__(self, width: int, height: int, boxes: np.ndarray):
        self._width, self._height = width, height
        self._boxes = np.asarray(boxes, int).reshape(-1, 4)
        self._areas = (self._boxes[:, 2:] - self._boxes[:, :2] + 1).prod(axis=1)
        self._taken = np.zeros([0, 4], int)
        self._covered = 0

    def find(self, box: Corners, width: int, height: int, above: bool = True) -> tuple[int, int] | None:
        """The place of a label, which no later one gets.

        Args:
            box: that it belongs to.
            width, height: of the label, pixels.
            above: it stands above the box rather than below it, where there is room.

        Returns:
            Its left and top pixel; None where there is no room for it at all.
        """
        if width > self._width or height > self._height:
            return None
        if len(self._taken) and self._covered + width * height > _MOST_COVERED * self._width * self._height:
            return None
        places = np.array(list(self._candidates(box, width, height, above)), int)
        free = ~self._overlaps(places, width, height, self._taken).any(axis=1)
        if not free.any():
            return None
        places = places[free]
        small = self._areas < _SMALL * width * height
        # Its own box may be covered no more than others: a name on a small object hides the object.
        covered = self._overlaps(places, width, height, self._boxes[small]).sum(axis=1)
        left, top = places[int(covered.argmin())].tolist()  # the first of the least: in the order of preference
        label = [left, top, left + width - 1, top + height - 1]
        self._taken = np.concatenate([self._taken, [label]])
        self._covered += width * height
        return left, top

    def _candidates(self, box: Corners, width: int, height: int, above: bool) -> Iterator[tuple[int, int]]:
        left, top, right, bottom = box
        over, under = top - height, bottom + 1
        columns = (left, right - width + 1, (left + right - width) // 2)
        outside = [(column, row) for row in ((over, under) if above else (under, over)) for column in columns]
        inside_rows = (top + 1, bottom - height) if above else (bottom - height, top + 1)
        inside = [(column, row) for row in inside_rows for column in columns]
        beside = [(column, row) for column in (right + 1, left - width) for row in (top, bottom - height + 1)]
        for column, row in (*outside[:1], *inside[:1], *outside[1:], *inside[1:], *beside):
            if self._fits(row, height) or row in inside_rows:
                yield self._within(column, row, width, height)
        for step in range(1, 2 * _FURTHER + 1):
            for row in (over - step * height // 2, under + step * height // 2):
                for column in columns[:2]:
                    yield self._within(column, row, width, height)

    def _fits(self, row: int, height: int) -> bool:
        return 0 <= row <= self._height - height

    def _within(self, column: int, row: int, width: int, height: int) -> tuple[int, int]:
        return max(0, min(column, self._width - width)), max(0, min(row, self._height - height))

    @staticmethod
    def _overlaps(places: np.ndarray, width: int, height: int, others: np.ndarray) -> np.ndarray:
        """int [K, M], pixels that labels at K places share with other rectangles."""
        low = np.maximum(places[:, None], others[None, :, :2])
        high = np.minimum(places[:, None] + [width, height], others[None, :, 2:] + 1)
        return np.clip(high - low, 0, None).prod(axis=-1)
