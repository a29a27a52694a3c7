"""The loop on one replica: resuming, stopping, diverging, evaluating, reporting."""

import json
import os
import signal

import numpy as np
import pytest
import tensorflow as tf
from fake_run import Recorder, all_tensors, run
from fakes import FakeDetector, FakeEvaluation, FakeInput

from tfdet.errors import DivergedError, UserError
from tfdet.ops.boxes import CONTINUOUS, LEGACY
from tfdet.training.checkpoint import latest_step, restore_detector
from tfdet.training.trainer import Trainer
from tfdet.weights import LoadReport

RECORD = "record/.ATTRIBUTES/py_state"


def test_ten_steps_equal_five_and_five_bit_for_bit(tmp_path):
    _, _, whole = run(tmp_path / "whole", 10)
    _, _, first = run(tmp_path / "parts", 5)
    result, _, second = run(tmp_path / "parts", 10)
    assert result.step == 10
    assert {**first.losses(), **second.losses()} == whole.losses()
    assert sorted(second.losses()) == [6, 7, 8, 9, 10]
    whole_tensors, part_tensors = all_tensors(tmp_path / "whole"), all_tensors(tmp_path / "parts")
    assert whole_tensors.keys() == part_tensors.keys() and len(whole_tensors) > 15
    lengths = [json.loads(tensors.pop(RECORD))["lengths"] for tensors in (whole_tensors, part_tensors)]
    assert lengths == [[[0, 10]], [[0, 5], [5, 10]]]  # who was asked for what; all else is the same
    for name, value in whole_tensors.items():
        np.testing.assert_array_equal(value, part_tensors[name], err_msg=name)
    assert second.named("started")[0][0]["start"] == "checkpoint of step 5"


def test_another_seed_is_another_run(tmp_path):
    _, _, first = run(tmp_path / "a", 3, seed=0)
    _, _, second = run(tmp_path / "b", 3, seed=1)
    assert first.losses() != second.losses()


def test_a_loss_that_is_not_finite_names_the_step_and_keeps_the_weights(tmp_path):
    observer = Recorder()
    with pytest.raises(DivergedError) as error:  # image 15 is in the batch of step 8
        run(tmp_path, 20, poison=15, observer=observer, log_every=4, checkpoint_every=6)
    message = str(error.value)
    assert message.startswith("Step 8: the loss is not finite (cls nan, box nan")
    assert "checkpoint is that of step 6" in message and "\n" not in message
    assert latest_step(tmp_path) == 6
    assert observer.events[-1][0] == "closed"
    detector = FakeDetector()
    restore_detector(detector, tmp_path)
    assert all(np.isfinite(weight).all() for weight in detector.get_weights())
    run(tmp_path, 10)  # the same directory continues once the reason is gone
    assert latest_step(tmp_path) == 10


def test_float16_skips_an_overflow_and_goes_on(tmp_path):
    _, detector, events = run(tmp_path, 10, poison=7, precision="mixed_float16", log_every=5)
    last = events.named("progressed")[-1][0]
    assert (last.skipped_steps, last.loss_scale) == (1, 2**14)
    assert np.isfinite(last.total)
    assert all(np.isfinite(weight).all() for weight in detector.get_weights())


def test_float16_that_always_overflows_diverges(tmp_path):
    class Poisoned(FakeInput):
        def dataset(self, *args, **kwargs):
            batches = super().dataset(*args, **kwargs)
            return batches.map(lambda batch: batch._replace(image_ids=tf.zeros_like(batch.image_ids)))

    with pytest.raises(DivergedError, match=r"Step 20: the loss is not finite after 20 skipped updates in a row"):
        run(tmp_path, 40, Poisoned(), poison=0, precision="mixed_float16", log_every=1)
    assert latest_step(tmp_path) == 15


def test_an_input_that_ends_or_fails_is_one_line(tmp_path):
    with pytest.raises(UserError, match="The training input ended"):
        run(tmp_path / "a", 9, FakeInput(stop_after=3))

    class Corrupt(FakeInput):
        def dataset(self, *args, **kwargs):
            def check(batch):
                good = tf.debugging.assert_less(batch.image_ids, tf.constant(6, tf.int64), "bad record")
                with tf.control_dependencies([good]):
                    return batch._replace(image_ids=tf.identity(batch.image_ids))

            return super().dataset(*args, **kwargs).map(check)

    with pytest.raises(UserError, match="The training input failed: .*bad record"):
        run(tmp_path / "b", 9, Corrupt())


def test_sigterm_saves_and_the_run_continues(tmp_path):
    class Stopper(Recorder):
        def __init__(self):
            super().__init__()
            self.progressed = self.stop

        def stop(self, progress):
            self.events.append(("progressed", (progress,)))
            if progress.step == 3:
                os.kill(os.getpid(), signal.SIGTERM)

    handler = signal.getsignal(signal.SIGTERM)
    result, _, events = run(tmp_path / "parts", 8, observer=Stopper())
    assert (result.step, result.stopped_by) == (3, "SIGTERM")
    assert latest_step(tmp_path / "parts") == 3
    assert "the same command continues" in events.named("noted")[-1][0]
    assert signal.getsignal(signal.SIGTERM) is handler
    run(tmp_path / "parts", 8)
    run(tmp_path / "whole", 8)
    whole, parts = all_tensors(tmp_path / "whole"), all_tensors(tmp_path / "parts")
    for name, value in whole.items():
        np.testing.assert_array_equal(value, parts[name], err_msg=name)


