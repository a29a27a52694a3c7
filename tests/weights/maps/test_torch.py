"""Name maps of Detectron2 and torchvision: spellings, layouts, category ids."""

import numpy as np
import pytest

from tests.weights import detectron2_layout
from tfdet import config
from tfdet.weights.maps import coco_ids, detectron2, layouts, torchvision
from tfdet.weights.maps.rules import source_of


def test_old_and_new_spelling_of_torchvision_are_the_same_tensors():
    old = {
        "backbone.fpn.inner_blocks.3.weight": "backbone.fpn.inner_blocks.3.0.weight",
        "backbone.fpn.layer_blocks.0.bias": "backbone.fpn.layer_blocks.0.0.bias",
        "rpn.head.conv.weight": "rpn.head.conv.0.0.weight",
        "roi_heads.mask_head.mask_fcn1.bias": "roi_heads.mask_head.0.0.bias",
        "roi_heads.mask_head.mask_fcn4.weight": "roi_heads.mask_head.3.0.weight",
        "head.classification_head.conv.6.weight": "head.classification_head.conv.3.0.weight",
        "head.regression_head.conv.0.bias": "head.regression_head.conv.0.0.bias",
        "roi_heads.box_head.fc6.weight": "roi_heads.box_head.fc6.weight",
        "backbone.fpn.extra_blocks.p6.weight": "backbone.fpn.extra_blocks.p6.weight",
    }
    for name, expected in old.items():
        assert list(torchvision.current_names({name: np.zeros(1)})) == [expected]
        assert list(torchvision.current_names({expected: np.zeros(1)})) == [expected]


@pytest.mark.parametrize(
    ("file", "program", "expected"),
    [
        (
            "torchvision/retinanet_r50_fpn",
            torchvision,
            {
                "neck/p6_conv/kernel": "backbone.fpn.extra_blocks.p6.weight",
                "neck/p5_conv/bias": "backbone.fpn.layer_blocks.2.0.bias",
                "retina_head/cls_conv4/kernel": "head.classification_head.conv.3.0.weight",
                "retina_head/box/bias": "head.regression_head.bbox_reg.bias",
                "backbone/stage4/unit1/sc_bn/moving_variance": "backbone.body.layer4.0.downsample.1.running_var",
            },
        ),
        (
            "detectron2/cascade_mask_rcnn_r50_fpn",
            detectron2,
            {
                "bbox_head_3rd/fc1/kernel": "roi_heads.box_head.2.fc1.weight",
                "mask_head/conv3/kernel": "roi_heads.mask_head.mask_fcn4.weight",
                "mask_head/up/bias": "roi_heads.mask_head.deconv.bias",
                "backbone/bn0/beta": "backbone.bottom_up.stem.conv1.norm.bias",
                "backbone/stage1/unit3/bn2/gamma": "backbone.bottom_up.res2.2.conv2.norm.weight",
            },
        ),
        (
            "torchvision/maskrcnn_r50_fpn_v2",
            torchvision,
            {
                "neck/p2_lateral_bn/gamma": "backbone.fpn.inner_blocks.0.1.weight",
                "neck/p5_bn/moving_variance": "backbone.fpn.layer_blocks.3.1.running_var",
                "neck/p5_conv/kernel": "backbone.fpn.layer_blocks.3.0.weight",
                "rpn_head/conv/kernel": "rpn.head.conv.0.0.weight",
                "rpn_head/conv2/bias": "rpn.head.conv.1.0.bias",
                "bbox_head/conv4/kernel": "roi_heads.box_head.3.0.weight",
                "bbox_head/bn1/moving_mean": "roi_heads.box_head.0.1.running_mean",
                "bbox_head/fc1/kernel": "roi_heads.box_head.5.weight",
                "mask_head/bn0/beta": "roi_heads.mask_head.0.1.bias",
            },
        ),
        (
            "torchvision/retinanet_r50_fpn_v2",
            torchvision,
            {
                "retina_head/cls_gn4/gamma": "head.classification_head.conv.3.1.weight",
                "retina_head/box_conv1/kernel": "head.regression_head.conv.0.0.weight",
            },
        ),
        (
            "detectron2/new_baselines/mask_rcnn_r50_fpn_100ep_lsj",
            detectron2,
            {
                "neck/p3_bn/moving_mean": "backbone.fpn_output3.norm.running_mean",
                "rpn_head/conv/kernel": "proposal_generator.rpn_head.conv.conv0.weight",
                "rpn_head/conv2/bias": "proposal_generator.rpn_head.conv.conv1.bias",
                "bbox_head/conv1/kernel": "roi_heads.box_head.conv1.weight",
                "bbox_head/bn4/gamma": "roi_heads.box_head.conv4.norm.weight",
                "bbox_head/fc1/bias": "roi_heads.box_head.fc1.bias",
                "mask_head/bn3/moving_variance": "roi_heads.mask_head.mask_fcn4.norm.running_var",
            },
        ),
        (
            "detectron2/retinanet_r50_fpn",
            detectron2,
            {
                "neck/p7_conv/kernel": "backbone.top_block.p7.weight",
                "neck/p3_lateral/kernel": "backbone.fpn_lateral3.weight",
                "retina_head/box_conv2/kernel": "head.bbox_subnet.2.weight",
                "retina_head/cls/bias": "head.cls_score.bias",
            },
        ),
    ],
)
def test_every_variable_of_a_family_has_a_name_of_its_own(file, program, expected):
    config.register_all()
    detector = config.parse([f"{file}.gin"], ["WIDTH = 0.0625"]).build("build_detector", num_classes=3)
    rules = program.name_map(detector, {}).rules
    names = {}
    for variable in detector.weights:
        found = source_of(variable.path, rules)
        if found is not None:
            names[variable.path] = found[0]
    assert set(v.path for v in detector.weights) - set(names) <= {"detector/moving_foreground"}
    assert len(set(names.values())) == len(names)
    assert {path: names[path] for path in expected} == expected


