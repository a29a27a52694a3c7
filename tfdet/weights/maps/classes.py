"""How many classes the predictors of a file have."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tfdet.weights.maps.rules import Arrays


def num_classes(arrays: Arrays, biases: Sequence[tuple[str, str | None]]) -> int | None:
    """Classes, without background, of a file with a detector; None for a file with a backbone alone.

    Args:
        arrays: the tensors by name.
        biases: patterns of the name of a class predictor's bias with, where it is by anchors and without background,
            that of the box predictor's bias beside it; None where the background is in it.
    """

    def size(pattern: str) -> int | None:
        return next((array.size for name, array in arrays.items() if re.fullmatch(pattern, name)), None)

    for classes, boxes in biases:
        found, per_anchor = size(classes), size(boxes) if boxes else None
        if found and not boxes:
            return found - 1
        if found and per_anchor and per_anchor >= 4:
            return found // (per_anchor // 4)
    return None
