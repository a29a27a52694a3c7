import os
import re

import pytest

from tfdet.data.annotations import Category
from tfdet.data.formats.coco import read_categories
from tfdet.data.formats.voc import read_voc
from tfdet.data.problems import ProblemReport
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


def files(voc, split, report=None):
    report = report or ProblemReport()
    read = read_voc([(voc.folder, split)], report)
    return [image.file_name for image in read.images], report


def test_lists_name_files_in_many_ways(voc):
    for stem in ("cat", "cat 2", "dog 1", "v1.0", os.fsdecode(b"caf\xe9"), "Gro\u0308\u00dfe"):
        voc(stem, ("cat", 0, 2, 3, 4, 9))
    write = (voc.folder / "ImageSets/Main/train.txt").write_bytes
    for content, expected in (
        (b"\xef\xbb\xbfcat\r\n\r\ndog 1\r\n", ["cat.jpg", "dog 1.jpg"]),
        (b"cat 2\ndog 1", ["cat 2.jpg", "dog 1.jpg"]),
        (b"dog 1\ncat 1\n", ["dog 1.jpg", "cat.jpg"]),  # a flag, where no file is called so
        (b"cat -1\ndog 1  1\nv1.0 0", ["cat.jpg", "dog 1.jpg", "v1.0.jpg"]),
        (b"cat.jpg\nv1.0.JPG\ncat 2.xml", ["cat.jpg", "v1.0.jpg", "cat 2.jpg"]),
        (b"JPEGImages/cat.jpg\nC:\\data\\JPEGImages\\cat 2.jpg", ["cat.jpg", "cat 2.jpg"]),
        (b"JPEGImages/cat 2.jpg Annotations/cat 2.xml", ["cat 2.jpg"]),
        (b"caf\xe9\n", [os.fsdecode(b"caf\xe9.jpg")]),
        ("Gr\u00f6\u00dfe\ncat 2".encode("utf-16"), ["Gro\u0308\u00dfe.jpg", "cat 2.jpg"]),
    ):
        write(content)
        names, report = files(voc, "train")
        assert (names, report.counts()) == (expected, {}), content
    write(b"cat 3\ncat 2\n")
    names, report = files(voc, "train")
    assert names == ["cat 2.jpg"] and report.counts() == {"missing file": 1}, "cat 3 is not cat with a 3"
    assert report.problems[0].file.endswith("cat 3.xml")
    assert len(files(voc, None)[0]) == 6


XML = """<?xml version="1.0" encoding="{}"?>
<annotation xmlns="http://x"><filename>{}</filename><object><name>\u732b</name><difficult>{}</difficult><bndbox><xmin>1</xmin>
<ymin>2</ymin><xmax>5</xmax><ymax>9</ymax></bndbox></object></annotation>"""


def test_annotations_in_every_encoding(voc):
    voc("a", ("cat", 0, 2, 3, 4, 9))
    for declared, stored in (
        ("utf-8", "utf-8-sig"), ("utf-16", "utf-16"), ("utf-8", "utf-16"), ("utf-16", "utf-8"), ("gb2312", "gb2312"),
        ("GBK", "gb18030"), ("euc-jp", "euc_jp"), ("Shift_JIS", "shift_jis"), ("utf-16", "utf-16-le"),
    ):  # fmt: skip
        (voc.folder / "Annotations/a.xml").write_bytes(XML.format(declared, "a.jpg", 0).encode(stored))
        (category,) = read_voc([(voc.folder, None)], ProblemReport()).categories
        assert category.name == "\u732b", (declared, stored)


def test_one_bad_annotation_is_a_finding(voc):
    voc("good", ("cat", 0, 2, 3, 4, 9))
    bad = {
        "a": (b"<annotation>caf\xe9</annotation>", "byte 15 is not of its encoding, utf-8"),
        "b": (
            XML.format("gb2312", "b.jpg", 0).encode("utf-8")[:-20] + b"\xff\xff</annotation>",
            "not of its encoding, gb2312",
        ),
        "c": (b'<?xml version="1.0" encoding="klingon"?><annotation/>', "encoding 'klingon' is not known"),
        "d": (b'<?xml version="1.0" encoding="base64"?><annotation/>', "encoding 'base64' is not known"),
        "e": (b"", "not valid xml"),
        "f": (b"\0\0\0\0", "not valid xml|not of its encoding"),
        "g": (b"<html><body/></html>", "its root is <html>"),
        "h": (b"<a>" * 3000, "not valid xml"),
    }
    for stem, (content, _) in bad.items():
        (voc.folder / f"Annotations/{stem}.xml").write_bytes(content)
    (voc.folder / "Annotations/i.xml").mkdir()
    names, report = files(voc, None)
    assert names == ["good.jpg"]
    assert report.counts() == {"unreadable annotation": 9}
    for problem in report.problems[:8]:
        assert any(re.search(message, problem.reason) for message in [bad[problem.file[-5]][1]]), problem
    assert report.problems[8].reason == "Is a directory"


