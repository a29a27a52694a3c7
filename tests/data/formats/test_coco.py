import json
import math
import os

import pytest

from tfdet.data.formats.coco import read_categories, read_coco
from tfdet.data.listing import note_unlisted
from tfdet.data.outside import leave_out_outside
from tfdet.data.prepare import prepare_record
from tfdet.data.problems import ProblemReport
from tfdet.errors import UserError


def test_reads_images_boxes_and_classes_in_file_order(make_coco):
    coco = make_coco("set", ((7, "dog"), (3, "cat")))
    coco.image(5).image(2).box(2, (1, 2, 3, 4), 3, area=9.5).box(5, (5, 6, 7, 8), 7, iscrowd=1)
    report = ProblemReport()
    annotations = read_coco([coco.write()], report)
    assert [(c.id, c.name) for c in annotations.categories] == [(7, "dog"), (3, "cat")]
    first, second = annotations.images
    assert (first.image_id, second.image_id) == (5, 2)
    assert first.objects[0].is_crowd and first.objects[0].category_id == 7
    item = second.objects[0]
    assert (item.x, item.y, item.width, item.height, item.area, item.is_crowd) == (1, 2, 3, 4, 9.5, False)
    assert (second.height, second.width, second.path.is_file()) == (40, 60, True)
    assert not report.problems


def test_several_files_make_one_set(make_coco):
    """train2014 with its folder and valminusminival2014, whose images lie in val2014."""
    train, val = make_coco("train2014"), make_coco("val2014")
    train.image(1).box(1, (1, 1, 5, 5))
    val.image(2).box(2, (2, 2, 5, 5))
    annotations = read_coco([train.write(), val.write()], ProblemReport())
    assert [image.image_id for image in annotations.images] == [1, 2]
    assert annotations.images[1].path.parent == val.images_dir
    assert [[item.x for item in image.objects] for image in annotations.images] == [[1], [2]]


def test_files_that_number_their_images_alike_are_renumbered_when_asked(make_coco):
    sources = [make_coco(name).image(1).image(2).box(2, (n, 1, 5, 5)).write() for n, name in ((1, "a"), (2, "b"))]
    with pytest.raises(UserError, match="2 ids to different images .*--renumber"):
        read_coco(sources, ProblemReport())
    report = ProblemReport()
    images = read_coco(sources, report, renumber=True).images
    assert [(image.image_id, [item.x for item in image.objects]) for image in images] == [
        (1, []), (2, [1]), (3, []), (4, [2]),
    ]  # fmt: skip
    assert report.counts() == {} and report.counts(notes=True) == {"image ids renumbered": 1}


def test_two_files_about_the_same_images_are_put_together(coco, tmp_path):
    """Such as one file a class."""
    first = coco.image(1).box(1, (1, 1, 5, 5)).write()
    coco.content["annotations"][0] |= {"bbox": [2, 2, 5, 5], "category_id": 7}
    (tmp_path / "dogs.json").write_text(json.dumps(coco.content))
    report = ProblemReport()
    (image,) = read_coco([first, (tmp_path / "dogs.json", first[1])], report).images
    assert [(item.x, item.category_id) for item in image.objects] == [(1, 3), (2, 7)]
    assert report.counts() == {"image in two annotation files": 1}


def test_findings_name_file_and_reason(coco):
    coco.image(1).box(1, (1, 1, 5, 5), 99).box(44, (1, 1, 5, 5))
    coco.content["annotations"] += [
        {"id": 8, "image_id": 1, "category_id": 3},
        {"id": 9, "image_id": 1, "category_id": 3, "bbox": [1, 2, "x", 4]},
    ]
    report = ProblemReport()
    annotations = read_coco([coco.write()], report)
    assert annotations.images[0].objects == []
    assert report.counts() == {"degenerate box": 2, "unknown category": 1, "annotation without image": 1}
    unknown = next(problem for problem in report.problems if problem.kind == "unknown category")
    assert unknown.file == "0001.jpg" and unknown.image_id == 1 and "99" in unknown.reason


def test_missing_area_and_crowd_have_defaults(coco):
    coco.image(1).box(1, (1, 1, 5, 6))
    del coco.content["annotations"][0]["area"], coco.content["annotations"][0]["iscrowd"]
    item = read_coco([coco.write()], ProblemReport()).images[0].objects[0]
    assert (item.area, item.is_crowd) == (30, False)


