import argparse
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tfdet.commands import convert_data, make_shapes
from tfdet.data import writer
from tfdet.data.convert import StrictError, convert
from tfdet.data.formats.coco import read_coco
from tfdet.data.images import decode_image
from tfdet.data.inputs import EvalInput
from tfdet.data.manifest import Manifest
from tfdet.data.problems import ProblemReport
from tfdet.data.schema import parse_record
from tfdet.errors import UserError


def run_convert(*flags) -> int:
    parser = argparse.ArgumentParser()
    convert_data.add_arguments(parser)
    return convert_data.run(parser.parse_args([str(flag) for flag in flags]))


@pytest.fixture
def messy(coco, make_jpeg):
    """A COCO set with one of everything that can be wrong."""
    coco.image(1).box(1, (5, 5, 20, 20)).box(1, (30.25, 10.5, 12.34, 8)).box(1, (0, 0, 60, 40), 7, iscrowd=1)
    coco.image(2, 50, 40).box(2, (5, 5, 20, 20), 7).box(2, (5, 5, 0, 9)).box(2, (70, 5, 9, 9)).box(2, (30, 5, 19, 9))
    coco.image(3, encoded=b"missing").box(3, (1, 1, 5, 5))
    coco.image(4, encoded=make_jpeg(40, 60)[:-200]).box(4, (1, 1, 5, 5))
    coco.image(5, encoded=make_jpeg(40, 60, mode="CMYK")).box(5, (1, 1, 5, 5)).box(5, (1, 1, 5, 5), 12)
    coco.image(6)
    coco.image(7, encoded=make_jpeg(20, 60)).box(7, (1, 1, 5, 5))
    coco.image(8).box(8, (1, 1, 5, 5)).image(8, name="again.jpg")
    return coco.write()


def test_counts_and_report(messy, tmp_path, capsys):
    out = tmp_path / "out"
    assert run_convert("--coco", *messy, "--output", out, "--num_shards", 2, "--num_workers", 0, "--name", "messy") == 0
    manifest = Manifest.load(out)
    assert (manifest.name, manifest.classes, manifest.category_ids) == ("messy", ["cat", "dog"], [3, 7])
    assert (manifest.num_images, manifest.num_images_without_boxes, manifest.num_crowd) == (4, 1, 1)
    assert (manifest.num_trainable_landscape, manifest.num_trainable_portrait) == (2, 1)
    assert manifest.boxes_per_class == [4, 1]
    assert manifest.num_boxes == 5
    assert sum(shard.records for shard in manifest.shards) == 4
    assert sorted(path.name for path in out.iterdir()) == [
        "index.npz", "manifest.json", "messy-00000-of-00002.tfrecord", "messy-00001-of-00002.tfrecord", "report.json",
    ]  # fmt: skip
    report = json.loads((out / "report.json").read_text())
    assert report["problems"] == {
        "duplicate image id": 2, "annotation without image": 1, "unknown category": 1, "degenerate box": 1,
        "box outside the image": 1,
        "box partly outside the image": 1, "missing file": 1, "undecodable image": 1, "image size differs": 1,
    }  # fmt: skip
    assert report["notes"] == {"converted image": 1, "image without annotation": 1, "files passed over": 1}
    files = {finding["kind"]: pathlib.Path(finding["file"]).name for finding in report["findings"]}
    assert files["undecodable image"] == "0004.jpg" and files["missing file"] == "0003.jpg"
    printed = capsys.readouterr().out
    assert "degenerate box" in printed and "undecodable image" in printed


