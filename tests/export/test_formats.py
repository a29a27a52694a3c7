"""ONNX, LiteRT and OpenVINO: written, run by their own programs, and compared with the detector they are of."""

import dataclasses
import functools
import importlib.util
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import tfdet
from tests.export.conftest import CARD, RESIZE
from tests.fakes import CATEGORY_IDS, CLASSES, ColorDetector, MaskedColorDetector, picture
from tfdet.data.resize import Resize
from tfdet.errors import UserError
from tfdet.export.check import Measured
from tfdet.export.formats import FORMATS, Format, check_format
from tfdet.export.formats.graph import Canvas, check_canvas, on_canvas, parse_canvas, square_canvas
from tfdet.export.formats.predictor import GraphPredictor
from tfdet.export.model_card import read_card
from tfdet.export.run import Compared, ExportDiffersError, Target, export_and_compare
from tfdet.predict.found import Labels

ROOT = Path(__file__).parents[2]
LABELS = Labels(CLASSES, CATEGORY_IDS)
PICTURES = [
    picture(32, 48, {2: (4, 6, 27, 29)}),
    picture(192, 128, {0: (20, 30, 99, 149), 1: (5, 2, 60, 25)}),
    picture(64, 64, {}),
]
ENCODED = [tf.io.encode_png(image).numpy() for image in PICTURES]


class Flat(MaskedColorDetector):
    """Without a convolution."""

    def call(self, images):
        pixels = tf.reshape(tf.cast(images, tf.float32), [-1, 3])
        return tf.reshape(tf.matmul(pixels, self.mix.kernel[0, 0]), tf.shape(images))


class EightBits(ColorDetector):
    """Whose convolution is named as one that is stored in 8 bits, and does not give multiples of 1 / 255."""

    def __init__(self):
        super().__init__()
        self.mix.kernel.assign(self.mix.kernel * 0.9 + 0.03 / 255.0)

    def call(self, images):
        with tf.name_scope("backbone"):
            return super().call(images)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """`written(format)`: the folder of the detector with masks in that format, written once, and the `Export`."""

    @functools.cache
    def write(name):
        folder = tmp_path_factory.mktemp("formats") / name
        compared = Compared(ENCODED, "pictures")
        target = Target(str(folder), name)
        return folder, export_and_compare(Flat(), LABELS, RESIZE, target, compared, CARD)

    return write


# OpenVINO 2026.4 reads memory that is not this small graph's; of real detectors it does not: `test_detectors.py`.
@pytest.mark.parametrize("name", ["onnx", "litert"])
def test_each_program_finds_what_the_detector_finds(written, name):
    """Masks too; on LiteRT's canvas as on images of any size."""
    folder, done = written(name)
    (difference,) = done.differences
    assert done.passed and done.num_detections == 3 and difference.mask == 0.0 and difference.box < 1e-3
    assert done.bytes == sum(path.stat().st_size for path in folder.glob("model.*"))
    canvas = square_canvas(RESIZE) if name == "litert" else None
    session = FORMATS[name].module(name).Session(folder / FORMATS[name].file, threads=1)
    predict = GraphPredictor(session, RESIZE, canvas, LABELS)
    found = predict(PICTURES[1])
    opened = tfdet.load(folder)
    (again,) = opened.predict(PICTURES[1])
    np.testing.assert_array_equal(again.boxes, found.boxes)
    np.testing.assert_array_equal(again.mask_probabilities, found.mask_probabilities)
    assert opened.format == name and opened.classes == LABELS.classes and again.labels == found.labels
    assert found.class_ids.tolist() == [0, 1] and predict.unclean == 0
    np.testing.assert_allclose(found.boxes, [[20, 30, 100, 150], [5, 2, 61, 26]], atol=2.1)
    card = read_card(folder)
    assert card["format"] == {
        "name": name,
        "title": FORMATS[name].title,
        "precision": "float32",
        "canvas": None if canvas is None else list(canvas),
        "bytes": done.bytes,
    }
    assert card["verification"]["passed"] and card["verification"]["detections"] == 3
    labels = json.loads((folder / "labels.json").read_text())
    assert labels["classes"][0] == {"id": 1, "name": "red", "category_id": 90}
    assert labels["canvas"] == card["format"]["canvas"]
    with pytest.raises(UserError, match="not empty"):
        export_and_compare(ColorDetector(), LABELS, RESIZE, Target(str(folder), name), None, CARD)


def test_an_export_that_cannot_be_opened_is_one_line(written, tmp_path, monkeypatch):
    folder = shutil.copytree(written("onnx")[0], tmp_path / "copy")
    content = json.loads((folder / "labels.json").read_text())
    for wrong, said in (({"resize": "other"}, "'resize' must be one of"), ({"canvas": [5]}, "two whole numbers")):
        (folder / "labels.json").write_text(json.dumps(content | wrong))
        with pytest.raises(UserError, match=said):
            tfdet.load(folder)
    (folder / "labels.json").unlink()
    with pytest.raises(UserError, match="labels.json not found: it says the classes and the resize"):
        tfdet.load(folder)
    (folder / "labels.json").write_text(json.dumps(content))
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:1000])
    with pytest.raises(UserError, match="cannot load .*model.onnx: .*copy it again"):
        tfdet.load(folder)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"model.onnx needs onnxruntime: pip install 'tfdet\[onnx\]'"):
        tfdet.load(folder)


