"""Saving, restoring, and what is said about checkpoints that do not fit or are damaged."""

import os
import resource
import shutil
import signal

import numpy as np
import pytest
import tensorflow as tf
from fakes import FakeDetector, FakeInput

from tfdet.errors import UserError
from tfdet.training import checkpoint, checkpoint_file
from tfdet.training.adamw import AdamW
from tfdet.training.best_metric import BestMetric
from tfdet.training.checkpoint import CheckpointStore, latest_step, restore_detector
from tfdet.training.optimizer import MomentumSGD
from tfdet.training.precision import LossScale
from tfdet.training.run_dir import RunDirectory
from tfdet.training.run_record import RunRecord
from tfdet.training.step import StepState

AP = BestMetric("AP")
RECORD = RunRecord(["class 0", "class 1", "class 2"], [1, 2, 3], may_change=True)


class Saved:
    """A detector with its optimizer and store, all values distinct."""

    def __init__(
        self, folder, keep=5, fill=0.0, mode="dynamic", trained=None, seed=7, total_batch=4, rule="mxnet", **detector
    ):
        self.warnings = []
        self.detector = FakeDetector(**detector)
        variables = self.detector.trainable_variables[:trained]
        if rule == "adamw":
            self.optimizer = AdamW(variables, LossScale(mode))
        else:
            self.optimizer = MomentumSGD(variables, LossScale(mode), rule=rule)
        self.state = StepState()
        run = RunDirectory(folder)
        run.create()
        self.store = CheckpointStore(
            run, self.detector, self.optimizer, self.state, RECORD, seed, total_batch, keep, self.warnings.append
        )
        self.fill(fill)

    def fill(self, start):
        for index, variable in enumerate(self.tensors()):
            variable.assign(np.full(variable.shape, start + index, variable.dtype.as_numpy_dtype))

    def tensors(self):
        state, scale = self.state, self.optimizer.loss_scale
        return [
            *[variable.value for variable in self.detector.variables],
            *[variable for group in self.optimizer.slots.values() for variable in group.values()],
            *(state.global_step, state.skipped_steps, state.consecutive_skips, scale.scale, scale.good_steps),
        ]

    def values(self):
        return [variable.numpy() for variable in self.tensors()]


