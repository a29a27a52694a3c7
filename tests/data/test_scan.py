import argparse
import json
import math
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from pycocotools import mask as coco_mask

from tfdet.commands import convert_data
from tfdet.data.annotations import ObjectAnnotation
from tfdet.data.doctor import diagnose
from tfdet.data.inputs import EvalInput, TrainInput
from tfdet.data.manifest import Manifest
from tfdet.data.problems import ProblemReport
from tfdet.data.rle import counts_from_mask
from tfdet.data.schema import parse_record, serialize_example
from tfdet.data.values import number_of_name
from tfdet.errors import UserError
from tfdet.evaluate.ground_truth import checked_ground_truth

# TF Model Garden's own writer, in a process of its own: it defines absl flags and brings tf_keras along.
OFFICIAL = """
import sys
from absl import flags
from official.vision.data import create_coco_tf_record as official
images, annotations, prefix = sys.argv[1:]
flags.FLAGS(["prog", "--num_processes=0"])
official._create_tf_record_from_coco_annotations(
    annotations, [images], prefix, 2, object_annotations_file=annotations, include_masks=True)
"""


def scan(*flags):
    parser = argparse.ArgumentParser()
    convert_data.add_arguments(parser)
    return convert_data.run(parser.parse_args(["--from_records", *map(str, flags)]))


def test_reads_what_model_garden_writes(coco, make_jpeg, tmp_path):
    def masked(image_id, bbox, kind=3):
        x, y, w, h = bbox
        return coco.box(image_id, bbox, kind, segmentation=[[x, y, x + w, y, x + w, y + h]])

    coco.image(1)
    masked(1, (5, 5, 20, 20.5))
    crowd = np.zeros((40, 60), bool)
    crowd[10:30, 20:50] = True
    coco.box(1, (20, 10, 30, 20), 7, iscrowd=1, segmentation={"size": [40, 60], "counts": counts_from_mask(crowd)})
    coco.image(2, 50, 40).image(3).image(4, encoded=make_jpeg(40, 60, mode="L"))
    masked(2, (5.25, 5, 20, 20), 7)
    masked(4, (1, 2, 3, 4))
    path, images = coco.write()
    command = [sys.executable, "-c", OFFICIAL, str(images), str(path), str(tmp_path / "rec")]
    subprocess.run(command, check=True, capture_output=True, timeout=300)

    out = tmp_path / "set"
    assert scan(tmp_path / "rec-*", "--output", out, "--categories", path, "--num_workers", 0) == 0
    manifest = Manifest.load(out)
    assert (manifest.classes, manifest.category_ids, manifest.boxes_per_class) == (["cat", "dog"], [3, 7], [2, 1])
    assert (manifest.num_images, manifest.num_crowd, manifest.num_images_without_boxes) == (4, 1, 1)
    assert (manifest.num_trainable_landscape, manifest.num_trainable_portrait) == (2, 1)
    assert (manifest.num_masks, manifest.num_crowd_masks) == (3, 1), "PNG masks became run lengths"
    truth = EvalInput(out).ground_truth()
    assert sorted((a["image_id"], *a["bbox"], a["category_id"], a["iscrowd"]) for a in truth["annotations"]) == [
        (1, 5, 5, 20, 20.5, 3, 0), (1, 20, 10, 30, 20, 7, 1), (2, 5.25, 5, 20, 20, 7, 0), (4, 1, 2, 3, 4, 3, 0),
    ]  # fmt: skip
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    for found in truth["annotations"]:
        (written,) = [
            a for a in coco.content["annotations"] if a["image_id"] == found["image_id"] and a["bbox"] == found["bbox"]
        ]
        rle = coco_mask.frPyObjects(written["segmentation"], *sizes[found["image_id"]])
        rle = rle if isinstance(rle, dict) else coco_mask.merge(rle)
        assert found["segmentation"] == {**rle, "counts": rle["counts"].decode()}
    assert [finding.kind for finding in diagnose(out)] == []
    train = TrainInput(out, short_side=20, long_side=30, images_per_replica=1, masks=True)
    batches = list(train.dataset(1).take(6))
    assert {int(batch.image_ids[0]) for batch in batches} == {1, 2, 4} and all(len(b.edges[0]) for b in batches)


