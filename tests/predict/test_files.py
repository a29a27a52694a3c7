"""Pictures and json of predictions, over readable and unreadable files."""

import io
import json

import numpy as np
import pytest
import rich.console
from PIL import Image

from tests.fakes import CATEGORY_IDS, CLASSES, ColorDetector, MaskedColorDetector, picture
from tests.fetch.server import serving
from tfdet.data.resize import Resize
from tfdet.errors import UserError
from tfdet.predict.files import Output, picture_names, predict_files
from tfdet.predict.finder import Finder
from tfdet.predict.predictors import CheckpointPredictor
from tfdet.predict.thresholds import Thresholds


@pytest.fixture(scope="module")
def predictor():
    return CheckpointPredictor(ColorDetector(), Resize(64, 128), CLASSES, CATEGORY_IDS)


@pytest.fixture
def folder(tmp_path):
    image = picture(64, 128, {0: (10, 8, 41, 47), 2: (60, 4, 99, 43)})
    Image.fromarray(image).save(tmp_path / "one.png")
    # The same picture lying on its side with an EXIF note: people see it upright, and so are the boxes.
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(image)).save(tmp_path / "turned.jpg", exif=exif, quality=95, subsampling=0)
    (tmp_path / "broken.jpg").write_bytes(b"not an image")
    return tmp_path


def run(predictor, files, output, threshold=0.3, **options):
    console = rich.console.Console(file=io.StringIO(), width=80)
    finder = Finder(predictor, Thresholds(threshold))
    summary = predict_files(finder, [str(file) for file in files], Output(str(output), **options), console)
    content = output / "detections.json"
    return summary, console.file.getvalue(), json.loads(content.read_text()) if content.exists() else None


def test_pictures_and_json(predictor, folder):
    output = folder / "out"
    files = [folder / name for name in ("one.png", "broken.jpg", "turned.jpg", "absent.jpg")]
    summary, text, content = run(predictor, files, output)
    assert summary.num_images == 2 and summary.num_detections == 4
    assert summary.failed == [str(folder / "broken.jpg"), str(folder / "absent.jpg")]
    assert "broken.jpg" in text and "absent.jpg" in text and text.count("skipped") == 2
    lines = text.splitlines()
    assert len(lines) == 4 and "one.png: 1 red, 1 blue" in lines[0] and lines[2].startswith("3/4 ")
    assert max(len(line) for line in lines if "skipped" not in line) <= 80
    assert summary.written == ["detections.json", "2 pictures"]
    assert sorted(path.name for path in output.iterdir()) == ["detections.json", "one.png", "turned.jpg"]

    assert content["categories"] == [{"id": number, "name": name} for number, name in zip(CATEGORY_IDS, CLASSES)]
    assert [(image["id"], image["width"], image["height"]) for image in content["images"]] == [
        (1, 128, 64),
        (3, 128, 64),
    ]
    first, second, turned, _ = content["annotations"]
    assert first["class_name"] == "red" and first["category_id"] == 90 and first["image_id"] == 1
    np.testing.assert_allclose(first["bbox"], [10, 8, 32, 40], atol=0.01)
    assert second["class_name"] == "blue" and first["score"] > second["score"] > 0.5
    np.testing.assert_allclose(turned["bbox"], first["bbox"], atol=1.1)

    drawn, original = (np.array(Image.open(path)).astype(int) for path in (output / "one.png", folder / "one.png"))
    assert drawn.shape == original.shape
    assert (drawn[8, 10:42] != original[8, 10:42]).any(-1).all(), "a line runs along the box"


def test_threshold_leaves_out(predictor, folder):
    summary, _, content = run(predictor, [folder / "one.png"], folder / "out", threshold=0.9, pictures=False)
    assert summary.num_detections == 1 and len(content["annotations"]) == 1
    assert "picture" not in content["images"][0] and not (folder / "out/one.png").exists()


