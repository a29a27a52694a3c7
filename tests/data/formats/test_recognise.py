"""What a folder is taken for, where its images are looked for, and what is said where it is not known."""

import json
import os

import pytest

from tests.data.formats import written
from tfdet.data.conversion import read_source
from tfdet.data.formats.recognise import recognise
from tfdet.data.formats.source import ImageFinder, Tree
from tfdet.data.problems import ProblemReport
from tfdet.errors import UserError

FEW = written.PHOTOS[:4]


def read(found, **options):
    report = ProblemReport()
    return read_source(found, report, **options), report


def file_names(annotations):
    return [image.file_name for image in annotations.images]


def test_what_is_not_recognised_is_said(tmp_path):
    def asked(name, content=None, images=2, **options):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        written.pictures(folder, FEW[:images])
        if name:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
        with pytest.raises(UserError) as error:
            recognise(folder, **options)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "holds 2 images and no annotations that are known: 2 .jpg" in asked(None)
    assert "holds neither annotations nor images: nothing" in asked(None, images=0)
    for name, content, words in (
        ("a.json", [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}], "results of a detector"),
        ("a.json", [{"image": "a.jpg", "annotations": [{"label": "x", "coordinates": {}}]}], "CreateML's json"),
        ("a.json", {"_via_img_metadata": {}}, "VGG Image Annotator"),
        ("a.json", {"boxes": [1], "hello": 2}, "a.json is json with 'boxes', 'hello', which is not read"),
        ("a.xml", "<html><body/></html>", "xml with the root <html>"),
        ("a.xml", "<annotations><track id='0'/></annotations>", "CVAT for video; export it as 'CVAT for images 1.1'"),
        ("a.csv", "img_00.jpg,cat,1,2,3,4\n", "CSV without a header ('img_00.jpg,cat,1,2,3,4')"),
        ("a.csv", "filename,weight\na.jpg,3\n", "CSV whose header has no columns for boxes, such as 'xmin,"),
        ("a.csv", "picture,xmin,ymin,xmax,ymax\n", "CSV whose header has no column for the image"),
        ("a.json", "", "an empty file"),
    ):
        assert words in asked(name, content), name
    (tmp_path / "classes" / "cat").mkdir(parents=True)
    written.pictures(tmp_path / "classes/cat", FEW[:1])
    written.pictures(tmp_path / "classes/dog", FEW[1:2])
    with pytest.raises(UserError, match="in folders of classes .cat, dog."):
        recognise(tmp_path / "classes")
    with pytest.raises(UserError, match="--format tiff is not known; there are: coco, "):
        recognise(tmp_path / "classes", "tiff")
    with pytest.raises(UserError, match="nowhere does not exist"):
        recognise(tmp_path / "nowhere")
    with pytest.raises(UserError, match="holds no file that could be Pascal VOC xml"):
        recognise(tmp_path / "classes", "voc")
    with pytest.raises(UserError, match="--images .*labels.json is a file"):
        recognise(written.coco(tmp_path / "c", photos=FEW), images=tmp_path / "c/labels.json")


def test_two_formats_in_one_folder_are_asked_about(tmp_path):
    written.yolo(tmp_path / "both")
    written.cvat(tmp_path / "both")
    with pytest.raises(UserError, match="several formats: CVAT .*annotations.xml.*YOLO txt .21: .*--format="):
        recognise(tmp_path / "both")
    assert recognise(tmp_path / "both", "cvat").source.annotations == [tmp_path / "both/annotations.xml"]
    assert recognise(tmp_path / "both", annotations=tmp_path / "both/labels").format == "yolo"


