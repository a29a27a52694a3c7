"""Boxes that are written in parts of the image where pixels are expected."""

from __future__ import annotations

import os

from tfdet.data.problems import ProblemReport

NORMALISED = "boxes below one pixel"
_LEAST_SHARE = 0.9  # of the boxes of a file, to say so


class TinyBoxes:
    """Counts the boxes of a file, and those among them that are smaller than a pixel.

    Attributes:
        num_boxes: all of them.
        first: the first tiny one, in words.
    """

    def __init__(self):
        self.num_boxes = self._num_tiny = 0
        self.first = ""

    def add(self, is_tiny: bool) -> bool:
        """Takes a box in; returns whether it is the first tiny one, which `first` is to name."""
        self.num_boxes += 1
        self._num_tiny += is_tiny
        return is_tiny and self._num_tiny == 1

    def tell(self, file: str | os.PathLike, report: ProblemReport, question: str) -> None:
        """Reports it where nearly all boxes are tiny.

        Args:
            file: that they are in.
            report: receives the finding.
            question: what may be wrong with them.
        """
        if self._num_tiny and self._num_tiny >= _LEAST_SHARE * self.num_boxes:
            reason = f"{self._num_tiny} of {self.num_boxes} boxes are smaller than a pixel ({self.first}): {question}"
            report.add(NORMALISED, file, None, reason, "kept as they are")
