"""The comparison with SimpleDet's network on MXNet, no dependency: what it would give is taken from the detector."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.detectors.small import small_detector, small_masks, small_v2_detector
from tfdet.errors import UserError
from tfdet.weights import golden as goldens
from tfdet.weights import sources, verify, verify_mxnet, verify_process, write_params
from tfdet.weights.load import assign_arrays, family_rules
from tfdet.weights.readers import read_params
from tfdet.weights.to_simpledet import to_simpledet

GOLDEN = Path(__file__).parents[1] / "golden" / "simpledet"
ROWS = {
    "faster_r50v1c4_c5_512roi_1x": verify_mxnet.C4,
    "faster_r50v1_fpn_1x": verify_mxnet.FASTER_FPN,
    "faster_r50v2c4_c5_256roi_1x": verify_mxnet.C4,
    "tridentnet_r50v2c4_c5_1x": verify_mxnet.C4,
    "retina_r50v1_fpn_1x": verify_mxnet.RETINA,
}
HEADS = re.compile(r"arg:(rpn|bbox|P\d|cls|mask|conv_neck|backbone_reduce|anchor).*")


CASES = {
    "c4": (verify_mxnet.C4, {"stage_3", "rpn_logits_0", "rpn_deltas_0", "roi_stage_4", "bbox_logits", "bbox_deltas"}),
    "mask": (verify_mxnet.MASK, {"stage_4", "fpn_4", "rpn_logits_4", "bbox_logits", "bbox_deltas", "mask_logits"}),
    "retina": (verify_mxnet.RETINA, {"stage_4", "fpn_4", "cls_logits_4", "box_deltas_0"}),
    "trident": (verify_mxnet.C4, {"stage_3", "rpn_logits_0", "roi_stage_4", "bbox_logits"}),
    "trident_fast": (verify_mxnet.C4, {"stage_3", "rpn_logits_0", "roi_stage_4", "bbox_logits"}),
    "cascade": (verify_mxnet.CASCADE, {"stage_4", "neck", "bbox_logits_1st", "bbox_deltas_2nd", "bbox_logits_3rd"}),
}
"""A few maps by detector, and the family of its file."""


def built(case):
    """A detector of a few thousand parameters, and its tensors as a file of SimpleDet."""
    if case in ("c4", "retina"):
        detector = small_detector(case)
    elif case == "mask":
        detector = small_detector("fpn", masks=small_masks())
    else:
        detector = small_v2_detector(case)
    return detector, to_simpledet(detector)


@pytest.fixture
def picture(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, [40, 52, 3], np.uint8)
    tf.io.write_file(str(tmp_path / "x.png"), tf.io.encode_png(pixels))
    return tmp_path / "x.png"


@pytest.fixture
def theirs(monkeypatch):
    """What the program is asked, by name, and what is added to its outputs; by default these are the detector's."""
    asked, errors = {}, {}

    def answer(detector, family):
        def program(name, packages, variable, path, **given):
            asked.update(given, name=name, variable=variable)
            found, _ = verify_mxnet.outputs(detector, given["pixels"], family)
            return {name: array + errors.get(name, 0) for name, array in found.items()}

        monkeypatch.setattr(verify_process, "run_program", program)
        monkeypatch.setattr(verify_mxnet, "SIDES", (72, 104))
        return asked, errors

    return answer


@pytest.mark.parametrize("case", CASES)
def test_equal_outputs_pass_and_others_are_found(tmp_path, picture, theirs, case):
    detector, arrays = built(case)
    family, names = CASES[case]
    path = tmp_path / "x.params"
    write_params(path, arrays)
    asked, errors = theirs(detector, family)
    errors["stage_1"] = 1.0
    found = verify.compare(detector, sources.SIMPLEDET, path, picture)
    assert {name for name, (difference, allowed) in found.items() if difference > allowed} == {"stage_1"}
    assert names <= set(found) and all(allowed == 1e-4 for _, allowed in found.values())
    assert asked["name"] == "run_mxnet.py" and asked["variable"] == "TFDET_MXNET_PYTHON"
    assert asked["pixels"].shape == (72, 104, 3) and asked["num_stages"] == detector.backbone.num_stages
    branches = {"trident": [[0, 1], [1, 2], [2, 3]], "trident_fast": [[1, 2]]}.get(case, [])
    assert asked["branches"].tolist() == branches and asked["dilate_c5"] == (case == "cascade")
    features = {name: array for name, array in asked.items() if "features" in name}
    assert all((np.ptp(array, axis=(1, 2, 3)) > 0).all() for array in features.values())  # none is empty
    rois = 16 * max(1, len(branches))
    if case == "retina":
        assert not features
    else:
        assert features["roi_features"].shape[0] == rois and features["roi_features"].shape[2:] == (7, 7)
        assert ("mask_features" in features) == (case == "mask")


