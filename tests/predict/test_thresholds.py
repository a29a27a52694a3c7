"""One threshold, or one for each class, from a dictionary, a file or the report of a run."""

import json

import numpy as np
import pytest

from tests.fakes import CLASSES, picture
from tests.predict.color_predictor import ColorPredictor
from tfdet.errors import UserError
from tfdet.predict.thresholds import Thresholds, choose_thresholds


def test_each_class_has_its_own():
    found = ColorPredictor()(picture(64, 128, {0: (0, 0, 9, 9), 1: (20, 0, 29, 9), 2: (40, 0, 49, 9)}))
    np.testing.assert_allclose(found.scores, [1.0, 0.9216, 0.8431], atol=1e-4)
    assert Thresholds(0.9).keep(found).class_names == ["red", "green"]
    assert Thresholds(0.9, {"blue": 0.5, "red": 1.0}).keep(found).class_names == CLASSES
    assert Thresholds(0.9, {"green": 0.95}).keep(found).class_names == ["red"]
    assert Thresholds(0.3).describe() == "30% up"
    assert Thresholds(0.3, {"a": 0.2, "b": 0.65}).describe() == "20% to 65% up, by class"


def test_they_come_from_a_file_or_the_runs_report(tmp_path):
    file = tmp_path / "report" / "thresholds.json"
    with pytest.raises(UserError, match="thresholds.json not found: `tfdet report .*` writes it"):
        choose_thresholds(0.3, "report", CLASSES, tmp_path)
    file.parent.mkdir()
    file.write_text(json.dumps({"thresholds": {"red": 0.25, "blue": 1}, "made_for": {"step": 7}}))
    for chosen in ("report", str(file), {"red": 0.25, "blue": 1}):
        thresholds = choose_thresholds(0.4, chosen, CLASSES, tmp_path)
        assert [thresholds.of(name) for name in CLASSES] == [0.25, 0.4, 1.0]
        assert thresholds.made_for_step == (None if isinstance(chosen, dict) else 7)
    with pytest.raises(UserError, match="this model is of none: give the path"):
        choose_thresholds(0.3, "report", CLASSES)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"thresholds": {"rad": 0.5}}', "the model has no class 'rad'. Did you mean 'red'"),
        ('{"thresholds": {"red": 1.5}}', "the threshold of 'red' must be from 0 to 1"),
        ('{"thresholds": {"red": "high"}}', "the threshold of 'red' must be from 0 to 1"),
        ('{"threshold": {}}', "there is no 'thresholds'"),
        ("[0.5]", "expected an object"),
        ("no json", "no valid JSON"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(tmp_path, content, message):
    file = tmp_path / "thresholds.json"
    file.write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        choose_thresholds(0.3, file, CLASSES)
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(UserError, match="are not there"):
        choose_thresholds(0.3, str(tmp_path / "absent.json"), CLASSES)