def test_bad_png_masks_are_named_and_the_images_keep_their_bytes(make_jpeg, tmp_path):
    image = make_jpeg(40, 60)
    boxes = [ObjectAnnotation(5 * k, 5, 20, 20, 1, 400) for k in range(4)]
    record = tf.train.Example.FromString(serialize_example(image, "jpeg", 40, 60, "a.jpg", 1, boxes, {1: "cat"}))
    inside = np.zeros((40, 60), np.uint8)
    inside[5:25, 5:25] = 1
    pngs = [tf.io.encode_png(mask[..., None]).numpy() for mask in (inside, inside[:30])]
    record.features.feature["image/object/mask"].bytes_list.value.extend([pngs[0], pngs[1], b"no png", b""])
    path = tmp_path / "in" / "a.tfrecord"
    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(record.SerializeToString())
    assert scan(path, "--output", tmp_path / "out", "--num_workers", 0) == 0
    manifest = Manifest.load(tmp_path / "out")
    assert (manifest.num_boxes, manifest.num_masks) == (4, 1)
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["problems"] == {"mask RLE of another size than the image": 1, "unreadable mask": 1}
    assert "annotation 2: RLE is 60x30, the image 60x40" in str(report["findings"])
    (stored,) = tf.data.TFRecordDataset(manifest.shard_paths())
    assert parse_record(stored).encoded.numpy() == image
    # Into the folder of the records themselves nothing is written anew.
    assert scan(path, "--output", path.parent) == 0
    manifest = Manifest.load(path.parent)
    assert (manifest.num_boxes, manifest.has_masks) == (4, False)
    assert json.loads((path.parent / "report.json").read_text())["notes"] == {"masks not read": 1}


@pytest.fixture
def records(tmp_path, make_jpeg):
    """Writes one file of records: records(list of (encoded, image id, height, width))."""

    def write(rows, name="other.tfrecord"):
        path = tmp_path / name
        with tf.io.TFRecordWriter(str(path)) as writer:
            for encoded, image_id, height, width in rows:
                writer.write(serialize_example(encoded, "jpeg", height, width, "a.jpg", image_id, [], {}))
        return path

    return write


def test_bad_records_are_named_and_left_out(records, make_jpeg, tmp_path):
    good = make_jpeg(40, 60)
    path = records(
        [(good, 1, 40, 60), (b"nonsense", 2, 40, 60), (good, 1, 40, 60), (good, 4, 60, 40), (good, "name", 40, 60)]
    )
    out = tmp_path / "out"
    assert scan(path, "--output", out, "--categories", names(tmp_path)) == 1  # no box to train on
    report = json.loads((out / "report.json").read_text())
    assert report["problems"] == {"undecodable image": 1, "duplicate image id": 1, "image size differs": 1}
    assert report["notes"] == {"image id replaced": 1, "image without annotation": 2}
    manifest = Manifest.load(out)
    assert manifest.num_images == 2
    assert [int(batch.image_ids[0]) for batch in EvalInput(out, 20, 30).dataset()] == [1, number_of_name("name")]
    assert scan(path, "--output", tmp_path / "strict", "--strict") == 1
    assert not (tmp_path / "strict").exists()


def names(folder):
    path = folder / "names.txt"
    path.write_text("cat\n")
    return path


def test_a_damaged_file_is_read_up_to_the_damage(records, make_jpeg, tmp_path):
    path = records([(make_jpeg(40, 60), number, 40, 60) for number in range(3)])
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    assert scan(path, "--output", tmp_path / "out", "--categories", names(tmp_path)) == 1
    assert Manifest.load(tmp_path / "out").num_images == 1
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["problems"] == {"corrupt record": 1}
    assert str(path) in report["findings"][-1]["file"] or str(path) in str(report["findings"])


