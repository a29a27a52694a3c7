"""The Cascade R-CNN row on C5: the comparison of a folder."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.detectors.small import STAGE_STD, cascade_targets
from tests.golden_check import written
from tests.golden_check.stored import simpledet
from tests.golden_check.test_simpledet_mutations import FINALS
from tests.golden_check.written import nchw
from tfdet.backbones import ResNetV2
from tfdet.config import register_all
from tfdet.detectors import PostProcess, TwoStageDetector
from tfdet.errors import UserError
from tfdet.heads import MlpBboxHead, RoiExtractor, RpnHead
from tfdet.heads.proposals import AnchorGenerator, ProposalGenerator
from tfdet.necks import ReduceNeck
from tfdet.ops.box_coding import decode
from tfdet.targets.assigners import RpnTargetAssigner
from tools.golden.simpledet_check import compute, judge
from tools.golden.simpledet_rows import build_like

CLASSES, ROIS = 3, 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of a narrow cascade_r50v2_c5 of the later revision; the boxes of its stages are decoded by hand."""
    register_all()
    keras.utils.set_random_seed(3)
    detector = TwoStageDetector(
        CLASSES,
        ResNetV2(50, num_stages=4, width=1 / 16, dilate_c5=True),
        neck=ReduceNeck(8, kernel_size=3, use_bias=False),
        rpn_head=lambda num_anchors: RpnHead(num_anchors, 8),
        bbox_head=lambda num_classes, name: MlpBboxHead(num_classes, 16, class_agnostic=True, name=name),
        anchors=AnchorGenerator(),
        proposals=ProposalGenerator(pre_nms_top_n=(200, 200), post_nms_top_n=(160, ROIS)),
        roi_extractor=RoiExtractor(),
        rpn_targets=RpnTargetAssigner(),
        roi_targets=cascade_targets(),
        stage_loss_weights=(1.0, 0.5, 0.25),
        postprocess=PostProcess(box_std=STAGE_STD[-1]),
        pixel_mean=(0.0, 0.0, 0.0),
    )
    detector.create_weights()
    written.random_weights(detector)
    folder = tmp_path_factory.mktemp("goldens") / "cascade_r50v2_c5_red_1x"
    inputs, info = written.write_inputs(folder, detector, folder.name, pre_nms=200)
    features = detector.backbone(inputs)
    reduced = tf.nn.relu(detector.neck.conv(features[3]))
    first = detector.first_stage_from_input(inputs, training=False)
    rois = detector.propose(first, info, training=False).boxes
    outputs = {
        "stage3_unit6_plus": nchw(features[2]),
        "relu1": nchw(features[3]),
        "backbone_reduce_relu": nchw(reduced),
        "rpn_cls_logit": nchw(detector.rpn_head([features[2]])[0][0]),
        "proposal": rois.numpy(),
    }
    limits = np.array([159, 127, 159, 127], np.float32)
    for suffix, head, std in zip(("1st", "2nd", "3rd"), detector.bbox_heads, STAGE_STD, strict=True):
        pooled = detector.roi_extractor([reduced], rois)
        _, deltas = head(pooled)
        rois = tf.clip_by_value(decode(rois, deltas[None, :, -4:], std=std), 0.0, limits)
        outputs |= {
            f"roi_align_{suffix}": nchw(pooled),
            f"bbox_reg_delta_{suffix}": deltas.numpy(),
            f"decode_bbox_{suffix}": rois.numpy(),
        }
    logits = [head(pooled)[0] for head in detector.bbox_heads]
    outputs |= {f"bbox_cls_logit_{k}": x.numpy() for k, x in zip(("1st", "2nd", "3rd"), logits, strict=True)}
    outputs |= {f"bbox_cls_logit_{k}_3rd": x.numpy() for k, x in zip(("1st", "2nd"), logits, strict=False)}
    # MXNet's names of sums and of decoded boxes say nothing.
    outputs["HEAD3:_divscalar0_output"] = sum(tf.nn.softmax(x).numpy() for x in logits)[None] / 3
    outputs["HEAD4:decode_bbox_3rd: concat0_output"] = rois.numpy()
    np.savez(folder / "outputs_core.npz", **outputs, **written.identities(info))
    return folder


@pytest.fixture(scope="module")
def computed(folder):
    golden, detector = simpledet(folder)
    return golden, compute(golden, golden.folded, detector)


def test_every_map_of_the_stages_is_compared(computed):
    golden, own = computed
    verdict = judge(golden, own, tolerance=1e-5)
    assert verdict.passed, (verdict.wrong, verdict.findings)
    assert {e.name for e in verdict.maps} == set(golden.outputs) and len(verdict.maps) == 24
    assert not verdict.not_compared


@pytest.mark.parametrize("mutate", FINALS)
def test_wrong_finals_are_found(computed, mutate):
    golden, own = computed
    outputs = {name: array.copy() for name, array in golden.outputs.items()}
    mutate(outputs)
    assert not judge(golden._replace(outputs=outputs), own).passed


def test_a_wrong_weight_is_found_in_its_stage_and_behind_it(folder):
    golden, detector = simpledet(folder)
    wrong = {**golden.folded, "arg:bbox_reg_delta_2nd_bias": golden.folded["arg:bbox_reg_delta_2nd_bias"] + 1.0}
    errors = {e.name: e.error for e in judge(golden, compute(golden, wrong, detector)).maps}
    assert errors["bbox_reg_delta_2nd"] > 1e-2 < errors["decode_bbox_3rd"]
    assert errors["decode_bbox_1st"] <= 1e-5 >= errors["roi_align_2nd"]


@pytest.mark.parametrize(
    "lines,seen_in",
    [
        (["second/RoiTargetSampler.box_std = (0.1, 0.1, 0.2, 0.2)"], "decode_bbox_2nd"),
        (["TwoStageDetector.stage_scores = 'own_rois'"], "HEAD3:_divscalar0_output"),
        (["ReduceNeck.kernel_size = 1"], None),
        (["MlpBboxHead.use_bias = False"], None),
    ],
)
def test_a_wrong_line_in_a_gin_file_fails_the_golden(folder, lines, seen_in):
    golden, _ = simpledet(folder)
    detector = build_like(golden, lines)
    if seen_in is None:
        with pytest.raises(UserError, match="the checkpoint does not fit the family cascade_r50v2_c5_red_1x"):
            compute(golden, golden.folded, detector)
        return
    different = [e.name for e in judge(golden, compute(golden, golden.folded, detector)).wrong]
    assert seen_in in different