def test_int8_is_measured_on_images_and_judged_by_ap(tmp_path):
    noisy = picture(100, 128, {0: (20, 30, 99, 79), 1: (5, 2, 60, 25), 2: (90, 70, 120, 95)}, noise_seed=1)
    images = [tf.io.encode_png(noisy).numpy()]
    target = Target(str(tmp_path / "out"), "litert", "int8")
    done = export_and_compare(EightBits(), LABELS, RESIZE, target, Compared(images, "", calibration=images), CARD)
    (difference,) = done.differences
    assert done.passed and not done.judged and difference.missing == difference.extra == 0
    assert 1e-6 < difference.score < 0.01  # a 255th
    with pytest.raises(UserError, match="needs images to calibrate on"):
        export_and_compare(
            EightBits(), LABELS, RESIZE, dataclasses.replace(target, folder=str(tmp_path / "no")), None, CARD
        )
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_export_that_differs_or_pads_with_anything_is_refused(tmp_path, monkeypatch):
    module = FORMATS["litert"].module("litert")

    class Session:
        def __init__(self, path):
            pass

        def __call__(self, feeds):
            rows = {"detection_boxes": (3, 4), "detection_classes": (3,), "detection_scores": (3,)}
            found = {name: np.zeros([1, *shape], np.float32) for name, shape in rows.items()}
            found["detection_scores"][0, 2] = 0.5
            return found | {"num_detections": np.zeros([1], np.int32)}

    monkeypatch.setattr(module, "write", lambda detector, path, *_: open(path, "wb").close())
    monkeypatch.setattr(module, "Session", Session)
    target = Target(str(tmp_path / "out"), "litert")
    with pytest.raises(ExportDiffersError) as caught:
        export_and_compare(ColorDetector(), LABELS, RESIZE, target, Compared(ENCODED, ""), CARD)
    (difference,) = caught.value.export.differences
    assert difference.missing == 3 and difference.extra == 3
    assert "do not use it" in (tmp_path / "out" / "MODEL_CARD.md").read_text()


def test_ap_that_is_lost_is_a_failure():
    figures = {"AP": 0.5, "AP50": 0.7, "AP75": 0.6}
    one = Measured("data", 9, figures, {**figures, "AP": 0.4901})
    assert one.passed and one.line() == "AP of the checkpoint 50.0, of the export 49.0, on 9 images"
    assert not dataclasses.replace(one, export={**figures, "AP": 0.489}).passed
    masks = dataclasses.replace(one, checkpoint_masks=figures, export_masks={**figures, "AP": 0.3})
    assert masks.points_lost == pytest.approx(20) and not masks.passed


def test_an_image_is_put_on_a_canvas_as_evaluation_resizes_it():
    placed, info = on_canvas(PICTURES[1], Resize(64, 128), Canvas(128, 128))
    assert placed.shape == (1, 128, 128, 3) and not placed[0, :, 86:].any() and placed[0, :96, :64].any()
    assert info[0, 0].tolist() == [192, 128] and info[0, 1].tolist() == [96, 64] and info[0, 2].tolist() == [0.5, 0.5]
    small, info = on_canvas(PICTURES[1], Resize(64, 128), Canvas(40, 40))  # it would not fit
    assert small.shape == (1, 40, 40, 3) and info[0, 1].max() <= 40 and info[0, 1, 0] >= 38
    np.testing.assert_allclose(info[0, 2], info[0, 1, 0] / 192, rtol=0.03)


def test_arguments_are_checked(monkeypatch):
    assert parse_canvas("320x416") == (320, 416) == check_canvas("onnx", (320, 416))
    for text in ("320", "0x3", "axb", "3x4x5", "-1x5", "٣x٣"):
        with pytest.raises(UserError, match="give height and width"):
            parse_canvas(text)
    with pytest.raises(UserError, match="a SavedModel takes images of any size"):
        check_canvas("saved_model", (3, 4))
    with pytest.raises(UserError, match="expected one of saved_model, onnx"):
        check_format("coreml", "float32")
    with pytest.raises(UserError, match="onnx is written in float32. Received: --precision int8"):
        check_format("onnx", "int8")
    absent = Format("X", "x", ("tfdet_absent",), "tfdet_absent", ("float32",), False)
    with pytest.raises(UserError, match=r"needs tfdet_absent: pip install 'tfdet\[onnx\]'"):
        absent.module("onnx")


def blocks_of(path, of):
    """The Python examples of a page that import `of`."""
    found = re.findall(r"```python\n(.*?)```", (ROOT / path).read_text(), re.DOTALL)
    return [block for block in found if f"import {of}" in block or f"from {of}" in block]


@pytest.mark.parametrize(("name", "package"), [("litert", "ai_edge_litert"), ("onnx", "onnxruntime")])
def test_the_example_of_the_docs_runs_without_tfdet(written, name, package, tmp_path, monkeypatch, capsys):
    (tmp_path / "exported").mkdir()
    (tmp_path / "exported" / name).symlink_to(written(name)[0])
    Image.fromarray(PICTURES[1]).save(tmp_path / "picture.jpg", quality=95)
    monkeypatch.chdir(tmp_path)
    (example,) = blocks_of("docs/exports.md", package)
    assert "tfdet" not in example
    exec(compile(example, "docs/exports.md", "exec"), {})  # noqa: S102  our own page
    shown = capsys.readouterr().out
    if name == "litert":
        assert [line.split()[0] for line in shown.splitlines()] == ["red", "green"]
        box = np.array(re.search(r"\[(.*)\]", shown)[1].split(), float)
        np.testing.assert_allclose(box, [30, 20, 150, 100], atol=4)
    else:
        assert "[2]" in shown
