"""The Mask R-CNN row: the comparison of a folder, SimpleDet's names in both numberings, its frozen parameters."""

import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.detectors.small import small_masks
from tests.golden_check import stored, written
from tests.golden_check.test_simpledet_mutations import FINALS
from tests.golden_check.written import checkpoint, nchw
from tfdet import config
from tfdet.backbones import ResNetV1
from tfdet.commands import run_module
from tfdet.config import register_all
from tfdet.detectors import PostProcess, TwoStageDetector
from tfdet.heads import MlpBboxHead, RoiExtractor, RpnHead
from tfdet.heads.proposals import AnchorGenerator, ProposalGenerator
from tfdet.necks import FPN
from tfdet.targets.assigners import RoiTargetSampler, RpnTargetAssigner
from tfdet.training.variables import select_trained
from tfdet.weights import load, write_params
from tfdet.weights.maps import simpledet
from tfdet.weights.maps.rules import source_of
from tools.golden import check as command
from tools.golden.simpledet_check import compute, judge
from tools.golden.simpledet_rows import build_like

CLASSES, ROIS, DETECTIONS = 3, 12, 9


@pytest.fixture(scope="module")
def detector():
    """A narrow mask_r50v1_fpn of the later revision, its tensors large enough that no map vanishes."""
    keras.utils.set_random_seed(3)
    built = TwoStageDetector(
        CLASSES,
        ResNetV1(50, num_stages=4, width=1 / 16),
        neck=FPN(8),
        rpn_head=lambda num_anchors: RpnHead(num_anchors, 8),
        bbox_head=lambda num_classes: MlpBboxHead(num_classes, 16, use_bias=False),
        anchors=AnchorGenerator(strides=(4, 8, 16, 32, 64), scales=(8,)),
        proposals=ProposalGenerator(
            ("symbolic",) * 3 + ("v3",) * 2, pre_nms_top_n=(200, 200), post_nms_top_n=(160, ROIS)
        ),
        roi_extractor=RoiExtractor(strides=(4, 8, 16, 32), level_rule="log2"),
        rpn_targets=RpnTargetAssigner(),
        roi_targets=RoiTargetSampler(),
        postprocess=PostProcess(max_detections=DETECTIONS, in_network_pixels=True),
        masks=small_masks(num_convs=4),
    )
    built.create_weights()
    written.random_weights(built)
    kernel = built.bbox_head.predictor.cls.kernel
    kernel.assign(kernel * 0.02)  # so that scores differ
    return built


def write_golden(folder, detector, first_number):
    inputs, info = written.write_inputs(folder, detector, "mask_r50v1_fpn_1x", pre_nms=200)
    first = detector.first_stage_from_input(inputs, training=False)
    rois = detector.propose(first, info, training=False).boxes
    boxes, scores = detector.predict_boxes(first, rois, info)
    found = detector.postprocess(boxes, scores, info)
    assert int(found.num_valid[0]) >= 5 and np.ptp(found.scores) > 0.03
    final = found.boxes
    pooled = detector.masks.roi_extractor(first.roi_features, final)
    head, outputs = detector.mask_head, {}
    x = pooled
    for number, conv in enumerate(head.convs, first_number):
        outputs[f"mask_fcn_conv{number}"] = nchw(conv(x))
        x = tf.nn.relu(conv(x))
        outputs[f"mask_fcn_conv{number}_relu"] = nchw(x)
    outputs["mask_up0"] = nchw(head.up(x))
    logits = head(pooled)
    assert logits.shape == (DETECTIONS, 28, 28, 1 + CLASSES)
    outputs |= {
        "mask_fcn_logit": nchw(logits),
        "HEAD6:mask_prob_output": nchw(tf.sigmoid(logits))[None],
        "P3_conv": nchw(first.features[1]),
        "get_top_proposal: reshape5": rois.numpy(),
        "bbox_cls_score_reshape": scores.numpy(),
        "add_n1": nchw(detector.roi_extractor(first.roi_features, rois)),
        "add_n2": nchw(pooled),
        "HEAD3:custom10_post_score": found.scores.numpy()[..., None],
        "HEAD4:custom10_post_bbox_xyxy": final.numpy(),
        "HEAD5:custom10_post_cls": found.classes.numpy()[..., None].astype(np.float32),
        **written.identities(info),
    }
    np.savez(folder / "outputs_core.npz", **outputs)
    return checkpoint(detector, first_number), outputs


@pytest.fixture(scope="module")
def folder(detector, tmp_path_factory):
    folder = tmp_path_factory.mktemp("goldens") / "mask_r50v1_fpn_1x"
    return folder, *write_golden(folder, detector, first_number=1)


def test_check_golden_compares_every_map_of_the_branch(folder, tmp_path, capsys):
    path, arrays, outputs = folder
    assert arrays["arg:mask_up0_weight"].shape == (8, 8, 2, 2)
    assert arrays["arg:mask_fcn_logit_weight"].shape == (1 + CLASSES, 8, 1, 1)
    assert run_module(command, "check_golden.py", [str(path)]) == 0
    shown = capsys.readouterr().out
    assert f"{len(outputs)} arrays compared; not compared: none" in shown
    wrong = shutil.copytree(path, tmp_path / path.name)
    name = "HEAD3:custom10_post_score"
    np.savez(wrong / "outputs_core.npz", **outputs | {name: outputs[name] / 2})
    assert run_module(command, "check_golden.py", [str(wrong)]) == 1
    assert "mask_r50v1_fpn_1x DIFFERS" in capsys.readouterr().out