def test_a_signal_ends_an_evaluation_at_once(tmp_path):
    def evaluate(step):
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the evaluation went on")

    result, _, _ = run(tmp_path, 8, evaluate=evaluate, evaluate_every=2)
    assert (result.step, result.stopped_by) == (2, "SIGINT")
    assert latest_step(tmp_path) == 2


def test_evaluations_come_in_time_and_the_best_is_kept(tmp_path):
    quality = {4: 0.3, 8: 0.2, 10: 0.1}
    called = []

    def evaluate(step):
        called.append((step, latest_step(tmp_path)))
        return {"AP": quality[step], "AP50": 0.9}

    result, _, events = run(tmp_path, 10, evaluate=evaluate, evaluate_every=4, checkpoint_every=7)
    assert called == [(4, 4), (8, 8), (10, 10)]  # the checkpoint is there before
    assert result.metrics == {"AP": 0.1, "AP50": 0.9}
    assert [step for step, _ in events.named("evaluated")] == [4, 8, 10]
    assert restore_detector(FakeDetector(), tmp_path, "best") == 4
    assert '"step": 4' in (tmp_path / "best.json").read_text()


@pytest.mark.parametrize(
    "name, hint", [("box AP5O", "Did you mean 'box AP50'"), ("mask AP", "It gives box AP, box AP50;")]
)
def test_a_best_metric_that_no_evaluation_gives_is_refused_before_anything_is_made(tmp_path, name, hint):
    def evaluate(step):
        raise AssertionError("trained for nothing")

    with pytest.raises(UserError, match=f"Trainer.best_metric = '{name}': the evaluation .* no such figure.*{hint}"):
        run(tmp_path / "run", 2, evaluate=evaluate, best_metric=name)
    assert not (tmp_path / "run").exists()


def test_a_best_metric_without_an_evaluation_or_a_figure_is_warned_about(tmp_path):
    def about_best(events):
        return [text for (text,) in events.named("warned") if "best" in text]

    _, _, events = run(tmp_path / "a", 1, best_metric="AP50")
    assert about_best(events) == ["Trainer.best_metric = 'box AP50' does nothing: this run does not evaluate"]
    _, _, events = run(tmp_path / "b", 1)
    assert about_best(events) == []
    _, _, events = run(tmp_path / "c", 1, evaluate=lambda step: {"AP": 0.5}, best_metric="AP50")
    assert about_best(events) == ["this data set has nothing to measure box AP50 on: no best checkpoint is kept"]
    assert not (tmp_path / "c/best.json").exists()


@pytest.mark.parametrize(
    "convention, profile, wanted",
    [
        (CONTINUOUS, "first_release", "'continuous'"),
        (CONTINUOUS, "later_revision", "'continuous'"),
        (LEGACY, "continuous", "'first_release' or 'later_revision'"),
    ],
)
def test_boxes_of_another_convention_are_refused_before_anything_is_made(tmp_path, convention, profile, wanted):
    train_input = FakeInput()
    train_input.profile = profile
    with pytest.raises(UserError, match=f"TrainInput.profile is '{profile}', .* {convention}: set it to {wanted}"):
        run(tmp_path / "run", 2, train_input, convention=convention)
    assert not (tmp_path / "run").exists()


def test_what_the_evaluation_finds_wrong_ends_the_run_before_its_first_step(tmp_path):
    class Wrong(FakeEvaluation):
        def prepare(self):
            raise UserError("no such method")

    observer = Recorder()
    with pytest.raises(UserError, match="no such method"):
        run(tmp_path, 2, evaluate=Wrong(None), observer=observer)
    assert latest_step(tmp_path) is None and not (tmp_path / "config.gin").exists()
    assert observer.named("configured") == [] and observer.events[-1][0] == "closed"


def test_the_evaluation_is_prepared_once_and_only_where_steps_are_left(tmp_path):
    evaluation = FakeEvaluation(lambda step: {"AP": 0.5})
    run(tmp_path, 4, evaluate=evaluation, evaluate_every=2)
    assert evaluation.prepared == 1
    (tmp_path / "config.gin").unlink()
    run(tmp_path, 4, evaluate=evaluation)
    assert evaluation.prepared == 1 and not (tmp_path / "config.gin").exists()


def test_what_observers_and_evaluations_print_is_seen(tmp_path, capfd):
    class Printer(Recorder):
        def progressed(self, progress):
            print(f"at {progress.step}")

    printer = Printer()
    del printer.__dict__["progressed"]
    run(tmp_path, 2, observer=printer, evaluate=lambda step: print("evaluated") or {"AP": 0.5})
    print("after")
    assert capfd.readouterr().out.splitlines() == ["at 1", "at 2", "evaluated", "after"]


