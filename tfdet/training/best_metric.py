"""The figure by which one checkpoint is better than another: its names, and which way is better.

`Trainer.best_metric` decides which checkpoint is kept in `best/`, and early stopping goes by the same figure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from tfdet.config.files import did_you_mean
from tfdet.errors import UserError
from tfdet.training.figures import TOTAL_LOSS

VALIDATION_LOSS = TOTAL_LOSS
"""The key of the validation loss among the figures of an evaluation: the one that is better where it is lower."""

_CLASS = re.compile(r"per_class/(mask_)?AP/(.+)", re.DOTALL)
_OF_CLASS = re.compile(r"(box|mask) AP of (.+)", re.DOTALL)
_FIGURE = re.compile(r"(box|mask) (A[PR]\w*)")


@dataclass(frozen=True)
class BestMetric:
    """A figure of an evaluation.

    Attributes:
        key: as the evaluation calls it: `AP`, `mask_AP50`, `per_class/AP/car`, `validation_loss`.
    """

    key: str

    @classmethod
    def of(cls, text: str) -> BestMetric:
        """The figure that a person means.

        Args:
            text: "box AP", "box AP50", "mask AP", "box AP of car", "validation loss"; or a key.
        """
        said = text.strip()
        if said.lower().replace(" ", "_") == VALIDATION_LOSS:
            return cls(VALIDATION_LOSS)
        if match := _OF_CLASS.fullmatch(said):
            return cls(f"per_class/{'mask_' if match[1] == 'mask' else ''}AP/{match[2]}")
        if match := _FIGURE.fullmatch(said):
            return cls(f"{'mask_' if match[1] == 'mask' else ''}{match[2]}")
        return cls(said)

    @property
    def name(self) -> str:
        """As people call it; `of` reads it."""
        if self.key == VALIDATION_LOSS:
            return "validation loss"
        if match := _CLASS.fullmatch(self.key):
            return f"{'mask' if match[1] else 'box'} AP of {match[2]}"
        if self.key.startswith("mask_A"):
            return f"mask {self.key.removeprefix('mask_')}"
        return f"box {self.key}" if re.fullmatch(r"A[PR]\w*", self.key) else self.key

    @property
    def lower_is_better(self) -> bool:
        """Whether it is: of the loss alone."""
        return self.key == VALIDATION_LOSS

    def is_better(self, value: float, than: float) -> bool:
        """Whether a value is better than another one. One that is no number is better than none."""
        if not math.isfinite(value):
            return False
        return not math.isfinite(than) or (value < than if self.lower_is_better else value > than)

    def describe(self, value: float) -> str:
        """Name and value: `box AP 41.2`, of 100; `validation loss 0.512`."""
        return f"{self.name} {value:.4g}" if self.lower_is_better else f"{self.name} {100 * value:.1f}"

    def of_figures(self, metrics: Mapping[str, float]) -> float | None:
        """Its value in the figures of an evaluation; None where it could not be measured."""
        value = metrics.get(self.key)
        return None if value is None or not math.isfinite(value) else float(value)

    def check(self, metric_names: Collection[str], parameter: str = "Trainer.best_metric") -> None:
        """`UserError` where no evaluation will ever give it.

        Args:
            metric_names: every key that the evaluation may give.
            parameter: that names it, for the message.
        """
        if self.key in metric_names:
            return
        given = [BestMetric(key).name for key in metric_names]
        figures = ", ".join(name for name in given if " of " not in name)
        raise UserError(
            f"{parameter} = {self.name!r}: the evaluation of this detector on this data set gives no such figure."
            f"{did_you_mean(self.name, given)} It gives {figures}; 'box AP of NAME' is that of one class"
        )