DIVIDED = (58.395, 57.12, 57.375)


@pytest.mark.parametrize(
    ("arrays", "pixel_std", "stride_in_1x1"),
    [
        (detectron2_layout.class_agnostic(), (1.0, 1.0, 1.0), True),
        (detectron2_layout.resnext(), DIVIDED, False),
        (detectron2_layout.resnext(depth=152), (1.0, 1.0, 1.0), False),
        # Begun from ImageNet or from random weights, with pixels divided or not: only an older file says.
        (detectron2_layout.normed("GN"), None, False),
        (detectron2_layout.normed("BN"), None, None),
        (detectron2_layout.normed("GN") | {"pixel_std": np.float32(DIVIDED[::-1]).reshape(3, 1, 1)}, DIVIDED, False),
    ],
    ids=["msra", "resnext-50", "resnext-152", "gn", "bn", "gn with its pixels"],
)
def test_pixels_and_stride_of_a_file_of_detectron2s(arrays, pixel_std, stride_in_1x1):
    known = detectron2._trained_with(arrays)
    assert known["pixel_mean"] == (123.675, 116.28, 103.53) and known["stride_in_1x1"] is stride_in_1x1
    assert known["pixel_std"] == (None if pixel_std is None else pytest.approx(pixel_std))


def test_caffe2s_group_normalisation_has_no_statistics():
    arrays = {
        "conv1_gn_s": np.ones(8),
        "conv1_gn_b": np.zeros(8),
        "res2_0_branch1_gn_s": np.ones(8),
        "res3_1_branch2b_gn_b": np.ones(8),
        "res3_1_branch2b_w": np.ones((8, 8, 3, 3)),
    }
    renamed = detectron2.from_caffe2(arrays)
    assert set(renamed) == {
        "stem.conv1.norm.weight",
        "stem.conv1.norm.bias",
        "res2.0.shortcut.norm.weight",
        "res3.1.conv2.norm.bias",
        "res3.1.conv2.weight",
    }
    known = detectron2._trained_with(renamed)
    assert known["pixel_std"] == (1.0, 1.0, 1.0) and known["stride_in_1x1"] is False


def test_layout_steps_by_hand():
    scores = np.arange(6.0).reshape(3, 2)  # classes 0, 1, background
    np.testing.assert_array_equal(layouts.background_first(scores), [[4, 5], [0, 1], [2, 3]])
    np.testing.assert_array_equal(layouts.dense_background_first(scores), [[4, 0, 2], [5, 1, 3]])
    box = np.arange(1.0, 9.0)
    np.testing.assert_array_equal(layouts.with_background_box(box), [0, 0, 0, 0, *box])
    kernel = np.arange(3.0).reshape(1, 3, 1, 1)
    np.testing.assert_array_equal(layouts.first_oihw_from_bgr(kernel).ravel(), [2, 1, 0])
    up = np.random.default_rng(0).normal(size=[5, 4, 2, 2])  # in, out, y, x
    assert layouts.deconv(up)[1, 0, 3, 2] == up[2, 3, 1, 0]


def test_published_files_count_category_ids():
    """Rows of the 91 numbers that COCO's 80 classes have; every value tells its number."""
    numbers = np.arange(91, dtype=np.float32)
    two_stage = {
        "roi_heads.box_predictor.cls_score.weight": np.repeat(numbers[:, None], 5, axis=1),
        "roi_heads.box_predictor.bbox_pred.bias": np.repeat(numbers, 4),
        "roi_heads.mask_predictor.mask_fcn_logits.weight": np.broadcast_to(numbers[:, None, None, None], (91, 3, 1, 1)),
        "roi_heads.box_head.fc7.bias": np.zeros(91),
    }
    found = coco_ids.coco_classes(two_stage)
    ids = [0, *coco_ids.COCO_IDS]
    assert len(ids) == 81 and ids[1:13] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13] and ids[-1] == 90
    assert found["roi_heads.box_predictor.cls_score.weight"][:, 2].tolist() == ids
    assert found["roi_heads.box_predictor.bbox_pred.bias"].tolist() == np.repeat(ids, 4).tolist()
    assert found["roi_heads.mask_predictor.mask_fcn_logits.weight"].shape == (81, 3, 1, 1)
    assert found["roi_heads.box_head.fc7.bias"].shape == (91,)
    per_anchor = np.concatenate([numbers + 1000 * anchor for anchor in range(9)])
    bias = coco_ids.coco_classes({"head.classification_head.cls_logits.bias": per_anchor})
    expected = np.concatenate([np.array(ids[1:]) + 1000 * anchor for anchor in range(9)])
    np.testing.assert_array_equal(bias["head.classification_head.cls_logits.bias"], expected)
