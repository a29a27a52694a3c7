"""The comparison with SimpleDet's network on MXNet, no dependency: what it would give is taken from the detector."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.detectors.small import small_detector, small_masks, small_v2_detector
from tfdet.config import register_all
from tfdet.errors import UserError
from tfdet.weights import sources, verify, verify_maps, write_params
from tfdet.weights.convert import to_simpledet
from tfdet.weights.load import assign
from tfdet.weights.maps import simpledet
from tools.golden.simpledet_folder import read_golden
from tools.golden.simpledet_rows import build_like

GOLDEN = Path(__file__).parents[1] / "golden" / "simpledet"
ROWS = sorted(path.name for path in GOLDEN.iterdir())
HEADS = re.compile(r"arg:(rpn|bbox|P\d|cls|mask|conv_neck|backbone_reduce|anchor).*")
SIDES = (72, 104)

CASES = {
    "c4": {"stage_3", "rpn_logits_0", "rpn_deltas_0", "roi_stage_4", "bbox_logits", "bbox_deltas"},
    "mask": {"stage_4", "fpn_4", "rpn_logits_4", "bbox_logits", "bbox_deltas", "mask_logits"},
    "mask_c4": {"stage_3", "rpn_logits_0", "roi_stage_4", "bbox_logits", "bbox_deltas", "mask_logits"},
    "retina": {"stage_4", "fpn_4", "cls_logits_4", "box_deltas_0"},
    "trident": {"stage_3", "rpn_logits_0", "roi_stage_4", "bbox_logits"},
    "trident_fast": {"stage_3", "rpn_logits_0", "roi_stage_4", "bbox_logits"},
    "cascade": {"stage_4", "neck", "bbox_logits_1st", "bbox_deltas_2nd", "bbox_logits_3rd"},
    "trident_cascade": {"stage_3", "rpn_logits_0", "bbox_logits_1st", "bbox_deltas_3rd"},
}
"""A few maps by detector."""


def built(case, depth=18):
    """A detector of a few thousand parameters, and its tensors as a file of SimpleDet."""
    if case in ("c4", "retina"):
        detector = small_detector(case, depth=depth)
    elif case == "mask":
        detector = small_detector("fpn", depth=depth, masks=small_masks())
    elif case == "mask_c4":
        detector = small_detector("c4", depth=depth, masks=small_masks(pool_size=None, num_convs=0))
    else:
        detector = small_v2_detector(case)
    return detector, to_simpledet(detector)


@pytest.fixture
def picture(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, [40, 52, 3], np.uint8)
    tf.io.write_file(str(tmp_path / "x.png"), tf.io.encode_png(pixels))
    return tmp_path / "x.png"


def small_sides(monkeypatch):
    small = verify.PROGRAMS[sources.SIMPLEDET]._replace(sides=SIDES)
    monkeypatch.setitem(verify.PROGRAMS, sources.SIMPLEDET, small)


@pytest.fixture
def theirs(monkeypatch):
    """What the program is asked, by name, and what is added to its outputs; by default these are the detector's."""
    asked, errors = {}, {}

    def answer(detector, maps=verify_maps.detector_maps):
        def program(name, packages, variable, path, **given):
            asked.update(given, name=name, variable=variable)
            found = verify_maps.own_to_simpledet(detector, maps(detector, given["pixels"])[0])
            return {name: array + errors.get(name, 0) for name, array in found.items()}

        monkeypatch.setattr(verify, "run_program", program)
        small_sides(monkeypatch)
        return asked, errors

    return answer


