"""The comparison with another program's own network. None is a dependency: what it would give is the detector's."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfdet import config
from tfdet.bench import peers
from tfdet.config import register_all
from tfdet.errors import UserError
from tfdet.weights import sources, verify, verify_maps
from tfdet.weights.maps.coco_ids import COCO_IDS

_NARROW = ["DEPTH = 18", "WIDTH = 0.125", "PostProcess.score_threshold = 0.0", "PostProcess.max_detections = 5"]


@pytest.fixture(scope="module")
def detector():
    register_all()
    narrow = [*_NARROW, "FPN.channels = 16", "RpnHead.channels = 16", "MlpBboxHead.channels = 16"]
    narrow += ["ProposalGenerator.pre_nms_top_n = (50, 50)", "ProposalGenerator.post_nms_top_n = (50, 50)"]
    configuration = config.parse(["torchvision/fasterrcnn_r50_fpn.gin"], narrow)
    return configuration.build("build_detector", num_classes=3)


def small_sides(monkeypatch, program, sides):
    monkeypatch.setitem(verify.PROGRAMS, program, verify.PROGRAMS[program]._replace(sides=sides))


def torchs(outputs):
    """The maps that the programs of PyTorch give of a detector."""
    return {name: array for name, array in outputs.items() if name.startswith(("fpn", "rpn"))}


@pytest.fixture
def picture(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, [40, 52, 3], np.uint8)
    tf.io.write_file(str(tmp_path / "x.png"), tf.io.encode_png(pixels))
    return tmp_path / "x.png"


def test_equal_outputs_pass_and_others_are_found(detector, picture, monkeypatch):
    small_sides(monkeypatch, sources.TORCHVISION, (64, 96))
    asked = {}

    def theirs(name, packages, variable, path, pixels, epsilon):
        asked.update(path=path, shape=pixels.shape, epsilon=epsilon)
        outputs = torchs(verify_maps.detector_maps(detector, pixels)[0])
        outputs |= verify_maps.detections(detector, pixels, "torchvision")
        outputs["labels"], outputs["numbers"] = outputs.pop("classes") + 1, np.array(4)
        return {name: array + error.get(name, 0) for name, array in outputs.items()}

    monkeypatch.setattr(verify, "run_program", theirs)
    error = {}
    equal = verify.compare(detector, sources.TORCHVISION, "x.pth", picture)
    assert asked["path"] == "x.pth" and asked["shape"] == (64, 96, 3) and asked["epsilon"] == detector.backbone.epsilon
    assert {"fpn_0", "fpn_4", "rpn_logits_0", "rpn_deltas_4", "detections without counterpart"} <= set(equal)
    assert all(difference == 0 for difference, _ in equal.values())
    error = {"rpn_deltas_1": 1.0, "labels": 1}
    other = verify.compare(detector, sources.TORCHVISION, "x.pth", picture)
    wrong = {name for name, (difference, allowed) in other.items() if difference > allowed}
    assert wrong == {
        "rpn_deltas_1",
        "detections without counterpart",
        "best detections that are not here",
        "best detections that are only here",
        "detections of another class",
    }


MAPS = {"fpn_0": np.ones([1, 2, 3, 4]), "rpn_logits_0": np.ones([1, 3, 3, 4])}
DETECTED = {
    "boxes": np.arange(24.0).reshape(1, 24)[..., None] + np.float64([0, 0, 9, 9]),
    "scores": np.linspace(0.9, 0.1, 24),
    "classes": np.arange(24),
    "masks": np.ones([24, 8, 8], bool),
}
DETECTED["boxes"] = DETECTED["boxes"][0]


@pytest.mark.parametrize(
    "change,seen_in",
    [
        ({key: DETECTED[key][1:] for key in DETECTED}, "best detections that are only here"),
        ({"scores": DETECTED["scores"] / 2}, "best detections that are not here"),
        ({"classes": np.r_[0:22, 23, 22]}, "another class"),
        ({"masks": DETECTED["masks"] & (np.arange(24) > 0)[:, None, None]}, "masks of the best detections"),
        ({"scores": np.full(24, np.nan)}, "without counterpart"),
        ({"fpn_0": np.full([1, 2, 3, 4], np.nan)}, "fpn_0"),
    ],
)
def test_what_the_other_program_gives_is_found_to_be_wrong(change, seen_in):
    right = MAPS | DETECTED
    assert all(value <= limit for value, limit in verify.differences(right, right).values())
    found = verify.differences(right | change, right)
    wrong = [name for name, (value, limit) in found.items() if not value <= limit]
    assert any(seen_in in name for name in wrong), found


@pytest.mark.parametrize("gone", ["fpn_0", "rpn_logits_0", "boxes", "scores", "masks"])
def test_nothing_that_one_side_alone_has_is_passed_over(gone):
    right = MAPS | DETECTED
    less = {name: array for name, array in right.items() if name != gone}
    for sides in ((less, right), (right, less)):
        with pytest.raises(UserError, match="--verify: "):
            verify.differences(*sides)
    with pytest.raises(UserError, match="no map"):
        verify.differences(DETECTED, DETECTED)


def test_classes_are_numbered_as_here():
    outputs = {"labels": np.array([1, 13, 90, 12]), "numbers": np.array(91)}
    assert verify.numbered_as_here(outputs)["classes"].tolist() == [0, 11, 79, -1]
    few = {"labels": np.array([1, 2]), "numbers": np.array(3)}
    assert verify.numbered_as_here(few)["classes"].tolist() == [0, 1]
    logits = np.arange(91.0)[None].repeat(2, axis=0)
    retina = {"cls_logits": logits, "labels": np.array([90]), "numbers": np.array(91)}
    found = verify.numbered_as_here(retina)
    assert found["classes"].tolist() == [79] and found["cls_logits"].tolist() == [COCO_IDS, COCO_IDS]


@pytest.mark.parametrize(
    "file, expected",
    [
        ("faster_rcnn_r50_c4", "COCO-Detection/faster_rcnn_R_50_C4_1x.yaml"),
        ("faster_rcnn_r101_fpn", "COCO-Detection/faster_rcnn_R_101_FPN_3x.yaml"),
        ("mask_rcnn_r101_fpn", "COCO-InstanceSegmentation/mask_rcnn_R_101_FPN_3x.yaml"),
        ("cascade_rcnn_r50_fpn", "Misc/cascade_mask_rcnn_R_50_FPN_1x.yaml"),
        ("retinanet_r50_fpn", "COCO-Detection/retinanet_R_50_FPN_1x.yaml"),
        ("trident_r50_c4", None),
    ],
)
def test_detectron2s_configuration_of_a_detector(file, expected):
    register_all()
    configuration = config.parse([f"detectron2/{file}.gin"], ["WIDTH = 0.0625"])
    built = configuration.build("build_detector", num_classes=3)
    with pytest.raises(UserError, match="full-size networks on ResNet-50 and -101, without branches"):
        verify.config_name(built)  # narrow
    built.backbone.width = 1.0
    if expected is None:
        with pytest.raises(UserError, match="without branches"):
            verify.config_name(built)
    else:
        assert verify.config_name(built) == expected


def test_where_the_other_program_is_not(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDET_TORCH_PYTHON", str(tmp_path / "absent"))
    with pytest.raises(UserError, match="TFDET_TORCH_PYTHON: .*absent does not run"):
        verify.run_program("run_torchvision.py", "PyTorch", "TFDET_TORCH_PYTHON", "x.pth", pixels=1)
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho \"ModuleNotFoundError: No module named 'torch'\" >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setenv("TFDET_TORCH_PYTHON", str(script))
    message = "x.pth: ModuleNotFoundError: No module named 'torch'. It needs PyTorch; TFDET_TORCH_PYTHON names"
    with pytest.raises(UserError, match=message):
        verify.run_program("run_torchvision.py", "PyTorch", "TFDET_TORCH_PYTHON", "x.pth", pixels=1)


def test_a_program_gets_its_inputs_and_gives_its_outputs(tmp_path, monkeypatch):
    """By a program that doubles what it gets."""
    monkeypatch.setattr(verify, "programs_folder", lambda: tmp_path)
    (tmp_path / "double.py").write_text(
        "import sys, numpy as np\ngiven = np.load(sys.argv[2])\n"
        "np.savez(sys.argv[3], weights=sys.argv[1], **{name: 2 * given[name] for name in given})\n"
    )
    found = verify.run_program("double.py", "nothing", "TFDET_TORCH_PYTHON", "x.pth", a=np.arange(3), b=1.5)
    assert found["a"].tolist() == [0, 2, 4] and found["b"] == 3.0 and str(found["weights"]) == "x.pth"


def test_the_programs_stand_in_the_source_tree_and_are_run_by_their_files():
    folder = verify.programs_folder()
    assert folder == Path(verify.__file__).parents[2] / "tools" / "crosscheck"
    sources = [Path(verify.__file__), Path(peers.__file__)]
    named = {name for source in sources for name in re.findall(r'"((?:run|time)_\w+\.py)"', source.read_text())}
    assert named == {path.name for path in folder.glob("*.py")}


def test_an_installed_package_carries_the_programs_and_nothing_else_of_the_tools(tmp_path):
    root = Path(verify.__file__).parents[2]
    command = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(tmp_path)]
    subprocess.run(command, cwd=root, check=True, capture_output=True, timeout=120)
    programs = {path.name for path in (tmp_path / "tfdet" / "crosscheck").iterdir()}
    assert programs == {path.name for path in verify.programs_folder().glob("*.py")}
    assert not (tmp_path / "tools").exists() and (tmp_path / "tfdet" / "gin_configs").is_dir()