def files_below(folder):
    """Name -> content of every file."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_equal(left, right):
    for a, b in zip(left, right, strict=True):
        np.testing.assert_array_equal(a, b)


def test_everything_comes_back(tmp_path):
    first = Saved(tmp_path, fill=10.0)
    first.store.save(5)
    second = Saved(tmp_path, fill=100.0)
    assert second.store.restore() == 5
    assert_equal(first.values(), second.values())
    assert second.warnings == []


@pytest.mark.parametrize(
    "rule, other", [("torch", "mxnet"), ("mxnet", "torch"), ("mxnet", "adamw"), ("adamw", "torch")]
)
def test_momenta_of_another_update_rule_are_not_taken(tmp_path, rule, other):
    first = Saved(tmp_path, fill=10.0, rule=rule)
    first.store.save(5)
    same = Saved(tmp_path, rule=rule)
    assert same.store.restore() == 5 and same.warnings == []
    assert_equal(first.values(), same.values())
    second = Saved(tmp_path, rule=other)
    slots = [variable for group in second.optimizer.slots.values() for variable in group.values()]
    for variable in slots:
        variable.assign(np.zeros(variable.shape))
    assert second.store.restore() == 5
    assert not any(np.any(variable) for variable in slots)
    (warning,) = second.warnings
    assert f"Trainer.update_rule = '{rule}'" in warning and "start at zero" in warning


def test_a_new_run_has_nothing_to_restore(tmp_path):
    saved = Saved(tmp_path)
    before = saved.values()
    assert saved.store.restore() is None and latest_step(tmp_path) is None
    assert_equal(before, saved.values())


def test_a_run_on_two_replicas_continues_on_one(tmp_path, mirrored):
    with mirrored(2).scope():
        first = Saved(tmp_path, fill=10.0, total_batch=4)
    first.store.save(5)
    second = Saved(tmp_path, total_batch=2)
    assert second.store.restore() == 5
    assert_equal(first.values(), second.values())
    assert len(second.warnings) == 1 and "images of an update 4 -> 2" in second.warnings[0]


def test_another_seed_is_warned_about(tmp_path):
    Saved(tmp_path, seed=7).store.save(1)
    second = Saved(tmp_path, seed=8)
    second.store.restore()
    assert "Trainer.seed 7 -> 8" in second.warnings[0]


def test_variables_thawed_later_start_without_momentum(tmp_path):
    Saved(tmp_path, trained=2, fill=10.0).store.save(1)
    second = Saved(tmp_path)
    for momentum in second.optimizer.momenta.values():
        momentum.assign(np.zeros(momentum.shape))
    second.store.restore()
    momenta = [np.max(momentum.numpy()) for momentum in second.optimizer.momenta.values()]
    assert np.count_nonzero(momenta) == 2
    assert "4 trained variable(s)" in second.warnings[0]


def test_a_fixed_scale_is_an_option_and_not_restored(tmp_path):
    Saved(tmp_path, fill=10.0).store.save(1)
    second = Saved(tmp_path, mode=128.0)
    second.optimizer.loss_scale.scale.assign(128.0)
    second.store.restore()
    assert second.optimizer.loss_scale.scale.numpy() == 128


def test_the_newest_few_stay_also_over_restarts(tmp_path):
    first = Saved(tmp_path, keep=2)
    for step in (1, 2, 3):
        first.store.save(step)
    second = Saved(tmp_path, keep=2)
    second.store.restore()
    second.store.save(4)
    names = sorted(path.name for path in (tmp_path / "checkpoints").glob("*.index"))
    assert names == ["ckpt-3.index", "ckpt-4.index"]


@pytest.mark.parametrize("damage", ["cut", "flip", "no data", "empty index"])
def test_a_damaged_newest_checkpoint_gives_way_to_an_older_one(tmp_path, damage):
    first = Saved(tmp_path, fill=10.0)
    first.store.save(1)
    older = first.values()
    first.fill(50.0)
    first.store.save(2)
    data = tmp_path / "checkpoints" / "ckpt-2.data-00000-of-00001"
    if damage == "cut":
        data.write_bytes(data.read_bytes()[:100])
    elif damage == "flip":
        content = bytearray(data.read_bytes())
        content[len(content) // 2] ^= 0xFF
        data.write_bytes(content)
    elif damage == "no data":
        data.unlink()
    else:
        (tmp_path / "checkpoints" / "ckpt-2.index").write_bytes(b"")
    second = Saved(tmp_path)
    assert second.store.restore() == 1
    assert_equal(older, second.values())
    assert "step 2" in second.warnings[0] and "damaged" in second.warnings[0]
    with pytest.raises(UserError, match="step 2 .* is damaged"):
        restore_detector(second.detector, tmp_path, step=2)


def test_nothing_usable_is_an_error_and_changes_nothing(tmp_path):
    Saved(tmp_path).store.save(1)
    (tmp_path / "checkpoints" / "ckpt-1.data-00000-of-00001").write_bytes(b"")
    second = Saved(tmp_path, fill=3.0)
    before = second.values()
    with pytest.raises(UserError, match="Every checkpoint in .* is damaged"):
        second.store.restore()
    assert_equal(before, second.values())


def test_leftovers_of_a_killed_save_are_removed(tmp_path):
    saved = Saved(tmp_path, fill=10.0)
    saved.store.save(1)
    leftover = tmp_path / "checkpoints" / "ckpt-2_temp"
    leftover.mkdir()
    (leftover / "part-00000-of-00001.data-00000-of-00001").write_bytes(b"half")
    halves = [
        "config.gin.writing",
        ".manifest.partial7.json",
        "checkpoints/checkpoint.tmp0a1b",
        "best/.checkpoint.partial7",
    ]
    halves += ["checkpoints/ckpt-2.data-00000-of-00001"]
    others = [
        "chapter.writing/text",
        "notes.writing",
        ".thesis.partial2.tex",
        ".config.partial.gin",
        "best/.x.partial7",
    ]
    others += ["checkpoints/ckpt-mine.data-00000-of-00001", ".best.partial8.json/text"]
    for name in [*halves, *others]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("half")
    before = files_below(tmp_path)
    again = Saved(tmp_path)
    assert again.store.restore() == 1
    assert files_below(tmp_path) == before  # reading changes nothing
    RunDirectory(tmp_path).begin(FakeInput().manifest.folder)
    assert not leftover.exists() and not [name for name in halves if (tmp_path / name).exists()]
    assert all((tmp_path / name).exists() for name in others)
    assert again.store.restore() == 1


def test_a_full_disk_is_one_line_and_keeps_the_older_checkpoint(tmp_path):
    saved = Saved(tmp_path, num_classes=200_000)  # 4 MB with its momenta
    saved.store.save(1)
    # A limit on file sizes fails a write as a full disk does.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
        with pytest.raises(UserError, match="Cannot write the checkpoint of step 2") as error:
            saved.store.save(2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert "\n" not in str(error.value)
    assert Saved(tmp_path, num_classes=200_000).store.restore() == 1


class TestRestoreDetector:
    def test_weights_come_back(self, tmp_path):
        saved = Saved(tmp_path, fill=10.0)
        saved.store.save(5)
        expected = saved.detector.get_weights()
        saved.fill(50.0)
        saved.store.save(6)
        detector = FakeDetector()
        assert restore_detector(detector, tmp_path, step=5) == 5
        assert_equal(expected, detector.get_weights())
        assert restore_detector(detector, str(tmp_path)) == 6
        assert_equal(saved.detector.get_weights(), detector.get_weights())

    def test_the_best(self, tmp_path):
        saved = Saved(tmp_path, fill=10.0)
        better = [saved.store.save_if_best(step, AP, value) for step, value in ((3, 0.1), (4, 0.3), (5, 0.2), (6, 0.3))]
        assert better == [True, True, False, False]
        detector = FakeDetector()
        assert restore_detector(detector, tmp_path, step="best") == 4
        assert [path.name for path in (tmp_path / "best").glob("*.index")] == ["ckpt-4.index"]
        assert saved.store.save_if_best(7, BestMetric("mask_AP"), 0.1)  # by another figure nothing is the best yet

    def test_no_checkpoint(self, tmp_path):
        for step in (None, 3, "best"):
            with pytest.raises(UserError, match="No checkpoint in"):
                restore_detector(FakeDetector(), tmp_path / "nowhere", step)

    def test_no_such_step(self, tmp_path):
        Saved(tmp_path).store.save(3)
        with pytest.raises(UserError, match="No checkpoint of step 4 .* There are: 3"):
            restore_detector(FakeDetector(), tmp_path, 4)

    def test_another_class_count(self, tmp_path):
        Saved(tmp_path).store.save(3)
        detector = FakeDetector(num_classes=5)
        before = detector.get_weights()
        with pytest.raises(UserError, match="trained for 3 classes .* 5"):
            restore_detector(detector, tmp_path)
        assert_equal(before, detector.get_weights())

    def test_another_shape_and_missing_variables(self, tmp_path):
        Saved(tmp_path).store.save(3)
        wider = FakeDetector(width=8)
        with pytest.raises(UserError, match=r"conv/kernel with shape \[3, 3, 3, 4\] .* \[3, 3, 3, 8\]"):
            restore_detector(wider, tmp_path)
        other = FakeDetector(head="other")
        with pytest.raises(UserError, match="lacks 2 of the detector's 8 variables, first .*other/kernel"):
            restore_detector(other, tmp_path)


def test_checkpoints_that_no_list_names_are_counted(tmp_path):
    """A process that was killed between a checkpoint and TensorFlow's list leaves them."""
    first = Saved(tmp_path, keep=9)
    for step in (1, 2, 3):
        first.store.save(step)
    (tmp_path / "checkpoints/checkpoint").unlink()
    second = Saved(tmp_path, keep=2)
    assert second.store.restore() == 3
    second.store.save(4)
    names = sorted(path.name for path in (tmp_path / "checkpoints").glob("ckpt-*"))
    data = ".data-00000-of-00001"
    assert names == [f"ckpt-3{data}", "ckpt-3.index", f"ckpt-4{data}", "ckpt-4.index"]
    assert tf.train.latest_checkpoint(str(tmp_path / "checkpoints")).endswith("ckpt-4")


