"""What `tests.fakes.ColorDetector` finds, in numpy: no graph is traced."""

from __future__ import annotations

import numpy as np

from tests.fakes import CATEGORY_IDS, CLASSES
from tfdet.predict.found import Found, Labels


class ColorPredictor:
    """The extent of the bright pixels of each channel: red 0, green 1, blue 2.

    Args:
        masks: also masks of 14 x 14: the part of the box's cells that is bright.
        classes: names.
    """

    def __init__(self, masks: bool = False, classes=tuple(CLASSES)):
        self.labels, self._masks = Labels(list(classes), CATEGORY_IDS[: len(classes)]), masks
        self.shapes: list[tuple[int, int]] = []

    def __call__(self, image: np.ndarray, path: str | None = None) -> Found:
        self.shapes.append(image.shape[:2])
        boxes, scores, kinds, masks = [], [], [], []
        for kind in range(3):
            bright = image[..., kind] > 127
            if not bright.any():
                continue
            rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
            boxes.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
            scores.append(image[..., kind][bright].mean() / 255)
            kinds.append(kind)
            part = bright[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float32)
            cells = [np.arange(14) * side // 14 for side in part.shape]
            masks.append(part[np.ix_(*cells)])
        order = np.argsort(-np.array(scores), kind="stable")
        return Found(
            image,
            np.array(boxes, np.float32).reshape(-1, 4)[order],
            np.array(scores, np.float32)[order],
            np.array(kinds, np.int32)[order],
            self.labels,
            np.array(masks, np.float32).reshape(-1, 14, 14)[order] if self._masks else None,
            path=path,
        )
