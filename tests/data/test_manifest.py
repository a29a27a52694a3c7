"""What is wrong with a manifest or an index is found when it is read: by its digest, and without one by its values."""

import json
import pathlib
import re
import shutil

import numpy as np
import pytest

from tests.data.conftest import write_set
from tfdet.data.index import RecordIndex
from tfdet.data.manifest import Manifest
from tfdet.errors import UserError


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A set of 6 images in 2 shards; not to be changed."""
    sizes, boxes = (
        [(30, 40), (40, 30)] * 3,
        [[(1, 2, 8, 9, 3)], [(1, 2, 8, 9, 7)], [(1, 2, 8, 9, 7), (5, 5, 6, 6, 7)]] * 2,
    )
    write_set(tmp_path_factory.mktemp("whole") / "set", sizes, boxes)
    return tmp_path_factory.getbasetemp() / "whole0/set"


@pytest.fixture
def folder(whole, tmp_path):
    """A copy of that set."""
    return pathlib.Path(shutil.copytree(whole, tmp_path / "set"))


def content(folder):
    return json.loads((folder / "manifest.json").read_text())


def without_digest(folder):
    """The set as older versions wrote it."""
    old = {name: value for name, value in content(folder).items() if name not in ("digest", "index_sha256")}
    (folder / "manifest.json").write_text(json.dumps(old))


def load(folder):
    manifest = Manifest.load(folder)
    return manifest, manifest.load_index()


def same(first, second):
    return first[0].__dict__ == second[0].__dict__ and all(
        np.array_equal(a, b) for a, b in zip(first[1].__dict__.values(), second[1].__dict__.values(), strict=True)
    )


@pytest.mark.parametrize("file", ["manifest.json", "index.npz"])
def test_a_changed_or_missing_byte_is_never_taken_for_whole(folder, file):
    expected, path, random = load(folder), folder / file, np.random.default_rng(0)
    good = path.read_bytes()
    for number in range(200):
        damaged, position = bytearray(good), int(random.integers(len(good)))
        damaged[position] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged if number % 4 else good[:position])
        try:
            assert same(load(folder), expected) and file == "manifest.json", position  # a blank for another one
        except UserError as error:
            assert str(path) in str(error) and "\n" not in str(error)


@pytest.mark.parametrize("digests", [True, False])
def test_each_value_of_the_manifest(folder, digests):
    if not digests:
        without_digest(folder)
    good = content(folder)
    load(folder)
    others = (None, True, -1, 1.5, 2**63, float("nan"), "x", [], {}, [None], [2**70], ["a"])
    for name in good:
        for value in [*others, *([good[name][::-1]] if isinstance(good[name], list) else [])]:
            if value == good[name]:
                continue
            (folder / "manifest.json").write_text(json.dumps({**good, name: value}))
            try:
                load(folder)
            except UserError as error:
                assert str(folder) in str(error) and "\n" not in str(error)
            else:  # a name, or an order, which only the digest knows
                assert not digests and name in ("name", "source", "classes", "category_ids", "boxes_per_class")
        (folder / "manifest.json").write_text(json.dumps({key: good[key] for key in good if key != name}))
        if digests or name not in ("num_masks", "num_crowd_masks"):
            with pytest.raises(UserError, match="manifest"):
                load(folder)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("file", "../x", "is missing"),
        ("file", "x" * 300, "is missing"),
        ("file", "a\0b", "not a text"),
        ("bytes", 2**62, "was changed or cut off"),
        ("records", 2, "add up to 5, not 6"),
        ("sha256", "0", "not a SHA-256"),
    ],
)
def test_each_value_of_a_shard(folder, name, value, message):
    without_digest(folder)
    changed = content(folder)
    changed["shards"][0][name] = value
    (folder / "manifest.json").write_text(json.dumps(changed))
    with pytest.raises(UserError, match=message):
        load(folder)


def test_the_classes_may_stand_in_another_order_but_not_under_other_ids(folder):
    good = content(folder)
    order = {name: good[name][::-1] for name in ("classes", "category_ids", "boxes_per_class")}
    (folder / "manifest.json").write_text(json.dumps(good | order, indent=4))
    assert load(folder)[0].classes == ["dog", "cat"]
    for name, value in order.items():
        (folder / "manifest.json").write_text(json.dumps({**good, name: value}))
        with pytest.raises(UserError, match="was changed after it was written"):
            load(folder)


@pytest.mark.parametrize(
    ("column", "row", "value", "message"),
    [
        ("length", 0, 2**62, "go beyond the end of the shard"),  # this one took the process down when it was read
        ("length", 0, -5, "length -5 is not positive"),
        ("offset", 1, 2**63 - 1, "go beyond the end"),
        ("offset", 1, -1, "offset -1 is negative"),
        ("offset", 1, 3, "lies over another"),
        ("shard", 5, 2, "shard 2 is none of the manifest's"),
        ("shard", 5, -1, "shard -1 is none of the manifest's"),
        ("image_id", 1, 10, "image id 10 is there 2 times"),
        ("height", 2, 0, "height 0 is not positive"),
        ("width", 0, 30, "boxes and orientations"),
        ("num_boxes", 2, 5, "boxes and orientations"),
        ("num_boxes", 2, -1, "num_boxes -1 is negative"),
    ],
)
def test_each_column_of_an_index_without_digest(folder, column, row, value, message):
    _, index = load(folder)
    getattr(index, column)[row] = value
    index.save(folder / "index.npz")
    with pytest.raises(UserError, match="SHA-256 differs"):
        load(folder)
    without_digest(folder)
    with pytest.raises(UserError, match=re.escape(message)):
        load(folder)


def test_an_index_of_other_types_or_sizes_is_refused_before_it_is_unpacked(folder):
    _, index = load(folder)
    without_digest(folder)
    path, columns = folder / "index.npz", dict(index.__dict__)
    for change, message in (
        ({"length": index.length.astype(np.float64)}, "length is of float64"),
        ({"offset": index.offset[:-1]}, r"offset has the shape \[5\]"),
        ({"image_id": np.zeros(10**7, np.int64)}, "image_id has 80000128 bytes for 6 records"),
        ({"width": np.array([[1]] * 6, np.int32)}, "width has the shape"),
        ({"shard": np.array([{}] * 6)}, "allow_pickle=False|shard"),
    ):
        np.savez_compressed(path, **{**columns, **change})
        with pytest.raises(UserError, match=message):
            load(folder)
    RecordIndex(**columns).save(path)
    load(folder)
