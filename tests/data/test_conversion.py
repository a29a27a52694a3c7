"""From a folder to data sets, by the command and from Python."""

import argparse
import json

import pytest

import tfdet
from tests.data.formats import written
from tfdet.commands import convert_data
from tfdet.data.manifest import Manifest
from tfdet.errors import UserError


def run(*flags) -> int:
    parser = argparse.ArgumentParser()
    convert_data.add_arguments(parser)
    return convert_data.run(parser.parse_args([*map(str, flags), "--num_workers=0"]))


def test_a_folder_becomes_splits(tmp_path, capsys):
    folder = written.yolo(tmp_path / "photos")
    out = tmp_path / "data"
    assert run(folder, f"--output={out}", "--val_fraction=0.25", "--test_fraction=0.1") == 0
    manifests = {name: Manifest.load(out / name) for name in ("train", "val", "test")}
    assert {name: one.num_images for name, one in manifests.items()} == {"train": 14, "val": 5, "test": 1}
    names = [one.name for one in manifests.values()]
    assert names == ["train", "val", "test"] and len({tuple(one.classes) for one in manifests.values()}) == 1
    printed = capsys.readouterr().out
    assert printed.startswith("YOLO txt (21 files), 20 images in ")
    train = manifests["train"]
    assert train.boxes_per_class == [9, 8, 8]
    assert "train  14 images, 25 objects: cat 9, dog 8, zebra fish 8\n" in printed
    with pytest.raises(UserError, match="test holds a data set already"):
        (out / "train").rename(tmp_path / "moved")
        (out / "val").rename(tmp_path / "moved too")
        run(folder, f"--output={out}", "--val_fraction=0.25", "--test_fraction=0.1")
    assert not (out / "train").exists(), "all of them or none"


def test_strict_writes_none_of_the_splits(tmp_path):
    folder = written.yolo(tmp_path / "photos")
    with open(folder / "labels/train/img_03.txt", "a") as file:
        file.write("7 .5 .5 .1 .1")
    assert run(folder, f"--output={tmp_path / 'data'}", "--val_fraction=0.25", "--strict") == 1
    assert not list((tmp_path / "data").iterdir())


def test_from_python_with_the_splits_of_the_source(tmp_path, capsys):
    for split, photos in (("train", written.PHOTOS[:15]), ("valid", written.PHOTOS[15:])):
        name = f"{split}/_annotations.coco.json"
        written.coco(tmp_path / "in", masks=True, photos=photos, lvis=True, images=split, name=name)
    folders = tfdet.convert_data(tmp_path / "in", tmp_path / "out", num_workers=0, quiet=True)
    assert folders == {"train": tmp_path / "out/train", "val": tmp_path / "out/val"}
    assert capsys.readouterr().out == ""
    train, val = (Manifest.load(folder) for folder in folders.values())
    assert (train.num_images, val.num_images, val.frequencies) == (15, 5, ["r", "c", "f"])
    assert json.loads((folders["val"] / "manifest.json").read_text())["frequencies"] == ["r", "c", "f"]
    one = tfdet.convert_data(tmp_path / "in", tmp_path / "one", split="val", num_workers=0, quiet=True)
    assert one == {"all": tmp_path / "one"}
    for arguments, message in (
        ({}, "output is missing"), ({"output": "x", "unlabelled": "perhaps"}, "unlabelled is 'perhaps'"),
        ({"output": "x", "categories": "c.txt"}, "LVIS json brings its own"),
        ({"output": "x", "val_fraction": 0.5}, "have splits already"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=message):
            tfdet.convert_data(tmp_path / "in", quiet=True, **arguments)


def test_classes_may_be_given(tmp_path):
    (tmp_path / "names.txt").write_text("dog\ncat\n")
    folder = written.labelme(tmp_path / "in")
    assert run(folder, f"--output={tmp_path / 'out'}", f"--categories={tmp_path / 'names.txt'}") == 0
    assert Manifest.load(tmp_path / "out").classes == ["dog", "cat"]
    report = json.loads((tmp_path / "out/report.json").read_text())
    fish = sum(kind == "zebra fish" for photo in written.PHOTOS for kind, _ in photo.objects)
    assert report["problems"] == {"unknown category": fish}


def test_records_are_recognised_and_their_splits_are_not_mixed(tmp_path, capsys):
    run(written.cvat(tmp_path / "in"), f"--output={tmp_path / 'set'}")
    (shard,) = (tmp_path / "set").glob("*.tfrecord")
    (tmp_path / "records/train").mkdir(parents=True)
    shard.rename(tmp_path / "records/train/cells.tfrecord")
    (tmp_path / "records/train/label_map.pbtxt").write_text("item {}")
    assert run(tmp_path / "records", f"--output={tmp_path / 'out'}") == 0
    assert Manifest.load(tmp_path / "out").classes == list(written.CLASSES)
    assert json.loads((tmp_path / "out/report.json").read_text())["problems"] == {}
    (tmp_path / "records/val.tfrecord").write_bytes(b"")
    with pytest.raises(UserError, match="holds records of train, val: convert each by itself"):
        run(tmp_path / "records", f"--output={tmp_path / 'other'}")