def test_the_folder_of_the_records_can_become_the_data_set(records, make_jpeg, tmp_path):
    path = records([(make_jpeg(40, 60), 1, 40, 60)])
    assert scan(tmp_path / "*.tfrecord", "--output", tmp_path, "--categories", names(tmp_path)) == 1
    assert Manifest.load(tmp_path).shards[0].file == path.name
    with pytest.raises(UserError, match="--overwrite"):
        scan(tmp_path / "*.tfrecord", "--output", tmp_path)
    with pytest.raises(UserError, match="give --categories"):
        scan(tmp_path / "*.tfrecord", "--output", tmp_path / "y")
    with pytest.raises(UserError, match="no file matches"):
        scan(tmp_path / "*.nothing", "--output", tmp_path / "x")


def box_records(tmp_path, encoded, rows):
    """Records of 40x60 images with objects of class 1: box_records(folder, image, [(source id, objects), ...])."""
    path = tmp_path / "boxes.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for source_id, objects in rows:
            writer.write(serialize_example(encoded, "jpeg", 40, 60, "a.jpg", source_id, objects, {1: "cat"}))
    return path


def test_names_as_source_ids_meet_no_number(make_jpeg, tmp_path):
    item = ObjectAnnotation(5, 5, 20, 20, 1, 400)
    rows = [(source_id, [item]) for source_id in ("a.jpg", "1", "-5", "2.0", "", "a.jpg")]
    assert scan(box_records(tmp_path, make_jpeg(40, 60), rows), "--output", tmp_path / "out") == 0
    ids = Manifest.load(tmp_path / "out").load_index().image_id.tolist()
    assert ids[:4] == [number_of_name("a.jpg"), 1, number_of_name("-5"), 2]
    assert len(set(ids)) == 6 and min(ids) == 1
    report = json.loads((tmp_path / "out/report.json").read_text())
    # The name that came twice, the file name for no id, and a number that is no id; in notes a name.
    assert report["problems"] == {"image id replaced": 3}
    assert report["notes"] == {"image id replaced": 1}


def test_numbers_that_are_not_finite_take_no_part(make_jpeg, tmp_path):
    good = ObjectAnnotation(5, 5, 20, 20, 1, 400)
    bad = [(math.nan, 5, 9, 9), (5, 5, math.inf, 9), (5, 5, math.nan, math.nan), (-math.inf, 5, math.inf, 9)]
    objects = [good, *(ObjectAnnotation(*box, 1, 81) for box in bad), ObjectAnnotation(30, 5, 9, 9, 1, 0)]
    path = box_records(tmp_path, make_jpeg(40, 60), [(1, objects), (2, [good, good])])
    assert scan(path, "--output", tmp_path / "out") == 0
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["problems"] == {"degenerate box": 4, "box without a whole pixel": 1, "annotation given twice": 1}
    assert Manifest.load(tmp_path / "out").num_boxes == 3
    batches = list(TrainInput(tmp_path / "out", 20, 30, images_per_replica=1, flip=False).dataset(1).take(2))
    assert sorted(int(tf.reduce_sum(tf.cast(batch.classes >= 0, tf.int32))) for batch in batches) == [1, 2]
    clean = checked_ground_truth(EvalInput(tmp_path / "out").ground_truth(), [1], ProblemReport())
    assert [annotation["area"] for annotation in clean["annotations"]] == [400, 81, 400]
    problems = diagnose(tmp_path / "out")
    assert [(problem.kind, problem.image_id) for problem in problems] == [("box not finite", 1)]


def test_boxes_of_records_that_were_divided_twice_are_named(make_jpeg, tmp_path):
    path = box_records(tmp_path, make_jpeg(40, 60), [(1, [ObjectAnnotation(0.1, 0.1, 0.4, 0.5, 1, 0.2)])])
    assert scan(path, "--output", tmp_path / "out") == 0
    assert json.loads((tmp_path / "out/report.json").read_text())["problems"] == {"boxes below one pixel": 1}


