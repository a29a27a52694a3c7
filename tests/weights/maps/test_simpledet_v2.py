"""SimpleDet's names of the rows on ResNet-v2: counts, shapes, what is frozen, and what folding leaves."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdet import config
from tfdet.config import register_all
from tfdet.training.variables import select_trained
from tfdet.weights import load, write_params
from tfdet.weights.load import assign
from tfdet.weights.maps import simpledet
from tfdet.weights.maps.rules import source_of
from tools.golden.simpledet_folder import read_golden
from tools.golden.simpledet_rows import build_like

GOLDEN = Path(__file__).parents[2] / "golden" / "simpledet"
FASTER = "faster_r50v2c4_c5_256roi_1x"


@pytest.fixture(autouse=True, scope="module")
def registered():
    register_all()


def test_the_stored_gamma_of_the_image_is_ignored():
    golden = read_golden(GOLDEN / FASTER)
    detector = build_like(golden)
    arrays = {**golden.unfolded, "arg:bn_data_gamma": np.float32([2.0, 3.0, 4.0])}
    report = assign(detector, arrays, simpledet.name_map(detector), "x")
    assert not report.missing and not report.unused
    np.testing.assert_array_equal(detector.backbone.bn_data.gamma, [1, 1, 1])


def test_copies_of_a_shared_bn_are_one():
    name = "arg:stage3_unit2_bn2"
    arrays = {f"{name}_shared{b}_gamma": np.full([1, 4, 1, 1], b) for b in range(3)} | {"arg:other": np.zeros(2)}
    joined = simpledet.join_branches(arrays)
    assert set(joined) == {f"{name}_gamma", "arg:other"}
    assert (joined[f"{name}_gamma"] == 0).all()


def test_an_imagenet_file_fills_backbone_and_stage_4(tmp_path):
    """The gallery's resnet-50-0000.params: its names are the detector's, with stage 4 and bn1 in the RCNN head."""
    golden = read_golden(GOLDEN / FASTER)
    backbone = {k: v for k, v in golden.unfolded.items() if k.split(":")[1].startswith(("bn", "conv0", "stage"))}
    backbone["arg:fc1_weight"] = np.zeros((1000, 256), np.float32)
    path = tmp_path / "resnet-50-0000.params"
    write_params(path, backbone)
    report = load(build_like(golden), path)
    assert not report.unused and not report.mismatched
    assert {name.rsplit("/", 2)[0] for name in report.missing} == {"rpn_head", "bbox_head/predictor"}


def built(file, *bindings):
    register_all()
    configuration = config.parse([*file.split("+")], list(bindings))
    return configuration.build("build_detector", num_classes=80), configuration.value("Trainer.frozen")


THIN = ("WIDTH = 0.0625", "RpnHead.channels = 8")
THIN_CASCADE = (*THIN, "ReduceNeck.channels = 8", "MlpBboxHead.channels = 16")


def simpledets_frozen(name):
    """SimpleDet's substring rule on its own names (core/detection_module.py)."""
    return any(part in name for part in ("conv0", "stage1", "gamma", "beta"))


@pytest.mark.parametrize(
    "row,bindings,arguments,statistics",
    [
        ("faster_r50v2_c4.gin", THIN, 165, 102),
        ("faster_r101v2_c4_syncbn.gin", THIN, 318, 204),
        ("trident_r50v2_c4.gin", THIN, 165, 102),
        # Those of v1, and the offsets of ten deformable units, which have no bias.
        ("faster_dcnv2_r50v1b_c4_1x.gin", THIN, 169 + 10, 106),
        ("trident_fast_r101v2_c4.gin", THIN, 318, 204),
        # The same layers as the rows above, and a quarter of a minute each.
        pytest.param("faster_r101v2_c4.gin", THIN, 318, 204, marks=pytest.mark.slow),
        pytest.param("trident_r101v2_c4.gin", THIN, 318, 204, marks=pytest.mark.slow),
        ("cascade_r50v2_c5.gin", THIN_CASCADE, 181, 102),
        # Six more biases of fully connected layers, and none of the neck.
        ("cascade_r50v2_c5.gin+overlays/later_revision_cascade.gin", THIN_CASCADE, 186, 102),
        pytest.param("cascade_r101v2_c5.gin", THIN_CASCADE, 334, 204, marks=pytest.mark.slow),
    ],
)
def test_tensor_counts_names_and_frozen_parameters_of_the_zoo(row, bindings, arguments, statistics):
    detector, frozen = built(row, *bindings)
    rules = simpledet.name_map(detector).rules
    sources = {w.path: source_of(w.path, rules)[0] for w in detector.weights}
    assert len(set(sources.values())) == len(sources) == arguments + statistics
    assert len([s for s in sources.values() if s.startswith("aux:")]) == statistics
    trained = {sources[v.path] for v in select_trained(detector, frozen)}
    if "syncbn" in row:
        # Only what no gradient reaches in SimpleDet either: bn_data's gamma is fixed.
        assert trained == {s for s in sources.values() if s.startswith("arg:")} - {"arg:bn_data_gamma"}
    else:
        assert trained == {s for s in sources.values() if s.startswith("arg:") and not simpledets_frozen(s)}


