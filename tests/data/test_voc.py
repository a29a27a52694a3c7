import pytest

from tfdet.data.annotations import Category
from tfdet.data.problems import ProblemReport
from tfdet.data.voc import read_voc
from tfdet.errors import UserError

OBJECT = """<object><name>{}</name><difficult>{}</difficult><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax>
<ymax>{}</ymax></bndbox><part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax>
</bndbox></part></object>"""


@pytest.fixture
def voc(tmp_path, make_jpeg):
    """A VOC folder; voc(stem, *(name, difficult, xmin, ymin, xmax, ymax)) adds an annotation and its image."""
    folder = tmp_path / "voc"
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)

    def add(stem, *objects):
        body = "".join(OBJECT.format(*item) for item in objects)
        size = "<size><width>60</width><height>40</height></size>"
        text = f"<annotation><filename>stale.jpg</filename>{size}{body}</annotation>"
        (folder / "Annotations" / f"{stem}.xml").write_text(text)
        (folder / "JPEGImages" / f"{stem}.jpg").write_bytes(make_jpeg(40, 60))

    add.folder = folder
    return add


def test_reads_a_split(voc):
    voc("b", ("dog", 0, 1, 1, 60, 40), ("cat", 1, 5, 6, 10, 20))
    voc("a", ("cat", 0, 2, 3, 4, 9))
    voc("other", ("bird", 0, 2, 3, 4, 9))
    (voc.folder / "ImageSets/Main/train.txt").write_text("b  1\na -1\n")
    report = ProblemReport()
    annotations = read_voc([(voc.folder, "train")], report)
    # classes of the whole folder, so that all splits agree
    assert [(c.id, c.name) for c in annotations.categories] == [(1, "bird"), (2, "cat"), (3, "dog")]
    assert [(image.image_id, image.file_name) for image in annotations.images] == [(1, "b.jpg"), (2, "a.jpg")]
    whole, difficult = annotations.images[0].objects
    # 1-based inclusive corners: the box of the whole picture begins at 0 and is 60 wide
    assert (whole.x, whole.y, whole.width, whole.height, whole.area) == (0, 0, 60, 40, 2400)
    assert (whole.is_crowd, difficult.is_crowd) == (False, True)
    assert not report.problems
    kept = read_voc([(voc.folder, "train.txt")], report, difficult="keep")
    assert not kept.images[0].objects[1].is_crowd
    assert len(read_voc([(voc.folder, None)], report).images) == 3
    by_path = read_voc([(voc.folder, voc.folder / "ImageSets/Main/train.txt")], report)
    assert by_path.images == annotations.images


def test_findings(voc):
    voc("a", ("cat", 0, 5, 6, 5, 6), ("cat", 0, 8, 6, 5, 9), ("bird", 0, 1, 1, 9, 9), ("cat", 0, "x", 1, 9, 9))
    (voc.folder / "Annotations/broken.xml").write_text("<annotation>")
    (voc.folder / "ImageSets/Main/val.txt").write_text("a\na\nmissing\nbroken\n")
    report = ProblemReport()
    annotations = read_voc([(voc.folder, "val")], report, [Category(1, "cat")])
    assert len(annotations.images) == 1 and annotations.images[0].objects == []
    assert report.counts() == {
        "degenerate box": 3, "unknown category": 1, "duplicate image id": 1, "missing file": 1,
        "unreadable annotation": 1,
    }  # fmt: skip
    assert all("a.xml" in p.file for p in report.problems if p.kind == "degenerate box")


def test_wrong_paths(voc, tmp_path):
    with pytest.raises(UserError, match="not a Pascal VOC folder"):
        read_voc([(tmp_path, None)], ProblemReport())
    with pytest.raises(UserError, match="no .xml file|no object"):
        read_voc([(voc.folder, None)], ProblemReport())
    voc("a", ("cat", 0, 2, 3, 4, 9))
    (voc.folder / "ImageSets/Main/val.txt").write_text("a\n")
    with pytest.raises(UserError, match="no list 'train' in .*; there are: val"):
        read_voc([(voc.folder, "train")], ProblemReport())


def test_difficult_counts_by_value(voc):
    values = {"true": True, "1": True, "0": False, "false": False, "": False, "perhaps": False}
    voc("a", *(("cat", value, 5 * n + 1, 1, 5 * n + 4, 9) for n, value in enumerate(values)))
    report = ProblemReport()
    (image,) = read_voc([(voc.folder, None)], report).images
    assert [item.is_crowd for item in image.objects] == list(values.values())
    assert report.counts() == {"unknown flag": 1} and "perhaps" in report.problems[0].reason
