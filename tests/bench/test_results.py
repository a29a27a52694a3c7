import json
import math

import pytest

from tests.detectors.small import small_detector
from tfdet import config
from tfdet.bench import results, zoo_table
from tfdet.bench.model import model_size
from tfdet.commands import main
from tfdet.config.zoo import zoo_rows
from tfdet.errors import UserError
from tools import zoo_page


def test_the_zoo_is_what_the_rows_say_of_themselves():
    rows = {row.name: row for row in zoo_rows()}
    row = rows["faster_r50v1_c4"]
    assert (row.box_ap, row.mask_ap, row.memory_gb, row.images_per_second) == (34.2, None, 8.4, 20)
    assert row.title == "Faster R-CNN R50v1-C4, C5-512RoI, 1x" and row.setting == "8 GPUs x 2 images"
    assert row.source.endswith("config/faster_r50v1c4_c5_512roi_1x.py") and len(rows) == 61
    assert rows["faster_r50v2_c4_fp16_b4"].box_ap is None
    assert (rows["mask_r50v1_fpn"].box_ap, rows["mask_r50v1_fpn"].mask_ap) == (37.1, 33.7)
    assert {"trident_fast_r101v2_c4", "retina_r101v1_fpn"} <= set(rows) and "demo_shapes" not in rows


def test_other_programs_rows_are_listed_by_their_folder():
    rows = {row.name: row for row in zoo_rows(program=None)}
    assert rows["detectron2/mask_rcnn_r50_c4"].mask_ap == 32.2 and rows["torchvision/retinanet_r50_fpn"].box_ap == 36.4
    assert [row.name for row in zoo_rows(program="torchvision")] == [name for name in rows if name[:6] == "torchv"]


def test_the_command_lists_one_programs_rows(capsys):
    assert main(["zoo", "--program", "torchvision", "--results", "none.jsonl"]) == 0
    shown = capsys.readouterr().out
    assert "published by torchvision" in shown and shown.count("_r50_fpn") == 6 and "36.4" in shown
    assert "torchvision, " not in shown  # one group needs no heading
    assert main(["zoo", "--program", "Detectron2", "--results", "none.jsonl"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (misc,) = (number for number, line in enumerate(lines) if "Detectron2, Misc" in line)
    assert any("dconv_c3-c5" in line for line in lines[misc:]) and " 43.0 " in "".join(lines[:misc])
    assert main(["zoo", "detectron2/mask_rcnn_r50_c4", "--results", "none.jsonl"]) == 0
    assert "published by Detectron2" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text, said",
    [
        (
            "\nRow.title = 'X'\nRow.box_ap = 30.0\nA.b = @C()\n",
            "x.gin: Row needs images_per_second, mask_ap, memory_gb, ",
        ),
        ("\nRow.title = \n", "x.gin:2: not gin syntax"),
    ],
)
def test_a_row_that_says_too_little_is_named(tmp_path, text, said):
    (tmp_path / "x.gin").write_text(text)
    with pytest.raises(UserError, match=said):
        zoo_rows(tmp_path)


def test_a_variant_of_a_row_is_no_row(tmp_path):
    (tmp_path / "mine.gin").write_text("include 'faster_r50v1_c4.gin'\nTrainer.steps = 10\n")
    assert zoo_rows(tmp_path) == []


def test_measurements_are_appended_and_the_latest_counts(tmp_path):
    path = tmp_path / "folder" / "results.jsonl"
    assert results.read_results(path) == []
    for speed in (1.0, 2.0):
        results.append_result(path, "train speed", "a", images_per_second=speed)
    results.append_result(path, "train speed", "b", images_per_second=3.0)
    records = results.read_results(path)
    assert [r["images_per_second"] for r in records] == [1.0, 2.0, 3.0]
    assert results.latest(records, "train speed", "a")["images_per_second"] == 2.0
    assert results.latest(records, "evaluate", "a") is None
    assert all(r["date"] and r["device"] and r["command"] for r in records)


@pytest.mark.parametrize("line", ["not json", "[1]", '{"kind": "x"}'])
def test_a_foreign_line_is_named(tmp_path, line):
    path = tmp_path / "results.jsonl"
    path.write_text(json.dumps({"kind": "check", "row": "a"}) + "\n" + line + "\n")
    with pytest.raises(UserError, match="results.jsonl, line 2"):
        results.read_results(path)


def test_nothing_is_filled_in_that_nobody_measured(tmp_path):
    rows = zoo_rows()
    origin = {"date": "d", "device": "x", "command": "c"}
    records = [{"kind": "evaluate", "row": rows[0].name, "AP": 0.375, "data": "val", **origin}]
    first, second = (dict(zip(zoo_table.COLUMNS, zoo_table.cells(row, records), strict=True)) for row in rows[:2])
    assert first["box AP here"] == "37.5 (val)"
    assert [second[name] for name in zoo_table.COLUMNS[5:]] == [""] * 5
    zoo_page.write_markdown(tmp_path / "zoo.md", rows, records)
    text = (tmp_path / "zoo.md").read_text()
    assert text.count("](../gin_configs/") == len(rows) and "AP 0.375, data val" in text


def test_multiply_adds_are_those_of_the_layers():
    detector = small_detector("c4")
    size = model_size(detector, 64, 96)
    assert size.parameters + size.statistics == sum(v.numpy().size for v in detector.variables)
    assert size.statistics == sum(v.numpy().size for v in detector.variables if "moving" in v.path) > 0
    assert size.tensors == len(detector.variables)
    kernel = detector.rpn_head.convs[0].kernel.shape
    outputs = [v.shape for v in (detector.rpn_head.cls.kernel, detector.rpn_head.box.kernel)]
    cells = (64 // 16) * (96 // 16)
    by_hand = cells * sum(math.prod(shape) for shape in (kernel, *outputs))
    assert size.multiply_adds["rpn_head"] == by_hand
    assert set(size.multiply_adds) == {"backbone", "rpn_head", "bbox_head"}


def test_sizes_are_those_that_torchvision_publishes():
    """FasterRCNN_ResNet50_FPN_Weights.COCO_V1: num_params, to which a frozen BN adds its 2 * 26,560, and _ops."""
    config.register_all()
    detector = config.parse(["torchvision/fasterrcnn_r50_fpn.gin"]).build("build_detector", num_classes=90)
    size = model_size(detector, 800, 800)
    assert size.parameters == 41_755_286 + 2 * 26_560
    assert size.total_multiply_adds == pytest.approx(134.38e9, rel=1e-3)
