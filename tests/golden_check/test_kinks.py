"""Gradients at an activation that is zero but for rounding: what weights moved by rounding excuse, and what not."""

from types import SimpleNamespace

import pytest

from tests.golden_check.stored import as_computed, read
from tools.golden import torch_check, torch_training

BIAS = "roi_heads.box_predictor.cls_score.bias"


@pytest.fixture(scope="module")
def stored():
    golden = read("tv_fasterrcnn_r50_fpn")
    return golden, as_computed(golden)


def check_with(stored, monkeypatch, wrong_runs, change):
    """The verdict where the step of each run in `wrong_runs` is changed; run 0 has the stored weights. And the runs."""
    (golden, right), runs = stored, []

    def step(*_):
        runs.append(None)
        return change(right.step) if len(runs) - 1 in wrong_runs else right.step

    monkeypatch.setattr(torch_check, "_build", lambda golden: (SimpleNamespace(weights=[]), ()))
    monkeypatch.setattr(torch_check, "_compute", lambda *_: right._replace(step=step()))
    monkeypatch.setattr(torch_training, "losses_and_gradients", step)
    return torch_check.check(golden), len(runs)


def a_gradient_off(step):
    gradients = {name: array.copy() for name, array in step.gradients.items()}
    gradients[BIAS][0] += 0.1 * abs(gradients[BIAS]).max()
    return step._replace(gradients=gradients)


def a_loss_off(step):
    return a_gradient_off(step._replace(losses={name: 1.01 * value for name, value in step.losses.items()}))


def test_a_gradient_that_rounding_moves_agrees_and_is_named(stored, monkeypatch):
    verdict, runs = check_with(stored, monkeypatch, {0, 1}, a_gradient_off)
    assert verdict.passed and runs == 3
    assert f"gradnorm/{BIAS}" in verdict.remarks[0] and "run 2 of" in verdict.remarks[0]


def test_a_gradient_that_is_wrong_in_every_run_differs(stored, monkeypatch):
    verdict, runs = check_with(stored, monkeypatch, set(range(9)), a_gradient_off)
    assert not verdict.passed and runs == 9
    assert f"gradnorm/{BIAS}" in {row.name for row in verdict.wrong} and not verdict.remarks


def test_a_loss_is_not_excused(stored, monkeypatch):
    verdict, runs = check_with(stored, monkeypatch, {0}, a_loss_off)
    assert not verdict.passed and runs == 1
