"""Loading files of other programs by what is in them: backbones of three programs, refusals."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.detectors.small import small_detector, small_v2_detector
from tfdet.backbones import ResNetV1
from tfdet.data.coco_names import COCO_CATEGORIES
from tfdet.detectors import PostProcess, TwoStageDetector
from tfdet.errors import UserError
from tfdet.heads import C5BboxHead, RoiExtractor, RpnHead
from tfdet.heads.proposals import AnchorGenerator, ProposalGenerator
from tfdet.predict.restore import FileWeights
from tfdet.targets.assigners import RoiTargetSampler, RpnTargetAssigner
from tfdet.weights import load, write_params
from tfdet.weights.load import find_weights
from tfdet.weights.maps import detectron2, simpledet, torchvision
from tfdet.weights.maps.rules import source_of
from tfdet.weights.sources import classes_of


def c4_detector(depth=50, width=1 / 16, stride_on="1x1", pixel_std=(1.0, 1.0, 1.0), **grouped):
    detector = TwoStageDetector(
        3,
        ResNetV1(depth, num_stages=3, width=width, stride_on=stride_on, **grouped),
        rpn_head=lambda num_anchors: RpnHead(num_anchors, 8),
        bbox_head=lambda num_classes: C5BboxHead(num_classes, depth, width=width, stride_on=stride_on, **grouped),
        anchors=AnchorGenerator(),
        proposals=ProposalGenerator(),
        roi_extractor=RoiExtractor(),
        rpn_targets=RpnTargetAssigner(),
        roi_targets=RoiTargetSampler(),
        postprocess=PostProcess(),
        pixel_std=pixel_std,
    )
    detector.create_weights()
    return detector


def stored(detector, name_map):
    """Random tensors for all that the map names, in the file's layout, as PyTorch has it."""
    rng, arrays = np.random.default_rng(0), {}
    for variable in detector.weights:
        found = source_of(variable.path, name_map.rules)
        if found is not None:
            value = rng.uniform(0.5, 1.5, variable.shape).astype(np.float32)
            arrays[found[0]] = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value
    return arrays


@pytest.mark.parametrize("program,stride_on", [(detectron2, "1x1"), (torchvision, "3x3")])
def test_an_imagenet_backbone_fills_backbone_and_stage_4(tmp_path, program, stride_on):
    detector = c4_detector(stride_on=stride_on)
    arrays = stored(detector, program.imagenet_map(detector))
    np.savez(tmp_path / "r50.npz", **arrays)
    report = load(detector, tmp_path / "r50.npz")
    assert not report.unused and not report.mismatched
    left = {path for path in report.missing if not path.startswith(("rpn_head", "bbox_head/predictor"))}
    assert left == set()
    name = "res4.1.conv2.weight" if program is detectron2 else "layer3.1.conv2.weight"
    kernel = next(v for v in detector.weights if v.path == "backbone/stage3/unit2/conv2/kernel")
    np.testing.assert_array_equal(kernel, arrays[name].transpose(2, 3, 1, 0))
    stem = "stem.conv1.weight" if program is detectron2 else "conv1.weight"
    channels = slice(None, None, -1 if program is detectron2 else 1)  # Detectron2's is fed B, G, R
    np.testing.assert_array_equal(detector.backbone.conv0.kernel, arrays[stem][:, channels].transpose(2, 3, 1, 0))


def test_caffe2s_names_are_detectron2s():
    arrays = detectron2.from_caffe2(
        {
            "conv1_w": np.ones([4, 3, 7, 7]),
            "res_conv1_bn_s": np.ones(4),
            "res2_0_branch2a_w": np.ones(1),
            "res2_0_branch1_bn_b": np.ones(1),
            "res3_2_branch2c_bn_s": np.ones(6),
        }
    )
    assert {"stem.conv1.weight", "res2.0.conv1.weight", "res2.0.shortcut.norm.bias"} <= set(arrays)
    assert arrays["res3.2.conv3.norm.running_var"].shape == (6,) and arrays["stem.conv1.norm.running_mean"].sum() == 0


