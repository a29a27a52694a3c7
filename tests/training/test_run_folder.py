"""A run folder belongs to its run: what is refused there, and what is left by runs that ended badly."""

import json
import os
import shutil
import signal

import numpy as np
import pytest
import tensorflow as tf
from fake_run import Recorder, all_tensors, make_record, run
from fakes import FakeDetector, FakeEvaluation

from tfdet.errors import UserError
from tfdet.training.checkpoint import latest_step, restore_detector
from tfdet.training.run_dir import RunDirectory
from tfdet.training.run_lock import Owner
from tfdet.training.schedule import Schedule


def files_below(folder):
    """Name -> content of every file."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of three steps, with an evaluation at the end."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    run(folder, 3, evaluate=lambda step: {"AP": 0.5}, record=make_record(values={"Trainer.momentum": "0.9"}))
    return folder


@pytest.fixture
def folder(finished, tmp_path):
    """A copy of it."""
    return shutil.copytree(finished, tmp_path / "run")


OWN = {"Trainer.momentum": "0.9"}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"classes": ["class 1", "class 0", "class 2"], "may_change": True}, "'class 0' in place of 'class 1'"),
        ({"category_ids": [1, 3, 2], "may_change": True}, "other category ids"),
        ({"data": "ffff"}, r"data set fake \(\w+\) -> fake \(ffff\)"),
        ({"values": {"Trainer.momentum": "0.8"}}, "Trainer.momentum 0.9 -> 0.8.* --change"),
    ],
)
@pytest.mark.parametrize("steps", [3, 5])
def test_what_is_refused_leaves_every_file_as_it_was(folder, record, message, steps):
    (folder / "checkpoints/checkpoint.tmp0a").write_text("half")
    before = files_below(folder)
    with pytest.raises(UserError, match=message):
        run(folder, steps, record=make_record(**{"config": "# another", "values": OWN} | record))
    assert files_below(folder) == before


def test_what_is_allowed_to_change_is_listed_and_kept_from_then_on(folder):
    record = make_record(values={"Trainer.momentum": "0.8"}, may_change=True, config="# another")
    _, _, events = run(folder, 5, record=record, seed=3)
    assert [text for (text,) in events.named("warned") if "not as in" in text] == [
        "not as in the checkpoint of step 3: Trainer.momentum 0.9 -> 0.8",
        "not as in the checkpoint of step 3: Trainer.seed 0 -> 3",
    ]
    assert (folder / "config.gin").read_text() == "# another"
    _, _, events = run(folder, 6, record=make_record(values={"Trainer.momentum": "0.8"}), seed=3)
    assert not [text for (text,) in events.named("warned") if "not as in" in text]


def test_another_seed_and_another_batch_need_a_word(folder):
    with pytest.raises(UserError, match="Trainer.seed 0 -> 3; images of an update 2 -> 4"):
        run(folder, 5, record=make_record(values=OWN), seed=3, accumulate=2)


def test_a_finished_run_is_not_touched(folder):
    before = files_below(folder)
    record = make_record(values=OWN, config="# another")
    result, _, events = run(folder, 3, evaluate=lambda step: {"AP": 0.5}, record=record, log_every=2)
    assert files_below(folder) == before and result.step == 3 and events.losses() == {}
    told = [text for (text,) in events.named("noted")]
    assert told[0] == "finished: 3 of 3 steps are done, nothing is left to train"
    assert told[1] == f"for more steps: --resume {folder} --steps N, N the new length of the run"


def test_a_run_of_an_older_tfdet_goes_on_and_says_what_could_not_be_compared(folder):
    """Its checkpoints have no record, and its folder has no list of evaluations."""
    for path in (folder / "checkpoints").glob("ckpt-3.*"):
        path.unlink()
    reader = tf.train.load_checkpoint(str(folder / "best/ckpt-3"))
    kept = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map() if "VARIABLE_VALUE" in name}
    tf.raw_ops.SaveV2(
        prefix=str(folder / "checkpoints/ckpt-3"),
        tensor_names=list(kept),
        shape_and_slices=[""] * len(kept),
        tensors=list(kept.values()),
    )
    for file in (folder / "checkpoints").iterdir():
        file.rename(file.with_name(file.name.replace("-00000-of-00001-", "-")))
    (folder / "evaluations.json").unlink()
    manifest = json.loads((folder / "manifest.json").read_text())
    other = {**manifest, "classes": manifest["classes"][::-1]}
    (folder / "manifest.json").write_text(json.dumps(other))
    with pytest.raises(UserError, match="the same classes in another order"):
        run(folder, 4)
    (folder / "manifest.json").unlink()
    measured = []
    _, _, events = run(folder, 4, evaluate=lambda step: measured.append(step) or {"AP": 0.1}, evaluate_every=3)
    (said,) = [text for (text,) in events.named("warned") if "could not be compared" in text]
    assert "checkpoint of step 3 holds no class names" in said and "not even with manifest.json" in said
    assert measured == [4] and RunDirectory(folder).read_classes()[1] == [1, 2, 3]


@pytest.mark.parametrize("name", ["exp[1]", "a*b?"])
def test_a_folder_that_looks_like_a_pattern_is_one(tmp_path, name):
    folder = tmp_path / name
    run(folder, 4, checkpoint_every=1, keep_checkpoints=2, evaluate=lambda step: {"AP": 0.5}, evaluate_every=2)
    result, _, events = run(folder, 6, checkpoint_every=1, keep_checkpoints=2)
    assert result.step == 6 and events.named("started")[0][0]["start"] == "checkpoint of step 4"
    assert sorted(path.name for path in (folder / "checkpoints").glob("*.index")) == ["ckpt-5.index", "ckpt-6.index"]
    assert restore_detector(FakeDetector(), folder, "last") == 6 and restore_detector(FakeDetector(), folder) == 2
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_is_no_run_is_refused_untouched(tmp_path):
    data, model, other, deep, file = (tmp_path / name for name in ("data", "model", "other", "deep", "file"))
    for path, text in (
        (data / "index.npz", ""),
        (data / "manifest.json", '{"shards": []}'),
        (model / "saved_model.pb", ""),
        (other / "manifest.json", '{"name": "an extension of a browser"}'),
        (deep / "manifest.json", "[" * 100_000),
        (file, "text"),
    ):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    before = files_below(tmp_path)
    messages = ("is a data set", "is an exported model", "is not of a run", "is not of a run", "is a file")
    for folder, message in zip((data, model, other, deep, file), messages, strict=True):
        with pytest.raises(UserError, match=f"{message}.*choose another --model_dir"):
            run(folder, 1)
    assert files_below(tmp_path) == before
    with pytest.raises(UserError, match="gs://bucket/run is an address"):
        run("gs://bucket/run", 1)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.gin", "# written by hand\n"),
        ("operative_config.gin", "# written by hand\n"),
        ("best.json", "[]"),
        ("evaluations.json", "[]"),
        ("train/manifest.json", '{"shards": []}'),
        ("train/index.npz", ""),
        ("eval/a-00000-of-00001.tfrecord", ""),
        ("eval/saved_model.pb", ""),
        ("train/photo.jpg", ""),
        ("best/index.npz", ""),
    ],
)
def test_what_a_run_would_write_over_or_into_is_refused_untouched(tmp_path, name, text):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    (tmp_path / "chapter.writing").mkdir()
    before = files_below(tmp_path)
    with pytest.raises(
        UserError, match=f"^{tmp_path}/{name.split('/')[0]}.*stays as it is; choose another --model_dir"
    ):
        RunDirectory(tmp_path).check()
    assert files_below(tmp_path) == before


def test_a_run_that_was_killed_before_its_first_checkpoint_goes_on(tmp_path):
    (tmp_path / "config.gin").write_text("# of the run\n")
    for name, text in (
        ("run.lock", Owner.this_process().json()),
        ("manifest.json", '{"shards": []}'),
        ("evaluations.json", "{}"),
    ):
        (tmp_path / name).write_text(text)
        RunDirectory(tmp_path).check()
        (tmp_path / name).unlink()
    (tmp_path / "config.gin").unlink()
    for name in ("train/events.out.tfevents.1.host", "train/plugins/profile/a", "eval/.hidden", "thesis.tex"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    RunDirectory(tmp_path).check()


def test_an_evaluation_that_was_interrupted_is_made_up(tmp_path):
    def interrupted(step):
        os.kill(os.getpid(), signal.SIGTERM)

    def measure(step):
        measured.append(step)
        return {"AP": 0.5}

    measured = []
    _, _, whole = run(tmp_path / "whole", 6, evaluate=measure, evaluate_every=2)
    assert measured == [2, 4, 6]
    folder = tmp_path / "parts"
    result, _, _ = run(folder, 6, evaluate=interrupted, evaluate_every=2)
    assert (result.step, result.stopped_by) == (2, "SIGTERM")
    del measured[:]
    _, _, events = run(folder, 6, evaluate=measure, evaluate_every=2)
    assert measured == [2, 4, 6] and restore_detector(FakeDetector(), folder, "best") == 2
    assert "evaluation of step 2 was not finished" in str(events.named("noted"))
    for name, value in all_tensors(tmp_path / "whole").items():
        np.testing.assert_array_equal(value, all_tensors(folder)[name], err_msg=name)
    # The last one too, of a run whose steps are all done.
    RunDirectory(folder).evaluations.write_text('{"2": {}, "4": {}}')
    del measured[:]
    result, _, events = run(folder, 6, evaluate=measure, evaluate_every=2)
    assert (measured, result.step, result.metrics) == ([6], 6, {"AP": 0.5}) and events.losses() == {}
    run(folder, 6, evaluate=measure, evaluate_every=2)
    assert measured == [6]


@pytest.mark.parametrize("again", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_second_signal_milliseconds_later_still_saves(tmp_path, again):
    class Stopper(Recorder):
        def __init__(self):
            super().__init__()
            self.progressed = self.stop

        def stop(self, progress):
            for number in (signal.SIGTERM, again, again)[: 2 if again == signal.SIGINT else 3]:
                os.kill(os.getpid(), number)

        def noted(self, text):
            os.kill(os.getpid(), again)

    result, _, _ = run(tmp_path, 8, observer=Stopper())
    assert result.stopped_by == "SIGTERM" and latest_step(tmp_path) == result.step == 1


def test_a_second_ctrl_c_ends_at_once(tmp_path):
    class Stopper(Recorder):
        def __init__(self):
            super().__init__()
            self.progressed = lambda progress: [os.kill(os.getpid(), signal.SIGINT) for _ in range(2)]

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, 8, observer=Stopper())
    assert latest_step(tmp_path) is None and not (tmp_path / "run.lock").exists()


def test_a_folder_that_is_removed_while_it_trains_is_made_again(tmp_path):
    folder = tmp_path / "run"

    class Remover(Recorder):
        def __init__(self):
            super().__init__()
            self.progressed = lambda progress: progress.step == 2 and shutil.rmtree(folder)

    _, _, events = run(folder, 4, observer=Remover(), checkpoint_every=1)
    assert "was removed while the run went on: it is made again at step 2" in str(events.named("warned"))
    assert latest_step(folder) == 4 and (folder / "config.gin").read_text() == "# every binding"
    assert (folder / "manifest.json").is_file() and not (folder / "run.lock").exists()


def test_a_second_run_in_the_folder_is_refused_and_the_first_goes_on(tmp_path):
    class Second(Recorder):
        def __init__(self):
            super().__init__()
            self.progressed = self.start

        def start(self, progress):
            if progress.step == 2:
                with pytest.raises(UserError, match=f"is being trained by process {os.getpid()} on"):
                    run(tmp_path, 9, seed=1)

    result, _, _ = run(tmp_path, 3, observer=Second())
    assert result.step == latest_step(tmp_path) == 3 and not (tmp_path / "run.lock").exists()


def test_a_list_of_evaluations_that_cannot_be_written_costs_a_warning(tmp_path, monkeypatch):
    def full(self, step, metrics):
        raise UserError("no space")

    monkeypatch.setattr(RunDirectory, "note_evaluation", full)
    result, _, events = run(tmp_path, 1, evaluate=FakeEvaluation(lambda step: {"AP": 0.5}))
    assert result.metrics == {"AP": 0.5} and ("no space",) in events.named("warned")


def test_a_manifest_that_was_exchanged_does_not_rename_what_a_run_finds(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "classes": manifest["classes"][::-1]}))
    with pytest.raises(UserError, match="manifest.json names other classes than the checkpoint of step 3.*1 'class 0'"):
        restore_detector(FakeDetector(), folder)


def test_a_longer_run_goes_on_from_its_rate_and_to_the_bit_where_it_was_killed(tmp_path):
    schedule = Schedule(base_lr=0.5, reference_batch=None, warmup_steps=0, decay="cosine")
    options = {"schedule": schedule, "checkpoint_every": 2}
    run(tmp_path / "whole", 4, **options)
    _, _, events = run(tmp_path / "whole", 8, **options)
    rates = [progress.learning_rate for (progress,) in events.named("progressed")]
    assert rates == sorted(rates, reverse=True) and 0.04 < rates[0] < 0.05 and rates[-1] == 0.0
    assert ("8 steps in place of 4: the learning rate goes on at 0.0427 and ends at 0",) in events.named("noted")
    killed = shutil.copytree(tmp_path / "whole", tmp_path / "killed")
    for path in (killed / "checkpoints").glob("ckpt-8.*"):
        path.unlink()
    _, _, events = run(killed, 8, **options)
    assert [progress.step for (progress,) in events.named("progressed")] == [7, 8]
    whole, parts = all_tensors(tmp_path / "whole"), all_tensors(killed)
    for name, value in whole.items():
        np.testing.assert_array_equal(value, parts[name], err_msg=name)


def test_a_run_that_is_killed_while_it_keeps_its_best_ends_with_the_best_of_one_that_is_not(tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def killed(self, *args):
        raise Killed

    quality = {2: 0.1, 4: 0.3, 6: 0.2}
    options = {"evaluate": lambda step: {"AP": quality[step]}, "evaluate_every": 2, "checkpoint_every": 2}
    run(tmp_path / "whole", 6, **options)
    parts = tmp_path / "parts"
    with monkeypatch.context() as patch, pytest.raises(Killed):  # the first one is written, and not noted yet
        patch.setattr(RunDirectory, "note_best", killed)
        run(parts, 6, **options)
    assert not (parts / "best.json").exists() and (parts / "best/ckpt-2.index").exists()
    (parts / "best/ckpt-4_temp").mkdir()
    (parts / "best/ckpt-4.data-00000-of-00001").write_bytes(b"half")  # while the next one is written
    _, _, events = run(parts, 6, **options)
    assert [step for step, _ in events.named("evaluated")] == [2, 4, 6]
    assert (parts / "best.json").read_text() == (tmp_path / "whole/best.json").read_text()
    names = sorted(path.name for path in (parts / "best").iterdir())
    assert names == ["checkpoint", "ckpt-4.data-00000-of-00001", "ckpt-4.index"]
    left, right = FakeDetector(), FakeDetector()
    assert restore_detector(left, parts) == restore_detector(right, tmp_path / "whole") == 4
    for one, other in zip(left.get_weights(), right.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
