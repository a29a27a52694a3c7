"""A model as a person wants it used: by tiles or whole, from which score on, in float32."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfdet.predict.float32 import in_float32
from tfdet.predict.found import Found, Labels
from tfdet.predict.thresholds import Thresholds
from tfdet.predict.tiles import TiledPredictor, Tiles


class Finder:
    """Finds the objects that count on one image after the other.

    Args:
        predictor: from uint8 [H, W, 3] and a path to a `Found`, with `labels`.
        thresholds: from which score on an object counts.
        tiles: how a large image is cut; None: it is not.
    """

    def __init__(self, predictor: Any, thresholds: Thresholds, tiles: Tiles | None = None):
        self.thresholds = thresholds
        self.labels: Labels = predictor.labels
        self._predictor = predictor if tiles is None else TiledPredictor(predictor, tiles, thresholds.keep)

    def __call__(self, image: np.ndarray, path: str | None = None) -> Found:
        """Finds objects on one image, uint8 [H, W, 3], RGB, of the file `path`."""
        with in_float32():
            return self.thresholds.keep(self._predictor(image, path))