def test_ground_truth_is_what_was_annotated(messy, tmp_path):
    run_convert("--coco", *messy, "--output", tmp_path / "out", "--num_workers", 0)
    truth = EvalInput(tmp_path / "out").ground_truth()
    assert [(i["id"], i["height"], i["width"]) for i in truth["images"]] == [
        (1, 40, 60), (2, 50, 40), (5, 40, 60), (6, 40, 60),
    ]  # fmt: skip
    assert truth["categories"] == [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]
    first = [a for a in truth["annotations"] if a["image_id"] == 1]
    assert [a["bbox"] for a in first] == [[5, 5, 20, 20], [30.25, 10.5, 12.34, 8], [0, 0, 60, 40]]
    assert [(a["category_id"], a["iscrowd"]) for a in first] == [(3, 0), (3, 0), (7, 1)]
    assert first[1]["area"] == pytest.approx(12.34 * 8)
    # the box over the border stays as annotated
    assert [a["bbox"] for a in truth["annotations"] if a["image_id"] == 2] == [[5, 5, 20, 20], [30, 5, 19, 9]]
    assert len({a["id"] for a in truth["annotations"]}) == len(truth["annotations"]) and truth["annotations"][0]["id"]
    assert EvalInput(tmp_path / "out").image_files()[5] == "0005.jpg"


def test_strict_writes_nothing(messy, tmp_path, capsys):
    out = tmp_path / "strict" / "out"
    assert run_convert("--coco", *messy, "--output", out, "--num_workers", 0, "--strict") == 1
    assert "0004.jpg" in capsys.readouterr().out.replace("\n", "")
    assert not list(out.parent.iterdir())


def test_strict_accepts_notes(coco, make_jpeg, tmp_path):
    coco.image(1).box(1, (1, 1, 9, 9)).image(2).image(3, encoded=make_jpeg(40, 60, mode="CMYK")).box(3, (1, 1, 9, 9))
    assert run_convert("--coco", *coco.write(), "--output", tmp_path / "out", "--num_workers", 0, "--strict") == 0


def test_every_box_was_used_only_when_it_is_true(coco, tmp_path, capsys):
    coco.image(1).box(1, (1, 1, 9, 9))
    assert run_convert("--coco", *coco.write(), "--output", tmp_path / "a", "--num_workers", 0) == 0
    assert "every image and every box was used" in capsys.readouterr().out
    coco.box(1, (20, 1, 9, 9), iscrowd=1)
    assert run_convert("--coco", *coco.write(), "--output", tmp_path / "b", "--num_workers", 0) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "every box" not in printed and "1 crowd regions are not trained on" in printed


@pytest.mark.parametrize("iscrowd", [0, 1])
def test_a_set_without_a_box_to_train_on_is_no_success(coco, tmp_path, capsys, iscrowd):
    coco.image(1)
    if iscrowd:
        coco.box(1, (1, 1, 9, 9), iscrowd=1)
    assert run_convert("--coco", *coco.write(), "--output", tmp_path / "out", "--num_workers", 0) == 1
    assert "No box to train on" in capsys.readouterr().out
    assert Manifest.load(tmp_path / "out").num_images == 1


def test_a_grey_jpeg_is_stored_as_it_is(coco, make_jpeg, tmp_path):
    encoded = make_jpeg(40, 60, mode="L")
    coco.image(1, encoded=encoded).box(1, (10, 5, 21, 11))
    assert run_convert("--coco", *coco.write(), "--output", tmp_path / "out", "--num_workers", 0) == 0
    assert json.loads((tmp_path / "out" / "report.json").read_text())["notes"] == {}
    (record,) = tf.data.TFRecordDataset(Manifest.load(tmp_path / "out").shard_paths())
    assert parse_record(record).encoded.numpy() == encoded
    batch = next(EvalInput(tmp_path / "out", short_side=40, long_side=60).dataset().as_numpy_iterator())
    np.testing.assert_array_equal(batch.images[0], decode_image(encoded))
    np.testing.assert_allclose(batch.boxes[0], [[10, 5, 30, 15]], rtol=1e-6)


def test_workers_give_the_same_bytes(make_coco, tmp_path):
    coco = make_coco("many")
    for number in range(1, 20):
        coco.image(number, 30 + number, 50).box(number, (1, 2, 3 + number, 9), 3 + 4 * (number % 2))
    source = coco.write()
    for workers in (0, 2):
        annotations = read_coco([source], ProblemReport())
        convert(annotations, tmp_path / f"w{workers}", "same", "test", ProblemReport(), 3, workers)
    first, second = (Manifest.load(tmp_path / f"w{workers}") for workers in (0, 2))
    assert first.shards == second.shards and len(first.shards) == 3
    assert first.load_index().image_id.tolist() == list(range(1, 20))