def test_names_do_not_collide(folder):
    names = picture_names(["a/x.jpg", "b/x.JPEG", "c/x.png", "d/x.webp", "e/X.tif"], "out")
    assert names == ["out/x.jpg", "out/x_2.jpg", "out/x.png", "out/x_3.jpg", "out/X_4.jpg"]
    names = picture_names(["http://h/a/x.png?y=/z.gif", "https://h", "x.mov", "x.AVI", "camera:0"], "out")
    assert names == ["out/x.png", "out/image.jpg", "out/x.mp4", "out/x_2.mp4", "out/camera_0.mp4"]


def test_every_image_has_a_label_file_of_its_own(predictor, folder):
    Image.open(folder / "one.png").save(folder / "one.jpg")
    files = [folder / "one.png", folder / "one.jpg"]
    summary, _, content = run(predictor, files, folder / "out", formats=["yolo", "voc", "csv"], pictures=False)
    assert content is None and summary.written == ["labels/", "annotations/", "detections.csv"]
    written = sorted(str(path.relative_to(folder / "out")) for path in (folder / "out").rglob("*.*"))
    assert written == [
        "annotations/one.xml", "annotations/one_2.xml", "data.yaml", "detections.csv", "labels/one.txt",
        "labels/one_2.txt",
    ]  # fmt: skip


def test_an_image_of_the_web(predictor, folder, monkeypatch):
    with serving() as web:
        web.files = {"/one.png": (folder / "one.png").read_bytes(), "/page": b"<html>"}
        names = ("/one.png", "/page", "/absent.png")
        assert not run(predictor, [web.address("/one.png")], folder / "out")[0].num_images, "TFDET_OFFLINE"
        monkeypatch.delenv("TFDET_OFFLINE")
        summary, text, content = run(predictor, map(web.address, names), folder / "out")
    assert summary.num_images == 1 and len(content["annotations"]) == 2
    assert "is not an image of a known kind" in text and "the server answers 404" in text


def test_an_image_of_the_web_is_not_endless(predictor, folder, monkeypatch):
    monkeypatch.delenv("TFDET_OFFLINE")
    monkeypatch.setattr("tfdet.predict.remote.MAX_BYTES", 1000)
    with serving() as web:
        _, text, _ = run(predictor, [web.address()], folder / "out")
    assert "it has more than 0 MB" in text


def test_inputs_are_never_replaced(predictor, folder):
    before = (folder / "one.png").read_bytes()
    with pytest.raises(UserError, match="would replace an input"):
        run(predictor, [folder / "one.png"], folder)
    assert (folder / "one.png").read_bytes() == before


def test_unwritable_output_is_one_line(predictor, folder):
    with pytest.raises(UserError, match="cannot write"):
        run(predictor, [folder / "one.png"], folder / "broken.jpg" / "out")


def test_a_model_without_labels_gives_its_own_numbers(folder):
    bare = CheckpointPredictor(ColorDetector(), Resize(64, 128), [], [])
    _, _, content = run(bare, [folder / "one.png"], folder / "out")
    assert content["categories"] == [{"id": 1, "name": "class 1"}, {"id": 3, "name": "class 3"}]


def test_masks_are_drawn_and_written_as_run_lengths(folder):
    from pycocotools import mask as coco_mask

    masked = CheckpointPredictor(MaskedColorDetector(), Resize(64, 128), CLASSES, CATEGORY_IDS)
    _, _, content = run(masked, [folder / "one.png"], folder / "out")
    assert len(content["annotations"]) == 2
    for entry in content["annotations"]:
        x, y, width, height = entry["bbox"]
        assert entry["segmentation"]["size"] == [64, 128]
        inside = np.argwhere(coco_mask.decode(entry["segmentation"]))
        expected = [y, x, y + height - 1, x + width / 2]
        np.testing.assert_allclose([*inside.min(axis=0), *inside.max(axis=0)], expected, atol=2.1)
    drawn = np.asarray(Image.open(folder / "out" / "one.png"))
    plain = np.asarray(Image.open(folder / "one.png"))
    assert (drawn[27, 15] != plain[27, 15]).any() and (drawn[27, 36] == plain[27, 36]).all()
