"""`tfdet report` of a run, and of detections that another program wrote."""

import json

import pytest

import tfdet
from tfdet.commands import main
from tfdet.data.ground_truth import coco_ground_truth
from tfdet.data.manifest import Manifest
from tfdet.errors import EXIT_OK, UserError


def test_a_run_is_explained(here, trained, capsys):
    assert main(["report", "runs/shapes", "--data=data/val", "--worst=2"]) == EXIT_OK
    written = json.loads((here / "runs/shapes/report/report.json").read_text())
    figures = trained.evaluate("data/val").metrics
    for name in ("AP", "AP50", "AR100"):
        assert written["boxes"][name] == pytest.approx(figures[name], abs=1e-4)
    assert written["made_for"]["step"] == 2 and written["training"]["losses"]["total"]
    assert "Trainer.steps" in {name for name, *_ in written["configuration"]["changes"]}
    thresholds = json.loads((here / "runs/shapes/report/thresholds.json").read_text())["thresholds"]
    assert list(thresholds) == trained.classes and all(0 <= value <= 1 for value in thresholds.values())
    html = (here / "runs/shapes/report/index.html").read_text()
    assert 'id="training"' in html and 'id="configuration"' in html
    shown = capsys.readouterr().out
    assert "for boxes, on 6 images" in shown or "Nothing was found" in shown
    assert "index.html written" in " ".join(shown.split())


def test_detections_of_another_program_are_explained(here, tmp_path, monkeypatch):
    manifest = Manifest.load("data/val")
    truth = coco_ground_truth(manifest, manifest.load_index())
    found = [{**{k: a[k] for k in ("image_id", "category_id", "bbox")}, "score": 0.9} for a in truth["annotations"]]
    lost = found.pop()
    (tmp_path / "found.json").write_text(json.dumps(found))
    report = tfdet.write_report(data="data/val", detections=tmp_path / "found.json", output=tmp_path / "report")
    assert report.page.is_file() and report.figures["boxes"]["errors"]["count"]["missed"] == 1
    (worst,) = report.figures["worst_images"]
    assert worst["image_id"] == lost["image_id"] and worst["errors"][0]["bbox"] == lost["bbox"]
    with pytest.raises(UserError, match="give data"):
        tfdet.write_report(detections=tmp_path / "found.json")
    with pytest.raises(UserError, match="give the folder of a run"):
        tfdet.write_report(data="data/val")
    nothing = {**truth, "annotations": []}
    monkeypatch.setattr("tfdet.data.ground_truth.coco_ground_truth", lambda manifest, index: nothing)
    with pytest.raises(UserError, match="data/val has no object in 6 images"):
        tfdet.write_report(data="data/val", detections=tmp_path / "found.json")