def test_a_damaged_newest_one_does_not_push_out_the_good_ones(tmp_path):
    first = Saved(tmp_path, keep=9)
    for step in (1, 5):
        first.store.save(step)
    (tmp_path / "checkpoints/ckpt-5.index").write_bytes(b"cut")
    second = Saved(tmp_path, keep=1)
    assert second.store.restore() == 1
    second.store.save(3)
    assert Saved(tmp_path).store.restore() == 3


def test_the_best_is_the_one_that_is_noted(tmp_path):
    saved = Saved(tmp_path, fill=10.0)
    saved.store.save_if_best(4, AP, 0.3)
    note = (tmp_path / "best.json").read_text()
    shutil.copytree(tmp_path / "best", tmp_path / "kept")
    saved.store.save_if_best(8, AP, 0.4)
    shutil.copytree(tmp_path / "kept", tmp_path / "best", dirs_exist_ok=True)
    (tmp_path / "best.json").write_text(note)
    assert restore_detector(FakeDetector(), tmp_path, "best") == 4
    (tmp_path / "best.json").unlink()
    assert restore_detector(FakeDetector(), tmp_path, "best") == 8
    assert saved.store.save_if_best(9, AP, 0.1, data="0a") and saved.store.save_if_best(10, AP, 0.05, data="0b")
    assert not saved.store.save_if_best(11, AP, 0.04, data="0b")
    assert [path.name for path in (tmp_path / "best").glob("*.index")] == ["ckpt-10.index"]


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("facts/num_classes", None, "lacks the number facts/num_classes"),
        ("facts/num_classes", np.ones((1, 1), np.int64), "holds no number as facts/num_classes"),
        ("facts/seed", np.float32("nan"), "holds no number as facts/seed"),
        ("progress/skipped_steps", None, "lacks the number progress/skipped_steps"),
        ("progress/global_step", np.ones(1, np.int64), "holds no number as progress/global_step"),
        ("progress/global_step", np.float64(1), "global_step as float64 but .* is int64"),
        ("detector/", np.int32, "as int32 but .* is float32"),
        ("momenta/", np.int32, "as int32 but .* is float32"),
        ("momenta/", np.ravel, "with shape"),
    ],
)
def test_a_whole_checkpoint_of_odd_content_is_one_line(tmp_path, monkeypatch, name, value, message):
    Saved(tmp_path, fill=10.0).store.save(1)
    whole = checkpoint_file.read_checkpoint(tmp_path / "checkpoints", 1)
    tensors = dict(whole._tensors)
    key = next(key for key in tensors if key.startswith(name) and (not callable(value) or tensors[key].ndim > 1))
    old = tensors.pop(key)
    if value is not None:
        tensors[key] = old.view(value) if isinstance(value, type) else value(old) if callable(value) else value
    odd = checkpoint_file.CheckpointFile(tmp_path / "checkpoints", 1, tensors, None)
    monkeypatch.setattr(checkpoint, "read_newest", lambda *_: odd)
    second = Saved(tmp_path, fill=3.0)
    before = second.values()
    with pytest.raises(UserError, match=message):
        second.store.restore()
    assert_equal(before, second.values())


def test_a_pipe_for_a_checkpoint_is_named(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    os.mkfifo(tmp_path / "checkpoints" / "ckpt-1.index")
    with pytest.raises(UserError, match="ckpt-1.index is a pipe"):
        restore_detector(FakeDetector(), tmp_path)
