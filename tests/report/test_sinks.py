"""Sinks: what is handed on, and that none of them ends a run.

W&B and MLflow are stand-ins here that keep what they are called with; `tools/check_sinks.py` runs the real ones.
"""

import sys
import types

import pytest

from tests.report.test_console import FIGURES, progress
from tfdet.errors import UserError
from tfdet.report.mlflow_sink import MlflowReport
from tfdet.report.sinks import Guarded, make_sinks
from tfdet.report.wandb_sink import WandbReport
from tfdet.training.best_metric import BestMetric
from tfdet.training.observer import Best, Ending, Observer
from tfdet.training.run_dir import RunDirectory


class Failing(Observer):
    def __init__(self):
        self.calls = []

    def begun(self, step):
        self.calls.append("begun")

    def progressed(self, progress):
        self.calls.append("progressed")
        raise ConnectionError("no route to host\nmore")

    def closed(self):
        self.calls.append("closed")
        raise ValueError


@pytest.mark.parametrize("goes_on, calls", [(False, 1), (True, 3)])
def test_a_sink_that_fails_is_one_line_once(goes_on, calls):
    warned, sink = [], Failing()
    guarded = Guarded(sink, "W&B", warned.append, goes_on)
    guarded.begun(0)
    for _ in range(3):
        guarded.progressed(None)
    guarded.evaluated(1, {})
    guarded.closed()
    assert warned == ["W&B: no route to host; figures are lost there, training goes on"]
    assert sink.calls == ["begun", *["progressed"] * calls, "closed"]


def test_a_package_that_is_missing_is_one_line_before_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"names 'mlflow', and the package mlflow is not installed: pip .*\[mlflow\]"):
        make_sinks(("csv", "mlflow"), RunDirectory(tmp_path / "run"), print, print)
    assert not (tmp_path / "run").exists()
    assert make_sinks((), RunDirectory(tmp_path), print, print) == []


class FakeWandb(types.ModuleType):
    """Keeps what is called; a run that is resumed keeps its id."""

    def __init__(self):
        super().__init__("wandb")
        self.logged, self.inits, self.finished = [], [], []
        self.Settings = dict

    def init(self, **options):
        self.inits.append(options)
        return types.SimpleNamespace(
            id=options["id"] or "abc",
            offline=True,
            summary={},
            log=lambda values, step: self.logged.append((step, values)),
            finish=lambda exit_code: self.finished.append(exit_code),
        )


class FakeMlflow(types.ModuleType):
    """A client whose runs are dictionaries."""

    def __init__(self):
        super().__init__("mlflow")
        self.runs, self.experiments = {}, {}
        self.entities = types.ModuleType("mlflow.entities")
        self.entities.Metric = lambda key, value, timestamp, step: types.SimpleNamespace(
            key=key, value=value, step=step
        )
        self.MlflowClient = lambda: self
        self.get_tracking_uri = lambda: "file:///tmp/mlruns"

    def get_experiment_by_name(self, name):
        return self.experiments.get(name)

    def create_experiment(self, name):
        self.experiments[name] = types.SimpleNamespace(experiment_id="7")
        return "7"

    def create_run(self, experiment, run_name):
        self.runs["r1"] = {"name": run_name, "metrics": [], "params": {}, "tags": {}, "texts": {}, "status": "RUNNING"}
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id="r1"))

    def update_run(self, run, status):
        self.runs[run]["status"] = status

    def log_param(self, run, name, value):
        self.runs[run]["params"][name] = value

    def log_text(self, run, text, file):
        self.runs[run]["texts"][file] = text

    def set_tag(self, run, name, value):
        self.runs[run]["tags"][name] = value

    def get_metric_history(self, run, key):
        return [metric for metric in self.runs[run]["metrics"] if metric.key == key]

    def log_batch(self, run, metrics):
        self.runs[run]["metrics"] += metrics

    def set_terminated(self, run, status):
        self.runs[run]["status"] = status


def follow(sink, steps, begun=0, ends=True):
    sink.started({"batch (all)": "2 images"})
    sink.configured("Trainer.steps = 3")
    sink.begun(begun)
    for step in steps:
        sink.progressed(progress(step=step))
        sink.evaluated(step, FIGURES)
    if ends:
        sink.ended(Ending("run", steps[-1], None, Best(1, BestMetric("AP"), 0.451, "best/ckpt-1"), 1.0))
    sink.closed()


def test_wandb_gets_every_figure_and_a_run_that_goes_on_is_the_same(tmp_path, monkeypatch):
    wandb, notes = FakeWandb(), []
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    follow(WandbReport(tmp_path, notes.append), [1, 2], ends=False)
    follow(WandbReport(tmp_path, notes.append), [2, 3], begun=1)
    assert [init["id"] for init in wandb.inits] == [None, "abc"] and wandb.finished == [1, 0]
    assert wandb.inits[0]["config"] == {"batch (all)": "2 images", "operative_config": "Trainer.steps = 3"}
    assert [step for step, _ in wandb.logged] == [1, 1, 2, 2, 2, 2, 3, 3]
    figures = wandb.logged[0][1] | wandb.logged[1][1]
    assert figures["loss/rpn_cls"] == 0.25 and figures["coco/AP"] == 0.451 and figures["class/AP/cat"] == 0.1
    assert "offline" in notes[0]


def test_mlflow_gets_every_figure_once(tmp_path, monkeypatch):
    mlflow = FakeMlflow()
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    monkeypatch.setitem(sys.modules, "mlflow.entities", mlflow.entities)
    follow(MlflowReport(tmp_path, print), [1, 2], ends=False)
    assert mlflow.runs["r1"]["status"] == "KILLED"
    follow(MlflowReport(tmp_path, print), [2, 3], begun=1)
    run = mlflow.runs["r1"]
    assert [metric.step for metric in mlflow.get_metric_history("r1", "loss/total")] == [1, 2, 3]
    assert [metric.step for metric in mlflow.get_metric_history("r1", "coco/AP")] == [1, 2, 3]
    assert run["params"] == {"batch _all_": "2 images"} and run["status"] == "FINISHED"
    assert run["texts"] == {"operative_config.gin": "Trainer.steps = 3"} and run["tags"]["best box AP"] == "0.4510"