@pytest.fixture(scope="module")
def computed(folder):
    golden, detector = stored.simpledet(folder[0])
    return golden, compute(golden, golden.folded, detector)


def best_dropped(outputs):
    for name in [name for name in outputs if "post_" in name]:
        outputs[name] = np.concatenate([outputs[name][:, 1:], outputs[name][:, :1]], axis=1)


def classes_by_one(outputs):
    outputs["HEAD5:custom10_post_cls"] += 1


def classes_missing(outputs):
    del outputs["HEAD5:custom10_post_cls"]


def best_mask_erased(outputs):
    outputs["HEAD6:mask_prob_output"][:, 0] = 0


def masks_missing(outputs):
    del outputs["HEAD6:mask_prob_output"]


@pytest.mark.parametrize(
    "mutate", [*FINALS, best_dropped, classes_by_one, classes_missing, best_mask_erased, masks_missing]
)
def test_wrong_finals_are_found(computed, mutate):
    golden, own = computed
    assert judge(golden, own).passed
    outputs = {name: array.copy() for name, array in golden.outputs.items()}
    mutate(outputs)
    assert not judge(golden._replace(outputs=outputs), own).passed


@pytest.mark.parametrize(
    "tensor,seen_in",
    [
        ("arg:mask_fcn_conv2_weight", "mask_fcn_conv2"),
        ("arg:mask_up0_weight", "mask_up0"),
        ("arg:mask_fcn_logit_weight", "mask_fcn_logit"),
        ("arg:bbox_reg_delta_weight", "HEAD4:custom10_post_bbox_xyxy"),
    ],
)
def test_a_wrong_weight_is_found_where_it_first_matters(folder, tensor, seen_in):
    golden, detector = stored.simpledet(folder[0])
    wrong = {**golden.folded, tensor: np.flip(golden.folded[tensor], axis=0) * 1.1}
    errors = {e.name: e.error for e in judge(golden, compute(golden, wrong, detector)).maps}
    assert errors[seen_in] > 1e-2
    assert errors["add_n2"] <= 1e-4  # pooled from SimpleDet's boxes, whatever ours are


@pytest.mark.parametrize(
    "line,seen_in",
    [
        ("RoiExtractor.mode = 'average'", "add_n2"),
        ("RoiExtractor.strides = (8, 16, 32)", "add_n1"),
        ("PostProcess.iou_threshold = 0.1", "HEAD4"),
    ],
)
def test_a_wrong_line_in_a_gin_file_fails_the_golden(folder, line, seen_in):
    golden, _ = stored.simpledet(folder[0])
    different = [e.name for e in judge(golden, compute(golden, golden.folded, build_like(golden, [line]))).wrong]
    assert any(name.startswith(seen_in) for name in different), different


@pytest.mark.parametrize("first_number", [0, 1])
def test_both_numberings_load(detector, first_number, tmp_path):
    path = tmp_path / "checkpoint-0006.params"
    write_params(path, checkpoint(detector, first_number))
    before = {w.path: w.numpy() for w in detector.weights}
    for weight in detector.mask_head.weights:
        weight.assign(tf.zeros_like(weight))
    report = load(detector, path, strict=True)
    assert not report.unused
    for weight in detector.weights:
        np.testing.assert_array_equal(weight, before[weight.path])


@pytest.mark.parametrize(("overlay", "first_number"), [([], 0), (["overlays/later_revision_mask.gin"], 1)])
def test_tensors_and_frozen_ones_are_simpledets(overlay, first_number):
    """The first release freezes whatever has conv0 in its name, the mask head's first convolution too."""
    register_all()
    configuration = config.parse(["mask_r50v1_fpn.gin", *overlay], ["WIDTH = 0.125"])
    detector = configuration.build("build_detector", num_classes=80)
    rules = simpledet.name_map(detector).rules
    sources = {w.path: source_of(w.path, rules)[0] for w in detector.weights}
    mask = {name for name in sources.values() if "mask" in name}
    convs = [f"mask_fcn_conv{i}" for i in range(4)] + ["mask_up0", "mask_fcn_logit"]
    assert mask == {f"arg:{name}_{kind}" for name in convs for kind in ("weight", "bias")}
    shapes = {sources[w.path]: tuple(w.shape) for w in detector.weights}
    assert shapes["arg:mask_up0_weight"] == (2, 2, 256, 256) and shapes["arg:mask_fcn_logit_weight"] == (1, 1, 256, 81)

    trained = {sources[v.path] for v in select_trained(detector, configuration.value("Trainer.frozen"))}
    frozen = {name for name in mask if name not in trained}
    kinds = ("weight", "bias")
    assert frozen == ({f"arg:mask_fcn_conv0_{kind}" for kind in kinds} if first_number == 0 else set())
    assert "arg:conv0_weight" not in trained and "arg:stage2_unit1_conv1_weight" in trained
