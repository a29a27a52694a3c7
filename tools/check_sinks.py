"""Follows a run with the real W&B and MLflow, offline and in a local database, and reads back what they kept.

    python -m venv sinks && sinks/bin/pip install -e '.[wandb,mlflow]'
    sinks/bin/python -m tools.check_sinks

Nothing leaves the machine: WANDB_MODE is offline, and MLflow's store is in a temporary folder.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from tfdet.report.mlflow_sink import MlflowReport
from tfdet.report.sinks import Guarded
from tfdet.report.wandb_sink import WandbReport
from tfdet.training.best_metric import BestMetric
from tfdet.training.observer import Best, Ending, Observer, Progress


def follow(sink: Observer, begun: int, last: int, complete: bool) -> None:
    """Tells a sink of the steps from `begun` to `last`, as a run would."""
    sink.started({"batch": "2 images", "model directory": "run"})
    sink.configured("Trainer.steps = 4")
    sink.begun(begun)
    for step in range(begun + 1, last + 1):
        sink.progressed(Progress(step, 4, {"cls": 1.0 / step}, 1.0 / step, 0.1, 2.0, 1.0, 0, 10.0, 0.0, 1.0, None))
        sink.evaluated(step, {"AP": 0.1 * step, 'per_class/AP/caf\u00e9, "x"': 0.5, "validation_loss": 1.5})
    if complete:
        sink.ended(Ending("run", last, None, Best(last, BestMetric("AP"), 0.1 * last, "run/best/ckpt-4"), 1.0))
    sink.closed()


def main() -> None:
    """Prints what was kept; an assertion fails where figures are missing or there twice."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"WANDB_MODE": "offline", "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
        warned: list[str] = []
        run = Path(folder, "shapes")
        run.mkdir()
        for sink, name in ((WandbReport, "W&B"), (MlflowReport, "MLflow")):
            follow(Guarded(sink(run, print), name, warned.append), 0, 3, False)
            follow(Guarded(sink(run, print), name, warned.append), 2, 4, True)  # killed after step 3, saved at step 2
        assert warned == [], warned
        offline = sorted(run.glob("wandb/offline-run-*/*.wandb"))
        assert len(offline) == 2 and all(file.stat().st_size > 1000 for file in offline)
        import mlflow

        client = mlflow.MlflowClient()
        number = client.get_experiment_by_name("tfdet").experiment_id
        (kept,) = client.search_runs([number])
        assert kept.info.status == "FINISHED" and kept.info.run_name == "shapes"
        for key, metric in kept.data.metrics.items():
            steps = [entry.step for entry in client.get_metric_history(kept.info.run_id, key)]
            assert steps == [1, 2, 3, 4], (key, steps)
            print(f"{key}: {metric}")
        print(f"W&B {[file.name for file in offline]}; MLflow run {kept.info.run_id}: every figure once")


if __name__ == "__main__":
    main()
