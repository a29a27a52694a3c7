import pytest
from PIL import Image

from tests.data.conftest import jpeg
from tests.data.formats import written
from tfdet.data.conversion import read_source
from tfdet.data.formats.recognise import recognise
from tfdet.data.prepare import prepare_record
from tfdet.data.problems import ProblemReport
from tfdet.errors import UserError

PHOTO = written.PHOTOS[1]  # 40 high, 60 wide
NAMES = "names: [cat, dog]\n"


@pytest.fixture
def yolo(tmp_path):
    """Reads a folder with one image: yolo(label lines, data.yaml) -> (annotations, report)."""
    folder = tmp_path / "in"
    written.pictures(folder / "images", [PHOTO])
    (folder / "labels").mkdir()

    def read(lines, yaml=NAMES, **options):
        (folder / "labels/img_01.txt").write_text(lines)
        (folder / "data.yaml").write_text(yaml) if yaml else (folder / "data.yaml").unlink(missing_ok=True)
        report = ProblemReport()
        return read_source(recognise(folder, "yolo"), report, **options), report

    read.folder = folder
    return read


def test_boxes_polygons_and_key_points(yolo):
    annotations, report = yolo("0 0.5 0.5 0.5 0.25\n1.0  0 0 .5 0 .5 1e0\n\n")
    box, polygon = annotations.images[0].objects
    assert (box.x, box.y, box.width, box.height, box.category_id, box.segmentation) == (15, 15, 30, 10, 1, None)
    assert polygon.segmentation == [[0, 0, 30, 0, 30, 40]] and polygon.area == 600
    assert (polygon.x, polygon.y, polygon.width, polygon.height, polygon.category_id) == (0, 0, 30, 40, 2)
    assert not report.problems
    points = "kpt_shape: [2, 3]\n" + NAMES
    (item,) = yolo("0 0.5 0.5 0.5 0.25 0.1 0.1 2 0.2 0.2 2\n", points)[0].images[0].objects
    assert (item.x, item.width, item.segmentation) == (15, 30, None)


def test_a_bad_line_is_named_with_its_number_and_value(yolo):
    lines = {
        "2 0.5 0.5 0.5 0.25": "class 2, of 2 (0 to 1)",
        "0 0.5 0.5 0.5": "4 numbers; a box has 5",
        "0 0.5 0.5 0.5 0.2 0.9": "is the last one the score",
        "0 320 240 0.5 0.2": "320.0 is not within 0 to 1",
        "0 nan 0.5 0.5 0.2": "'nan' is no number",
        "cat 0.5 0.5 0.5 0.2": "'cat' is no whole number",
        "-1 0.5 0.5 0.5 0.2": "'-1' is no whole number",
        "0 0.5 0.5 0 0.2": "width 0 and height 0.2 have no extent",
    }
    annotations, report = yolo("0 0.5 0.5 0.5 0.25\n" + "\n".join(lines))
    assert len(annotations.images[0].objects) == 1
    assert [problem.file.endswith("img_01.txt") for problem in report.problems] == [True] * len(lines)
    for number, (problem, reason) in enumerate(zip(report.problems, lines.values(), strict=True), 2):
        assert problem.reason.startswith(f"line {number}: ") and reason in problem.reason


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("names: [a, [b]]", "class 1 of 'names' is a list"),
        ("names: {0: a, 2: b}", "no name for class 1"),
        ("names: {x: a}", "'x' is no whole number"),
        ("names: [a, a]", "'a' twice"),
        ("names: 3", "'names' is '3'"),
        ("names: [a\ntrain: x", "data.yaml line 2 is no YAML"),
        ("names: [a]\ntrain: {x: y}", "'train' is a mapping"),
    ],
)
def test_a_bad_data_yaml_is_one_line(yolo, yaml, message):
    with pytest.raises(UserError, match=message) as error:
        yolo("0 .5 .5 .1 .1\n", yaml)
    assert "\n" not in str(error.value)


def test_names_of_classes(yolo):
    assert [c.name for c in yolo("", "names:\n  0: no\n  1: 1.0\n  2: Größe\n")[0].categories] == ["no", "1.0", "Größe"]
    annotations, report = yolo("3 .5 .5 .1 .1\n", "")
    assert [c.name for c in annotations.categories] == ["class 0", "class 1", "class 2", "class 3"]
    assert report.counts(notes=True) == {"classes without names": 1}
    (yolo.folder / "classes.txt").write_text("cat\ndog\n")
    annotations, report = yolo("1 .5 .5 .1 .1\n", "")
    assert [c.name for c in annotations.categories] == ["cat", "dog"] and not report.problems