@pytest.mark.parametrize("case", CASES)
def test_equal_outputs_pass_and_others_are_found(tmp_path, picture, theirs, case):
    detector, arrays = built(case)
    path = tmp_path / "x.params"
    write_params(path, arrays)
    asked, errors = theirs(detector)
    errors["stage_1"] = 1.0
    found = verify.compare(detector, sources.SIMPLEDET, path, picture)
    assert {name for name, (difference, allowed) in found.items() if difference > allowed} == {"stage_1"}
    assert CASES[case] <= set(found) and all(allowed == 1e-4 for _, allowed in found.values())
    assert asked["name"] == "run_mxnet.py" and asked["variable"] == "TFDET_MXNET_PYTHON"
    assert asked["pixels"].shape == (*SIDES, 3) and asked["num_stages"] == detector.backbone.num_stages
    branches = {"trident": [[0, 1], [1, 2], [2, 3]], "trident_fast": [[1, 2]]}
    branches["trident_cascade"] = branches["trident"]
    assert asked["branches"].tolist() == branches.get(case, []) and asked["dilate_c5"] == (case == "cascade")
    features = {name: array for name, array in asked.items() if "features" in name}
    assert all((np.ptp(array, axis=(1, 2, 3)) > 0).all() for array in features.values())  # none is empty
    if case == "retina":
        assert not features
    else:
        rois = 16 * max(1, len(branches.get(case, [])))
        assert features["roi_features"].shape[0] == rois and features["roi_features"].shape[2:] == (7, 7)
        assert ("mask_features" in features) == case.startswith("mask")


@pytest.mark.parametrize("row", ROWS)
def test_simpledets_own_files_fit_the_detectors_of_their_rows(row):
    register_all()
    golden = read_golden(GOLDEN / row)
    detector = build_like(golden)
    for arrays in (golden.folded, golden.unfolded):
        assert verify.check_parts(detector, arrays, "x.params")
        backbone = {name: array for name, array in arrays.items() if not HEADS.match(name)}
        assert not verify.check_parts(detector, backbone, "x.params")


def test_of_an_imagenet_backbone_the_stages_are_compared(tmp_path, picture, theirs):
    path = tmp_path / "x.params"
    detector, arrays = built("c4")
    write_params(path, {name: array for name, array in arrays.items() if not HEADS.match(name)})
    asked, _ = theirs(detector, verify_maps.backbone_maps)
    found = verify.compare(detector, sources.SIMPLEDET, path, picture)
    assert set(found) == {"stage_1", "stage_2", "stage_3", "roi_stage_4"} and "roi_features" in asked
    on_pyramid, _ = built("retina")
    asked.clear()
    theirs(on_pyramid, verify_maps.backbone_maps)
    found = verify.compare(on_pyramid, sources.SIMPLEDET, path, picture)
    assert set(found) == {f"stage_{k}" for k in range(1, 5)} and "roi_features" not in asked


def test_files_of_other_parts_are_refused_with_the_tensor_that_tells(tmp_path):
    detector, arrays = built("retina")
    with pytest.raises(UserError, match="other parts, there is no place for arg:cls_gn1_gamma here: give its gin file"):
        verify.check_parts(detector, arrays | {"arg:cls_gn1_gamma": np.ones(3, np.float32)}, "x.params")
    with pytest.raises(UserError, match=r"^x.params is of .* other parts, there is no neck/p6_conv/kernel in it"):
        verify.check_parts(detector, {n: a for n, a in arrays.items() if "P6" not in n}, "x.params")
    with pytest.raises(UserError, match="there is no neck/p3_lateral/kernel in it"):
        verify.check_parts(detector, built("c4")[1], "x.params")
    detector.num_classes = 5
    with pytest.raises(UserError, match="has 3 classes, the detector 5: leave --num_classes out"):
        verify.check_parts(detector, arrays, "x.params")
    wide = {n: np.repeat(a, 2, axis=0) if n.startswith("arg:P3") else a for n, a in arrays.items()}
    detector.num_classes = 3
    with pytest.raises(UserError, match=r"of other widths \(neck/p3_lateral/kernel"):
        verify.check_parts(detector, wide, "x.params")


def test_detectors_that_are_not_of_the_file_are_refused(tmp_path, picture, monkeypatch):
    path = tmp_path / "x.params"
    detector, arrays = built("c4")
    small_sides(monkeypatch)
    write_params(path, arrays | {"arg:stage3_unit2_bn2_shared0_gamma": np.ones([1, 4, 1, 1], np.float32)})
    with pytest.raises(UserError, match="of a TridentNet with BN folded, the detector has no branches"):
        verify.compare(detector, sources.SIMPLEDET, path, picture)
    monkeypatch.setattr(type(detector.backbone), "compute_dtype", "float16")
    with pytest.raises(UserError, match="compares in float32, the detector computes in float16"):
        verify.compare(detector, sources.SIMPLEDET, path, picture)