@pytest.mark.parametrize("row", ROWS)
def test_families_of_simpledets_files(row):
    for file in ("params.params", "params_unmerged_bn.params"):
        names = set(read_params(GOLDEN / row / "params.params")) | set(read_params(GOLDEN / row / file))
        assert verify_mxnet.family_of(names, file) == ROWS[row]
        backbone = {name for name in names if not HEADS.match(name)} | {"arg:fc1_weight"}
        assert verify_mxnet.family_of(backbone, file) == verify_mxnet.BACKBONE


def test_of_an_imagenet_backbone_the_stages_are_compared(tmp_path, picture, theirs):
    path = tmp_path / "x.params"
    detector, arrays = built("c4")
    write_params(path, {name: array for name, array in arrays.items() if not HEADS.match(name)})
    asked, _ = theirs(detector, verify_mxnet.BACKBONE)
    found = verify.compare(detector, sources.SIMPLEDET, path, picture)
    assert set(found) == {"stage_1", "stage_2", "stage_3", "roi_stage_4"} and "roi_features" in asked
    on_pyramid, _ = built("retina")
    asked.clear()
    theirs(on_pyramid, verify_mxnet.BACKBONE)
    found = verify.compare(on_pyramid, sources.SIMPLEDET, path, picture)
    assert set(found) == {f"stage_{k}" for k in range(1, 5)} and "roi_features" not in asked


def test_families_that_are_not_run_are_refused_with_the_layer_that_tells():
    names = set(read_params(GOLDEN / "retina_r50v1_fpn_1x" / "params.params"))
    with pytest.raises(UserError, match="RetinaNet; this file has cls_gn1 unlike any"):
        verify_mxnet.family_of(names | {"arg:cls_gn1_gamma"}, "x.params")
    with pytest.raises(UserError, match=r"^x.params: --verify runs SimpleDet's .* this file lacks P6_conv unlike any"):
        verify_mxnet.family_of({name for name in names if "P6" not in name}, "x.params")


def test_detectors_that_are_not_of_the_file_are_refused(tmp_path, monkeypatch):
    path, pixels = tmp_path / "x.params", np.zeros([64, 64, 3], np.uint8)
    detector, arrays = built("c4")
    write_params(path, arrays)
    with pytest.raises(UserError, match="is of a Faster R-CNN C4, the detector a RetinaNet: give its gin file"):
        verify_mxnet.compare(built("retina")[0], path, pixels)
    write_params(path, arrays | {"arg:stage3_unit2_bn2_shared0_gamma": np.ones([1, 4, 1, 1], np.float32)})
    with pytest.raises(UserError, match="of a TridentNet with BN folded, the detector has no branches"):
        verify_mxnet.compare(detector, path, pixels)
    detector.num_classes = 5
    with pytest.raises(UserError, match="has 3 classes, the detector 5: leave --num_classes out"):
        verify_mxnet.compare(detector, path, pixels)
    monkeypatch.setattr(type(detector.backbone), "compute_dtype", "float16")
    with pytest.raises(UserError, match="compares in float32, the detector computes in float16"):
        verify_mxnet.compare(detector, path, pixels)
    with pytest.raises(UserError, match=r"a is \(2,\) by the file and \(3,\) by the detector"):
        verify_process.map_differences({"a": np.ones(2)}, {"a": np.ones(3)})


def test_where_mxnet_is_not(tmp_path, picture, monkeypatch):
    detector, arrays = built("retina")
    path, script = tmp_path / "x.params", tmp_path / "python"
    write_params(path, arrays)
    monkeypatch.setattr(verify_mxnet, "SIDES", (72, 104))
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
    golden = goldens.read_golden(GOLDEN / row)
    detector, arrays, path = goldens.build_like(golden), getattr(golden, form), tmp_path / "x.params"
    assign_arrays(detector, arrays, family_rules(detector), row)
    write_params(path, dict(arrays))
    found = verify.compare(detector, sources.SIMPLEDET, path, picture)
    assert {name: difference for name, (difference, allowed) in found.items() if not difference <= allowed} == {}
    kernel = next(v for v in detector.weights if v.path.endswith("stage2/unit2/conv2/kernel"))
    kernel.assign(kernel[::-1])
    found = verify.compare(detector, sources.SIMPLEDET, path, picture)
    differing = {name for name, (difference, allowed) in found.items() if difference > allowed}
    assert "stage_1" not in differing and {"stage_2", "stage_3"} <= differing
