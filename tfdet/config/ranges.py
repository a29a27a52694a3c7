"""Annotations of numbers that have a range: `iou_threshold: Fraction`, `max_detections: PositiveInt`.

    from typing import Annotated
    from tfdet.config.ranges import Range

    def __init__(self, blending: Annotated[float, Range(above=0, below=1)] = 0.1): ...

`config.parse` and every call of a configurable refuse what is outside of one, and what is not finite. Inside
`X | None`, tuples, lists and dictionaries the annotation holds for each number.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Any


@dataclasses.dataclass(frozen=True)
class Range:
    """The finite numbers that a parameter takes: metadata of `Annotated`.

    Args:
        least, most: bounds that belong to the range; None for no bound.
        above, below: bounds that do not belong to it.
    """

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None

    def __contains__(self, number: Any) -> bool:
        return (
            math.isfinite(number)
            and (self.least is None or number >= self.least)
            and (self.most is None or number <= self.most)
            and (self.above is None or number > self.above)
            and (self.below is None or number < self.below)
        )

    def __str__(self) -> str:
        if self.least is not None and self.below is None:
            return f"from {self.least} up" if self.most is None else f"from {self.least} to {self.most}"
        words = {"from": self.least, "above": self.above, "up to": self.most, "below": self.below}
        return " and ".join(f"{word} {bound}" for word, bound in words.items() if bound is not None) or "that is finite"


Fraction = Annotated[float, Range(least=0, most=1)]
PositiveFraction = Annotated[float, Range(above=0, most=1)]
OpenFraction = Annotated[float, Range(above=0, below=1)]
PositiveInt = Annotated[int, Range(least=1)]
NonNegativeInt = Annotated[int, Range(least=0)]
PositiveFloat = Annotated[float, Range(above=0)]
NonNegativeFloat = Annotated[float, Range(least=0)]
FiniteFloat = Annotated[float, Range()]
# So large that no detector comes near; a configuration from elsewhere is not to take all memory.
Side = Annotated[int, Range(least=1, most=16_384)]
Channels = Annotated[int, Range(least=1, most=65_536)]
Width = Annotated[float, Range(above=0, most=16)]
NumDetections = Annotated[int, Range(least=1, most=100_000)]
NumCandidates = Annotated[int, Range(least=1, most=1_000_000)]
NumClasses = Annotated[int, Range(least=1, most=100_000)]
NumConvs = Annotated[int, Range(least=0, most=100)]
PoolSize = Annotated[int, Range(least=1, most=256)]
Rgb = tuple[FiniteFloat, FiniteFloat, FiniteFloat]
PositiveRgb = tuple[PositiveFloat, PositiveFloat, PositiveFloat]
