import json

import pytest

from tfdet.data.coco import read_categories, read_coco
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
