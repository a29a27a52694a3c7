"""Files in the forms of other programs, read back by readers that are not tfdet's."""

from __future__ import annotations

import contextlib
import csv
import json
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import supervision
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from tests.fakes import CATEGORY_IDS, CLASSES, picture
from tests.predict.color_predictor import ColorPredictor
from tfdet.data.formats.voc import read_voc
from tfdet.data.problems import ProblemReport
from tfdet.errors import UserError
from tfdet.predict.found import Found, Labels
from tfdet.predict.polygons import outline, simplified
from tfdet.predict.writers import check_formats, make_writers

BOXES = {0: (10, 8, 41, 47), 2: (60, 4, 127, 63)}
EDGES = [[10, 8, 42, 48], [60, 4, 128, 64]]
EVIL = ["</name>", "a\x1b[31mb\n", '"quoted", ü']


def write(found: Found, folder, *formats: str, **options) -> None:
    with contextlib.ExitStack() as stack:
        writers = make_writers(formats, str(folder), found.labels, stack, **options)
        for writer in writers:
            writer.add(found, 1, "one", "one.png")
        for writer in writers:
            writer.finish()


@pytest.fixture
def image(tmp_path):
    (tmp_path / "images").mkdir()
    pixels = picture(64, 128, BOXES)
    Image.fromarray(pixels).save(tmp_path / "images" / "one.png")
    return pixels


def test_yolo_boxes_and_outlines(image, tmp_path):
    for masks in (False, True):
        found = ColorPredictor(masks)(image, "in/one.png")
        write(found, tmp_path, "yolo")
        read = supervision.DetectionDataset.from_yolo(
            str(tmp_path / "images"), str(tmp_path / "labels"), str(tmp_path / "data.yaml"), force_masks=masks
        )
        assert read.classes == CLASSES
        ((_, pixels, truth),) = read
        assert pixels.shape == image.shape and truth.class_id.tolist() == [0, 2]
        np.testing.assert_allclose(truth.xyxy, EDGES, atol=1.01 if masks else 0.01)
        if masks:
            for mine, theirs in zip(found.masks, truth.mask, strict=True):
                assert (mine & theirs).sum() / (mine | theirs).sum() > 0.93
    (first, *_) = ColorPredictor()(image).to_yolo(scores=True).splitlines()
    assert first.split()[0] == "0" and first.split()[-1] == "1.00000" and len(first.split()) == 6


def test_voc_is_read_as_it_was_meant(image, tmp_path):
    found = ColorPredictor()(image, "in/one.png")
    write(found, tmp_path, "voc")
    # tfdet's own reader of VOC folders, and the plain numbers.
    (tmp_path / "images").rename(tmp_path / "JPEGImages")
    (tmp_path / "annotations").rename(tmp_path / "Annotations")
    read = read_voc([(tmp_path, None)], ProblemReport()).images[0]
    np.testing.assert_allclose(
        [[one.x, one.y, one.width, one.height] for one in read.objects], [[10, 8, 32, 40], [60, 4, 68, 60]]
    )
    root = ElementTree.parse(tmp_path / "Annotations" / "one.xml").getroot()
    assert [int(value.text) for value in root.find("object/bndbox")] == [11, 9, 42, 48]
    assert float(root.find("object/confidence").text) == 1 and root.find("size/width").text == "128"


def test_coco_is_read_by_pycocotools(image, tmp_path):
    write(ColorPredictor(masks=True)(image, "in/one.png"), tmp_path, "coco")
    with contextlib.redirect_stdout(None):
        read = COCO(str(tmp_path / "detections.json"))
    assert [read.cats[number]["name"] for number in sorted(CATEGORY_IDS)] == ["green", "blue", "red"]
    first, second = read.loadAnns(read.getAnnIds(imgIds=[1]))
    assert (first["category_id"], second["category_id"]) == (CATEGORY_IDS[0], CATEGORY_IDS[2])
    np.testing.assert_allclose(second["bbox"], [60, 4, 68, 60])
    assert int(coco_mask.area(first["segmentation"])) == pytest.approx(32 * 40, rel=0.1)


def test_csv_has_a_row_an_object(image, tmp_path):
    write(ColorPredictor()(image, "in/one.png"), tmp_path, "csv")
    rows = list(csv.DictReader(open(tmp_path / "detections.csv", newline="")))
    assert [[float(row[name]) for name in ("x1", "y1", "x2", "y2")] for row in rows] == EDGES
    assert [(row["image"], row["class_name"], row["category_id"]) for row in rows][1] == ("in/one.png", "blue", "13")


def test_names_that_would_break_a_file_do_not(image, tmp_path):
    found = ColorPredictor(classes=EVIL)(image, "in/a&b<\x1b>\udce9.png")
    write(found, tmp_path, "coco", "yolo", "voc", "csv")
    root = ElementTree.parse(tmp_path / "annotations" / "one.xml").getroot()
    assert [one.find("name").text for one in root.iter("object")] == ["</name>", '"quoted", ü']
    assert root.find("filename").text == r"a&b<\x1b>\xe9.png"
    names = (tmp_path / "data.yaml").read_text().splitlines()[2:]
    assert [json.loads(line.partition(": ")[2]) for line in names] == ["</name>", "a\\x1b[31mb\n", '"quoted", ü']
    assert next(csv.DictReader(open(tmp_path / "detections.csv", newline="")))["image"].endswith(r"\xe9.png")
    assert json.loads((tmp_path / "detections.json").read_text())["categories"][1]["name"] == EVIL[1]


def test_nothing_found_is_written_too(tmp_path):
    nothing = ColorPredictor()(np.zeros([20, 30, 3], np.uint8), "one.png")
    write(nothing, tmp_path, "coco", "yolo", "voc", "csv")
    assert (tmp_path / "labels" / "one.txt").read_bytes() == b""
    assert ElementTree.parse(tmp_path / "annotations" / "one.xml").find("object") is None
    assert len((tmp_path / "detections.csv").read_text().splitlines()) == 1


def test_a_table_that_is_given_up_leaves_nothing(image, tmp_path):
    with pytest.raises(RuntimeError), contextlib.ExitStack() as stack:
        (writer,) = make_writers(["csv"], str(tmp_path / "out"), Labels([], []), stack)
        writer.add(ColorPredictor()(image), 1, "one", None)
        raise RuntimeError
    assert list((tmp_path / "out").iterdir()) == []
    with pytest.raises(UserError, match="no format 'coko': give some of coco, yolo, voc, csv"):
        check_formats(["yolo", "coko"])


def test_outlines_are_those_of_the_largest_part_with_few_points():
    mask = np.zeros([40, 60], bool)
    mask[5:30, 10:50] = True
    mask[10:20, 20:30] = False  # a hole
    mask[34:38, 2:6] = True  # another part
    points = outline(mask, left=100, top=200)
    assert 4 <= len(points) <= 8
    np.testing.assert_allclose([*points.min(0), *points.max(0)], [110, 205, 150, 230], atol=0.01)
    assert len(outline(np.zeros([3, 3], bool))) == 0
    angle = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    circle = 50 * np.stack([np.cos(angle), np.sin(angle)], 1)
    few = simplified(circle)
    assert 10 < len(few) < 60
    sides = (few + np.roll(few, -1, 0)) / 2
    assert 50 - np.hypot(*sides.T).min() <= 0.5 + 1e-9, "a chord is nowhere off by more"
