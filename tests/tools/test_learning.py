"""`scripts/learn.py` without the training: its commands, order, logs and verdict."""

import json
import threading

import pytest

from tfdet import commands
from tfdet.bench.results import read_results
from tfdet.errors import EXIT_CHECK_FAILED, EXIT_OK, EXIT_USER_ERROR, UserError
from tools import learning

FIGURES = {"cascade": 0.8, "mask": 0.7, "retina": 0.3}


@pytest.fixture
def called(monkeypatch):
    """The commands that were run; each evaluation leaves the figures above."""
    calls, lock = [], threading.Lock()

    def run(log, *words):
        with lock:
            calls.append((log and log.name, *words))
        options = dict(word.removeprefix("--").split("=", 1) for word in words if word.startswith("--") and "=" in word)
        if words[0] == "evaluate":
            name = options["model_dir"].rsplit("/", 1)[-1]
            figures = {"AP": FIGURES[name], "AP50": 0.9, "step": 12}
            record = {
                "kind": "evaluate",
                "row": name,
                **figures,
                "data": "x",
                "date": "x",
                "device": "x",
                "command": "x",
            }
            with open(options["results"], "w") as file:
                file.write(json.dumps(record) + "\n")
        elif words[0] == "train":
            (learning.Path(options["model_dir"])).mkdir(parents=True)

    monkeypatch.setattr(learning, "_tfdet", run)
    return calls


@pytest.mark.parametrize("jobs", [1, 3])
def test_every_family_is_trained_evaluated_and_recorded_in_order(called, tmp_path, jobs):
    names = ["retina", "cascade", "mask"]
    found = learning.learn(names, tmp_path, tmp_path / "results.jsonl", 5, jobs, lambda line: None)
    assert [(record["row"], record["AP"]) for record in found] == [("retina", 0.3), ("cascade", 0.8), ("mask", 0.7)]
    assert read_results(tmp_path / "results.jsonl") == found
    assert called[0][:2] == (None, "make_shapes")
    assert len(called) == 7
    for name in names:
        log = f"{name}.log" if jobs > 1 else None
        words = [words for words in called if words[1:3] == ("train", f"--gin_file=learn/{name}.gin")]
        assert len(words) == 1 and words[0][0] == log and "--gin_param=Trainer.steps = 5" in words[0]


def test_the_exit_code_says_who_did_not_learn(called, tmp_path, capsys):
    write = [f"--folder={tmp_path}", f"--write={tmp_path / 'learn.md'}"]
    assert commands.run_module(learning, "learn.py", ["cascade", "retina", *write]) == EXIT_CHECK_FAILED
    assert "AP below 0.6: retina" in capsys.readouterr().out
    assert "| 80.0 |" in (tmp_path / "learn.md").read_text() and "| 30.0 |" in (tmp_path / "learn.md").read_text()
    assert commands.run_module(learning, "learn.py", ["cascade", f"--folder={tmp_path / 'b'}", "--jobs=2"]) == EXIT_OK
    assert commands.run_module(learning, "learn.py", ["retina", f"--folder={tmp_path / 'c'}", "--steps=3"]) == EXIT_OK
    for wrong in (["cascad"], ["--steps=0"], ["--jobs=0"]):
        assert commands.run_module(learning, "learn.py", [*wrong, f"--folder={tmp_path}"]) == EXIT_USER_ERROR


def test_a_command_that_fails_is_named_with_its_log(tmp_path):
    with pytest.raises(UserError, match=r"`tfdet no_such_command` ended with exit code 2, see .*some.log"):
        learning._tfdet(tmp_path / "some.log", "no_such_command")
    assert "no_such_command" in (tmp_path / "some.log").read_text()
