"""The page of a data set and of predictions: what is on it, what is found, what hostile names do to it."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from tests.data.test_near_duplicates import encoded, photo
from tfdet.commands import main
from tfdet.data.annotations import AnnotationSet, Category, ImageAnnotation, ObjectAnnotation
from tfdet.data.convert import convert
from tfdet.data.problems import ProblemReport
from tfdet.errors import UserError
from tfdet.report.browse import findings
from tfdet.report.browse.choice import choose
from tfdet.report.browse.collection import Collection, Objects, Picture
from tfdet.report.browse.run import browse
from tfdet.report.browse.shapes import outline, simplified

HOSTILE = "</script><img src=x onerror=alert(1)>"


def write_split(
    folder, seeds, name="a.jpg", class_name="cat", first_id=1, boxes=((10, 10, 50, 40, 1), (60, 30, 20, 20, 2))
):
    images = []
    for number, seed in enumerate(seeds):
        objects = [ObjectAnnotation(*box[:4], box[4], box[2] * box[3]) for box in boxes]
        objects[0] = ObjectAnnotation(*boxes[0], 1000.0, False, [[10.0, 10, 60, 10, 60, 50]])
        file = f"{seed}{name}"
        images.append(
            ImageAnnotation(first_id + number, file, None, 120, 160, objects, encoded(photo(seed, (160, 120))))
        )
    classes = [Category(1, class_name), Category(2, "dog")]
    convert(AnnotationSet(classes, images), folder, folder.name, "test", ProblemReport(), num_workers=0)
    return folder


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    root = tmp_path_factory.mktemp("browse")
    train = write_split(root / "train", [1, 2, 3], HOSTILE, HOSTILE)
    val = write_split(root / "val", [3, 4], HOSTILE, HOSTILE, first_id=10)
    return train, val


def data_of(path):
    """What the script of a page reads, by the rule by which a browser ends a script."""
    text = path.read_text()
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])


def test_page_of_two_splits(splits, tmp_path):
    page = tmp_path / "page.html"
    made = browse(splits, output=page)
    data = data_of(page)
    assert (made.num_pictures, made.num_shown, made.num_near_across) == (5, 5, 1)
    assert made.problems == {findings.SAME_IN_SPLITS: 2}
    assert data["splits"] == ["train", "val"] and [own["name"] for own in data["classes"]] == [HOSTILE, "dog"]
    assert [(image["f"], image["w"], image["h"]) for image in data["images"]][0] == ("1" + HOSTILE, 160, 120)
    kind, box, area, score, remark, path = data["images"][0]["t"][0]
    assert (kind, box, area, score, remark) == (0, [10, 10, 50, 40], 1000, -1, "")
    assert path == "M10 10L60 10L60 50Z" and data["images"][0]["t"][1][5] == ""
    assert data["groups"][0]["images"] == [2, 3] and data["groups"][0]["exact"] and data["groups"][0]["across"]
    picture = Image.open(io.BytesIO(base64.b64decode(data["images"][0]["u"].partition(",")[2])))
    assert picture.size == (160, 120)


def test_hostile_names_stay_text_and_nothing_is_fetched(splits, tmp_path):
    page = tmp_path / "page.html"
    browse(splits[0], output=page)
    text = page.read_text()
    assert "<img src=x" not in text and "&lt;img src=x" in text
    assert text.count("</script>") == 2, "of the data and of the script"
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)""", text)
    assert "default-src 'none'" in text


def test_predictions_are_compared_with_the_labels(splits, tmp_path):
    records = [
        {"image_id": 10, "category_id": 1, "bbox": [11, 10, 50, 40], "score": 0.9},
        {"image_id": 10, "category_id": 1, "bbox": [10, 11, 50, 40], "score": 0.8},
        {"image_id": 10, "category_id": 1, "bbox": [60, 30, 20, 20], "score": 0.7},
        {"image_id": 10, "category_id": 2, "bbox": [100, 80, 20, 20], "score": 0.6},
        {"image_id": 10, "category_id": 2, "bbox": [100, 80, 20, 20], "score": 0.1},
        {"image_id": 99, "category_id": 2, "bbox": [100, 80, 20, 20], "score": 0.6},
    ]
    file, page = tmp_path / "results.json", tmp_path / "page.html"
    file.write_text(json.dumps(records))
    made = browse(splits[1], file, page, compare=False)
    assert made.num_others == 1
    assert made.problems == {
        findings.MISSED: 2, findings.FOUND_TWICE: 1, findings.NOT_THERE: 1, findings.WRONG_CLASS: 1
    }  # fmt: skip
    found = data_of(page)["images"][0]["d"]
    assert [own[4].split(":")[0] for own in found] == [
        "",
        findings.FOUND_TWICE,
        findings.WRONG_CLASS,
        findings.NOT_THERE,
        "",
    ]
    file.write_text(json.dumps([{**record, "category_id": record["category_id"] - 1} for record in records]))
    with pytest.raises(UserError, match="add 1 to each"):
        browse(splits[1], file, page)


