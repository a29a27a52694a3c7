"""What a run is, and what may differ when it goes on."""

import dataclasses
import json
from types import SimpleNamespace

import pytest

from tfdet import config
from tfdet.errors import UserError
from tfdet.training.run_record import RunRecord, data_fingerprint, lines_of

RECORD = RunRecord(
    classes=["car", "bus"],
    category_ids=[1, 6],
    data_name="street",
    data="0a1b2c3d4e",
    values={"Trainer.momentum": "0.9", "Trainer.steps": "10", "RpnHead.channels": "512"},
    defaults=["RpnHead.channels"],
)


def changed(**values):
    return dataclasses.replace(RECORD, values=RECORD.values | values)


def test_a_checkpoint_gives_it_back():
    again = RunRecord.parse(RECORD.json())
    assert again == RECORD and RunRecord.parse(again.json().encode()) == RECORD
    assert [RunRecord.parse(text) for text in (None, "", "{", "[]", "{}", b"\xff")] == [None] * 6
    odd = {"classes": [["car"], 3], "values": ["Trainer.momentum"], "defaults": [[]], "data": 3}
    for name, value in odd.items():
        assert RunRecord.parse(json.dumps(json.loads(RECORD.json()) | {name: value})) is None


@pytest.mark.parametrize(
    ("classes", "ids", "message"),
    [
        (["bus", "car"], [1, 6], "the same classes in another order: the run's are 1 'car', 6 'bus', its are 1 'bus'"),
        (["car", "tram"], [1, 6], "'bus' in place of 'tram'. The data set has other classes"),
        (["car", "bus", "tram"], [1, 6, 7], "its are 1 'car', 6 'bus', 7 'tram'"),
        (["car", "bus"], [6, 1], "other category ids: the run's are 1 'car', 6 'bus', its are 6 'car', 1 'bus'"),
    ],
)
def test_other_classes_another_order_and_other_ids_are_refused_whatever_may_change(classes, ids, message):
    now = dataclasses.replace(RECORD, classes=classes, category_ids=ids, may_change=True)
    with pytest.raises(UserError) as error:
        RECORD.check_classes(now, "runs/a")
    assert message in str(error.value) and "the run in runs/a" in str(error.value) and "\n" not in str(error.value)
    RECORD.check_classes(dataclasses.replace(RECORD), "runs/a")


def test_every_other_difference_is_listed_and_needs_a_word():
    now = dataclasses.replace(changed(**{"Trainer.momentum": "0.8"}), data="ffffffffff", data_name="night")
    found = RECORD.differences(now)
    assert found == {
        "data set": ("street (0a1b2c3d)", "night (ffffffff)"),
        "Trainer.momentum": ("0.9", "0.8"),
    }
    shown = "data set street .* -> night .*; Trainer.momentum 0.9 -> 0.8. .*--resume runs/a.* --change"
    with pytest.raises(UserError, match=shown):
        now.check_changes(found, "runs/a")
    allowed = dataclasses.replace(now, may_change=True)
    assert allowed.check_changes(found, "runs/a")[1] == "Trainer.momentum 0.9 -> 0.8"
    assert now.check_changes({}, "runs/a") == []


def test_what_is_free_and_what_only_one_side_has_by_default():
    free = {"Trainer.steps": "20", "EvalInput.short_side": "800", "TrainInput.prefetch": "1", "Row.box_ap": "36.5"}
    now = changed(**free)
    assert RECORD.differences(now) == {}
    newer = dataclasses.replace(changed(**{"RpnHead.new": "1"}), defaults=["RpnHead.channels", "RpnHead.new"])
    assert RECORD.differences(newer) == {} and newer.differences(RECORD) == {}
    bound = changed(**{"RpnHead.new": "1"})
    assert RECORD.differences(bound) == {"RpnHead.new": ("not there", "1")}


def test_of_a_configuration_and_a_data_set():
    config.register_all()
    manifest = SimpleNamespace(name="set", classes=["a"], category_ids=[3], shards=[SimpleNamespace(sha256="0a")])
    lines = ["Trainer.steps = 10", "FACTOR = 0.5", "Trainer.momentum = %FACTOR"]
    record = RunRecord.of(manifest, config.parse([], lines))
    assert record.values["Trainer.momentum"] == "0.5" and "Trainer.momentum" not in record.defaults
    assert record.values["Trainer.clip"] == "None" and "Trainer.clip" in record.defaults
    assert (record.classes, record.category_ids, record.data_name) == (["a"], [3], "set")
    assert "Trainer.momentum = %FACTOR" in record.config
    other = RunRecord.of(manifest, config.parse([], [*lines, "Trainer.steps = 20", "Trainer.log_every = 5"]))
    assert record.differences(other) == {} and other.data == record.data
    assert lines_of(record.differences(other, free=True)) == ["Trainer.steps 10 -> 20", "Trainer.log_every 20 -> 5"]
    moved = SimpleNamespace(shards=[SimpleNamespace(sha256="0a"), SimpleNamespace(sha256="0b")])
    assert data_fingerprint(moved) != record.data
