import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from tests.data.formats import written
from tfdet.data.conversion import read_source
from tfdet.data.formats.recognise import recognise
from tfdet.data.prepare import prepare_record
from tfdet.data.problems import ProblemReport
from tfdet.data.rle import counts_from_string, mask_from_counts
from tfdet.errors import UserError

PHOTO = written.PHOTOS[1]  # 40 high, 60 wide


def png(mask) -> str:
    buffer = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.fixture
def labelme(tmp_path):
    """Reads a folder with one image and its json: labelme(shapes, **fields) -> (annotations, report)."""
    folder = written.pictures(tmp_path / "in", [PHOTO])

    def read(shapes, **fields):
        content = {"version": "5", "imagePath": PHOTO.name, "imageHeight": 40, "imageWidth": 60, "imageData": None}
        (folder / "img_01.json").write_text(json.dumps({**content, "shapes": shapes, **fields}))
        report = ProblemReport()
        return read_source(recognise(folder), report), report

    read.folder = folder
    return read


def shape(kind, points, label="cat", **fields):
    return {"label": label, "shape_type": kind, "points": points, **fields}


def test_every_kind_of_shape(labelme):
    inside = np.array([[0, 1, 1], [1, 1, 0]], bool)
    annotations, report = labelme(
        [
            shape("rectangle", [[50, 30], [10.5, 5]]),
            shape("polygon", [[1, 1], [9, 1], [9, 5]], group_id=7),
            shape("polygon", [[20, 1], [29, 1], [29, 5]], group_id=7),
            shape("polygon", [[1, 1], [9, 1], [9, 5]], "dog", group_id=7),
            shape("circle", [[30, 20], [30, 28]]),
            shape("mask", [[10, 20], [12, 21]], mask=png(inside)),
            shape("point", [[1, 1]]),
        ]
    )
    rectangle, circle, mask, parts, other = annotations.images[0].objects
    assert (rectangle.x, rectangle.y, rectangle.width, rectangle.height) == (10.5, 5, 39.5, 25)
    assert len(parts.segmentation) == 2 and parts.area == 34 and (parts.x, parts.width) == (1, 28)
    assert [other.category_id, parts.category_id] == [2, 1]
    assert circle.area == pytest.approx(np.pi * 64, rel=0.05) and circle.width == pytest.approx(16, rel=0.02)
    drawn = mask_from_counts(counts_from_string(mask.segmentation["counts"]), 40, 60)
    np.testing.assert_array_equal(drawn[20:22, 10:13], inside)
    assert drawn.sum() == mask.area == 4 and (mask.x, mask.y, mask.width, mask.height) == (10, 20, 3, 2)
    assert report.counts() == {"shape without extent": 1}


def test_a_bad_shape_is_named(labelme):
    bad = {
        "is 3, and must be an object": 3,
        "its points 'x' are no list": shape("polygon", "x"),
        "a polygon has at least 3 points, not 2": shape("polygon", [[1, 1], [2, 2]]),
        "a rectangle has 2 points, not 3": shape("rectangle", [[1, 1], [2, 2], [3, 3]]),
        "has no extent": shape("rectangle", [[1, 1], [1, 2]]),
        "shape_type 'heart' is not known": shape("heart", [[1, 1], [2, 2]]),
        "has the radius 0": shape("circle", [[1, 1], [1, 1]]),
        "are no list of [x, y]": shape("polygon", [[1, None], [2, 2], [3, 3]]),
        "its mask ": shape("mask", [[1, 1], [2, 2]], mask="iVBORw0KGgo="),
        "goes over the border": shape("mask", [[59, 1], [61, 2]], mask=png(np.ones((2, 3)))),
        "a mask needs 'mask'": shape("mask", [[1, 1], [2, 2]]),
        "has no class": shape("rectangle", [[1, 1], [5, 5]], None),
    }
    annotations, report = labelme([*bad.values(), shape("rectangle", [[1, 1], [5, 5]])])
    assert len(annotations.images[0].objects) == 1
    reasons = [problem.reason for problem in report.problems]
    for number, text in enumerate(bad, 1):
        assert any(text in reason and reason.startswith(f"shape {number} ") for reason in reasons), (text, reasons)
    with pytest.raises(UserError, match="names no class"):
        labelme([])


def test_the_image_may_be_renamed_missing_or_inside(labelme):
    rectangle = [shape("rectangle", [[1, 1], [5, 5]])]
    annotations, report = labelme(rectangle, imagePath="..\\photos\\old name.jpg")
    assert annotations.images[0].path == labelme.folder / PHOTO.name and not report.problems
    encoded = (labelme.folder / PHOTO.name).read_bytes()
    (labelme.folder / PHOTO.name).unlink()
    written.pictures(labelme.folder / "x", written.PHOTOS[2:3])
    annotations, report = labelme(rectangle, imageData=base64.b64encode(encoded).decode())
    assert annotations.images[0].file_name == PHOTO.name
    assert prepare_record(annotations.images[0]).image.encoded == encoded
    (labelme.folder / "img_01.json").write_text('{"shapes": [], "imageData": 5, "imagePath": "a"}')
    assert "imageData of img_01.json" in prepare_record(annotations.images[0]).problems[0].reason
    (labelme.folder / "other.json").write_text('{"shapes": [], "imageData": 5, "imagePath": "a"')
    with pytest.raises(UserError, match="names no class"):
        labelme(rectangle)
    report = ProblemReport()
    (labelme.folder / "x/img_02.json").write_text(json.dumps({"shapes": rectangle, "imagePath": "img_02.jpg"}))
    read_source(recognise(labelme.folder), report)
    assert report.counts() == {"annotation without image": 1, "unreadable annotation": 1}
    assert re.search("no image 'img_01.jpg' in .* and imageData is empty", report.problems[0].reason)
    assert "no valid JSON" in report.problems[1].reason