def example(image, objects=(), second="dog", **change):
    """A record of a 40x60 image; change: lists by the end of a feature's name, None takes the feature away."""
    names = {1: "cat", 2: second, -5: "eel"}
    record = tf.train.Example.FromString(serialize_example(image, "jpeg", 40, 60, "a.jpg", 1, list(objects), names))
    for name, value in change.items():
        (key,) = [key for key in record.features.feature if key.endswith(f"/{name}")]
        del record.features.feature[key]
        if value is not None:
            kind = {bytes: "bytes_list", int: "int64_list", float: "float_list"}[type(value[0])]
            getattr(record.features.feature[key], kind).value.extend(value)
    return record.SerializeToString()


def found_in(tmp_path, *examples, flags=(), code=0):
    path = tmp_path / "one.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for content in examples:
            writer.write(content)
    assert scan(path, "--output", tmp_path / "out", "--overwrite", *flags) == code
    report = json.loads((tmp_path / "out/report.json").read_text())
    return report["problems"], report["notes"], report["findings"]


CAT, DOG, EEL = (ObjectAnnotation(5 * number, 5, 20, 20, number, 400) for number in (1, 2, -5))


def test_names_in_records_are_compared_with_the_list(make_jpeg, tmp_path):
    content = example(make_jpeg(40, 60), [CAT, DOG])
    classes = tmp_path / "names.txt"
    for text, problems, notes in (("cat\ndog", {}, {}), ("dog\ncat", {"category name differs": 2}, {}),
                                  ("hound\ndog", {}, {"category name differs": 1})):  # fmt: skip
        classes.write_text(text)
        *counts, findings = found_in(tmp_path, content, flags=("--categories", classes))
        assert counts == [problems, notes]
        kinds = [problem.kind for problem in diagnose(tmp_path / "out")]
        assert kinds == (["class name differs"] if problems else [])
    assert findings[0]["reason"] == "category id 1 is 'cat' here but 'hound' in the list of classes"
    with pytest.raises(UserError, match="the class 'cat' the ids 1 and 2; give --categories"):
        found_in(tmp_path, example(make_jpeg(40, 60), [CAT, DOG], "cat"))


def test_odd_values_of_records_take_no_part(make_jpeg, tmp_path):
    image = make_jpeg(40, 60)
    objects = [CAT, DOG, CAT, DOG]
    change = {"is_crowd": [0, 2, -1, 1], "xmin": [0.1, 0.2, 0.5, 0.3], "xmax": [0.3, 0.6, 0.1, 0.5]}
    problems, _, findings = found_in(
        tmp_path, example(image, objects, **change, area=[4.0, 4.0, 4.0, 4.0]),
        example(image, [EEL], source_id=[b"2"]), example(image, [CAT], source_id=[b"3"], area=[math.inf]),
    )  # fmt: skip
    assert problems == {"unknown flag": 2, "degenerate box": 2, "unknown category": 1}
    assert "object 2 has is_crowd 2 is neither 0 nor 1" in str(findings) and "category id -5 is negative" in str(
        findings
    )
    manifest = Manifest.load(tmp_path / "out")
    assert (manifest.category_ids, manifest.num_boxes, manifest.num_crowd) == ([1, 2], 2, 1)
    truth = EvalInput(tmp_path / "out").ground_truth()["annotations"]
    assert [(item["category_id"], item["iscrowd"]) for item in truth] == [(1, 0), (2, 0), (2, 1)]
    assert [problem.kind for problem in diagnose(tmp_path / "out")] == ["degenerate box", "box not finite"]


def test_a_record_of_another_schema_names_the_field(make_jpeg, tmp_path):
    image = make_jpeg(40, 60)
    bad = {
        "image/source_id holds whole numbers, not text": {"source_id": [1]},
        "image/object/class/label holds floats, not whole numbers": {"label": [1.0]},
        "it has no image/encoded": {"encoded": None},
        "image/height holds 2 values, not one": {"height": [40, 40]},
    }
    examples = [example(image, [CAT], **change) for change in bad.values()]
    problems, _, findings = found_in(tmp_path, *examples, b"\xff\xff", example(image, [CAT]))
    assert problems == {"unreadable record": 5}
    for finding, reason in zip(findings, [*bad, "it is no tf.train.Example"]):
        assert finding["reason"].endswith(f"schema: {reason}")