def test_wrong_files_are_one_line_errors(coco, make_coco, tmp_path):
    path, images = coco.image(1).write()
    with pytest.raises(UserError, match="nowhere.json"):
        read_coco([(tmp_path / "nowhere.json", images)], ProblemReport())
    with pytest.raises(UserError, match="image folder .*nowhere"):
        read_coco([(path, tmp_path / "nowhere")], ProblemReport())
    broken = tmp_path / "broken.json"
    broken.write_text('{"images": [')
    with pytest.raises(UserError, match="not valid json"):
        read_coco([(broken, images)], ProblemReport())
    for content in ([], {"images": []}, {"images": {}, "categories": []}):
        broken.write_text(json.dumps(content))
        with pytest.raises(UserError, match="not a COCO annotation file"):
            read_coco([(broken, images)], ProblemReport())
    for annotations in (None, 7, {"1": []}):
        broken.write_text(json.dumps({"images": [], "categories": [], "annotations": annotations}))
        with pytest.raises(UserError, match="its 'annotations' is .*must be a list"):
            read_coco([(broken, images)], ProblemReport())
    broken.write_text("[" * 100_000)
    with pytest.raises(UserError, match="nested too deeply"):
        read_coco([(broken, images)], ProblemReport())
    for entry in (3, {"name": "cat"}, {"id": 1.5, "name": "cat"}, {"id": True, "name": "cat"}, {"id": 1, "name": None}):
        broken.write_text(json.dumps({"images": [], "categories": [entry]}))
        with pytest.raises(UserError, match="category .* needs an integer 'id'"):
            read_coco([(broken, images)], ProblemReport())
    broken.write_text(json.dumps({"images": [], "categories": []}))
    for read_it in (read_categories, lambda path: read_coco([(path, images)], ProblemReport())):
        with pytest.raises(UserError, match="broken.json names no category"):
            read_it(broken)
    broken.write_text('{"images": [%s], "categories": []}' % ("7" * 5000))
    with pytest.raises(UserError, match="a number of thousands of digits") as caught:
        read_coco([(broken, images)], ProblemReport())
    assert "sys." not in str(caught.value)
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(UserError, match="pipe.json: is a pipe, not a file"):
        read_coco([(tmp_path / "pipe.json", images)], ProblemReport())
    other = make_coco("other", ((3, "bird"),)).write()
    with pytest.raises(UserError, match="category id 3 is 'bird' here but 'cat' before"):
        read_coco([(path, images), other], ProblemReport())
    twice = make_coco("twice", ((4, "cat"),)).write()
    with pytest.raises(UserError, match="'cat' has the ids 3 and 4"):
        read_coco([(path, images), twice], ProblemReport())


def test_read_categories(coco, tmp_path):
    path, _ = coco.write()
    assert [(c.id, c.name) for c in read_categories(path)] == [(3, "cat"), (7, "dog")]
    names = tmp_path / "names.txt"
    names.write_text("cat\n\ndog\n")
    assert [(c.id, c.name) for c in read_categories(names)] == [(1, "cat"), (2, "dog")]
    names.write_text("cat\ncat\n")
    with pytest.raises(UserError, match="each once"):
        read_categories(names)


def read(coco):
    """The objects of all images and the counts of problems and notes."""
    report = ProblemReport()
    images = read_coco([coco.write()], report).images
    return [item for image in images for item in image.objects], report.counts() | report.counts(notes=True), report


def test_one_id_may_be_written_in_several_ways(coco):
    coco.image(1).box(1, (1, 1, 5, 5)).box(1, (2, 2, 5, 5)).box(1, (3, 3, 5, 5))
    image, boxes = coco.content["images"][0], coco.content["annotations"]
    coco.content["categories"][0]["id"] = "3"
    for written in ("1", 1.0, 1):
        image["id"] = written
        for entry, image_id, category_id in zip(boxes, ("1", 1.0, 1), (3.0, "3", 3), strict=True):
            entry |= {"image_id": image_id, "category_id": category_id}
        items, found, _ = read(coco)
        assert [item.category_id for item in items] == [3, 3, 3] and found == {}


