"""`tfdet.train`, and that the command makes the same run."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import config as determinism

import tfdet
from tests.door.conftest import BINDINGS
from tfdet.commands import main
from tfdet.data.manifest import Manifest
from tfdet.errors import EXIT_OK, UserError
from tfdet.training.observer import Observer

CLASSES = ["circle", "square", "triangle"]
LINES = [f"--gin_param={name} = {value!r}" for name, value in BINDINGS.items()]


def tensors(prefix):
    reader = tf.train.load_checkpoint(str(prefix))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


class Started(Observer):
    """Keeps the start-up table and what was noted."""

    def __init__(self):
        self.table, self.notes = {}, []

    def started(self, table):
        self.table = table

    def noted(self, text):
        self.notes.append(text)


def test_the_command_and_python_make_the_same_run(here, tmp_path, capsys):
    data = ["--train_data=data/train", "--eval_data=data/val"]
    assert main(["train", "--gin_file=tiny.gin", f"--model_dir={tmp_path}/run", *data, *LINES]) == EXIT_OK
    assert "step 2/2" in capsys.readouterr().out
    ours, theirs = here / "runs/shapes", tmp_path / "run"
    assert (ours / "config.gin").read_text() == (theirs / "config.gin").read_text()
    assert (ours / "operative_config.gin").read_text() == (theirs / "operative_config.gin").read_text()
    one, other = (tensors(run / "checkpoints/ckpt-2") for run in (ours, theirs))
    assert set(one) == set(other) and len(one) > 100
    assert [name for name in one if not np.array_equal(one[name], other[name])] == []


def test_afterwards_the_model_is_that_of_the_run_and_the_process_as_before(here, tmp_path):
    model = tfdet.build("tiny.gin", bindings={**BINDINGS, "Trainer.precision": "mixed_float16"})
    assert model.num_classes is None and "not known" in repr(model)
    allowed = tf.config.experimental.tensor_float_32_execution_enabled()
    more = {"Trainer.deterministic": True, "Trainer.tensor_float_32": not allowed}
    run = tfdet.train(model, "data/train", model_dir=tmp_path / "run", bindings=more, quiet=True)
    assert (run.model_dir, run.step, run.stopped_by, run.metrics) == (str(tmp_path / "run"), 2, None, {})
    assert model.classes == CLASSES and model.detector.backbone.compute_dtype == "float32"
    loaded = tfdet.load(tmp_path / "run")
    for ours, theirs in zip(model.detector.variables, loaded.detector.variables, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    assert keras.config.dtype_policy().name == "float32" and not determinism.is_op_determinism_enabled()
    assert tf.config.experimental.tensor_float_32_execution_enabled() == allowed


def test_a_loaded_model_starts_from_its_weights_and_its_own_folder_is_continued(here, tmp_path):
    model, observer = tfdet.load("runs/shapes"), Started()
    before = {variable.path: variable.numpy() for variable in model.detector.variables}
    # The smallest step: what moves at all moves in the last digits.
    still = {"Trainer.steps": 1, "Schedule.base_lr": 1e-12, "Trainer.weight_decay": 0.0, "Trainer.ema_decay": None}
    tfdet.train(
        model,
        "data/train",
        model_dir=tmp_path / "next",
        bindings=still,
        observers=[observer],
        evaluate=False,
        quiet=True,
    )
    assert f"{here}/runs/shapes (tfdet): " in observer.table["start"]
    moved = [path for path, value in before.items() if not np.allclose(value, _value(model, path), atol=1e-6)]
    assert all("moving_" in path for path in moved), moved
    assert f"Trainer.init_weights = '{here}/runs/shapes'" in (tmp_path / "next/config.gin").read_text()
    with pytest.raises(UserError, match="model_dir is missing: a new folder, or that of the run itself"):
        tfdet.train(model, "data/train")
    observer = Started()
    run = tfdet.train(
        model,
        model_dir=tmp_path / "next",
        bindings={"Trainer.steps": 2},
        observers=[observer],
        evaluate=False,
        quiet=True,
    )
    assert run.step == 2 and observer.table["start"] == "checkpoint of step 1"
    with pytest.raises(UserError, match="leave init_weights out"):
        tfdet.train(model, model_dir=tmp_path / "next", init_weights="resnet-v1-50")


def test_what_is_no_model_and_absent_data_are_named(here, tmp_path):
    with pytest.raises(UserError, match="train takes a model that tfdet.build or tfdet.load gave. Received: .tiny"):
        tfdet.train("tiny.gin", "data/train")
    with pytest.raises(UserError, match="no data set to train on: give train_data"):
        tfdet.train(tfdet.build("tiny.gin"), model_dir=tmp_path / "run", quiet=True)
    with pytest.raises(UserError, match="model_dir must be a path. Received: 5"):
        tfdet.train(tfdet.build("tiny.gin"), "data/train", model_dir=5)


def test_a_run_does_not_go_on_with_data_of_other_classes(here, tmp_path):
    shutil.copytree("runs/shapes", tmp_path / "run")
    shutil.copytree("data/train", tmp_path / "other")
    manifest = Manifest.load(tmp_path / "other")
    dataclasses.replace(manifest, classes=["circle", "car", "triangle"]).write()
    before = (tmp_path / "run/manifest.json").read_text()
    model = tfdet.build("tiny.gin", bindings={"Trainer.steps": 3})
    with pytest.raises(UserError, match="trained on other classes .*'square' in place of 'car'"):
        tfdet.train(model, tmp_path / "other", model_dir=tmp_path / "run", quiet=True)
    assert (tmp_path / "run/manifest.json").read_text() == before
    # Values that differ are named, those of the row as well as those of a person.
    model = tfdet.build("tiny.gin", bindings={**BINDINGS, "Trainer.steps": 3, "Schedule.base_lr": 0.5})
    with pytest.raises(UserError, match=r"other values: Schedule.base_lr [\d.]+ -> 0.5. To go on .*change=True"):
        tfdet.train(model, "data/train", model_dir=tmp_path / "run", quiet=True)
    run = tfdet.train(model, "data/train", model_dir=tmp_path / "run", change=True, quiet=True)
    assert run.step == 3 and "Schedule.base_lr = 0.5" in (tmp_path / "run/config.gin").read_text()


def test_folders_whose_names_look_like_patterns_are_found(here, tmp_path, trained):
    folder = tmp_path / "runs [1]"
    shutil.copytree("runs/shapes", folder)
    (expected,) = tfdet.load("runs/shapes").predict("pictures/street.jpg", score_threshold=0)
    shutil.copytree("serving/shapes", folder / "serving")
    (folder / "checkpoints/ckpt-2.index").with_name("a*.index").symlink_to(folder / "checkpoints/ckpt-2.index")
    data = "ckpt-2.data-00000-of-00001"
    (folder / "checkpoints" / data.replace("ckpt-2", "a*")).symlink_to(folder / "checkpoints" / data)
    for path, row in (
        (folder, None),
        (folder / "checkpoints/ckpt-2", "tiny.gin"),
        (folder / "checkpoints/a*", "tiny.gin"),
    ):
        (found,) = tfdet.load(path, row=row, bindings=BINDINGS if row else None).predict(
            "pictures/street.jpg", score_threshold=0
        )
        assert row or np.array_equal(found.boxes, expected.boxes)
    assert len(tfdet.load(folder / "serving").predict("pictures/street.jpg")) == 1
    # What an export is for is other programs, which do not find it there.
    with pytest.raises(UserError, match=r"runs \[1\].*: TensorFlow takes .* for a pattern"):
        trained.export(folder / "export")


def test_addresses_are_refused_wherever_a_path_is_meant(here, tmp_path, trained):
    address, model = "gs://bucket/x", tfdet.build("tiny.gin", bindings=BINDINGS)
    calls = (
        lambda: tfdet.load(address),
        lambda: tfdet.train(model, "data/train", model_dir=address, quiet=True),
        lambda: tfdet.train(model, "data/train", model_dir=Path(address), quiet=True),
        lambda: tfdet.train(model, "data/train", model_dir=tmp_path / "run", init_weights=address, quiet=True),
        lambda: trained.export(address),
        lambda: trained.save(address),
        lambda: trained.predict(address),
        lambda: trained.evaluate("data/val", annotations=address),
    )
    for call in calls:
        with pytest.raises(UserError, match="gs:/.* is an address"):
            call()
    for call in (  # data sets are read from there, and the tests have no network
        lambda: tfdet.train(model, address, model_dir=tmp_path / "run", quiet=True),
        lambda: tfdet.train(model, ["data/train", address], model_dir=tmp_path / "run", quiet=True),
        lambda: tfdet.train(model, "data/train", address, tmp_path / "run", quiet=True),
        lambda: trained.evaluate(address),
    ):
        with pytest.raises(UserError, match="data set gs://bucket/x is not in the cache"):
            call()
    assert sorted(path.name for path in here.iterdir() if path.name.startswith("gs")) == []
    assert not (tmp_path / "run").exists()


def _value(model, path):
    return next(variable.numpy() for variable in model.detector.variables if variable.path == path)


@pytest.mark.parametrize(
    ("built", "message"),
    [
        ({"num_classes": 2}, "built for 2 classes, the data set 'shapes_train' has 3"),
        ({"classes": ["circle", "triangle", "square"]}, "in another order: 'triangle' in place of 'square'"),
        ({"bindings": {"TrainInput.data_dir": "nowhere"}}, "nowhere does not exist"),
        ({"bindings": {"TrainInput.profile": "continuous"}}, "TrainInput.profile is 'continuous', but"),
        ({"bindings": {"TestTimeAugmentation.flip": True, "FPN.channels": 8}}, "FPN.channels is never read"),
        ({"bindings": {"EvalInput.data_dir": "one_class"}}, r"3 \(circle, square, triangle\) and 1 \(any\)"),
    ],
)
def test_mistakes_are_one_line_and_leave_no_folder(here, tmp_path, built, message):
    bindings = {"TrainInput.data_dir": "data/train", **built.pop("bindings", {})}
    if bindings.get("EvalInput.data_dir") == "one_class":
        shutil.copytree("data/val", tmp_path / "one_class")
        manifest = Manifest.load("data/val")
        one = {"classes": ["any"], "category_ids": [1], "boxes_per_class": [manifest.num_boxes]}
        dataclasses.replace(manifest, **one).write(tmp_path / "one_class")
        bindings["EvalInput.data_dir"] = str(tmp_path / "one_class")
    with pytest.raises(UserError, match=message):
        tfdet.train(tfdet.build("tiny.gin", bindings=bindings, **built), model_dir=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_run_is_resumed_from_its_folder_alone_wherever_one_stands(here, tmp_path, monkeypatch):
    folder = shutil.copytree(here / "runs/shapes", tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    observer = Started()
    run = tfdet.train(resume=folder, observers=[observer], quiet=True)
    assert run.step == 2 and observer.notes[0] == "finished: 2 of 2 steps are done, nothing is left to train"
    shutil.move(here / "data/train", tmp_path / "moved")
    try:
        with pytest.raises(
            UserError, match="data .*/data/train are not there: say with --train_data where they are now"
        ):
            tfdet.train(resume=folder, quiet=True)
        observer = Started()
        run = tfdet.train(resume=folder, train_data="moved", steps=3, observers=[observer], evaluate=False, quiet=True)
    finally:
        shutil.move(tmp_path / "moved", here / "data/train")
    assert run.step == 3 and f"TrainInput.data_dir = '{tmp_path}/moved'" in (folder / "config.gin").read_text()
    assert any("goes on with Trainer.steps 2 -> 3; TrainInput.data_dir" in note for note in observer.notes)
    with pytest.raises(UserError, match="Schedule.base_lr 0.01 -> 0.5. To go on as it was give --resume"):
        tfdet.train(resume=folder, train_data=here / "data/train", lr=0.5, quiet=True)
    for given, message in (
        ({"resume": here / "data"}, "is no training run that could go on: it has no config.gin"),
        ({"resume": folder, "model_dir": "other"}, "leave model, model_dir and init_weights out"),
        ({"resume": folder, "steps": 3, "epochs": 1}, "--steps and --epochs both say"),
    ):
        with pytest.raises(UserError, match=message):
            tfdet.train(**given, quiet=True)
