"""The Mask R-CNN row: SimpleDet's names in both numberings, its frozen parameters, and the comparison of a folder.

No stored maps of SimpleDet's Mask R-CNN are here: the folder is written from a detector of tfdet, by SimpleDet's names
and layouts. It shows that the comparison reads such a folder and sees a difference, not that the maps are SimpleDet's.
"""

import argparse
import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.detectors.small import small_masks
from tfdet import config
from tfdet.backbones import ResNetV1
from tfdet.commands import check_golden
from tfdet.config import register_all
from tfdet.detectors import PostProcess, TwoStageDetector
from tfdet.detectors.preprocess import normalize_images
from tfdet.errors import UserError
from tfdet.heads import MlpBboxHead, RoiExtractor, RpnHead
from tfdet.heads.proposals import AnchorGenerator, ProposalGenerator
from tfdet.necks import FPN
from tfdet.targets.assigners import RoiTargetSampler, RpnTargetAssigner
from tfdet.weights import golden as goldens
from tfdet.weights import load, write_params
from tfdet.weights.load import family_rules
from tfdet.weights.rules import source_of

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
    rng = np.random.default_rng(0)
    for weight in built.weights:
        if weight.path.endswith("bias") or "predictor" in weight.path:
            weight.assign(rng.normal(0, 0.1, weight.shape))
        elif weight.path.endswith("gamma"):
            weight.assign(rng.uniform(0.3, 0.7, weight.shape))
    return built


def simpledets_layout(source, value):
    """From a variable's layout to SimpleDet's."""
    if "mask_up0_weight" in source or value.ndim == 4:
        return value.transpose(3, 2, 0, 1)
    if "bbox_fc1" in source:
        return value.reshape(7, 7, 8, 16).transpose(3, 2, 0, 1).reshape(16, -1)[..., None, None]
    return value.T


def checkpoint(detector, first_number):
    """The detector's tensors by SimpleDet's names, the mask's convolutions numbered from `first_number`."""
    arrays = {}
    for weight in detector.weights:
        source, _ = source_of(weight.path, family_rules(detector))
        number = re.fullmatch(r"arg:mask_fcn_conv(\d)_(\w+)", source)
        if number:
            source = f"arg:mask_fcn_conv{int(number[1]) + first_number}_{number[2]}"
        arrays[source] = np.ascontiguousarray(simpledets_layout(source, weight.numpy()))
    return arrays


def nchw(x):
    return np.asarray(x).transpose(0, 3, 1, 2)


def write_golden(folder, detector, first_number):
    folder.mkdir(exist_ok=True)
    arrays = checkpoint(detector, first_number)
    write_params(folder / "params.params", arrays)
    write_params(folder / "params_unmerged_bn.params", {k: v for k, v in arrays.items() if k.endswith("_gamma")})
    image = np.random.default_rng(1).integers(0, 256, (128, 160, 3)).astype(np.uint8)
    info = tf.constant([[128.0, 160.0, 1.0]])
    inputs = normalize_images(tf.constant(image[None]), info, detector.pixel_mean, detector.pixel_std)
    np.savez(folder / "inputs.npz", data=nchw(inputs), im_info=info.numpy(), image_rgb_uint8=image)

    first = detector.first_stage_from_input(inputs, training=False)
    rois = detector.propose(first, info, training=False).boxes
    boxes, scores = detector.predict_boxes(first, rois, info)
    found = detector.postprocess(boxes, scores, info)
    assert int(found.num_valid[0]) >= 5
    final = found.boxes[:, ::-1]  # not in the order of scores: SimpleDet's go by class
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
        "HEAD4:bbox_post_processing_post_bbox_xyxy": final.numpy(),
        "HEAD5:bbox_post_processing_post_cls": found.classes.numpy()[:, ::-1, None],
    }
    np.savez(folder / "outputs_core.npz", **outputs)
    (folder / "meta.json").write_text(json.dumps({"row": "mask_r50v1_fpn_1x"}))
    return arrays, outputs


@pytest.fixture(scope="module")
def folder(detector, tmp_path_factory):
    folder = tmp_path_factory.mktemp("goldens") / "mask_r50v1_fpn_1x"
    return folder, *write_golden(folder, detector, first_number=1)


def test_check_golden_compares_every_map_of_the_branch(folder, capsys):
    path, arrays, outputs = folder
    assert arrays["arg:mask_up0_weight"].shape == (8, 8, 2, 2)
    assert arrays["arg:mask_fcn_logit_weight"].shape == (1 + CLASSES, 8, 1, 1)
    assert check_golden.run(check_golden_arguments(path)) == 0
    shown = capsys.readouterr().out
    assert f"{len(outputs) - 1} maps compared; without a counterpart: HEAD5" in shown.replace("\n", " ")


def check_golden_arguments(path):
    parser = argparse.ArgumentParser()
    check_golden.add_arguments(parser)
    return parser.parse_args([str(path)])


@pytest.mark.parametrize(
    "tensor,seen_in",
    [
        ("arg:mask_fcn_conv2_weight", "mask_fcn_conv2"),
        ("arg:mask_up0_weight", "mask_up0"),
        ("arg:mask_fcn_logit_weight", "mask_fcn_logit"),
        ("arg:bbox_reg_delta_weight", "HEAD4:bbox_post_processing_post_bbox_xyxy"),
    ],
)
def test_a_wrong_weight_is_found_where_it_first_matters(folder, tensor, seen_in):
    golden = goldens.read_golden(folder[0])
    wrong = {**golden.folded, tensor: np.flip(golden.folded[tensor], axis=0) * 1.1}
    errors = {e.name: e.error for e in goldens.check(golden, wrong)}
    assert errors[seen_in] > 1e-2
    assert errors["add_n2"] <= 1e-4  # pooled from SimpleDet's boxes, whatever ours are


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
    rules = family_rules(detector)
    sources = {w.path: source_of(w.path, rules)[0] for w in detector.weights}
    mask = {name for name in sources.values() if "mask" in name}
    convs = [f"mask_fcn_conv{i}" for i in range(4)] + ["mask_up0", "mask_fcn_logit"]
    assert mask == {f"arg:{name}_{kind}" for name in convs for kind in ("weight", "bias")}
    shapes = {sources[w.path]: tuple(w.shape) for w in detector.weights}
    assert shapes["arg:mask_up0_weight"] == (2, 2, 256, 256) and shapes["arg:mask_fcn_logit_weight"] == (1, 1, 256, 81)

    from tfdet.training.trainer import Trainer
    from tfdet.training.variables import select_trained

    trained = {sources[v.path] for v in select_trained(detector, configuration.build(Trainer).frozen)}
    frozen = {name for name in mask if name not in trained}
    kinds = ("weight", "bias")
    assert frozen == ({f"arg:mask_fcn_conv0_{kind}" for kind in kinds} if first_number == 0 else set())
    assert "arg:conv0_weight" not in trained and "arg:stage2_unit1_conv1_weight" in trained


def test_folders_of_unknown_families_are_refused(folder):
    golden = goldens.read_golden(folder[0])
    with pytest.raises(UserError, match="mask_r50v1c4"):
        goldens.build_like(golden._replace(meta={"row": "mask_r50v1c4_1x"}))