def test_kerass_resnet_gives_kerass_maps(tmp_path):
    """Biases in front of BN, another epsilon, B, G, R: all of it, by the output of the real model."""
    theirs = keras.applications.ResNet50(include_top=False, weights=None, input_shape=(64, 64, 3))
    rng = np.random.default_rng(0)
    for variable in theirs.variables:
        if variable.ndim == 1:
            variable.assign(rng.uniform(0.5, 1.0, variable.shape))
    theirs.save_weights(tmp_path / "resnet50.weights.h5")
    detector = c4_detector(width=1.0)
    report = load(detector, tmp_path / "resnet50.weights.h5")
    assert not report.unused and not report.mismatched
    image = rng.uniform(-100, 100, [1, 64, 64, 3]).astype(np.float32)
    expected = keras.Model(theirs.input, theirs.get_layer("conv4_block6_out").output)(image[..., ::-1])
    ours = detector.backbone(tf.constant(image))[-1]
    np.testing.assert_allclose(ours, expected, atol=2e-5 * np.abs(expected).max())


def test_another_backbone_is_refused_and_nothing_is_changed(tmp_path):
    detector = c4_detector()
    deeper = c4_detector(depth=101)
    deeper = stored(deeper, detectron2.imagenet_map(deeper))
    np.savez(tmp_path / "r101.npz", **deeper)
    before = detector.backbone.conv0.kernel.numpy()
    with pytest.raises(UserError, match="deeper backbone: there is no backbone/stage3/unit"):
        load(detector, tmp_path / "r101.npz")
    np.testing.assert_array_equal(detector.backbone.conv0.kernel, before)
    wider = {k: np.repeat(v, 2, axis=0) for k, v in stored(detector, detectron2.imagenet_map(detector)).items()}
    np.savez(tmp_path / "wide.npz", **wider)
    with pytest.raises(UserError, match="another backbone: backbone/conv0/kernel"):
        load(detector, tmp_path / "wide.npz")


def test_a_checkpoint_that_fits_nowhere_is_refused(tmp_path):
    write_params(tmp_path / "other.params", {"arg:something": np.zeros(3, np.float32)})
    for detector, backbone in ((small_detector("c4"), "ResNetV1"), (small_v2_detector("cascade"), "ResNetV2")):
        with pytest.raises(UserError, match=f"no tensor fits this detector on {backbone}"):
            load(detector, tmp_path / "other.params")


def test_strides_elsewhere_are_refused(tmp_path):
    detector = c4_detector(stride_on="3x3")
    np.savez(tmp_path / "r50.npz", **stored(detector, detectron2.imagenet_map(detector)))
    with pytest.raises(UserError, match="set ResNetV1.stride_on = '1x1'"):
        load(detector, tmp_path / "r50.npz")


def test_resnext_strides_on_its_3x3_and_divides_pixels(tmp_path):
    """X-101-32x8d.pkl, under Caffe2's names: what its kernels are tells it from MSRA's networks."""
    grouped = {"groups": 2, "width_per_group": 32}
    detector = c4_detector(stride_on="3x3", **grouped)
    arrays = stored(detector, detectron2.imagenet_map(detector))
    assert arrays["res2.0.conv2.weight"].shape == (4, 2, 3, 3)
    np.savez(tmp_path / "x.npz", **{_caffe2_name(name): array for name, array in arrays.items()})
    report = load(detector, tmp_path / "x.npz")
    assert not report.unused and not report.mismatched
    assert {path.split("/")[0] for path in report.missing} == {"rpn_head", "bbox_head"}
    kernel = detector.backbone.stages[0].units[0].conv2.kernel.numpy()
    np.testing.assert_array_equal(kernel, arrays["res2.0.conv2.weight"].transpose(2, 3, 1, 0))
    assert detectron2.imagenet_map(detector, arrays).pixel_std == (58.395, 57.12, 57.375)
    with pytest.raises(UserError, match="set ResNetV1.stride_on = '3x3'"):
        load(c4_detector(**grouped), tmp_path / "x.npz")


def _caffe2_name(name):
    stem, _, part = name.rpartition(".")
    part = {"weight": "w", "bias": "b", "running_mean": "rm", "running_var": "riv"}[part]
    if stem.endswith(".norm"):
        stem, part = stem.removesuffix(".norm"), "bn_" + {"w": "s"}.get(part, part)
    if stem == "stem.conv1":
        return f"res_conv1_{part}" if part.startswith("bn_") else f"conv1_{part}"
    stage, unit, conv = stem.split(".")
    branch = {"conv1": "branch2a", "conv2": "branch2b", "conv3": "branch2c", "shortcut": "branch1"}[conv]
    return f"{stage}_{unit}_{branch}_{part}"


