"""The figures of a run at Weights & Biases."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tfdet.report.figures import figures_of
from tfdet.report.sink_ids import keep_id, read_id
from tfdet.training.figures import tag_of
from tfdet.training.observer import Ending, Observer, Progress

_PROJECT = "tfdet"  # where WANDB_PROJECT names none


class WandbReport(Observer):
    """Logs figures and configuration as a run of W&B, by its own settings: WANDB_MODE=offline, WANDB_PROJECT, ...

    A run that goes on is the same run there, by the id in `sinks.json`; steps that it makes once more are there
    already, and W&B leaves them out.

    Args:
        folder: of the run; its name is that of the run at W&B, which keeps its own files in `wandb/` of it.
        note: receives a line that says where the run is.
    """

    def __init__(self, folder: Path, note: Callable[[str], None]):
        self._folder, self._note = folder, note
        self._config: dict[str, Any] = {}
        self._run: Any = None
        self._is_complete = False

    def started(self, table: Mapping[str, str]) -> None:
        self._config |= table

    def configured(self, operative_config: str) -> None:
        self._config["operative_config"] = operative_config

    def begun(self, step: int) -> None:
        import wandb

        name = self._folder.resolve().name
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            name=os.environ.get("WANDB_NAME", name),
            dir=str(self._folder),
            id=read_id(self._folder, "wandb"),
            resume="allow",
            config=self._config,
            settings=wandb.Settings(console="off", silent=True),
        )
        keep_id(self._folder, "wandb", self._run.id)
        offline = f"offline, in {self._folder / 'wandb'}; `wandb sync` uploads it"
        self._note(f"W&B: {offline if self._run.offline else self._run.url}")

    def progressed(self, progress: Progress) -> None:
        self._run.log(figures_of(progress), step=progress.step)

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log({tag_of(name): value for name, value in metrics.items()}, step=step)

    def ended(self, ending: Ending) -> None:
        self._is_complete = True
        if ending.best is not None and self._run is not None:
            self._run.summary[f"best/{ending.best.metric.name}"] = ending.best.value
            self._run.summary["best/step"] = ending.best.step

    def closed(self) -> None:
        run, self._run = self._run, None
        if run is not None:
            run.finish(exit_code=0 if self._is_complete else 1)
