"""Names and ids of classes in the header of tfdet's own weight files."""

import json

import numpy as np

from tfdet.weights import class_names
from tfdet.weights.formats.safetensors import read_metadata, write_safetensors

NAMES = {90: "größer", 7: 'a "b"', 13: "class 3"}
ARRAYS = {"bbox_head/predictor/cls/bias": np.zeros(4, np.float32), "backbone/conv0/kernel": np.zeros(1, np.float32)}


def test_names_come_back_in_their_order(tmp_path):
    path = tmp_path / "a.safetensors"
    write_safetensors(path, ARRAYS, {"format": "tfdet", **class_names.as_metadata(NAMES)})
    found = class_names.in_file(path, 3)
    assert found == NAMES and list(found) == list(NAMES)
    assert class_names.known_classes(path, path, ARRAYS) == NAMES
    assert class_names.in_file(path, 4) is None, "a header that does not fit the tensors"


def test_what_says_nothing_has_no_names(tmp_path):
    assert class_names.as_metadata(None) == {}
    path = tmp_path / "a.safetensors"
    entry = {"category_id": 1, "name": "a"}
    for listed in (
        [],
        [entry, entry],
        [{"category_id": "x", "name": "a"}],
        [{"category_id": 1, "name": 2}],
        [1],
        5,
        None,
    ):
        write_safetensors(path, ARRAYS, {"classes": json.dumps(listed)})
        assert class_names.in_file(path, len(listed) if isinstance(listed, list) else 1) is None, listed
    write_safetensors(path, ARRAYS)
    assert read_metadata(path) == {} and class_names.known_classes(path, path, ARRAYS) is None
    for content in (b"", b"\xff" * 20, (9).to_bytes(8, "little") + b"[1, 2, 3]", (4).to_bytes(8, "little") + b"none"):
        path.write_bytes(content)
        assert class_names.in_file(path, 3) is None
    assert class_names.in_file(tmp_path / "absent", 3) is None
    eighty = {**ARRAYS, "bbox_head/predictor/cls/bias": np.zeros(81, np.float32)}
    assert class_names.known_classes(path, path, eighty)[1] == "person"
    assert class_names.known_classes(path, path, {}) is None