def test_the_table_and_the_figures(tmp_path, capfd):
    _, _, events = run(tmp_path, 7, log_every=3, frozen=("conv", "beta"), precision="mixed_float16", loss_scale=128.0)
    (table,) = events.named("started")[0]
    assert table["batch"] == "2 images = 1 replica(s) x 2"
    assert table["precision"] == "mixed_float16, loss scale 128"
    assert table["data set"] == "fake: 16 images, 40 boxes, 3 classes"
    assert table["parameters trained"] == "19 in 3 tensors"  # gamma 4, fc 12 + 3
    assert table["parameters frozen"] == "124 in 5 tensors"  # conv 108 + 4, beta 4, statistics 8
    assert table["learning rate"] == "0.0625 = 0.5 x 2 / 16"
    assert table["model directory"] == str(tmp_path) and table["devices"] == "CPU:0"
    steps = [progress for (progress,) in events.named("progressed")]
    assert [progress.step for progress in steps] == [1, 3, 5, 6, 7]
    assert steps[0].images_per_second is None and steps[-1].images_per_second > 0
    assert all(0 <= progress.data_wait <= 1 for progress in steps[1:])
    assert steps[-1].seconds_left == 0 and steps[1].seconds_left > 0
    for progress in steps:
        assert progress.total == pytest.approx(sum(progress.losses.values()), abs=1e-5)
        assert sorted(progress.losses) == ["box", "cls"] and progress.loss_scale == 128
        assert progress.learning_rate == pytest.approx(0.0625 * min(1, progress.step / 32), rel=1e-6)
    assert events.named("first_step")[0][0] > 0
    order = [event for event, _ in events.events]
    assert order.index("started") < order.index("configured") < order.index("first_step") < order.index("progressed")
    assert (tmp_path / "operative_config.gin").read_text() == events.named("configured")[0][0] == "# every value"
    assert (tmp_path / "config.gin").read_text() == "# every binding"
    assert (tmp_path / "manifest.json").read_text() == FakeInput().manifest.folder.joinpath("manifest.json").read_text()
    # Of the recipe's 32 steps of warm-up it makes 7, and its frozen variables were never learnt.
    assert [text.split()[1] for (text,) in events.named("warned")] == ["warm-up", "learning", "variables"]
    assert "train | step" not in capfd.readouterr().out  # orbit's own lines


def test_frozen_variables_do_not_move(tmp_path):
    trainer = Trainer(replicas=1)
    with trainer.prepare().scope():
        before = {variable.path: variable.numpy() for variable in FakeDetector(normalization="sync").variables}
    _, detector, _ = run(tmp_path, 3, frozen=("backbone/conv", "gamma"))
    moved = {v.path.split("/", 1)[1] for v in detector.variables if not np.array_equal(v.numpy(), before[v.path])}
    assert moved == {
        f"{name}"
        for name in (
            "backbone/bn/beta",
            "backbone/bn/moving_mean",
            "backbone/bn/moving_variance",
            "head/fc/kernel",
            "head/fc/bias",
        )
    }


@pytest.mark.parametrize("frozen, message", [(("gama",), "'gama'.*mean 'gamma'"), (("detector",), "freezes every")])
def test_a_frozen_string_that_cannot_be_meant(tmp_path, frozen, message):
    with pytest.raises(UserError, match=message):
        run(tmp_path, 3, frozen=frozen)


def test_initial_weights_are_read_once(tmp_path):
    loaded = []

    def load(detector, path):
        loaded.append(path)
        return LoadReport(path, matched=["a", "b"])

    _, _, events = run(tmp_path, 2, load_weights=load, init_weights="r50.params")
    assert events.named("started")[0][0]["start"] == "r50.params: 2 tensors loaded"
    run(tmp_path, 4, load_weights=load, init_weights="r50.params")
    assert loaded == ["r50.params"]


def test_what_is_frozen_and_was_never_learnt_is_said(tmp_path):
    def warned(folder, left, frozen=("backbone/conv", "gamma")):
        def load(detector, path):
            return LoadReport(path, missing=left)

        options = {"load_weights": load, "init_weights": "r50.params"} if left is not None else {}
        _, _, events = run(tmp_path / folder, 1, frozen=frozen, **options)
        return [text for (text,) in events.named("warned") if "frozen" in text]

    (text,) = warned("nothing_loaded", None)
    assert "3 variables are frozen at their initial values (fake_detector/backbone/conv/kernel, " in text
    (text,) = warned("one_missing", ["fake_detector/backbone/bn/gamma", "fake_detector/head/fc/bias"])
    assert "1 variables are frozen at their initial values (fake_detector/backbone/bn/gamma)" in text
    assert warned("all_loaded", []) == [] and warned("nothing_frozen", None, frozen=()) == []


def test_the_graph_is_told_on_request(tmp_path):
    _, _, events = run(tmp_path / "a", 1, graph=True)
    assert isinstance(events.named("traced")[0][0], tf.Graph)
    _, _, events = run(tmp_path / "b", 1)
    assert events.named("traced") == []
