"""From which score on an object counts: one for all classes, or one for each."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfdet.arguments import number, path
from tfdet.config.files import did_you_mean
from tfdet.errors import UserError
from tfdet.predict.found import Found
from tfdet.strict_json import field, read_json

REPORT = "report"
"""In place of a path: what `tfdet report` wrote for the run."""
REPORT_FILE = Path("report") / "thresholds.json"  # in the folder of a run
_ADVICE = "write it again with tfdet report"


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """The least score of an object, by its class.

    Args:
        default: 0..1, of classes that are not named.
        by_class: 0..1 by the name of the class.
        made_for_step: of the run's checkpoint that they were chosen for; None: not known.
    """

    default: float = 0.3
    by_class: Mapping[str, float] = dataclasses.field(default_factory=dict)
    made_for_step: int | None = None

    def of(self, name: str) -> float:
        """Of a class."""
        return self.by_class.get(name, self.default)

    def keep(self, found: Found) -> Found:
        """The objects that count."""
        if not self.by_class:
            return found.above(self.default)
        return found[found.scores >= np.array([self.of(name) for name in found.class_names], np.float32)]

    def describe(self) -> str:
        """In words, for a person: "30% up", or "20% to 65% up, by class"."""
        every = [*self.by_class.values()] or [self.default]
        low, high = min(every), max(every)
        return f"{100 * low:.0f}% up" if low == high else f"{100 * low:.0f}% to {100 * high:.0f}% up, by class"


def choose_thresholds(
    default: Any, chosen: Any, classes: Sequence[str], run_folder: str | os.PathLike | None = None
) -> Thresholds:
    """The thresholds that a person named.

    Args:
        default: 0..1, of classes that `chosen` does not name.
        chosen: None; a dictionary of thresholds by name; the path of a json file that holds such a one as
            `thresholds`; or "report" for the one that `tfdet report` wrote for the run.
        classes: of the model; none where they are not known.
        run_folder: of the run that the model is of; None: it is of none.

    Raises:
        UserError: there is no such file, or it names no class of the model, or a number is no score.
    """
    default = number("score_threshold", default, 1)
    if chosen is None:
        return Thresholds(default)
    if isinstance(chosen, Mapping):
        return Thresholds(default, _checked(chosen, classes, "thresholds"))
    if chosen == REPORT:
        if run_folder is None:
            raise UserError(
                "thresholds=report are those of a run, and this model is of none: give the path of a thresholds.json"
            )
        chosen = Path(run_folder) / REPORT_FILE
        if not os.path.isfile(chosen):
            raise UserError(f"{chosen} not found: `tfdet report {os.fspath(run_folder)}` writes it")
    file = path("thresholds", chosen)
    try:
        content = read_json(file, "the thresholds", _ADVICE)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"the thresholds {file} are not there: give the file that tfdet report wrote") from None
    try:
        values = field(content, "thresholds", dict)
        step = field(field(content, "made_for", dict, default={}), "step", (int, type(None)), default=None)
    except ValueError as error:
        raise UserError(f"cannot read the thresholds {file}: {error}; {_ADVICE}") from None
    return Thresholds(default, _checked(values, classes, file), step)


def _checked(values: Mapping[Any, Any], classes: Sequence[str], where: str) -> dict[str, float]:
    unknown = next((name for name in values if classes and name not in classes), None)
    if unknown is not None:
        raise UserError(
            f"{where}: the model has no class {unknown!r}.{did_you_mean(str(unknown), classes)} "
            f"It has: {', '.join(classes[:8])}{', ...' if len(classes) > 8 else ''}"
        )
    return {str(name): number(f"{where}: the threshold of {name!r}", value, 1) for name, value in values.items()}
