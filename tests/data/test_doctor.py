import dataclasses
import glob
import json
import os

import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from tfdet.commands import convert_data
from tfdet.data.doctor import diagnose, explain_pipeline_error
from tfdet.data.inputs import EvalInput, TrainInput
from tfdet.data.manifest import Manifest, file_sha256
from tfdet.data.problems import ProblemReport
from tfdet.data.scan import manifest_from_records
from tfdet.errors import UserError


def iterate(folder):
    for _ in EvalInput(folder, short_side=24, long_side=36).dataset():
        pass


def place(folder, row):
    """Shard path, and where the example of a row begins and ends."""
    manifest = Manifest.load(folder)
    index = manifest.load_index()
    start = int(index.offset[row]) + 12  # behind the length and its checksum
    return folder / manifest.shards[index.shard[row]].file, start, start + int(index.length[row])


def replace_bytes(path, position, data):
    content = bytearray(path.read_bytes())
    content[position : position + len(data)] = data
    path.write_bytes(content)


def test_a_whole_data_set(mixed_set):
    assert diagnose(mixed_set, checksums=True, console=Console(quiet=True)) == []
    assert "reads well now" in str(explain_pipeline_error(tf.errors.UnavailableError(None, None, "gone"), mixed_set))


def test_a_corrupt_record_is_named_and_the_others_are_read(mixed_set):
    for row in (3, 9):
        path, start, end = place(mixed_set, row)
        replace_bytes(path, (start + end) // 2, b"\x00\xff\x00\xff")
    with pytest.raises(tf.errors.DataLossError) as caught:
        iterate(mixed_set)
    assert [(problem.kind, problem.image_id) for problem in diagnose(mixed_set)] == [
        ("corrupt record", 13),
        ("corrupt record", 19),
    ]
    explained = explain_pipeline_error(caught.value, mixed_set)
    assert isinstance(explained, UserError)
    assert "corrupt record" in str(explained) and "image id 13" in str(explained) and "and 1 more" in str(explained)
    assert "tiny-00000-of-00003.tfrecord" in str(explained) and "\n" not in str(explained)
    kinds = [problem.kind for problem in diagnose(mixed_set, checksums=True)]
    assert kinds.count("changed shard") == 2


def rewrite(folder, row, change):
    """Writes the data set's shard anew with one example changed; index and manifest follow."""
    manifest = Manifest.load(folder)
    index = manifest.load_index()
    path = folder / manifest.shards[index.shard[row]].file
    examples = [tf.train.Example.FromString(data.numpy()) for data in tf.data.TFRecordDataset(str(path))]
    own = np.flatnonzero(index.shard == index.shard[row])
    change(examples[int(np.flatnonzero(own == row)[0])].features.feature)
    offset = 0
    with tf.io.TFRecordWriter(str(path)) as writer:
        for number, example in zip(own, examples):
            data = example.SerializeToString()
            writer.write(data)
            index.offset[number], index.length[number] = offset, len(data)
            offset += len(data) + 16
    index.save(folder / "index.npz")
    shards = list(manifest.shards)
    shards[index.shard[row]] = dataclasses.replace(
        shards[index.shard[row]], bytes=path.stat().st_size, sha256=file_sha256(path)
    )
    dataclasses.replace(manifest, shards=shards, index_sha256=index.sha256()).write()


def test_a_truncated_jpeg_inside_a_record(mixed_set):
    def cut(feature):
        encoded = feature["image/encoded"].bytes_list.value
        encoded[0] = encoded[0][: len(encoded[0]) // 2]

    rewrite(mixed_set, 5, cut)
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        iterate(mixed_set)
    (problem,) = diagnose(mixed_set)
    assert (problem.kind, problem.image_id) == ("undecodable image", 15)
    assert "15.jpg" in str(explain_pipeline_error(caught.value, mixed_set))


def test_an_unknown_category_names_the_image(mixed_set):
    def relabel(feature):
        feature["image/object/class/label"].int64_list.value[0] = 555

    rewrite(mixed_set, 4, relabel)
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        iterate(mixed_set)
    explained = str(explain_pipeline_error(caught.value, mixed_set))
    assert "image id 14 has a category id that the manifest does not list: [555]" in explained
    assert "\n" not in explained
    assert [problem.kind for problem in diagnose(mixed_set)] == ["unknown category"]


def test_an_image_that_is_larger_than_its_index_says(mixed_set, make_jpeg):
    def enlarge(feature):
        feature["image/encoded"].bytes_list.value[0] = make_jpeg(60, 40)

    rewrite(mixed_set, 0, enlarge)
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        for _ in TrainInput(mixed_set, short_side=24, long_side=36).dataset(1).take(9):
            pass
    assert "image id 10 decodes to a size" in str(explain_pipeline_error(caught.value, mixed_set))
    assert [problem.kind for problem in diagnose(mixed_set)] == ["image size differs"]


def test_missing_and_changed_shards(mixed_set):
    first, second = (mixed_set / shard.file for shard in Manifest.load(mixed_set).shards[:2])
    second.write_bytes(second.read_bytes()[:-7])
    with pytest.raises(UserError, match="changed or cut off"):
        TrainInput(mixed_set)
    first.unlink()
    with pytest.raises(UserError, match=f"{first.name} is missing"):
        EvalInput(mixed_set)
    kinds = [problem.kind for problem in diagnose(mixed_set)]
    assert kinds[:2] == ["missing shard", "changed shard"]
    assert "corrupt record" in kinds[2:]


def test_check_command(mixed_set, capsys):
    import argparse

    parser = argparse.ArgumentParser()
    convert_data.add_arguments(parser)
    arguments = parser.parse_args(["--check", str(mixed_set)])
    assert convert_data.run(arguments) == 0
    path, start, _ = place(mixed_set, 3)
    replace_bytes(path, start + 4, b"\x00\xff\x00\xff")
    assert convert_data.run(arguments) == 1
    assert "image id 13" in capsys.readouterr().out


def test_manifest_errors(mixed_set, tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        Manifest.load(tmp_path / "nowhere")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match="has no manifest.json; make the data set"):
        Manifest.load(empty)
    (empty / "a-00000-of-00001.tfrecord").write_bytes(b"")
    with pytest.raises(UserError, match="--from_records"):
        Manifest.load(empty)
    path = mixed_set / "manifest.json"
    content = json.loads(path.read_text())
    for change, message in (
        ({"format": "x"}, "not the manifest"),
        ({"version": 99}, "version 99"),
        ({"num_images": 0}, "holds no records"),
        ({"shards": [3]}, "damaged"),
    ):
        path.write_text(json.dumps(content | change))
        with pytest.raises(UserError, match=message):
            Manifest.load(mixed_set)
    path.write_text("{")
    with pytest.raises(UserError, match="damaged"):
        Manifest.load(mixed_set)
    path.write_text(json.dumps(content))
    (mixed_set / "index.npz").write_bytes(b"PK nonsense")
    with pytest.raises(UserError, match="record index"):
        TrainInput(mixed_set)
    (mixed_set / "index.npz").unlink()
    with pytest.raises(UserError, match="record index"):
        TrainInput(mixed_set)


def test_ids_and_class_names_are_compared_with_the_records(mixed_set):
    """Reversed ids and permuted images are whole by every count; here they belong to their digests too."""
    manifest = Manifest.load(mixed_set)
    dataclasses.replace(manifest, category_ids=manifest.category_ids[::-1]).write()
    problems = diagnose(mixed_set)
    assert {problem.kind for problem in problems} == {"class name differs"} and len(problems) == 14
    assert "category id 7 is 'dog' in its record and 'cat' in the manifest" in str(problems[0])
    renamed = dataclasses.replace(manifest, classes=["cat", "hound"])
    renamed.write()
    assert {problem.kind for problem in diagnose(mixed_set)} == {"class name differs"}
    dataclasses.replace(renamed, source="records: *.tfrecord").write()
    assert diagnose(mixed_set) == [], "whoever lists the classes of other records names them"

    index = manifest.load_index()
    index.image_id[[2, 3]] = index.image_id[[3, 2]]
    index.save(mixed_set / "index.npz")
    dataclasses.replace(manifest, index_sha256=index.sha256()).write()
    (first, second) = diagnose(mixed_set)
    assert (first.kind, first.image_id, second.image_id) == ("image id differs", 13, 12)
    assert "12.jpg has the source id 12" in first.reason


def test_a_folder_whose_name_is_no_utf8(tmp_path, make_set):
    folder = tmp_path / os.fsdecode(b"caf\xe9 [1]")
    make_set(folder / "set", [(30, 40)] * 2)
    assert diagnose(folder / "set", checksums=True) == []
    iterate(folder / "set")
    pattern = glob.escape(str(folder / "set")) + "/*.tfrecord"
    manifest_from_records(pattern, folder / "again", "again", ProblemReport())
    iterate(folder / "again")