def test_simpledets_v1b_strides_on_the_3x3_where_pixels_are_divided(tmp_path):
    v1b = c4_detector(stride_on="3x3", pixel_std=(58.395, 57.12, 57.375))
    assert simpledet.name_map(v1b).stride_in_1x1 is False
    assert simpledet.name_map(c4_detector()).stride_in_1x1 is True


def test_foreign_tensors_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", **{"encoder.layers.0.weight": np.ones(2)})
    with pytest.raises(UserError, match="of no known program"):
        load(small_detector("c4"), tmp_path / "x.npz")


def test_short_names_are_found_in_the_weights_folder(tmp_path, monkeypatch):
    folder = tmp_path / "weights"
    folder.mkdir()
    names = ("resnet-v1-50-0000.params", "resnet-v1-101.params", "two.npz", "two.pkl", "model_final_b275ba.pkl")
    for name in names:
        (folder / name).write_bytes(b"")
    monkeypatch.setenv("TFDET_WEIGHTS", str(folder))
    assert find_weights("resnet-v1-50") == folder / "resnet-v1-50-0000.params"
    assert find_weights("resnet-v1-101") == folder / "resnet-v1-101.params"
    assert find_weights("two.npz") == folder / "two.npz"
    assert find_weights("faster_rcnn_R_50_FPN_1x") == folder / "model_final_b275ba.pkl"  # as its address calls it
    with pytest.raises(UserError, match="two.npz, two.pkl; give the path of one"):
        find_weights("two")
    assert find_weights("detectron2/faster_rcnn_R_50_FPN_1x") == folder / "model_final_b275ba.pkl"
    for missing, hint in (
        ("resnet", "`tfdet weights` lists"),
        ("folder/resnet-v1-50", "Did you mean 'simpledet/resnet-v1-50'"),
        ("elsewhere/R-50.pkl", "Did you mean 'detectron2/R-50'"),
        ("detectron2/mask_rcnn_R50_FPN_3x", "Did you mean 'detectron2/mask_rcnn_R_50_FPN_3x'"),
        ("resnet-v1-50.pkl", "Did you mean"),
    ):
        with pytest.raises(UserError, match=f"no such file.*{hint}"):
            find_weights(missing)


def test_a_checkpoint_of_another_program_is_evaluated_whole_or_not_at_all(tmp_path):
    built = small_detector("c4")
    arrays = stored(built, simpledet.name_map(built))
    arrays = {name: array.T if array.ndim == 2 else array for name, array in arrays.items()}
    write_params(tmp_path / "whole.params", arrays)
    built.rpn_head.cls.bias.assign(built.rpn_head.cls.bias + 1.0)
    weights = FileWeights(tmp_path / "whole.params")
    assert weights.classes == ["class 1", "class 2", "class 3"] and weights.category_ids == [1, 2, 3]
    assert weights.fill(built) == 0 and not weights.named
    np.testing.assert_array_equal(built.rpn_head.cls.bias, arrays["arg:rpn_cls_logit_bias"])
    del arrays["arg:rpn_cls_logit_bias"]
    write_params(tmp_path / "part.params", arrays)
    with pytest.raises(UserError, match="another architecture or class count"):
        FileWeights(tmp_path / "part.params").fill(built)
    write_params(tmp_path / "backbone.params", {n: a for n, a in arrays.items() if "stage1" in n})
    with pytest.raises(UserError, match="backbone.params holds no detector"):
        FileWeights(tmp_path / "backbone.params")


def test_eighty_classes_are_those_of_coco():
    assert classes_of({"arg:bbox_cls_logit_bias": np.zeros(81)}) == COCO_CATEGORIES
    torchvision = {"roi_heads.box_predictor.cls_score.bias": np.zeros(91), "backbone.body.conv1.weight": np.zeros(1)}
    assert classes_of(torchvision | {"backbone.fpn.inner_blocks.0.0.weight": np.zeros(1)}) == COCO_CATEGORIES
    assert classes_of({"arg:bbox_cls_logit_bias": np.zeros(3)}) == {1: "class 1", 2: "class 2"}