def test_workers_do_not_import_tensorflow():
    code = "import sys, tfdet.data.prepare; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_existing_data_set_is_not_overwritten_unasked(coco, tmp_path):
    source, out = coco.image(1).box(1, (1, 1, 9, 9)).write(), tmp_path / "out"
    assert run_convert("--coco", *source, "--output", out, "--num_workers", 0) == 0
    with pytest.raises(UserError, match="--overwrite"):
        run_convert("--coco", *source, "--output", out, "--num_workers", 0)
    assert run_convert("--coco", *source, "--output", out, "--num_workers", 0, "--overwrite", "--name", "new") == 0
    assert Manifest.load(out).name == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["coco", "out"]
    with pytest.raises(UserError, match="is not a data set"):
        run_convert("--coco", *source, "--output", tmp_path / "coco", "--overwrite")


def test_a_failure_leaves_nothing_behind(coco, tmp_path, monkeypatch):
    source, out = coco.image(1).box(1, (1, 1, 9, 9)).write(), tmp_path / "made" / "out"

    class FullDisk:
        def __init__(self, path):
            pathlib.Path(os.fsdecode(path)).write_bytes(b"half")

        def write(self, record):
            raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

        def close(self):
            pass

    monkeypatch.setattr(writer.tf.io, "TFRecordWriter", FullDisk)
    with pytest.raises(UserError, match="No space left on device"):
        run_convert("--coco", *source, "--output", out, "--num_workers", 0)
    assert not list(out.parent.iterdir())


def test_wrong_flags(coco, tmp_path):
    source = coco.image(1).write()
    for flags, message in (
        (["--output", tmp_path / "o"], "exactly one of"),
        (["--coco", *source], "--output"),
        (["--coco", *source, "--output", tmp_path / "o", "--num_shards", 2], "--num_shards"),
        (["--coco", *source, "--output", tmp_path / "o", "--num_workers", -1], "--num_workers"),
        (["--voc", "a", "--renumber", "--output", tmp_path / "o"], "--renumber is for COCO"),
        (["--voc", "a", "--voc", "b", "--split", "train", "--output", tmp_path / "o"], "one --split for each"),
    ):
        with pytest.raises(UserError, match=message):
            run_convert(*flags)


def test_no_usable_image_is_an_error_that_leaves_nothing(coco, tmp_path):
    source = coco.image(1, encoded=b"missing").write()
    with pytest.raises(UserError, match="no image could be used"):
        run_convert("--coco", *source, "--output", tmp_path / "made" / "out", "--num_workers", 0)
    assert not list((tmp_path / "made").iterdir())


def test_strict_error_is_raised_by_the_function_too(messy, tmp_path):
    report = ProblemReport()
    with pytest.raises(StrictError):
        convert(read_coco([messy], report), tmp_path / "out", "x", "x", report, num_workers=0, strict=True)


def test_make_shapes(tmp_path):
    parser = argparse.ArgumentParser()
    make_shapes.add_arguments(parser)
    flags = ["--train_images", "12", "--val_images", "6", "--size", "64x96", "--seed", "3"]
    for name in ("a", "b"):
        assert make_shapes.run(parser.parse_args(["--output", str(tmp_path / name), *flags])) == 0
    train, val = (Manifest.load(tmp_path / "a" / split) for split in ("train", "val"))
    assert train.classes == ["circle", "square", "triangle"]
    assert (train.num_images, val.num_images, train.num_images_without_boxes) == (12, 6, 0)
    assert train.num_trainable_portrait > 0
    assert train.shards == Manifest.load(tmp_path / "b" / "train").shards
    ids = np.concatenate([train.load_index().image_id, val.load_index().image_id])
    assert ids.tolist() == list(range(1, 19))
    assert json.loads((tmp_path / "a/train/report.json").read_text())["findings"] == []
    assert len(list((tmp_path / "a" / "pictures").glob("*.jpg"))) == 6
    with pytest.raises(UserError, match="HEIGHTxWIDTH"):
        make_shapes.run(parser.parse_args(["--output", str(tmp_path / "c"), "--size", "64"]))
