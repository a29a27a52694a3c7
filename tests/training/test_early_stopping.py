"""Early stopping, and the sentence about overfitting: both follow from the figures in the run's folder alone."""

import pytest
from fake_run import run
from fakes import FakeEvaluation

from tfdet.errors import UserError
from tfdet.training.checkpoint import latest_step
from tfdet.training.checks import check_best_metric
from tfdet.training.overfitting import overfitting
from tfdet.training.patience import out_of_patience
from tfdet.training.run_dir import RunDirectory
from tfdet.training.trainer import Trainer

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
    assert [text for (text,) in events.named("noted")] == [
        "finished early, at step 8: 2 evaluations since gave no better box AP than that of step 4",
        f"for more: --resume {tmp_path} --patience N, N larger than 2",
    ]
    assert events.named("ended")[0][0].seconds is None
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def trainer(patience=2, metric="box AP", every=2):
    return Trainer(steps=10, patience=patience, best_metric=metric, evaluate_every=every)


def test_the_count_follows_from_the_folder_alone(tmp_path):
    """So it goes on after a kill, and a run may go on with more patience or by another figure."""
    files = RunDirectory(tmp_path / "run")
    files.create()
    assert out_of_patience(trainer(), files, 2) is None  # nothing was evaluated
    files.note_best(4, "AP", 0.5)
    for step in (2, 4, 6):
        files.note_evaluation(step, evaluate(step))
    assert out_of_patience(trainer(), files, 6) is None
    assert out_of_patience(trainer(1), files, 6) == "the evaluation after it gave no better box AP than that of step 4"
    files.note_evaluation(8, evaluate(8))
    assert out_of_patience(trainer(), files, 8) is not None
    assert out_of_patience(trainer(), files, 6) is None  # went back to the checkpoint of step 6
    assert out_of_patience(trainer(3), files, 8) is None and out_of_patience(trainer(None), files, 8) is None
    assert out_of_patience(trainer(metric="box AP50"), files, 8) is None


def test_patience_without_evaluations_to_count():
    evaluation = FakeEvaluation(None)
    assert check_best_metric(trainer(), evaluation) == []
    with pytest.raises(UserError, match="Trainer.patience = 2 counts evaluations, .* set Trainer.evaluate_every"):
        check_best_metric(trainer(every=None), evaluation)
    assert check_best_metric(trainer(), None) == ["Trainer.patience = 2 does nothing: this run does not evaluate"]


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
