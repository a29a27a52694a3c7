"""SimpleDet's stored maps, by the detectors that the gin files of its rows build."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.golden_check.stored import simpledet
from tfdet.commands import command_names, run_module
from tfdet.config import gin_configs_folder, register_all
from tfdet.errors import EXIT_USER_ERROR, UserError
from tfdet.ops.tensor_float_32 import allow_tensor_float_32
from tfdet.weights import load, write_params
from tfdet.weights.load import assign
from tfdet.weights.maps.simpledet import name_map
from tools.golden import check as command
from tools.golden.simpledet_check import compute, judge
from tools.golden.simpledet_rows import ROWS, build_like, row_of

GOLDEN = Path(__file__).parents[1] / "golden" / "simpledet"
C4, FPN, RETINA = "faster_r50v1c4_c5_512roi_1x", "faster_r50v1_fpn_1x", "retina_r50v1_fpn_1x"
C4_V2, TRIDENT = "faster_r50v2c4_c5_256roi_1x", "tridentnet_r50v2c4_c5_1x"
# The un-folded graph of TridentNet itself differs from the folded one by up to 4e-4.
MAPS = {C4: (21, 1e-4), FPN: (57, 1e-4), RETINA: (35, 1e-4), C4_V2: (22, 1e-4), TRIDENT: (24, 4e-4)}


@pytest.fixture(autouse=True, scope="module")
def registered():
    register_all()


@pytest.mark.parametrize("form", ["folded", "unfolded"])
@pytest.mark.parametrize("row", list(MAPS))
def test_every_map_equals_simpledets(row, form):
    (golden, detector), (count, tolerance) = simpledet(GOLDEN / row), MAPS[row]
    verdict = judge(golden, compute(golden, getattr(golden, form), detector), tolerance)
    assert verdict.passed, (verdict.wrong, verdict.findings)
    assert len(verdict.maps) == len(golden.outputs) and set(verdict.not_compared.values()) <= {"left out of this copy"}
    assert len(verdict.maps) + len(verdict.not_compared) == count


@pytest.mark.parametrize("row", [C4, FPN, RETINA, TRIDENT])
def test_a_wrong_weight_is_found(row):
    golden, detector = simpledet(GOLDEN / row)
    wrong = dict(golden.folded)
    wrong["arg:stage3_unit2_conv2_weight"] = wrong["arg:stage3_unit2_conv2_weight"][:, :, ::-1]
    assert max(e.error for e in judge(golden, compute(golden, wrong, detector)).maps) > 1e-2


@pytest.mark.parametrize(
    "row,lines,seen_in",
    [
        (C4, [f"{part}.box_std = (0.2, 0.2, 0.2, 0.2)" for part in ("PostProcess", "RoiTargetSampler")], "HEAD4"),
        (C4, ["ProposalGenerator.iou_threshold = 0.6"], "proposal"),
        (C4, ["ResNetV1.stride_on = '3x3'"], "stage3"),
        (FPN, ["ProposalGenerator.variant = 'v3'"], "get_top_proposal"),
        (FPN, ["RoiExtractor.mode = 'average'"], "add_n1"),
        (FPN, ["RoiExtractor.strides = (8, 16, 32)"], "add_n1"),
        (RETINA, ["DensePostProcess.coarsest_score_threshold = 0.05"], "proposal_pre_nms_stride128"),
        (RETINA, ["AnchorGenerator.scales = (4.0, 5.0, 6.3496)"], "HEAD4"),
        (C4_V2, ["AnchorGenerator.ratios = (0.5, 1.0, 2.1)"], "proposal"),
        (TRIDENT, ["ResNetV2.test_branches = (1, 3, 2)", "ResNetV2.branches = (1, 3, 2)"], "stage3_unit6_plus_branch1"),
    ],
)
def test_a_wrong_line_in_a_gin_file_fails_the_golden(row, lines, seen_in):
    """As if the row said it: its own line is bound again."""
    golden, _ = simpledet(GOLDEN / row)
    different = [e.name for e in judge(golden, compute(golden, golden.folded, build_like(golden, lines))).wrong]
    assert any(name.startswith(seen_in) for name in different), different


def test_wrong_pixel_means_are_found_before_anything_else():
    golden, detector = simpledet(GOLDEN / C4)
    wrong = golden._replace(inputs=golden.inputs | {"data": golden.inputs["data"] - np.float32(0.4)})
    with pytest.raises(UserError, match="data is not image_rgb_uint8 minus the channel means"):
        compute(wrong, golden.folded, detector)


def test_all_overlays_of_the_later_revision_are_built_by_a_golden():
    used = {Path(file).name for row in ROWS for file in row.files}
    shipped = {path.name for path in (gin_configs_folder() / "overlays").glob("later_revision*.gin")}
    assert shipped and shipped <= used


def test_the_script_of_a_checkout_is_one_command():
    script = str(Path(__file__).parents[2] / "scripts" / "check_golden.py")
    result = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, cwd="/", timeout=120)
    assert result.returncode == 0 and "usage: check_golden.py" in result.stdout and "--tolerance" in result.stdout
    assert "check_golden" not in command_names()


def test_a_missing_tensor_is_named():
    golden, detector = simpledet(GOLDEN / C4)
    partial = {k: v for k, v in golden.folded.items() if k != "arg:rpn_cls_logit_bias"}
    with pytest.raises(UserError, match="rpn_head/cls/bias"):
        compute(golden, partial, detector)


def test_folders_of_unknown_families_are_refused():
    golden, _ = simpledet(GOLDEN / C4)
    with pytest.raises(UserError, match="'mask_r50v1c4_1x' is of no known family; known are faster_r50v1c4"):
        build_like(golden._replace(meta={"row": "mask_r50v1c4_1x"}))
    fast, depth = row_of(golden._replace(meta={"row": "tridentnet_r101v2c4_c5_fastapprox_1x"}))
    assert fast.files[0] == "trident_fast_r{depth}v2_c4.gin" and depth == 101


def test_products_are_exact_float32(tmp_path):
    allow_tensor_float_32(True)
    assert (
        run_module(command, "check_golden.py", [str(tmp_path)]) == EXIT_USER_ERROR
    )  # no golden folder, but by then it is set
    assert not tf.config.experimental.tensor_float_32_execution_enabled()


def test_fine_tuning_keeps_all_but_the_predictors():
    golden, _ = simpledet(GOLDEN / FPN)
    detector = build_like(golden._replace(folded={**golden.folded, "arg:bbox_cls_logit_bias": np.zeros(6)}))
    report = load(detector, GOLDEN / FPN / "params.params")
    assert sorted(line.split(":")[0] for line in report.mismatched) == [
        "bbox_head/predictor/box/bias",
        "bbox_head/predictor/box/kernel",
        "bbox_head/predictor/cls/bias",
        "bbox_head/predictor/cls/kernel",
    ]
    assert not report.missing and not report.unused
    assert "4 of another shape" in report.summary()
    with pytest.raises(UserError, match="another architecture or class count"):
        load(detector, GOLDEN / FPN / "params.params", strict=True)


def test_an_imagenet_file_fills_the_backbone_and_lists_the_rest(tmp_path):
    golden, detector = simpledet(GOLDEN / C4)
    names = ("conv0", "bn0", "stage")
    backbone = {k: v for k, v in golden.unfolded.items() if k.split(":")[1].startswith(names)}
    backbone["arg:fc1_weight"] = np.zeros((1000, 256), np.float32)
    path = tmp_path / "resnet-v1-50-0000.params"
    write_params(path, backbone)
    report = load(detector, path)
    assert not report.unused and not report.mismatched
    assert {name.split("/")[0] for name in report.missing} == {"rpn_head", "bbox_head"}
    assert all("stage4" not in name for name in report.missing)


def test_weights_of_a_diverged_run_are_refused():
    golden, detector = simpledet(GOLDEN / C4)
    before = detector.backbone.conv0.kernel.numpy()
    bad = {**golden.folded, "arg:rpn_cls_logit_bias": np.full(30, np.nan, np.float32)}
    with pytest.raises(UserError, match="arg:rpn_cls_logit_bias holds NaN"):
        assign(detector, bad, name_map(detector), "x.params")
    np.testing.assert_array_equal(detector.backbone.conv0.kernel, before)


@pytest.mark.parametrize("row,expected", [(C4, 275), (FPN, 293), (RETINA, 301)])
def test_tensor_counts_equal_the_zoos(row, expected):
    """Zoo rows 1, 5 (the later revision: no fc biases) and 7: 169 + 106, 187 + 106 and 195 + 106 tensors."""
    assert len(simpledet(GOLDEN / row)[1].weights) == expected
