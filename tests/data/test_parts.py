"""Conversion in parts: what the merge makes is what one run makes, to the byte; and what cannot be merged."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

import tfdet
from tfdet.commands import main
from tfdet.data.manifest import Manifest
from tfdet.data.parts import Part
from tfdet.errors import EXIT_CHECK_FAILED, EXIT_OK, EXIT_USER_ERROR, UserError

QUIET = {"num_workers": 0, "quiet": True}


@pytest.fixture
def source(coco):
    """23 images, of which one is missing, one does not decode and one has a box outside of it; masks and crowds."""
    for number in range(1, 24):
        encoded = {5: b"missing", 11: b"no image"}.get(number)
        coco.image(number, 30 + number % 3 * 10, 40, encoded)
        x = 90 if number == 17 else 3
        polygon = [[3, 3, 13, 3, 13, 12 + number % 4]]
        coco.box(number, (x, 3, 9, 8), 3 if number % 4 else 7, segmentation=polygon, iscrowd=0)
    coco.box(7, (1, 1, 9, 9), 7, iscrowd=1, segmentation={"size": [40, 40], "counts": [5, 10, 1585]})
    path, _ = coco.write()
    return path.parent


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("options", [{}, {"val_fraction": 0.3, "seed": 4}], ids=["one", "splits"])
def test_the_merge_makes_what_one_run_makes(source, tmp_path, options):
    """The parts come in any order; 3 parts of 4 shards, one of which keeps no image that could be used."""
    options = options | {"num_shards": 4, **QUIET}
    expected = tfdet.convert_data(source, tmp_path / "one" / "set", **options)
    output = tmp_path / "parts" / "set"
    for number in (3, 1, 2):
        folders = tfdet.convert_data(source, output, part=f"{number}/3", **options)
        assert set(folders) == set(expected) and all(folder.is_dir() for folder in folders.values())
    assert not output.exists()
    made = tfdet.convert_data(None, output, merge=True, quiet=True)
    assert content(output) == content(tmp_path / "one" / "set")
    assert {key: path.relative_to(output) for key, path in made.items()} == {
        key: path.relative_to(tmp_path / "one" / "set") for key, path in expected.items()
    }
    assert [path.name for path in output.parent.iterdir()] == ["set"], "the parts are gone"
    assert len(json.loads((output / ("train" if "seed" in options else ".") / "report.json").read_text())["findings"])


def test_what_cannot_be_merged(source, tmp_path):
    output = tmp_path / "set"
    options = {"num_shards": 4, **QUIET}

    def merge():
        return tfdet.convert_data(None, output, merge=True, quiet=True)

    with pytest.raises(UserError, match="no parts to merge in .*set.parts"):
        merge()
    tfdet.convert_data(source, output, part="1/2", **options)
    with pytest.raises(UserError, match="lacks 1 of 2 parts: run the same command with --part=2/2"):
        merge()
    with pytest.raises(UserError, match="holds this part already; give --overwrite"):
        tfdet.convert_data(source, output, part="1/2", **options)
    folder = tfdet.convert_data(source, output, part="2/2", **options | {"num_shards": 5})["all"]
    with pytest.raises(UserError, match="part 2/2 was made of something else than part 1/2: they differ in finger"):
        merge()
    tfdet.convert_data(source, output, part="2/2", overwrite=True, **options)
    shard = next(folder.glob("*.tfrecord"))
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1] + b"\0")
    with pytest.raises(UserError, match=r"\.tfrecord is missing or was changed: copy it again"):
        merge()
    shard.write_bytes(whole)
    (folder / "census.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match="census.npz is damaged"):
        merge()
    (folder / "part.json").write_text("{}")
    with pytest.raises(UserError, match="part.json is no whole part of a data set"):
        merge()
    shutil.copytree(folder.parent, folder.parent.with_name("1-of-3"))
    with pytest.raises(UserError, match="holds parts of 2 and of 3: remove those"):
        merge()
    assert not output.exists()


def test_the_commands(source, tmp_path, capsys):
    output = f"--output={tmp_path / 'set'}"
    many = ["--num_shards=3", "--num_workers=0"]
    for number in (1, 2):
        assert main(["convert_data", str(source), output, f"--part={number}/2", *many]) == EXIT_OK
    said = capsys.readouterr().out
    assert f"When all parts are there: tfdet convert_data --merge {output}" in said and "Part 2/2 is in" in said
    assert main(["convert_data", "--merge", output, "--strict"]) == EXIT_CHECK_FAILED
    assert "missing file" in capsys.readouterr().out and not (tmp_path / "set").exists()
    assert main(["convert_data", "--merge", output]) == EXIT_OK
    assert "21" in capsys.readouterr().out
    assert main(["convert_data", "--merge", output, "--part=1/2"]) == EXIT_USER_ERROR
    assert main(["convert_data", f"--from_records={tmp_path}/set/*.tfrecord", output, "--part=1/2"]) == EXIT_USER_ERROR
    assert "--part is for photos and annotations" in capsys.readouterr().err
    assert main(["convert_data", str(source), f"--output={tmp_path / 'b'}", "--part=1/9", *many]) == EXIT_USER_ERROR
    assert "there are 3 shards to share out" in capsys.readouterr().err


def test_records_of_two_processes_are_alike(source, tmp_path):
    """Features are a map, whose order in a message is another one in each process unless they are sorted."""
    folder = tfdet.convert_data(source, tmp_path / "set", num_shards=1, **QUIET)["all"]
    manifest = Manifest.load(folder)
    length, content = int(manifest.load_index().length[0]), (folder / manifest.shards[0].file).read_bytes()
    record = content[12 : 12 + length]
    keys = sorted(tf.train.Example.FromString(record).features.feature)
    assert len(keys) > 12
    places = [record.index(bytes([10, len(key)]) + key.encode()) for key in keys]
    assert places == sorted(places)


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/2/3", "a/b", "-1/2"])
def test_a_part_is_a_number_of_so_many(text):
    with pytest.raises(UserError, match="such as 2/4"):
        Part.parse(text)
    assert str(Part.parse(" 2/4 ")) == "2/4"


def test_the_census_of_parts_is_that_of_the_whole():
    from tfdet.data.suspicious import BoxCensus

    whole, merged = BoxCensus(), BoxCensus()
    for half in range(2):
        part = BoxCensus()
        for image in range(8):
            boxes = [[50.0, 5.0, 90.0 + image, 40.0], [np.inf, 0, 1, 1]][: 1 + image % 2]
            for census in (whole, part):
                census.add(boxes, 60, 100, bool(half))
        merged.extend(part.columns())
    assert merged.suspicions() == whole.suspicions() and whole.suspicions()
