"""The figures of a run at an MLflow server, or in its local files."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tfdet.report.figures import figures_of
from tfdet.report.sink_ids import keep_id, read_id
from tfdet.training.figures import tag_of
from tfdet.training.observer import Ending, Observer, Progress

_EXPERIMENT = "tfdet"  # where MLFLOW_EXPERIMENT_NAME names none
_MOST_PARAMETER = 500  # characters that every store of MLflow takes
# A server that does not answer is not to hold up a run for the minutes that MLflow tries by default.
_LIMITS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}


class MlflowReport(Observer):
    """Logs figures and configuration as a run of MLflow, by its own settings: MLFLOW_TRACKING_URI, ...

    A run that goes on is the same run there, by the id in `sinks.json`; figures of steps that it makes once more are
    there already, and are not logged twice.

    Args:
        folder: of the run; its name is that of the run at MLflow.
        note: receives a line that says where the run is.
    """

    def __init__(self, folder: Path, note: Callable[[str], None]):
        self._folder, self._note = folder, note
        self._parameters: dict[str, str] = {}
        self._operative_config: str | None = None
        self._client: Any = None
        self._run = ""
        self._goes_on = False
        self._last: dict[str, int] = {}  # figure -> the last step that is there already
        self._is_complete = False

    def started(self, table: Mapping[str, str]) -> None:
        self._parameters = {_name(name): value[:_MOST_PARAMETER] for name, value in table.items()}

    def configured(self, operative_config: str) -> None:
        self._operative_config = operative_config

    def begun(self, step: int) -> None:
        for variable, value in _LIMITS.items():
            os.environ.setdefault(variable, value)
        import mlflow

        self._client = mlflow.MlflowClient()
        known = read_id(self._folder, "mlflow")
        self._goes_on = known is not None
        if known is not None:
            self._run = known
            self._client.update_run(known, status="RUNNING")
        else:
            self._begin()
        self._note(f"MLflow: run {self._run}, {mlflow.get_tracking_uri()}")

    def _begin(self) -> None:
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", _EXPERIMENT)
        found = self._client.get_experiment_by_name(experiment)
        number = self._client.create_experiment(experiment) if found is None else found.experiment_id
        self._run = self._client.create_run(number, run_name=self._folder.resolve().name).info.run_id
        keep_id(self._folder, "mlflow", self._run)
        for name, value in self._parameters.items():
            self._client.log_param(self._run, name, value)
        if self._operative_config is not None:
            self._client.log_text(self._run, self._operative_config, "operative_config.gin")

    def progressed(self, progress: Progress) -> None:
        self._log(progress.step, figures_of(progress))

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        self._log(step, {tag_of(name): value for name, value in metrics.items()})

    def _log(self, step: int, figures: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now, new = int(1000 * time.time()), []
        for name, value in figures.items():
            key = _name(name)
            if self._goes_on and key not in self._last:
                there = self._client.get_metric_history(self._run, key)
                self._last[key] = max((metric.step for metric in there), default=-1)
            if step > self._last.get(key, -1):
                new.append(Metric(key, value, now, step))
        if new:
            self._client.log_batch(self._run, metrics=new)

    def ended(self, ending: Ending) -> None:
        self._is_complete = True
        if ending.best is not None and self._run:
            best = {f"best {ending.best.metric.name}": f"{ending.best.value:.4f}", "best step": str(ending.best.step)}
            for name, value in best.items():
                self._client.set_tag(self._run, _name(name), value)

    def closed(self) -> None:
        client, self._client = self._client, None
        if client is not None and self._run:
            client.set_terminated(self._run, status="FINISHED" if self._is_complete else "KILLED")


def _name(name: str) -> str:
    """A name as MLflow takes it: letters, digits and `_-. /`."""
    return re.sub(r"[^\w\-. /]", "_", name, flags=re.ASCII)