HEADS_C4 = {
    "bbox_cls_logit_weight": (81, 2048),
    "bbox_cls_logit_bias": (81,),
    "bbox_reg_delta_weight": (8, 2048),
    "bbox_reg_delta_bias": (8,),
}
RPN = {
    "rpn_conv_3x3_weight": (512, 1024, 3, 3),
    "rpn_conv_3x3_bias": (512,),
    "rpn_cls_logit_weight": (30, 512, 1, 1),
    "rpn_cls_logit_bias": (30,),
    "rpn_bbox_delta_weight": (60, 512, 1, 1),
    "rpn_bbox_delta_bias": (60,),
}


def cascade_shapes(revision):
    neck, size = ("conv_neck", 1) if revision == "first" else ("backbone_reduce", 3)
    shapes = {f"{neck}_weight": (1024, 2048, size, size)}
    if revision == "first":
        shapes["conv_neck_bias"] = (1024,)
    for s in ("1st", "2nd", "3rd"):
        shapes |= {
            f"bbox_fc1_{s}_weight": (1024, 50176, 1, 1),
            f"bbox_fc2_{s}_weight": (1024, 1024, 1, 1),
            f"bbox_cls_logit_{s}_weight": (81, 1024),
            f"bbox_cls_logit_{s}_bias": (81,),
            f"bbox_reg_delta_{s}_weight": (8, 1024),
            f"bbox_reg_delta_{s}_bias": (8,),
        }
        if revision == "later":
            shapes |= {f"bbox_fc1_{s}_bias": (1024,), f"bbox_fc2_{s}_bias": (1024,)}
    return shapes


def backbone_shapes(units=(3, 4, 6, 3)):
    """Section "Parameter names" of SimpleDet's v2 nets at full width."""
    shapes = {"conv0_weight": (64, 3, 7, 7)}

    def bn(name, channels):
        shapes.update({f"{name}_{part}": (channels,) for part in ("gamma", "beta", "moving_mean", "moving_var")})

    bn("bn_data", 3), bn("bn0", 64), bn("bn1", 2048)
    channels = 64
    for s, count in enumerate(units, 1):
        mid, out = 64 * 2 ** (s - 1), 256 * 2 ** (s - 1)
        shapes[f"stage{s}_unit1_sc_weight"] = (out, channels, 1, 1)
        for u in range(1, count + 1):
            name = f"stage{s}_unit{u}"
            bn(f"{name}_bn1", channels), bn(f"{name}_bn2", mid), bn(f"{name}_bn3", mid)
            shapes[f"{name}_conv1_weight"] = (mid, channels, 1, 1)
            shapes[f"{name}_conv2_weight"] = (mid, mid, 3, 3)
            shapes[f"{name}_conv3_weight"] = (out, mid, 1, 1)
            channels = out
    return shapes


@pytest.mark.parametrize(
    "row,heads",
    [
        ("faster_r50v2_c4.gin", HEADS_C4),
        ("trident_r50v2_c4.gin", HEADS_C4),
        ("cascade_r50v2_c5.gin", cascade_shapes("first")),
        ("cascade_r50v2_c5.gin+overlays/later_revision_cascade.gin", cascade_shapes("later")),
    ],
)
def test_full_width_names_and_shapes_are_the_zoos(row, heads, monkeypatch):
    """Every tensor of a full-width checkpoint has its variable, of its shape."""
    for initializer in (keras.initializers.VarianceScaling, keras.initializers.RandomNormal):
        # A cascade has 200 million weights, whose drawing is half a minute.
        monkeypatch.setattr(
            initializer, "__call__", lambda self, shape, dtype=None: tf.zeros(shape, dtype or "float32")
        )
    shapes = backbone_shapes() | RPN | heads
    arrays = {
        f"{'aux' if 'moving' in name else 'arg'}:{name}": np.broadcast_to(np.float32(0), shape)
        for name, shape in shapes.items()
    }
    detector, _ = built(row)
    report = assign(detector, arrays, simpledet.name_map(detector), row)
    assert not report.missing and not report.mismatched and not report.unused
    assert len(report.matched) == len(arrays)
