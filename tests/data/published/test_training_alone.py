"""A row's command alone: which data it names, what is fetched before it begins, and what stays as it was."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import tfdet
from tests.data.published import offered
from tests.fetch.server import serving
from tfdet import config
from tfdet.commands import main
from tfdet.data.manifest import Manifest
from tfdet.data.published import plan as planning
from tfdet.data.published.missing import plan_missing
from tfdet.errors import EXIT_OK, EXIT_USER_ERROR, UserError

TRAIN, EVAL = "TrainInput.data_dir", "EvalInput.data_dir"
SMALL = Path(__file__).parents[2] / "end_to_end" / "small.gin"


@pytest.fixture(scope="module", autouse=True)
def registered():
    """Gin files name parts of any package."""
    config.register_all()


@pytest.fixture
def web(monkeypatch, tmp_path):
    """A small COCO on a mirror, no other network, an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TFDET_OFFLINE", raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TFDET_CACHE", str(tmp_path / "cache"))
    with serving() as web:
        web.files = offered.coco2017(12, 3)
        monkeypatch.setenv("TFDET_MIRROR", web.address(""))
        yield web


def row(extra: str = "") -> str:
    """A small detector that trains two steps on what the zoo's rows train on; the file of a person."""
    Path("own.gin").write_text(f"include '{SMALL}'\ninclude 'data/shared/coco.gin'\nTrainer.steps = 2\n{extra}")
    return "--gin_file=own.gin"


def test_every_row_names_coco():
    for one in config.zoo_rows(program=None):
        values = config.parse([f"{one.name}.gin"])
        assert (values.value(TRAIN), values.value(EVAL)) == ("data/coco_train", "data/coco_val"), one.name
        assert values.is_of_a_row(TRAIN) and values.is_of_a_row(EVAL)


@pytest.mark.parametrize(
    "params, evaluation",
    [
        ([], "data/coco_val"),
        ([f"{TRAIN} = 'mine'"], None),
        ([f"{EVAL} = 'mine'"], "mine"),
        ([f"{TRAIN} = 'mine'", f"{EVAL} = 'yours'"], "yours"),
    ],
)
def test_the_rows_evaluation_data_go_with_its_training_data(params, evaluation):
    values = config.parse(["faster_r50v1_fpn.gin"], params)
    assert values.is_bound(EVAL) == (evaluation is not None)
    if evaluation:
        assert values.value(EVAL) == evaluation and values.is_of_a_row(EVAL) == (not params)
    again = config.parse([], [values.text()])  # as the run's own file has it
    assert again.text() == values.text() and not again.is_of_a_row(TRAIN)


@pytest.mark.slow
def test_data_are_fetched_converted_and_trained_on(web, capsys):
    assert main(["train", row()]) == EXIT_OK
    printed = capsys.readouterr().out
    assert "a new run, in runs/own" in printed and "step 2/2" in printed and "evaluation at step 2" in printed
    web.asked.clear()
    assert main(["train", row()]) == EXIT_OK
    printed = capsys.readouterr().out
    assert "goes on with the run in runs/own" in printed and "2 of 2 steps are done" in printed
    assert web.asked == []


def test_data_are_there_when_training_begins(web, monkeypatch, capsys):
    def begins(model, configuration, folder, *_):
        counts = [Manifest.load(configuration.value(name)).num_masks for name in (TRAIN, EVAL)]
        raise UserError(f"{folder}: {counts}")

    monkeypatch.setattr("tfdet.run._train", begins)
    assert main(["train", row()]) == EXIT_USER_ERROR
    printed = capsys.readouterr()
    assert "a new run, in runs/own" in printed.out and "runs/own: [12, 3]" in printed.err
    monkeypatch.setattr("tfdet.run._is_run", lambda _: True)
    web.asked.clear()
    assert main(["train", row()]) == EXIT_USER_ERROR
    assert "goes on with the run in runs/own, by the name of the row" in capsys.readouterr().out and web.asked == []


@pytest.mark.parametrize("flag, missing", [([], "data/coco_train, data/coco_val"), (["--no_eval"], "data/coco_train")])
def test_without_a_terminal_much_is_one_line_with_the_command(web, monkeypatch, capsys, flag, missing):
    monkeypatch.setattr(planning, "FREELY", 10)
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["train", "--gin_file=faster_r50v1_c4", *flag]) == EXIT_USER_ERROR
    error = capsys.readouterr().err
    assert f"{missing}: not there" in error and "`tfdet data fetch coco2017 --yes` makes it" in error
    assert error.count("\n") == 1 and not Path("runs").exists() and not Path("data").exists()
    assert not [asked for asked in web.asked if asked[0] == "GET"]  # nor the weights


def test_weights_that_are_not_to_be_had_are_said_before_data_are_fetched(web, capsys):
    assert main(["train", "--gin_file=faster_r50v1_c4"]) == EXIT_USER_ERROR
    assert "resnet-v1-50" in capsys.readouterr().err
    assert not Path("data").exists() and not Path("runs").exists()


def test_offline_says_where_to_put_the_archives(web, monkeypatch, capsys):
    monkeypatch.setenv("TFDET_OFFLINE", "1")
    assert main(["train", row()]) == EXIT_USER_ERROR
    error = capsys.readouterr().err
    assert "TFDET_OFFLINE forbids the network" in error and "into data/.coco2017/archives" in error


def test_python_and_a_place_of_ones_own(web):
    plans = plan_missing(["elsewhere/coco_train", "elsewhere/coco_val", "mine", "elsewhere/coco_val"])
    assert [[str(plan.work.final(part)) for part in plan.parts] for plan in plans] == [
        ["elsewhere/coco_train", "elsewhere/coco_val"]
    ]
    assert plan_missing(["mine", web.address()]) == []
    model = tfdet.build("faster_r50v1_fpn", bindings={TRAIN: "mine"})
    with pytest.raises(UserError, match="data set folder mine does not exist; `tfdet convert_data` writes one"):
        tfdet.train(model, init_weights=str(SMALL), quiet=True)


def test_a_missing_set_that_is_known_names_its_command(web, capsys):
    with pytest.raises(UserError, match="data/voc2007_test does not exist; `tfdet data fetch voc2007 --yes` makes it"):
        Manifest.load("data/voc2007_test")
    with pytest.raises(UserError, match="`tfdet data fetch bccd --output=/sets --yes` makes it"):
        Manifest.load("/sets/bccd_val")
