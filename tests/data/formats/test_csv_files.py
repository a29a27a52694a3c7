import pytest

from tests.data.formats import written
from tfdet.data.conversion import read_source
from tfdet.data.formats.columns import of_header
from tfdet.data.formats.recognise import recognise
from tfdet.data.problems import ProblemReport
from tfdet.errors import UserError

PHOTO = written.PHOTOS[1]  # 40 high, 60 wide


@pytest.mark.parametrize(
    ("header", "row", "box"),
    [
        ("filename,xmin,ymin,xmax,ymax,class", "{},6,4,36,24,cat", (6, 4, 30, 20)),
        ("Image Name;x;y;width;height;Label", "{};6;4;30;20;cat", (6, 4, 30, 20)),
        ("path\tcx\tcy\tw\th\tclass_name", "a/b/{}\t21\t14\t30\t20\tcat", (6, 4, 30, 20)),
        ("image_id,width,height,bbox,source", '{},60,40,"[6.0, 4.0, 30, 20]",x', (6, 4, 30, 20)),
        ("ImagePath,X1,Y1,X2,Y2,category", "{},0.1,0.1,0.6,0.6,cat", (6, 4, 30, 20)),
        ("file_name,left,top,width,height,name", "{},6,4,30,20,cat", (6, 4, 30, 20)),
    ],
)
def test_columns_by_their_usual_names(tmp_path, header, row, box):
    written.pictures(tmp_path, [PHOTO])
    name = PHOTO.name[:-4] if header.startswith("image_id") else PHOTO.name
    (tmp_path / "labels.csv").write_text(f"{header}\n{row.format(name)}\n")
    report = ProblemReport()
    annotations = read_source(recognise(tmp_path), report)
    (item,) = annotations.images[0].objects
    assert (item.x, item.y, item.width, item.height) == box and not report.has_problems
    assert annotations.categories[0].name == ("object" if "bbox" in header else "cat")
    units = next(problem for problem in report.problems if problem.kind == "units of the boxes")
    assert ("parts of the image" if "0.6" in row else "pixels") in units.action


def test_units_splits_crowds_and_classes_as_asked(tmp_path):
    written.pictures(tmp_path, written.PHOTOS[1:4])
    rows = ["filename,xmin,ymin,xmax,ymax,class,split,iscrowd"]
    rows += ["img_01.jpg,0,0,1,1,cat,train,1", "img_02.jpg,0,0,1,1,dog,valid,0", "img_01.jpg,0,0,1,1,owl,train,0"]
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    (tmp_path / "classes.txt").write_text("dog\ncat\n")

    def read(**options):
        report = ProblemReport()
        found = recognise(tmp_path, "csv")
        return read_source(found, report, categories=tmp_path / "classes.txt", **options), report

    annotations, report = read(coordinates="pixels")
    assert annotations.images[0].objects[0].width == 1 and annotations.images[0].objects[0].is_crowd
    assert report.counts() == {"unknown category": 1} and "line 4 is of class 'owl'" in str(report.problems)
    assert report.counts(notes=True)["image without annotation file"] == 1
    annotations, _ = read()
    assert annotations.images[0].objects[0].width == 60
    assert [image.split for image in annotations.images] == ["train", "val", ""]


def test_bad_lines_are_named(tmp_path):
    written.pictures(tmp_path, [PHOTO])
    bad = {
        "line 2: 'x' is no number": "img_01.jpg,x,4,36,24,cat",
        "line 3: '' is no number": "img_01.jpg,6,4,36",
        "line 4: corners 36 4 6 24 have no extent": "img_01.jpg,36,4,6,24,cat",
        "line 5 names no image": ",6,4,36,24,cat",
        "no image 'gone.jpg' in": "gone.jpg,6,4,36,24,cat",
        "line 7 has no class": "img_01.jpg,6,4,36,24,",
        "line 9: 'inf' is no number": "\nimg_01.jpg,inf,4,36,24,cat",
    }
    text = "\n".join(["filename,xmin,ymin,xmax,ymax,class", *bad.values(), "img_01.jpg,6,4,36,24,cat"])
    (tmp_path / "labels.csv").write_text(text)
    report = ProblemReport()
    annotations = read_source(recognise(tmp_path), report)
    assert len(annotations.images[0].objects) == 1
    reasons = [problem.reason for problem in report.problems]
    for text in bad:
        assert any(reason.startswith(text) for reason in reasons), (text, reasons)
    (tmp_path / "labels.csv").write_bytes(b"filename,xmin,ymin,xmax,ymax,class\nimg_01.jpg,6,4,36,24,caf\xe9\n")
    with pytest.raises(UserError, match="labels.csv: byte 59 is not of UTF-8; save it as UTF-8"):
        read_source(recognise(tmp_path), report)
    (tmp_path / "labels.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="the header 'a,b' has no column for the image"):
        read_source(recognise(tmp_path, "csv"), report)


def test_a_header_says_what_it_lacks():
    assert of_header(["x", "y"]).fault == "has no column for the image, such as 'filename'"
    assert of_header(["image", "label"]).fault.startswith("has no columns for boxes")
    found = of_header(["filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax"])
    assert (found.form, found.box, found.height, found.width) == ("corners", (4, 5, 6, 7), 2, 1)


def test_open_images(tmp_path):
    folder = written.open_images(tmp_path / "in")
    boxes = folder / "oidv6-train-annotations-bbox.csv"
    with open(boxes, "a") as file:
        file.write("img_00,xclick,/m/00,1,0.1,0.5,0.1,0.5,0,0,1\nimg_00,xclick,/m/unknown,1,0.1,0.5,0.1,0.5,0,0,-1\n")
        file.write("img_00,xclick,/m/00,1,0.5,0.1,0.1,0.5,0,0,0\nimg_00,xclick,/m/00,1,0.5,0.9,0.1,x,0,0,0\nimg_00,x\n")
    (folder / "class-descriptions-boxable.csv").write_text(
        "LabelName,DisplayName\n/m/00,zebra fish\n/m/01,dog\n/m/02,cat"
    )
    report = ProblemReport()
    annotations = read_source(recognise(folder), report)
    assert [category.name for category in annotations.categories] == ["/m/unknown", "cat", "dog", "zebra fish"]
    first = annotations.images[0]
    assert [item.is_crowd for item in first.objects[-2:]] == [True, False] and first.split == "train"
    assert report.counts() == {"degenerate box": 3, "class without name": 1}
    line = 2 + sum(len(photo.objects) for photo in written.PHOTOS) + 3
    assert f"line {line}: XMin=0.5 XMax=0.1" in str(report.problems)
    assert "1 boxes of 1 images that are not here, such as elsewhere" in str(report.problems)