def test_ids_that_are_none_are_named(coco):
    for number in range(1, 7):
        coco.image(number).box(number, (1, 1, 5, 5))
    for entry, value in zip(coco.content["images"], (1.5, True, -1, 2**63, None), strict=False):
        entry["id"] = value
    coco.content["images"] += [7, {"id": 9}, {"id": 10, "file_name": None}, {"id": 11, "file_name": "a\0b"}]
    coco.content["images"].append({"id": 12, "file_name": "\ud800.jpg"})
    coco.content["annotations"][0]["image_id"] = True  # not the image 1
    items, found, report = read(coco)
    assert len(items) == 1 and found == {"unusable image entry": 10, "annotation without image": 5}
    reasons = [problem.reason for problem in report.problems]
    assert "its id 1.5 is no whole number; an id is 0 to 2^63 - 1, or a name" in reasons
    assert any("annotation 1 belongs to image id true" in reason for reason in reasons)


def test_names_as_ids_do_not_meet_numbers(coco):
    coco.image(1).image(2).box(1, (1, 1, 5, 5)).box(2, (2, 2, 5, 5))
    coco.content["images"][0]["id"] = coco.content["annotations"][0]["image_id"] = "first"
    report = ProblemReport()
    first, second = read_coco([coco.write()], report).images
    assert second.image_id == 2 and first.image_id >= 2**52
    assert [image.objects[0].x for image in (first, second)] == [1, 2]
    assert report.counts() == {} and report.counts(notes=True) == {"image id replaced": 1}


def test_an_id_of_two_images_costs_both_their_boxes(coco):
    coco.image(1).image(2).image(1, name="other.jpg").box(1, (1, 1, 5, 5)).box(2, (2, 2, 5, 5))
    items, found, _ = read(coco)
    assert [item.x for item in items] == [2]
    assert found == {"duplicate image id": 2, "annotation without image": 1}
    coco.content["images"][2] = dict(coco.content["images"][0])  # the same image listed twice is one
    items, found, _ = read(coco)
    assert len(items) == 2 and found == {"duplicate image id": 1}


def test_one_file_under_two_ids_is_named(coco):
    coco.image(1).image(2).image(3).box(1, (1, 1, 5, 5))
    coco.content["images"][1]["file_name"] = "./0001.jpg"
    assert read(coco)[1] == {"one file under two image ids": 1}


@pytest.mark.parametrize(
    ("fields", "expected", "found"),
    [
        ({"iscrowd": "0"}, False, {}), ({"iscrowd": "false"}, False, {}), ({"iscrowd": None}, False, {}),
        ({"iscrowd": "1"}, True, {}), ({"iscrowd": True}, True, {}),
        ({"iscrowd": "maybe"}, False, {"unknown flag": 1}), ({"iscrowd": 2}, False, {"unknown flag": 1}),
        ({"ignore": "0", "difficult": 0}, False, {}), ({"ignore": 1}, False, {"flag not read": 1}),
        ({"difficult": "true"}, False, {"flag not read": 1}), ({"ignore": []}, False, {"unknown flag": 1}),
    ],
)  # fmt: skip
def test_flags_count_by_value(coco, fields, expected, found):
    coco.image(1).box(1, (1, 1, 5, 5), **fields)
    (item,), counts, _ = read(coco)
    assert item.is_crowd is expected and counts == found


@pytest.mark.parametrize("area", [0, None, -4, math.nan, math.inf, "large", [], True, 1e300])
def test_the_area_of_a_real_box_is_that_of_the_box_where_it_is_none(coco, area):
    coco.image(1).box(1, (1, 1, 5, 6), area=area)
    (item,), counts, report = read(coco)
    assert item.area == 30 and counts == {"area replaced": 1}
    assert "annotation 1 has area" in report.problems[0].reason


SQUARE = [[10, 5, 30, 5, 30, 25, 10, 25]]
RLE = {"size": [40, 60], "counts": [10 * 40 + 5, 20, 20, 20, 60 * 40 - 10 * 40 - 65]}


@pytest.mark.parametrize("box", [[0, 0, 0, 0], [10, 5, 0, 20], [5, 5, -3, 4], None, [], [1, 2, 3], [math.nan, 0, 5, 5]])
@pytest.mark.parametrize(("mask", "expected"), [(SQUARE, (10, 5, 20, 20)), (RLE, (10, 5, 2, 20))])
def test_a_box_that_is_none_is_taken_from_a_real_mask(coco, box, mask, expected):
    coco.image(1).box(1, (0, 0, 0, 0), segmentation=mask, area=400)
    coco.content["annotations"][0]["bbox"] = box
    (item,), counts, _ = read(coco)
    assert (item.x, item.y, item.width, item.height) == expected and counts == {"box from the mask": 1}