def test_maps_that_are_missing_or_of_another_shape_are_no_agreement():
    with pytest.raises(UserError, match=r"a is \(2,\) by the file and \(3,\) by the detector"):
        verify.differences({"a": np.ones(2)}, {"a": np.ones(3)})
    with pytest.raises(UserError, match=r"rpn_logits_0 is \(2,\) by the file and not there by the detector"):
        verify.differences({"rpn_logits_0": np.ones(2)}, {})
    with pytest.raises(UserError, match=r"b is not there by the file and \(2,\) by the detector"):
        verify.differences({"a": np.ones(2)}, {"a": np.ones(2), "b": np.ones(2)})
    assert verify.differences({"a": np.ones(2)}, {"a": np.ones(2)}) == {"a": (0.0, 1e-4)}


def test_where_mxnet_is_not(tmp_path, picture, monkeypatch):
    detector, arrays = built("retina")
    path, script = tmp_path / "x.params", tmp_path / "python"
    write_params(path, arrays)
    small_sides(monkeypatch)
    monkeypatch.setenv("TFDET_MXNET_PYTHON", str(tmp_path / "absent"))
    with pytest.raises(UserError, match="TFDET_MXNET_PYTHON: .*absent does not run"):
        verify.compare(detector, sources.SIMPLEDET, path, picture)
    script.write_text("#!/bin/sh\necho \"ModuleNotFoundError: No module named 'mxnet'\" >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setenv("TFDET_MXNET_PYTHON", str(script))
    with pytest.raises(UserError) as error:
        verify.compare(detector, sources.SIMPLEDET, path, picture)
    message = str(error.value)
    assert "\n" not in message and "No module named 'mxnet'. It needs MXNet" in message
    assert "python -m venv" in message and "pip install mxnet==1.9.1 numpy==1.23.5" in message
    assert "TFDET_MXNET_PYTHON names the Python" in message


def test_programs_that_are_not_run(picture):
    with pytest.raises(UserError, match="runs networks of SimpleDet, .* the program of x is not run from here"):
        verify.compare(None, "tfdet", "x", picture)


@pytest.mark.skipif(not os.environ.get("TFDET_MXNET_PYTHON"), reason="TFDET_MXNET_PYTHON names no Python with MXNet")
@pytest.mark.parametrize("form", ["folded", "unfolded"])
@pytest.mark.parametrize("row", ROWS)
def test_mxnet_itself(tmp_path, picture, row, form):
    register_all()
    golden = read_golden(GOLDEN / row)
    detector, arrays, path = build_like(golden), getattr(golden, form), tmp_path / "x.params"
    assign(detector, arrays, simpledet.name_map(detector), row)
    write_params(path, dict(arrays))
    found = verify.compare(detector, sources.SIMPLEDET, path, picture)
    assert {name: difference for name, (difference, allowed) in found.items() if not difference <= allowed} == {}
    kernel = next(v for v in detector.weights if v.path.endswith("stage2/unit2/conv2/kernel"))
    kernel.assign(kernel[::-1])
    found = verify.compare(detector, sources.SIMPLEDET, path, picture)
    differing = {name for name, (difference, allowed) in found.items() if difference > allowed}
    assert "stage_1" not in differing and {"stage_2", "stage_3"} <= differing


@pytest.mark.skipif(not os.environ.get("TFDET_MXNET_PYTHON"), reason="TFDET_MXNET_PYTHON names no Python with MXNet")
@pytest.mark.parametrize("case", CASES)
def test_mxnet_itself_of_compositions(tmp_path, picture, case):
    detector, arrays = built(case, depth=50)  # SimpleDet has no ResNet-18
    write_params(tmp_path / "x.params", arrays)
    found = verify.compare(detector, sources.SIMPLEDET, tmp_path / "x.params", picture)
    assert {name: difference for name, (difference, allowed) in found.items() if not difference <= allowed} == {}