def test_page_of_predictions_alone(tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    photo(5).save(tmp_path / "photos" / "5.png")
    image = {"file_name": "elsewhere/5.png", "width": 320, "height": 240}
    content = {
        "images": [{"id": 1, **image}, {"id": 2, **image, "file_name": "gone.png"}],
        "categories": [{"id": 3, "name": "cat"}],
        "annotations": [{"image_id": 1, "category_id": 3, "bbox": [1, 2, 30, 40], "score": 0.5}],
    }
    file, page = tmp_path / "detections.json", tmp_path / "page.html"
    file.write_text(json.dumps(content))
    flags = ["browse", f"--predictions={file}", f"--images={tmp_path / 'photos'}", f"--output={page}"]
    assert main(flags) == 0
    assert "all 2 pictures" in capsys.readouterr().out
    shown, gone = data_of(page)["images"]
    assert shown["u"].startswith("data:image/jpeg") and shown["d"][0][:4] == [0, [1, 2, 30, 40], 1200, 0.5]
    assert gone["u"] == "" and "--images" in gone["p"][0][1]
    for broken in ("{}", "[]", '{"annotations": [{"image_id": "x"}], "images": []}', "nothing"):
        file.write_text(broken)
        assert main(flags) == 2
    assert main(["browse", f"--output={page}"]) == 2 and main([*flags, "--limit=0"]) == 2


def made_of(problems, classes=None, duplicates=()):
    pictures = []
    for number, own in enumerate(problems):
        kinds = np.array([0 if classes is None else classes[number]])
        truth = Objects(np.array([[1.0, 1, 5, 5]]), kinds, np.array([25.0]), np.array([False]))
        pictures.append(
            Picture(0, number, number, f"{number}.jpg", 10, 10, truth, problems=[(kind, "") for kind in own])
        )
    return Collection("set", ["set"], ["a", "b", "c"], pictures, lambda chosen, side: iter(()), [], list(duplicates))


def test_choice_shows_rare_problems_and_rare_classes_and_others():
    problems = [["often"]] * 500 + [["rare"]] * 3 + [[]] * 500
    classes = [0] * 900 + [1] * 2 + [0] * 101
    chosen = choose(made_of(problems, classes), 40)
    assert len(chosen) == 40 == len(set(chosen)) and chosen == sorted(chosen)
    assert {500, 501, 502, 900, 901} <= set(chosen)
    assert sum(number < 500 for number in chosen) <= 30 and sum(number > 502 for number in chosen) >= 8
    assert choose(made_of([[]] * 7), 40) == list(range(7))


def test_boxes_upon_boxes():
    boxes = np.array([[10.0, 10, 20, 20], [10, 10, 20, 21], [10.5, 10, 20, 20], [100, 10, 20, 20]])
    truth = Objects(boxes, np.array([0, 0, 1, 0]), boxes[:, 2] * boxes[:, 3], np.zeros(4, bool))
    collection = Collection(
        "set", ["set"], ["a", "b"], [Picture(0, 0, 1, "1.jpg", 90, 200, truth)], lambda *_: iter(())
    )
    findings.find_problems(collection, 0.3)
    assert [kind for kind, _ in collection.pictures[0].problems] == [findings.TWO_BOXES, findings.TWO_CLASSES]


def test_outlines_follow_masks_within_a_pixel():
    angles = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    circle = np.stack([50 + 40 * np.cos(angles), 50 + 30 * np.sin(angles)], axis=1)
    few = simplified(circle, 0.7)
    assert 8 < len(few) < 40 and all(point in circle.tolist() for point in few.tolist())
    mask = np.zeros([40, 60], bool)
    mask[10:30, 20:50] = True
    counts = [20 * 40 + 10, *[20, 20] * 29, 20, 40 * 10 + 10]
    assert sum(counts) == mask.size
    path = outline({"size": [40, 60], "counts": counts}, 40, 60, 0.5)
    assert sorted(re.findall(r"\d+ \d+", path)) == ["10 15", "10 5", "25 15", "25 5"]
    assert outline([[1, 2, 3]], 40, 60, 1.0) == "" and outline(None, 40, 60, 1.0) == ""
