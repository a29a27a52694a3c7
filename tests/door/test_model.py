"""`load` and `build`, and what their models do."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from unittest import mock

import gin
import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import tfdet
from tests.door.conftest import BINDINGS
from tfdet.data.images import read_image
from tfdet.data.manifest import Manifest
from tfdet.errors import UserError
from tfdet.export.run import ExportDiffersError
from tfdet.export.saved_model import decode_image
from tfdet.export.verify import images_of_records
from tfdet.ops.tensor_float_32 import allow_tensor_float_32
from tfdet.predict.float32 import in_float32

ROOT = Path(tfdet.__file__).resolve().parent.parent
CLASSES = ["circle", "square", "triangle"]
STREET = "pictures/street.jpg"
RETINA = {"WIDTH": 0.0625, "EvalInput.short_side": 64, "EvalInput.long_side": 80}


def same(one, other):
    """Whether two `Found` are equal to the last bit."""
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("boxes", "scores", "class_ids"))


def test_two_rows_in_one_process_do_not_know_of_each_other(here):
    before = dict(gin.config._CONFIG), dict(gin.config._OPERATIVE_CONFIG)
    assert tfdet.list_models() and not before[0]
    first = tfdet.build("tiny.gin", 3, bindings=BINDINGS)
    second = tfdet.build("learn/retina.gin", classes=["a", "b"], bindings=RETINA)
    assert (type(first.detector).__name__, type(second.detector).__name__) == ("TwoStageDetector", "RetinaDetector")
    alone = first.predict(STREET, score_threshold=0), second.predict(STREET, score_threshold=0)
    assert len(alone[0][0]) > 0 and second.classes == ["a", "b"] and first.num_classes == 3
    for _ in range(2):
        assert same(first.predict(STREET, score_threshold=0)[0], alone[0][0])
        assert same(second.predict(STREET, score_threshold=0)[0], alone[1][0])
    assert first.configuration.value("EvalInput.short_side") == second.configuration.value("EvalInput.short_side") == 64
    assert (dict(gin.config._CONFIG), dict(gin.config._OPERATIVE_CONFIG)) == before


def test_detection_is_in_float32_and_leaves_the_process_as_it_was(here, trained):
    expected = trained.predict(STREET, score_threshold=0)[0]
    keras.mixed_precision.set_global_policy("mixed_float16")
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    allow_tensor_float_32(True)
    seen = []
    try:
        model = tfdet.load("runs/shapes")
        inner = model.predictor.detect

        def watched(*arguments):
            seen.append((keras.config.dtype_policy().name, tf.config.experimental.tensor_float_32_execution_enabled()))
            return inner(*arguments)

        model.predictor._detect_views = lambda views: watched(*views[0])
        model.predictor.detect = watched
        assert same(model.predict(STREET, score_threshold=0)[0], expected)
        model.evaluate("data/val", max_images=1)
        assert model.detector.backbone.compute_dtype == "float32"
        assert keras.config.dtype_policy().name == "mixed_float16"
        assert tf.config.experimental.tensor_float_32_execution_enabled()
    finally:
        allow_tensor_float_32(before)
    assert seen == [("float32", False)] * 2


def test_threads_take_turns_and_leave_the_process_as_it_was(here, trained):
    expected = trained.predict(STREET, score_threshold=0)[0]
    model, left, builds, wrong = tfdet.load("runs/shapes"), threading.Event(), [], []
    build, before = model.configuration.build, tf.config.experimental.tensor_float_32_execution_enabled()

    def slow_build(part, **arguments):
        builds.append(part.__name__)
        left.wait(0.5)  # a second thread comes in, where it can
        return build(part, **arguments)

    def first():
        wrong.append(not same(model.predict(STREET, score_threshold=0)[0], expected))

    def second():
        with in_float32():
            left.wait(5)

    keras.mixed_precision.set_global_policy("mixed_float16")
    allow_tensor_float_32(True)
    try:
        with mock.patch.object(model.configuration, "build", slow_build):
            threads = [threading.Thread(target=first) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert wrong == [False, False] and builds.count("build_detector") == 1
        other = threading.Thread(target=second)
        with in_float32():
            other.start()
            time.sleep(0.2)
        left.set()
        other.join()
        assert keras.config.dtype_policy().name == "mixed_float16"
        assert tf.config.experimental.tensor_float_32_execution_enabled()
    finally:
        keras.mixed_precision.set_global_policy("float32")
        allow_tensor_float_32(before)


def test_images_come_as_files_folders_arrays_and_pil_images(here, trained):
    pixels = read_image(STREET)
    results = trained.predict([STREET, pixels, Image.fromarray(pixels), "pictures/*_0000*.jpg"], score_threshold=0)
    assert results[0].path == STREET and results[1].path is None and len(results) > 3
    assert same(results[0], results[1]) and same(results[0], results[2])
    assert len(trained.predict("pictures")) == len(list((here / "pictures").iterdir()))
    with pytest.raises(UserError, match="image 1 is a dict"):
        trained.predict([STREET, {}])
    with pytest.raises(UserError, match="cannot read image absent.jpg"):
        trained.predict("absent.jpg")
    with pytest.raises(UserError, match="score_threshold must be from 0 to 1. Received: 30"):
        trained.predict(STREET, score_threshold=30)


def test_what_is_found_is_what_evaluation_measures(here, trained):
    result = trained.evaluate("data/val")
    assert result.num_images == 6 and set(result.metrics) >= {"AP", "AP50"} and result.data == "shapes_val"
    ids = Manifest.load("data/val").load_index().image_id
    images = [decode_image(tf.constant(encoded)).numpy() for encoded in images_of_records("data/val", 6)]
    found = trained.predict(images, score_threshold=0)
    records = [record for image_id, one in zip(ids, found, strict=True) for record in one.to_coco(image_id)]
    assert records and records == result.detections
    assert trained.evaluate(max_images=2).num_images == 2, "the run names a data set"
    with pytest.raises(UserError, match="max_images must be at least 1"):
        trained.evaluate("data/val", max_images=0)


def test_an_export_detects_and_is_measured_as_its_model(here, trained, exported):
    assert exported.classes == CLASSES and exported.category_ids == trained.category_ids
    one, other = (model.predict(STREET, score_threshold=0)[0] for model in (trained, exported))
    np.testing.assert_allclose(one.boxes, other.boxes, atol=0.01)
    result, expected = exported.evaluate("data/val", num_samples=2), trained.evaluate("data/val")
    assert len(result.detections) == len(expected.detections) and len(result.samples) == 2
    for ours, theirs in zip(result.detections, expected.detections):
        np.testing.assert_allclose(ours["bbox"], theirs["bbox"], atol=1.0)  # clipped at the border
        assert ours["image_id"] == theirs["image_id"] and ours["score"] == pytest.approx(theirs["score"], abs=1e-3)
    assert result.metrics["AR100"] == pytest.approx(expected.metrics["AR100"], abs=0.05)
    for refused in (lambda: exported.export("x"), lambda: exported.save("x.safetensors"), exported.evaluate):
        with pytest.raises(UserError):
            refused()
    with pytest.raises(UserError, match="an exported model cannot be trained"):
        tfdet.train(exported, "data/train")


def test_an_export_is_compared_on_images_of_every_kind_and_one_that_differs_is_an_error(here, trained, tmp_path):
    pixels = read_image(STREET)
    differ = mock.patch("tfdet.export.verify.Difference.passed", lambda *_: False)
    with (
        differ,
        pytest.raises(ExportDiffersError, match="does not find .*image_bytes: 0 missing") as caught,
    ):
        trained.export(tmp_path / "out", images=[STREET, pixels, Image.fromarray(pixels)], num_images=3)
    export = caught.value.export
    assert export.passed and export.differences[0].num_images == 3  # it would have been equal
    assert export.differences[0].signature == "image_bytes" and export.origin == "the images given"
    with pytest.raises(UserError, match="not empty"):
        trained.export(tmp_path / "out")
    with pytest.raises(UserError, match="num_images must be at least 1"):
        trained.export(tmp_path / "other", num_images=0)
    for wrong in ("1", float("nan"), -1.0):
        with pytest.raises(UserError, match="box_tolerance must be from 0 to inf"):
            trained.export(tmp_path / "other", box_tolerance=wrong)
    assert not (tmp_path / "other").exists()


def test_weights_of_a_file_need_their_row(here, trained, tmp_path):
    for name in ("mine.safetensors", "mine.params"):
        trained.save(tmp_path / name)
        model = tfdet.load(tmp_path / name, row="tiny.gin", bindings=BINDINGS)
        keeps_names = name.endswith(".safetensors")  # tfdet's own format
        assert model.classes == (CLASSES if keeps_names else ["class 1", "class 2", "class 3"])
        assert model.category_ids == trained.category_ids
        assert same(model.predict(STREET, score_threshold=0)[0], trained.predict(STREET, score_threshold=0)[0])
        with pytest.raises(UserError, match="the row of these weights"):
            tfdet.load(tmp_path / name)
    named = tfdet.load(tmp_path / "mine.params", "tiny.gin", bindings={"EvalInput.data_dir": "data/val"})
    assert named.classes == CLASSES
    with pytest.raises(UserError, match="mine.h5: the name must end in one of .safetensors, .params"):
        trained.save(tmp_path / "mine.h5")


def test_average_and_raw_weights_differ(here, trained):
    raw, best = tfdet.load("runs/shapes", raw_weights=True), tfdet.load("runs/shapes", checkpoint="best")
    kernels = [model.detector.rpn_head.cls.kernel.numpy() for model in (trained, raw, best)]
    assert np.abs(kernels[0] - kernels[1]).max() > 0 and trained.step == best.step == 2
    np.testing.assert_array_equal(kernels[0], kernels[2])
    assert trained.describe() == "checkpoint of step 2"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"path": "nowhere"}, "nowhere is no folder: give one, the name of published weights, or the row"),
        ({"path": "data"}, "data is no run .it has no config.gin. and no exported model"),
        ({"path": "nowhere", "row": "tiny.gin"}, "nowhere: no such file"),
        ({"path": "nowhere", "row": "tiny.gin", "checkpoint": 3}, "nowhere is no run"),
        ({"path": "runs/shapes", "checkpoint": "newest"}, "checkpoint 'newest': give best, last or the step"),
        ({"path": "runs/shapes", "bindings": {"RpnHead.chanels": 3}}, "Did you mean 'channels'"),
        ({"path": "serving/shapes", "checkpoint": 3}, "exported model, with its own configuration"),
    ],
)
def test_mistakes_of_load_are_one_line(here, arguments, message):
    with pytest.raises(UserError, match=message) as caught:
        tfdet.load(**arguments)
    assert "\n" not in str(caught.value)


def test_loading_a_run_is_what_chooses_the_backend_and_says_nothing(here):
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import tfdet; print(tfdet.load('runs/shapes').classes)"
    unset = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    env = {**unset, "KERAS_BACKEND": "jax"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=120)
    assert done.stdout.strip() == str(CLASSES), done.stderr
    assert " I tensorflow" not in done.stderr


def test_a_step_that_is_not_there_is_named_when_the_weights_are_needed(here):
    with pytest.raises(UserError, match="No checkpoint of step 7"):
        tfdet.load("runs/shapes", checkpoint=7).predict(STREET)


def test_mistakes_of_build_are_one_line(here):
    for arguments, message in (
        ({"num_classes": 2, "classes": CLASSES}, "num_classes is 2, but 3 classes are named"),
        ({"num_classes": 0}, "num_classes must be at least 1"),
        ({"bindings": {"RpnHead.channels": object()}}, "give finite numbers, texts, tuples"),
        ({"bindings": {"RpnHead.channels": 0}}, "RpnHead.channels"),
    ):
        with pytest.raises(UserError, match=message):
            tfdet.build("tiny.gin", **arguments)
    with pytest.raises(UserError, match="number of classes is not known"):
        tfdet.build("tiny.gin").predict(STREET)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": True}, "num_classes must be a whole number. Received: True"),
        ({"num_classes": "3"}, "num_classes must be a whole number. Received: '3'"),
        ({"num_classes": 2.5}, "num_classes must be a whole number"),
        ({"classes": "car"}, "classes must be a list of names, .* Received: 'car'"),
        ({"classes": {"a", "b"}}, "classes must be a list of names"),
        ({"classes": [1, 2]}, "classes must be a list of names"),
        ({"classes": []}, "classes must be a list of names"),
        ({"classes": ["a", "b", "a"]}, "classes names 'a' twice"),
        ({"row": None}, "row must be the name of a zoo row"),
        ({"row": []}, "row must be the name of a zoo row"),
        ({"row": [3]}, "row must be a path. Received: 3"),
        ({"row": "include 'x.gin'\n" * 30}, "row .*: File name too long"),
        ({"bindings": 5}, "bindings must be a dictionary of values, or a list of lines. Received: 5"),
        ({"bindings": [("Trainer.steps", 3)]}, "bindings must be a dictionary"),
        ({"bindings": {3: 3}}, "bindings: 3 is not the name of a value"),
        ({"bindings": {"import os\nTrainer.seed": 3}}, "is not the name of a value"),
        ({"bindings": {"AnchorGenerator.scales": {4}}}, "give finite numbers, texts, tuples, lists"),
        ({"bindings": {"Schedule.base_lr": float("nan")}}, "give finite numbers"),
    ],
)
def test_arguments_of_wrong_types_are_one_line(here, arguments, message):
    with pytest.raises(UserError, match=message) as caught:
        tfdet.build(**{"row": "tiny.gin", **arguments})
    assert "\n" not in str(caught.value)


def test_counts_and_names_of_numpy_are_taken(here):
    model = tfdet.build(iter(["tiny.gin"]), num_classes=np.int64(2), classes=np.array(["a", "b"]))
    assert (model.name, model.num_classes, model.classes) == ("tiny", 2, ["a", "b"])
    assert type(model.num_classes) is int and type(model.classes[0]) is str
    assert tfdet.load("runs/shapes", checkpoint=np.int64(2)).step == 2


def test_wrong_types_after_loading_are_one_line(here, trained, tmp_path):
    for call, message in (
        (lambda: tfdet.load(5), "path must be a path. Received: 5"),
        (lambda: tfdet.load("runs/shapes", checkpoint=True), "checkpoint True: give best, last or the step"),
        (lambda: trained.predict(STREET, score_threshold="0.5"), "from 0 to 1. Received: '0.5'"),
        (lambda: trained.predict(None), "image 0 is a NoneType"),
        (lambda: trained.evaluate("data/val", max_images="3"), "max_images must be a whole number. Received: '3'"),
        (lambda: trained.evaluate("data/val", num_samples=-1), "num_samples must be at least 0. Received: -1"),
        (lambda: trained.export(None), "folder must be a path. Received: None"),
        (lambda: trained.export(tmp_path / "a", num_images="2"), "num_images must be a whole number"),
        (lambda: trained.export(tmp_path / "a", images=[]), "no image given"),
        (lambda: trained.save(5), "path must be a path. Received: 5"),
        (lambda: trained.predict(STREET)[0].of_class(["circle"]), "of_class takes names, such as"),
    ):
        with pytest.raises(UserError, match=message):
            call()
    assert not (tmp_path / "a").exists()


def test_no_image_has_no_result(trained):
    assert trained.predict([]) == trained.predict(()) == []


def test_values_of_python_and_lines_of_gin_bind_alike(here):
    values = {"AnchorGenerator.scales": np.array([2, 4]), "EvalInput.data_dir": here / "data", "WIDTH": np.float64(0.5)}
    given = tfdet.build(["tiny.gin"], bindings=values).configuration
    lines = ["AnchorGenerator.scales = [2, 4]", f"EvalInput.data_dir = {str(here / 'data')!r}", "WIDTH = 0.5"]
    assert given.text() == tfdet.build("tiny", bindings=lines).configuration.text()
    assert given.value("AnchorGenerator.scales") == [2, 4]


def test_classes_of_the_data_are_compared_by_name(here, trained, tmp_path):
    other = tmp_path / "other"
    shutil.copytree("data/val", other)
    manifest = Manifest.load(other)
    columns = ("classes", "category_ids", "boxes_per_class")
    dataclasses.replace(manifest, **{name: getattr(manifest, name)[::-1] for name in columns}).write(other)
    plain, turned = (trained.evaluate(data, max_images=2) for data in ("data/val", other))
    assert turned.metrics == pytest.approx(plain.metrics) and turned.classes == plain.classes[::-1]
    dataclasses.replace(manifest, classes=["x", "y", "z"]).write(other)
    with pytest.raises(UserError, match=r"different classes: 3 \(circle, square, triangle\) and 3 \(x, y, z\)"):
        trained.evaluate(other, max_images=1)


def test_thresholds_of_another_checkpoint_are_said(here, trained, caplog):
    report = here / "runs/shapes/report/thresholds.json"
    report.parent.mkdir()
    every = len(trained.predict(STREET, score_threshold=0)[0])
    for step, said in ((trained.step, False), (trained.step + 1, True)):
        report.write_text(json.dumps({"thresholds": dict.fromkeys(CLASSES, 0), "made_for": {"step": step}}))
        caplog.clear()
        assert len(trained.predict(STREET, score_threshold=1, thresholds="report")[0]) == every > 0
        assert ("run tfdet report again" in caplog.text) is said
    report.unlink()
    report.parent.rmdir()
