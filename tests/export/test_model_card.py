"""The card of an export: what it says of a run, and that no name in it is anything but text."""

import json

import pytest

from tests.export.conftest import CARD
from tfdet import config
from tfdet.config import register_all
from tfdet.errors import UserError
from tfdet.export.model_card import CARD as CARD_FILE
from tfdet.export.model_card import CARD_JSON, card_of, read_card, write_card
from tfdet.weights import published

NAMES = ["a|b\n# [x](y)", "<b>`c`</b>", "*d*"]
MANIFEST = {
    "format": "tfdet data set", "version": 1, "name": "shapes", "classes": NAMES, "category_ids": [3, 1, 2],
    "boxes_per_class": [4, 5, 6], "num_images": 7, "num_boxes": 15, "num_crowd": 0, "num_images_without_boxes": 0,
    "num_trainable_landscape": 7, "num_trainable_portrait": 0, "source": "drawn",
    "shards": [{"file": "a.tfrecord", "records": 7, "bytes": 9, "sha256": "0" * 64}],
}  # fmt: skip


@pytest.fixture
def run(tmp_path):
    (tmp_path / "report").mkdir()
    (tmp_path / "manifest.json").write_text(json.dumps(MANIFEST))
    (tmp_path / "report" / "thresholds.json").write_text(json.dumps({"thresholds": {NAMES[2]: 0.42}}))
    return tmp_path


def test_a_card_of_a_run(run, tmp_path):
    register_all()
    start = next(name for name in published.everything() if name.startswith("torchvision/resnet"))
    lines = [f"Trainer.init_weights = '{start}'", "PostProcess.score_threshold = 0.2"]
    configuration = config.parse(["families/faster_c4.gin"], lines)
    card = card_of("shapes", "checkpoint of step 5", configuration, NAMES, [3, 1, 2], str(run))
    figures = {"AP": 0.5, "AP50": 0.75, "AP75": -1.0}
    evaluation = {"data": "val", "images": 9, "checkpoint": figures, "export": figures}
    write_card(
        tmp_path, card, format={"title": "ONNX", "precision": "float32"}, input="An image.", evaluation=evaluation
    )
    content, text = read_card(tmp_path), (tmp_path / CARD_FILE).read_text()
    assert content["classes"][1] == {"id": 2, "name": NAMES[1], "category_id": 1}
    assert (
        content["training_data"]["boxes_by_class"][NAMES[0]] == 4 and len(content["training_data"]["fingerprint"]) == 64
    )
    assert content["thresholds"]["score_threshold"] == 0.2
    assert content["thresholds"]["proposed_by_class"] == {NAMES[2]: 0.42}
    assert content["start_weights"]["name"] == start and content["start_weights"]["licence"]
    assert content["versions"]["tfdet"] and "tensorflow" in content["versions"]
    assert "PostProcess.score_threshold = 0.2" in content["configuration"]
    # Names are text: no row of the table, heading, link or tag is theirs.
    assert r"| 1 | a\|b \# \[x\]\(y\) | 3 | 4 | - |" in text
    assert r"| 2 | \<b\>\`c\`\</b\> | 1 | 5 | - |" in text and r"| 3 | \*d\* | 2 | 6 | 0.42 |" in text
    assert "| checkpoint | 50.0 | 75.0 | - |" in text and "Not compared with the checkpoint" in text
    assert content["start_weights"]["licence"].split()[0] in text


def test_a_card_without_a_run_and_one_that_is_none(tmp_path):
    write_card(tmp_path, CARD)
    assert "Not measured" in (tmp_path / CARD_FILE).read_text()
    (tmp_path / CARD_JSON).write_text("[]")
    with pytest.raises(UserError, match="is no model card"):
        read_card(tmp_path)
    with pytest.raises(UserError, match="not found"):
        read_card(tmp_path / "absent")
