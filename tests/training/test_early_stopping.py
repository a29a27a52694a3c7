"""Early stopping, and the sentence about overfitting: both follow from the figures in the run's folder alone."""

import json

import pytest
from fake_run import run

from tfdet.errors import UserError
from tfdet.training.checkpoint import latest_step
from tfdet.training.overfitting import overfitting

QUALITY = {2: 0.3, 4: 0.5, 6: 0.4, 8: 0.5, 10: 0.9}


def evaluate(step):
    return {"AP": QUALITY[step], "AP50": 0.9}


def test_a_run_that_becomes_no_better_is_complete_and_is_not_begun_again(tmp_path):
    result, _, events = run(tmp_path, 10, evaluate=evaluate, evaluate_every=2, patience=2)
    assert (result.step, result.stopped_by, result.stopped_early) == (8, None, True)
    assert latest_step(tmp_path) == 8
    (ending,) = events.named("ended")[0]
    assert (ending.step, ending.best.step, ending.best.value) == (8, 4, 0.5)
    assert ending.early == "2 evaluations since gave no better box AP than that of step 4"
    assert [best.step for (best,) in events.named("best")] == [2, 4]

    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    result, _, events = run(tmp_path, 10, evaluate=evaluate, evaluate_every=2, patience=2)
    assert (result.step, result.stopped_early) == (8, True) and events.named("progressed") == []
    assert "it is complete. Raise Trainer.patience" in events.named("noted")[-1][0]
    assert events.named("ended")[0][0].seconds is None
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    result, _, _ = run(tmp_path, 10, evaluate=evaluate, evaluate_every=2, patience=3)
    assert (result.step, result.stopped_early) == (10, False)


def test_patience_counts_on_after_a_kill(tmp_path):
    run(tmp_path, 6, evaluate=evaluate, evaluate_every=2, patience=2)  # as if it had been killed there
    (tmp_path / "evaluations.json").write_text(json.dumps({str(s): evaluate(s) for s in (2, 4)}))  # within the third
    result, _, events = run(tmp_path, 10, evaluate=evaluate, evaluate_every=2, patience=2)
    assert (result.step, result.stopped_early) == (8, True)
    assert [step for step, _ in events.named("evaluated")] == [6, 8]


def test_patience_without_evaluations_to_count(tmp_path):
    with pytest.raises(UserError, match="Trainer.patience = 2 counts evaluations, .* set Trainer.evaluate_every"):
        run(tmp_path / "run", 4, evaluate=evaluate, patience=2)
    assert not (tmp_path / "run").exists()
    _, _, events = run(tmp_path / "run", 2, patience=2)
    assert ("Trainer.patience = 2 does nothing: this run does not evaluate",) in events.named("warned")


def figures(ap, train):
    return {"AP": ap, "validation/train_AP": train, "validation/gap_AP": train - ap}


def test_overfitting_is_said_once_in_a_sentence():
    history = {1: figures(0.30, 0.40), 2: figures(0.40, 0.50), 3: figures(0.38, 0.60), 4: figures(0.35, 0.68)}
    assert [overfitting(history, step) for step in (1, 2, 3)] == [[], [], []]
    (sentence,) = overfitting(history, 4)
    assert sentence.startswith(
        "overfitting: since step 2 AP fell from 40.0 to 35.0 on the evaluation's images, and is 68.0 on training "
        "images (50.0 then)"
    )
    assert overfitting(history | {5: figures(0.33, 0.7)}, 5) == []
    again = history | {5: figures(0.45, 0.7), 6: figures(0.40, 0.75), 7: figures(0.40, 0.76)}
    assert len(overfitting(again, 7)) == 1


@pytest.mark.parametrize(
    "later",
    [
        [figures(0.38, 0.45), figures(0.35, 0.44)],  # AP falls on both: no overfitting, but something else
        [figures(0.399, 0.7), figures(0.398, 0.8)],  # noise
        [{"AP": 0.3}, {"AP": 0.2}],  # the training images are not measured
    ],
)
def test_what_is_no_overfitting(later):
    history = {1: figures(0.40, 0.50)} | dict(enumerate(later, 2))
    assert overfitting(history, 3) == []
