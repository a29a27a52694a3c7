"""Pictures and json of predictions, over readable and unreadable files."""

import io
import json

import numpy as np
import pytest
import rich.console
from PIL import Image

from tests.fakes import CATEGORY_IDS, CLASSES, ColorDetector, MaskedColorDetector, picture
from tfdet.data.resize import Resize
from tfdet.errors import UserError
from tfdet.predict.files import picture_names, predict_files
from tfdet.predict.predictors import CheckpointPredictor


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


def run(predictor, files, output, threshold=0.3):
    console = rich.console.Console(file=io.StringIO(), width=200)
    summary = predict_files(predictor, [str(file) for file in files], str(output), threshold, console)
    return summary, console.file.getvalue(), json.loads((output / "detections.json").read_text())


def test_pictures_and_json(predictor, folder):
    output = folder / "out"
    files = [folder / name for name in ("one.png", "broken.jpg", "turned.jpg", "absent.jpg")]
    summary, text, content = run(predictor, files, output)
    assert summary.num_images == 2 and summary.num_detections == 4
    assert summary.failed == [str(folder / "broken.jpg"), str(folder / "absent.jpg")]
    assert "broken.jpg" in text and "absent.jpg" in text and text.count("skipped") == 2
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
    summary, _, content = run(predictor, [folder / "one.png"], folder / "out", threshold=0.9)
    assert summary.num_detections == 1 and len(content["annotations"]) == 1


def test_names_do_not_collide(folder):
    names = picture_names(["a/x.jpg", "b/x.JPEG", "c/x.png", "d/x.webp", "e/X.tif"], "out")
    assert names == ["out/x.jpg", "out/x_2.jpg", "out/x.png", "out/x_3.jpg", "out/X_4.jpg"]


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
