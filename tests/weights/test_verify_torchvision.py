"""The comparison with torchvision's own network. It is no dependency: what it would give is taken from the detector."""

import gin
import numpy as np
import pytest
import tensorflow as tf

from tfdet import config
from tfdet.commands.flags import register_all
from tfdet.errors import UserError
from tfdet.weights import sources, verify, verify_torchvision
from tfdet.weights.torchvision import COCO_IDS

_NARROW = ["DEPTH = 18", "WIDTH = 0.125", "PostProcess.score_threshold = 0.0", "PostProcess.max_detections = 5"]


@pytest.fixture(scope="module")
def detector():
    register_all()
    narrow = [*_NARROW, "FPN.channels = 16", "RpnHead.channels = 16", "MlpBboxHead.channels = 16"]
    narrow += ["ProposalGenerator.pre_nms_top_n = (50, 50)", "ProposalGenerator.post_nms_top_n = (50, 50)"]
    config.parse(["torchvision/fasterrcnn_r50_fpn.gin"], narrow)
    return gin.get_configurable("build_detector")(num_classes=3)


@pytest.fixture
def picture(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, [40, 52, 3], np.uint8)
    tf.io.write_file(str(tmp_path / "x.png"), tf.io.encode_png(pixels))
    return tmp_path / "x.png"


def test_equal_outputs_pass_and_others_are_found(detector, picture, monkeypatch):
    monkeypatch.setattr(verify_torchvision, "SIDES", (64, 96))
    asked = {}

    def theirs(path, pixels, epsilon):
        asked.update(path=path, shape=pixels.shape, epsilon=epsilon)
        outputs = verify_torchvision._our_outputs(detector, pixels, whole=True)
        return {name: array + error.get(name, 0) for name, array in outputs.items()}

    monkeypatch.setattr(verify_torchvision, "_their_outputs", theirs)
    error = {}
    equal = verify.compare(detector, sources.TORCHVISION, "x.pth", picture)
    assert asked["path"] == "x.pth" and asked["shape"] == (64, 96, 3) and asked["epsilon"] == detector.backbone.epsilon
    assert {"fpn_0", "fpn_4", "rpn_logits_0", "rpn_deltas_4", "detections without counterpart"} <= set(equal)
    assert all(difference == 0 for difference, _ in equal.values())
    error = {"rpn_deltas_1": 1.0, "classes": 1}
    other = verify.compare(detector, sources.TORCHVISION, "x.pth", picture)
    wrong = {name for name, (difference, allowed) in other.items() if difference > allowed}
    assert wrong == {"rpn_deltas_1", "detections without counterpart"}


def test_classes_are_numbered_as_here():
    outputs = {"labels": np.array([1, 13, 90, 12]), "numbers": np.array(91)}
    assert verify_torchvision._numbered_as_here(outputs)["classes"].tolist() == [0, 11, 79, -1]
    few = {"labels": np.array([1, 2]), "numbers": np.array(3)}
    assert verify_torchvision._numbered_as_here(few)["classes"].tolist() == [0, 1]
    logits = np.arange(91.0)[None].repeat(2, axis=0)
    retina = {"cls_logits": logits, "labels": np.array([90]), "numbers": np.array(91)}
    found = verify_torchvision._numbered_as_here(retina)
    assert found["classes"].tolist() == [79] and found["cls_logits"].tolist() == [COCO_IDS, COCO_IDS]


def test_where_torchvision_is_not(tmp_path, monkeypatch):
    pixels = np.zeros([*verify_torchvision.SIDES, 3], np.uint8)
    monkeypatch.setenv("TFDET_TORCH_PYTHON", str(tmp_path / "absent"))
    with pytest.raises(UserError, match="TFDET_TORCH_PYTHON: .*absent does not run"):
        verify_torchvision._their_outputs("x.pth", pixels, 1e-5)
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho \"ModuleNotFoundError: No module named 'torch'\" >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setenv("TFDET_TORCH_PYTHON", str(script))
    with pytest.raises(UserError, match="x.pth: ModuleNotFoundError: No module named 'torch'. It needs PyTorch"):
        verify_torchvision._their_outputs("x.pth", pixels, 1e-5)