def test_splits_of_data_yaml_and_images_without_label(tmp_path):
    folder = written.yolo(tmp_path / "in", images="train/images", labels="train/labels")
    (folder / "valid/images").mkdir(parents=True)
    (folder / "train/images/img_00.jpg").rename(folder / "valid/images/img_00.jpg")
    (folder / "train/labels/img_03.txt").unlink()
    (folder / "train/labels/alone.TXT").write_text("0 .5 .5 .1 .1\n")
    listed = "".join(f"./train/images/img_{number:02d}.jpg\n" for number in range(1, 5))
    for yaml, train in (
        ("train: ../train/images\nval: ../valid/images\n", 19), ("train: list.txt\nval: [valid/images]\n", 4),
        ("train: /elsewhere/a\nval: /elsewhere/b\n", 19),
    ):  # fmt: skip
        (folder / "list.txt").write_text(listed)
        (folder / "data.yaml").write_text(f"{yaml}names: [cat, dog, zebra fish]\n")
        report = ProblemReport()
        annotations = read_source(recognise(folder), report)
        splits = [image.split for image in annotations.images]
        assert (splits.count("train"), splits.count("val")) == (train, 1), yaml
        assert report.counts(notes=True) == {"image without annotation file": 1}
        assert "train/images/img_03.jpg" in report.problems[-1].reason
        alone = [problem for problem in report.problems if problem.kind == "annotation without image"]
        assert any("no image 'alone' of any ending" in problem.reason for problem in alone)
        moved = next(image for image in annotations.images if image.split == "val")
        assert len(moved.objects) == len(written.PHOTOS[0].objects), "its label file is the only one of its name"
    annotations = read_source(recognise(folder), report, unlabelled="leave_out")
    assert len(annotations.images) == written.COUNT - 1


def test_one_label_file_serves_one_image(tmp_path):
    for split in ("train", "val"):
        written.pictures(tmp_path / "images" / split, [PHOTO])
    (tmp_path / "labels/train").mkdir(parents=True)
    (tmp_path / "labels/train/img_01.txt").write_text("0 .5 .5 .5 .5\n")
    (tmp_path / "data.yaml").write_text(NAMES)
    annotations = read_source(recognise(tmp_path), ProblemReport())
    assert [(image.split, len(image.objects)) for image in annotations.images] == [("train", 1), ("val", 0)]


def test_boxes_are_parts_of_the_upright_picture(yolo):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying, 60 wide; shown 40 wide
    (yolo.folder / "images/img_01.jpg").write_bytes(jpeg(40, 60, exif=exif))
    (image,) = yolo("0 0.5 0.5 0.5 0.25\n")[0].images
    assert (image.height, image.width) == (60, 40)
    assert (image.objects[0].width, image.objects[0].height) == (20, 15)
    record = prepare_record(image)
    assert (record.image.height, record.image.width) == (60, 40) and len(record.objects) == 1


def test_labelimgs_one_folder_with_its_list_of_classes(tmp_path):
    """More label files than are looked into, and beside them classes.txt, a list and a readme."""
    folder = written.yolo(tmp_path / "in", images="one", labels="one")
    (folder / "data.yaml").unlink()
    for number in range(5):
        written.pictures(folder / "one", written.PHOTOS[number : number + 1])
        (folder / f"one/img_{number:02d}.jpg").rename(folder / f"one/a{number}.jpg")
        (folder / f"one/a{number}.txt").write_text("0 .5 .5 .1 .1\n")
        written.pictures(folder / "one", written.PHOTOS[number : number + 1])
    for name, text in (("classes", "cat\ndog\nzebra fish\n"), ("train", "./a0.jpg\n"), ("readme", "0 boxes\n")):
        (folder / f"one/{name}.txt").write_text(text)
    report = ProblemReport()
    annotations = read_source(recognise(folder), report)
    assert [category.name for category in annotations.categories] == list(written.CLASSES)
    assert len(annotations.images) == written.COUNT + 5 and not report.has_problems