def test_names_of_images_and_values_of_other_tools(voc):
    for stem in ("a", "b", "c", "d"):
        voc(stem, ("cat", 0, 2, 3, 4, 9))
    images = voc.folder / "JPEGImages"
    (images / "a.jpg").rename(images / "a.JpG")
    (images / "b.jpg").rename(images / "b.WEBP")
    (images / "c.jpg").rename(images / "other.PNG")
    (images / "d.jpg").rename(images / "elsewhere.jpg")
    (images / "alone.bmp").write_bytes(b"")
    (images / "Thumbs.db").write_bytes(b"")
    (voc.folder / "Annotations/c.xml").write_text(
        XML.format("utf-8", "C:\\pictures\\other.PNG", "true"), encoding="utf-8"
    )
    text = (voc.folder / "Annotations/d.xml").read_text().replace("stale.jpg", "./elsewhere.png")
    text = text.replace("<width>60", "<width>\u00b2").replace("<difficult>0", "<difficult>perhaps")
    (voc.folder / "Annotations/d.xml").write_text(text, encoding="utf-8")
    (voc.folder / "Annotations/d.xml").rename(voc.folder / "Annotations/d.XML")
    report = ProblemReport()
    read = read_voc([(voc.folder, None)], report)
    assert [image.file_name for image in read.images] == ["a.JpG", "b.WEBP", "other.PNG", "elsewhere.jpg"]
    assert (read.images[3].width, read.images[3].height) == (0, 40)
    assert [image.objects[0].is_crowd for image in read.images] == [False, False, True, False]
    assert report.counts() == {"unknown flag": 1}
    notes = {problem.kind: problem.reason for problem in report.problems if problem.is_note}
    assert notes["files passed over"] == "1 .db"
    assert notes["image without annotation file"].startswith("3 images have no .xml of their name: alone.bmp, ")


def test_names_that_no_file_can_have_are_missing_files(voc):
    voc("a", ("cat", 0, 2, 3, 4, 9))
    xml = voc.folder / "Annotations/a.xml"
    xml.write_text(xml.read_text().replace("stale.jpg", "x" * 300 + ".jpg"))
    (voc.folder / "JPEGImages/a.jpg").rename(voc.folder / "JPEGImages/b.jpg")
    train = voc.folder / "ImageSets/Main/train.txt"
    for line in ("a," * 200, "a\0b", "c" * 300 + ".jpg"):
        train.write_text(f"a\n{line}\n")
        names, report = files(voc, "train")
        assert names == ["x" * 300 + ".jpg"] and len(report.problems) == 1, line
    for split in ("s" * 300, "a\0b"):
        with pytest.raises(UserError, match="there are: train"):
            read_voc([(voc.folder, split)], ProblemReport())
    with pytest.raises(UserError, match="not a Pascal VOC folder"):
        read_voc([("v" * 300, None)], ProblemReport())


def test_pipes_are_not_waited_for(voc):
    voc("a", ("cat", 0, 2, 3, 4, 9))
    os.mkfifo(voc.folder / "Annotations/x.xml")
    os.mkfifo(voc.folder / "ImageSets/Main/train.txt")
    names, report = files(voc, None)
    assert names == ["a.jpg"] and report.problems[0].reason == "is a pipe, not a file"
    with pytest.raises(UserError, match="no list 'train'"):
        read_voc([(voc.folder, "train")], ProblemReport())
    for name in ("classes.txt", "classes.json"):
        os.mkfifo(voc.folder / name)
        with pytest.raises(UserError, match="is a pipe, not a file"):
            read_categories(voc.folder / name)


def test_boxes_from_0_to_1_are_named(voc):
    voc("a", ("cat", 0, 0.1, 0.2, 0.6, 1), ("cat", 0, 0, 0, 1, 1))
    report = files(voc, None)[1]
    assert report.counts() == {"boxes below one pixel": 1} and "2 of 2 boxes" in report.problems[0].reason
    voc("b", ("cat", 0, 1, 1, 2, 2))
    assert files(voc, None)[1].counts() == {}


def test_one_image_of_two_annotations_is_named(voc):
    voc("a", ("cat", 0, 2, 3, 4, 9))
    text = (voc.folder / "Annotations/a.xml").read_text().replace("stale.jpg", "a.jpg")
    (voc.folder / "Annotations/b.xml").write_text(text)
    (voc.folder / "Annotations/c.xml").write_text(text)
    (voc.folder / "JPEGImages/c.jpg").symlink_to("a.jpg")
    assert files(voc, None)[1].counts() == {"one file under two image ids": 2}
