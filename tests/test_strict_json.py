"""JSON of unknown origin: read, or refused in one line; and the files that are read so."""

import json
from pathlib import Path

import numpy as np
import pytest

from tfdet.bench.results import read_results
from tfdet.errors import UserError
from tfdet.predict.exported import LABELS_FILE, found_by_export, read_labels
from tfdet.predict.found import Labels
from tfdet.strict_json import field, parse_json, read_json

BAD = {
    b'{"a": NaN}': "NaN is no number",
    b"[-Infinity]": "-Infinity is no number",
    b"[1e999]": "1e999 is too large",
    b'{"a": 1, "b": 2, "a": 3}': "'a' stands twice",
    b"[" * 100_000: "nested too deeply",
    b"[" * 3000 + b"]" * 3000: "nested too deeply",
    b'{"a":' * 100_000 + b"1" + b"}" * 100_000: "nested too deeply",
    b"1" * 5000: "has 5000 digits",
    b'{"a": "\xff"}': "not UTF-8 at byte 7",
    b"{'a': 1}": "no valid JSON",
    b"": "no valid JSON",
    b"[1] 2": "no valid JSON",
    "[1]".encode("utf-16"): "not UTF-8",
}


@pytest.mark.parametrize("text", BAD, ids=list(BAD.values()))
def test_what_is_no_json_is_one_line(text, tmp_path):
    with pytest.raises(ValueError, match=BAD[text]):
        parse_json(text)
    (tmp_path / "a.json").write_bytes(text)
    with pytest.raises(UserError, match=f"cannot read the list .*a.json: .*{BAD[text]}.*; do this") as caught:
        read_json(tmp_path / "a.json", "the list", "do this")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_valid_json_is_read_with_and_without_a_byte_order_mark(tmp_path):
    text = '{"a": [1, 2.5, -3e4, true, null, "\\u00e9ü"], "b": {"a": {}}, "c": 12345678901234567890}'
    assert parse_json(text) == parse_json(text.encode("utf-8-sig")) == json.loads(text)
    assert parse_json("[" * 200 + "]" * 200)
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "absent", "the list")
    with pytest.raises(UserError, match="Is a directory"):
        read_json(tmp_path, "the list")


def test_fields_have_the_types_that_are_asked_for():
    content = {"n": 1, "x": 1.5, "yes": True, "none": None}
    assert field(content, "n", int) == 1 and field(content, "yes", bool) and field(content, "z", str, "-") == "-"
    for arguments, message in (
        ((content, "yes", int), "'yes' must be a whole number, not True"),
        ((content, "yes", (int, float)), "'yes' must be a whole number or a number, not True"),
        ((content, "x", int), "'x' must be a whole number, not 1.5"),
        ((content, "none", str, "-"), "'none' must be a text, not null"),
        ((content, "z", str), "there is no 'z'"),
        (([1], "z", str), r"expected an object with 'z', not \[1\]"),
    ):
        with pytest.raises(ValueError, match=message):
            field(*arguments)


def entry(number=1, **other):
    return {"id": number, "name": f"n{number}", "category_id": 10 * number, **other}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "expected an object with 'classes'"),
        (7, "expected an object"),
        ({}, "there is no 'classes'"),
        ({"classes": 7}, "'classes' must be a list"),
        ({"classes": [7]}, "expected an object with 'id', not 7"),
        ({"classes": [entry(), entry(3)]}, "the 'id' of 2 classes must be 1 to 2"),
        ({"classes": [entry(), entry()]}, "two classes have the 'id' 1"),
        ({"classes": [entry(0)]}, "must be 1 to 1"),
        ({"classes": [{**entry(), "id": "1"}]}, "'id' must be a whole number, not '1'"),
        ({"classes": [entry(name=None)]}, "'name' must be a text, not null"),
        ({"classes": [entry(category_id=1.5)]}, "'category_id' must be a whole number"),
        ({"classes": [entry(category_id=10**30)]}, "class 1: 'category_id': 1000.* is larger than 2.63 - 1"),
        ({"classes": [entry(category_id=-1)]}, "class 1: 'category_id': -1 is negative"),
        ({"classes": [entry(1), entry(2, category_id=10)]}, "two classes have the 'category_id' 10"),
        ({"classes": [entry()], "mask_paste": "odd"}, "'mask_paste' must be one of simpledet"),
    ],
)
def test_odd_labels_are_one_line(content, message, tmp_path):
    path = tmp_path / LABELS_FILE
    path.parent.mkdir()
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=message) as caught:
        read_labels(tmp_path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [t for t in BAD if len(t) > 2])
def test_labels_that_are_no_json_are_one_line(text, tmp_path):
    path = tmp_path / LABELS_FILE
    path.parent.mkdir()
    path.write_bytes(text)
    with pytest.raises(UserError, match="labels.json: .*; copy it from where"):
        read_labels(tmp_path)


def test_labels_may_come_in_any_order(tmp_path):
    path = tmp_path / LABELS_FILE
    path.parent.mkdir()
    path.write_bytes(json.dumps({"classes": [entry(2), entry(1)]}).encode("utf-8-sig"))
    assert read_labels(tmp_path) == (["n1", "n2"], [10, 20], "simpledet")
    assert read_labels(tmp_path / "absent") is None


@pytest.mark.parametrize(
    "line",
    [
        "[" * 5000,
        '{"kind": "model", "row": "a", "parameters": "many", "multiply_adds": 1}',
        '{"kind": "evaluate", "row": "a", "data": "x", "AP": NaN}',
        '{"kind": "evaluate", "row": "a", "AP": 0.5}',
        '{"kind": [], "row": "a"}',
        '{"kind": "train speed", "row": "a", "device": 7, "images_per_second": 1.0}',
    ],
)
def test_a_line_of_results_that_no_table_can_show_is_named(line, tmp_path):
    path = Path(tmp_path / "results.jsonl")
    path.write_text('{"kind": "check", "row": "a"}\n' + line + "\n")
    with pytest.raises(UserError, match=r"results.jsonl, line 2: not a measurement of tfdet \(.*\); take the line out"):
        read_results(path)


def test_labels_of_another_model_are_named():
    outputs = {"num_detections": [1], "detection_boxes": np.zeros([1, 2, 4]), "detection_scores": np.ones([1, 2])}
    outputs["detection_classes"] = np.array([[2, 9]])
    image = np.zeros([4, 4, 3], np.uint8)
    assert found_by_export(outputs, image, Labels(["a", "b"], [1, 2])).class_ids.tolist() == [1]
    with pytest.raises(UserError, match="finds class 2, and its .*labels.json names 1"):
        found_by_export(outputs, image, Labels(["a"], [1]))
