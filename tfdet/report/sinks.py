"""Where the figures of a run go besides the console. A sink that fails costs figures, never the run."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

from tfdet.errors import UserError
from tfdet.training.observer import Observer
from tfdet.training.run_dir import RunDirectory

Sink = Literal["tensorboard", "csv", "wandb", "mlflow"]
"""The sinks there are, as `Trainer.sinks` names them."""

_PACKAGES = {"wandb": "wandb", "mlflow": "mlflow"}  # also the extras that bring them


class Guarded(Observer):
    """Hands every event on to a sink; an error in there is one line, once.

    A sink that writes files goes on, for the disk may have room again; one that speaks to a server is told nothing any
    more, for each call might wait as long as the first. One that cannot begin is told nothing more either.

    Args:
        sink: an observer.
        name: of it, for the line.
        warn: receives that line.
        goes_on: after an error.
    """

    def __init__(self, sink: Observer, name: str, warn: Callable[[str], None], goes_on: bool = False):
        self._name, self._warn, self._goes_on = name, warn, goes_on
        self._told, self._is_off = False, False
        for event in [event for event in vars(Observer) if not event.startswith("_")]:
            setattr(self, event, self._guard(event, getattr(sink, event)))

    def _guard(self, event: str, call: Callable[..., None]) -> Callable[..., None]:
        def guarded(*arguments: Any) -> None:
            if self._is_off and event != "closed":
                return
            try:
                call(*arguments)
            except Exception as error:
                self._is_off = self._is_off or not self._goes_on or event == "begun"
                if not self._told:
                    self._told = True
                    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                    self._warn(f"{self._name}: {reason[:300]}; figures are lost there, training goes on")

        return guarded


def make_sinks(
    names: Sequence[Sink], files: RunDirectory, warn: Callable[[str], None], note: Callable[[str], None]
) -> list[Observer]:
    """The sinks of a run. Nothing is written before the run begins.

    Args:
        names: of `Sink`.
        files: of the run.
        warn: receives a line where a sink fails.
        note: receives a line that says where a sink shows the figures.

    Raises:
        UserError: the package of a sink is not installed.
    """
    for name in names:
        package = _PACKAGES.get(name)
        if package is not None and importlib.util.find_spec(package) is None:
            raise UserError(
                f"Trainer.sinks names {name!r}, and the package {package} is not installed: pip install 'tfdet[{name}]'"
            )
    return [_make(name, files, warn, note) for name in get_args(Sink) if name in names]


def _make(name: str, files: RunDirectory, warn: Callable[[str], None], note: Callable[[str], None]) -> Observer:
    if name == "tensorboard":
        from tfdet.report.tensorboard import TensorBoardReport

        return TensorBoardReport(files.train_events, warn)
    if name == "csv":
        from tfdet.report.csv_file import CSV_FILE, CsvReport

        return Guarded(CsvReport(files.path / CSV_FILE), CSV_FILE, warn, goes_on=True)
    if name == "wandb":
        from tfdet.report.wandb_sink import WandbReport

        return Guarded(WandbReport(files.path, note), "W&B", warn)
    from tfdet.report.mlflow_sink import MlflowReport

    return Guarded(MlflowReport(files.path, note), "MLflow", warn)