@pytest.mark.parametrize("box", [None, [], "1234", {"a": 1}, [1, 2, True, 4], [1, 2, 3, "x"], 7, [1, 2, 3, 4, 5]])
def test_boxes_that_are_none_are_named(coco, box):
    coco.image(1).box(1, (1, 1, 5, 6), segmentation=[[]])
    coco.content["annotations"][0]["bbox"] = box
    items, counts, _ = read(coco)
    assert items == [] and counts == {"degenerate box": 1}
    coco.content["annotations"][0]["bbox"] = ["1", "2.5", 3, 4]
    assert [(item.x, item.y) for item in read(coco)[0]] == [(1, 2.5)]


def test_what_the_boxes_of_a_file_have_in_common(coco):
    coco.image(1)
    for number in range(4):
        coco.box(1, (0.1 * number, 0.25, 0.25, 0.5))
    _, counts, report = read(coco)
    assert counts == {"boxes below one pixel": 1}
    assert "4 of 4 boxes" in report.problems[0].reason and "0001.jpg" in report.problems[0].reason
    coco.content["annotations"] = []
    coco.box(1, (20, 10, 55, 35)).box(1, (5, 5, 30, 20))  # [x1, y1, x2, y2]
    _, counts, report = read(coco)
    assert counts == {"boxes look like corners": 1} and "annotation 1 of 0001.jpg" in report.problems[0].reason
    coco.box(1, (40, 5, 30, 20))  # x2 would be left of x1
    assert read(coco)[1] == {}


def test_sizes_as_text_are_read_and_others_named(coco):
    coco.image(1).image(2)
    coco.content["images"][0] |= {"height": "40.0", "width": "60"}
    coco.content["images"][1] |= {"height": "tall"}
    report = ProblemReport()
    first, second = read_coco([coco.write()], report).images
    assert (first.height, first.width, second.height, second.width) == (40, 60, 0, 0)
    assert report.counts() == {"image size not read": 1} and "tall" in report.problems[0].reason


@pytest.mark.parametrize("name", ["x" * 300, "a\\" + "x" * 300, "a\\b\0c", "\\".join("x" * 5000)])
def test_names_that_no_file_can_have_are_findings(coco, name):
    coco.image(1).image(2)
    coco.content["images"][1]["file_name"] = name
    report = ProblemReport()
    annotations = leave_out_outside(read_coco([coco.write()], report), [coco.images_dir], report)
    note_unlisted(annotations.images, report)
    problems = [*report.problems, *(p for image in annotations.images for p in prepare_record(image).problems)]
    found = [problem.kind for problem in problems if not problem.is_note]
    assert found in (["unreadable file"], ["unusable image entry"], ["missing file"])


def test_backslashes_in_names_are_read_as_slashes(coco):
    coco.image(1).image(2).image(3)
    (coco.images_dir / "a").mkdir()
    (coco.images_dir / "0002.jpg").rename(coco.images_dir / "a" / "0002.jpg")
    for entry, name in zip(coco.content["images"], ("D:\\x\\0001.jpg", "a\\0002.jpg", "a\\0003.png"), strict=True):
        entry["file_name"] = name
    report = ProblemReport()
    paths = [image.path for image in read_coco([coco.write()], report).images]
    assert [path.relative_to(coco.images_dir).as_posix() for path in paths] == ["0001.jpg", "a/0002.jpg", "a/0003.png"]
    assert report.counts(notes=True) == {"backslashes in a file name": 2}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_json_in_other_encodings(coco, encoding):
    path, images = coco.image(1).box(1, (1, 1, 5, 5)).write()
    path.write_text(path.read_text(), encoding=encoding)
    assert len(read_coco([(path, images)], ProblemReport()).images[0].objects) == 1


def test_a_link_to_an_image_is_the_same_image(coco, tmp_path):
    coco.image(1).image(2)
    path, images = coco.write()
    (images / "0002.jpg").unlink()
    (images / "0002.jpg").symlink_to("0001.jpg")
    report = ProblemReport()
    read_coco([(path, images)], report)
    assert report.counts() == {"one file under two image ids": 1}
