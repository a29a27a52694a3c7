"""What a run wrote down about itself: its curves, the machine it ran on, and what its configuration has of its own."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

from tfdet import config
from tfdet.config.files import gin_configs_folder
from tfdet.config.show import DEFAULT, differences
from tfdet.errors import UserError
from tfdet.report.curves import read_scalars
from tfdet.training.run_dir import RunDirectory

_LOSS = "loss/"
_VALIDATION_LOSS, _VALIDATION_TOTAL = "validation/loss/", "validation_loss"
_TRAIN_AP = "validation/train_AP"
_RATE = "optimizer/learning_rate"
_FIGURES = ("AP", "AP50", "mask_AP", "mask_AP50")
_TABLE = "run"  # the text near the beginning of an event file
_TITLE = ("", "tfdet.config.zoo.Row", "title")
_PARTS = {"families", "overlays", "schedules", "data", "shared", "recipes"}  # folders of files that are no whole
_FIRST = 500  # events among which it is
_FOLDERS = ("data_dir", "init_weights")  # parameters that say where and not what


@dataclasses.dataclass(frozen=True)
class RunLogs:
    """The curves of a run, each step -> value, and what it ran on.

    Attributes:
        losses: of training, by name, `total` among them.
        validation_losses: the same of the evaluation data, where they were computed.
        figures: AP, AP50 and those of masks, 0..1; `AP on training data` where that was measured.
        rate: the learning rate.
        table: what the run said when it began, such as data, devices and versions.
    """

    losses: dict[str, dict[int, float]]
    validation_losses: dict[str, dict[int, float]]
    figures: dict[str, dict[int, float]]
    rate: dict[int, float]
    table: dict[str, str]


TRAIN_AP = "AP on training data"
"""Among the figures of a run."""


def read_logs(run: str | os.PathLike) -> RunLogs:
    """Reads event files and evaluations of a run's folder; what is not there is empty."""
    files = RunDirectory(run)
    scalars = read_scalars(files.train_events)
    losses = {tag.removeprefix(_LOSS): values for tag, values in scalars.items() if tag.startswith(_LOSS)}
    losses = {name: losses[name] for name in sorted(losses, key=lambda name: (name != "total", name))}
    evaluations = files.read_evaluations() or {}
    by_name: dict[str, dict[int, float]] = {}
    for step, figures in sorted(evaluations.items()):
        for name, value in figures.items():
            by_name.setdefault(name, {})[step] = value
    found = {name: by_name[name] for name in _FIGURES if name in by_name}
    if _TRAIN_AP in by_name:
        found[TRAIN_AP] = by_name[_TRAIN_AP]
    validation = {n.removeprefix(_VALIDATION_LOSS): v for n, v in by_name.items() if n.startswith(_VALIDATION_LOSS)}
    if _VALIDATION_TOTAL in by_name:
        validation = {"total": by_name[_VALIDATION_TOTAL], **validation}
    return RunLogs(losses, validation, found, scalars.get(_RATE, {}), _table(files.train_events))


def _table(folder: os.PathLike) -> dict[str, str]:
    """The start-up table of the last process that trained, from its event file."""
    import tensorflow as tf

    for path in sorted(Path(folder).glob("events.out.tfevents.*"), reverse=True):
        for record in tf.data.TFRecordDataset(str(path)).take(_FIRST).as_numpy_iterator():
            for value in tf.compat.v1.Event.FromString(record).summary.value:
                if value.tag == _TABLE and value.WhichOneof("value") == "tensor":
                    text = tf.make_ndarray(value.tensor).item()
                    lines = (text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)).splitlines()
                    pairs = (line.strip().partition("  ") for line in lines)
                    return {name.strip(): rest.strip() for name, _, rest in pairs if rest}
    return {}


@dataclasses.dataclass(frozen=True)
class OwnValues:
    """What a configuration has of its own."""

    row: str  # the gin file of tfdet that it is nearest to; an empty text where none could be read
    changes: list[tuple[str, str, str]]  # parameter, value there, value here


def own_values(configuration: Any) -> OwnValues:
    """Compares a run's configuration with the gin file of tfdet that it differs least from.

    A run keeps its values and not the name of what they came from. Values that are tfdet's defaults in both, and where
    data and weights lie, are no difference.

    Args:
        configuration: of the run; all of tfdet is imported.
    """
    folder = gin_configs_folder()
    own = _bindings(configuration)
    nearest: tuple[int, str, Any] | None = None
    for path in _candidates(folder, own.get(_TITLE)):
        try:
            row = config.parse([str(path)])
        except UserError:
            continue  # a part, which is no configuration by itself
        distance = len(own.items() ^ _bindings(row).items())
        if nearest is None or distance < nearest[0]:
            nearest = (distance, path.relative_to(folder).as_posix(), row)
    if nearest is None:
        return OwnValues("", [])
    changes = [
        (f"{entry.part}.{entry.parameter}", _value(entry.left), _value(entry.right))
        for entry in differences(nearest[2], configuration)
        if entry.part != "Row" and entry.parameter not in _FOLDERS
    ]
    return OwnValues(nearest[1], changes)


def _bindings(configuration: Any) -> dict[tuple, str]:
    return {
        tuple(binding): repr(configuration.resolve(value))
        for binding, value in configuration.bindings()
        if binding.parameter not in _FOLDERS
    }


def _candidates(folder: Path, title: str | None) -> list[Path]:
    """The gin files that a run may come from: rows of its title, and what is no row of a zoo."""
    found = []
    for path in sorted(folder.rglob("*.gin")):
        if _PARTS & set(path.relative_to(folder).parts):
            continue
        text = path.read_text(encoding="utf-8")
        if "\nRow." not in text or (title is not None and f"Row.title = {title}" in text):
            found.append(path)
    return found


def _value(setting: Any) -> str:
    if setting is None:
        return "–"
    return f"{setting.value} (default)" if setting.place == DEFAULT else setting.value
