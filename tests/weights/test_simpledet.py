from pathlib import Path

import numpy as np
import pytest

from tests.detectors.small import small_detector
from tfdet.errors import UserError
from tfdet.weights import golden as goldens
from tfdet.weights import load, simpledet, write_params
from tfdet.weights.load import assign_arrays
from tfdet.weights.rules import source_of

GOLDEN = Path(__file__).parents[1] / "golden" / "simpledet"
MAPS = {"faster_r50v1c4_c5_512roi_1x": 14, "faster_r50v1_fpn_1x": 35, "retina_r50v1_fpn_1x": 30}
FAMILIES = list(MAPS)


@pytest.mark.parametrize("form", ["folded", "unfolded"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_map_equals_simpledets(family, form):
    golden = goldens.read_golden(GOLDEN / family)
    errors = goldens.check(golden, getattr(golden, form))
    assert len(errors) == MAPS[family]
    assert {e.name: e.error for e in errors if not e.error <= 1e-4} == {}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_wrong_weight_is_found(family):
    golden = goldens.read_golden(GOLDEN / family)
    wrong = dict(golden.folded)
    wrong["arg:stage3_unit2_conv2_weight"] = wrong["arg:stage3_unit2_conv2_weight"][:, :, ::-1]
    assert max(e.error for e in goldens.check(golden, wrong)) > 1e-2


def test_a_missing_tensor_is_named():
    golden = goldens.read_golden(GOLDEN / FAMILIES[0])
    partial = {k: v for k, v in golden.folded.items() if k != "arg:rpn_cls_logit_bias"}
    with pytest.raises(UserError, match="rpn_head/cls/bias"):
        goldens.check(golden, partial)


def test_fine_tuning_keeps_all_but_the_predictors():
    golden = goldens.read_golden(GOLDEN / FAMILIES[1])
    five_classes = {**golden.folded, "arg:bbox_cls_logit_weight": np.zeros((6, 128))}
    detector = goldens.build_like(golden._replace(folded=five_classes))
    report = load(detector, GOLDEN / FAMILIES[1] / "params.params")
    assert sorted(line.split(":")[0] for line in report.mismatched) == [
        "bbox_head/predictor/box/bias",
        "bbox_head/predictor/box/kernel",
        "bbox_head/predictor/cls/bias",
        "bbox_head/predictor/cls/kernel",
    ]
    assert not report.missing and not report.unused
    assert "4 of another shape" in report.summary()
    with pytest.raises(UserError, match="another architecture or class count"):
        load(detector, GOLDEN / FAMILIES[1] / "params.params", strict=True)


def test_an_imagenet_file_fills_the_backbone_and_lists_the_rest(tmp_path):
    golden = goldens.read_golden(GOLDEN / FAMILIES[0])
    names = ("conv0", "bn0", "stage")
    backbone = {k: v for k, v in golden.unfolded.items() if k.split(":")[1].startswith(names)}
    backbone["arg:fc1_weight"] = np.zeros((1000, 256), np.float32)
    path = tmp_path / "resnet-v1-50-0000.params"
    write_params(path, backbone)
    report = load(goldens.build_like(golden), path)
    assert not report.unused and not report.mismatched
    assert {name.split("/")[0] for name in report.missing} == {"rpn_head", "bbox_head"}
    assert all("stage4" not in name for name in report.missing)


def test_weights_of_a_diverged_run_are_refused():
    golden = goldens.read_golden(GOLDEN / FAMILIES[0])
    detector = goldens.build_like(golden)
    before = detector.backbone.conv0.kernel.numpy()
    bad = {**golden.folded, "arg:rpn_cls_logit_bias": np.full(30, np.nan, np.float32)}
    with pytest.raises(UserError, match="arg:rpn_cls_logit_bias holds NaN"):
        assign_arrays(detector, bad, simpledet.RESNET_V1_C4, "x.params")
    np.testing.assert_array_equal(detector.backbone.conv0.kernel, before)


def test_a_checkpoint_of_another_program_is_refused(tmp_path):
    path = tmp_path / "other.params"
    write_params(path, {"arg:something": np.zeros(3, np.float32)})
    with pytest.raises(UserError, match="no tensor fits"):
        load(small_detector("c4"), path)


@pytest.mark.parametrize(
    "rules,row,expected",
    [
        (simpledet.RESNET_V1_C4, FAMILIES[0], 275),
        (simpledet.RESNET_V1_FPN, FAMILIES[1], 293),
        (simpledet.RESNET_V1_RETINA, FAMILIES[2], 301),
    ],
)
def test_tensor_counts_equal_the_zoos(rules, row, expected):
    """Zoo rows 1, 5 (the later revision: no fc biases) and 7: 169 + 106, 187 + 106 and 195 + 106 tensors."""
    golden = goldens.read_golden(GOLDEN / row)
    weights = goldens.build_like(golden).weights
    assert len(weights) == expected
    assert all(source_of(w.path, rules) for w in weights)