def test_images_and_annotations_may_lie_apart_and_deep(tmp_path):
    written.coco(tmp_path / "in", photos=FEW, name="notes/annotations/labels.json")
    photos = tmp_path / "in/pictures"
    (photos / "deep/er").mkdir(parents=True)
    (photos / FEW[1].name).rename(photos / "deep/er" / FEW[1].name)
    (photos / FEW[2].name).rename(photos / "deep" / FEW[2].name.upper())
    for found in (
        recognise(tmp_path / "in"),
        recognise(tmp_path / "in/notes/annotations/labels.json", images=photos),
        recognise(None, annotations=tmp_path / "in/notes", images=photos),
    ):
        annotations, report = read(found)
        assert [image.path.relative_to(photos).as_posix() for image in annotations.images] == [
            FEW[0].name, f"deep/er/{FEW[1].name}", f"deep/{FEW[2].name.upper()}", FEW[3].name,
        ]  # fmt: skip
        assert report.counts() == {}
    with pytest.raises(UserError, match="no images near .*labels.json: --images=FOLDER"):
        recognise(tmp_path / "in/notes/annotations/labels.json")
    (photos / "again").mkdir()
    (photos / "again" / FEW[1].name).write_bytes(b"")
    _, report = read(recognise(tmp_path / "in"))
    (problem,) = report.problems
    assert problem.kind == "file name of several images" and "again/img_01.jpg, pictures/deep" in problem.reason


def test_hidden_files_and_data_sets_are_passed_over_and_links_are_followed(tmp_path):
    folder = written.labelme(tmp_path / "in")
    for name in (".hidden/a.json", "__MACOSX/b.json", "._img_00.json", ".DS_Store", "set/manifest.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("{}")
    (folder / "set/index.npz").write_bytes(b"")
    (folder / "loop").symlink_to(folder)
    tree = Tree([folder])
    assert len(tree.images) == len(tree.others) == written.COUNT
    assert recognise(folder).format == "labelme"
    os.rename(folder / "img_00.jpg", folder / "IMG_00.JPG")
    annotations, report = read(recognise(folder))
    assert annotations.images[0].path.name == "IMG_00.JPG" and report.counts() == {}
    with pytest.raises(UserError, match="set is a data set of tfdet already"):
        recognise(folder / "set")


def test_the_finder_takes_the_nearest_and_the_split(tmp_path):
    for place in ("train/a.jpg", "val/a.jpg", "one/x/b.png", "one/x/b.jpg", "two/b.png"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(b"")
    finder = ImageFinder(Tree([tmp_path]))
    assert finder.find("a.jpg") is None and "2 images may be 'a.jpg': train/a.jpg, val/a.jpg" in finder.why_not("a.jpg")
    assert finder.find("a.jpg", split="val") == tmp_path / "val/a.jpg"
    assert finder.find("C:\\photos\\val\\a.jpg") == tmp_path / "val/a.jpg"
    assert finder.find("b", tmp_path / "one") == tmp_path / "one/x/b.jpg", "of two endings the first by its kind"
    assert finder.find("b.png", tmp_path / "two/labels") == tmp_path / "two/b.png"
    assert finder.find("c.jpg") is None and finder.why_not("c.jpg").startswith("no image 'c.jpg' in ")
    for name in ("", "/", "a\0b.jpg", "..", "x" * 300 + ".jpg"):
        assert finder.find(name) is None


def test_splits_by_names_of_files_and_folders(tmp_path):
    for split, photos in (("train", FEW[:3]), ("valid", FEW[3:])):
        written.coco(tmp_path / "roboflow", photos=photos, images=split, name=f"{split}/_annotations.coco.json")
        written.coco(
            tmp_path / "coco", photos=photos, images=f"{split}2017", name=f"annotations/instances_{split}2017.json"
        )
        written.coco(
            tmp_path / "coco", photos=photos, images=f"{split}2017", name=f"annotations/captions_{split}2017.json"
        )
    for folder in ("roboflow", "coco"):
        annotations, report = read(recognise(tmp_path / folder))
        assert [image.split for image in annotations.images] == ["train"] * 3 + ["val"] and not report.problems
    written.coco(tmp_path / "coco", photos=FEW, images="x", name="annotations/instances_all.json")
    with pytest.raises(UserError, match="are these parts of each other. Name one with --annotations"):
        read(recognise(tmp_path / "coco"))
    written.voc(tmp_path / "voc")
    lists = tmp_path / "voc/ImageSets/Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("img_00\nimg_01\n")
    (lists / "val.txt").write_text("img_02\n")
    annotations, _ = read(recognise(tmp_path / "voc"))
    assert [image.split for image in annotations.images][:4] == ["train", "train", "val", ""]
