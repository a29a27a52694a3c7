"""Name maps of whole detectors: every gin file that ships, every composition of the examples, put together by part."""

import functools

import keras
import numpy as np
import pytest

from tests.rows import model_text, zeros_for_random_weights
from tests.weights import detectron2_layout
from tfdet import config
from tfdet.config import gin_configs_folder
from tfdet.errors import UserError
from tfdet.heads import MlpBboxHead, RpnHead
from tfdet.weights.convert import to_simpledet
from tfdet.weights.load import COUNTERS, compare
from tfdet.weights.maps import detectron2, keras_applications, parts, simpledet, torchvision
from tfdet.weights.maps.rules import source_of, target_of

CONFIGS = gin_configs_folder()
KERAS_EXAMPLE = "examples/faster_r50v2_fpn_keras.gin"  # on a backbone that is not SimpleDet's


def files(folder):
    """Gin files of a folder, of which those of other sizes, precisions and schedules have the same parts."""
    found = [str(path.relative_to(CONFIGS)) for path in sorted((CONFIGS / folder).glob("*.gin"))]
    return [name for name in found if not any(text in name for text in ("r101", "fp16", "demo", "bccd"))]


ROWS, EXAMPLES, DETECTRON2, TORCHVISION = (files(name) for name in ("", "examples", "detectron2", "torchvision"))
SAME_PARTS = ["faster_r101v2_c4_syncbn.gin", "trident_fast_r101v2_c4.gin"]
THIN = ["WIDTH = 0.125", "DEPTH = 50"] + [
    f"{part}.channels = 8" for part in ("RpnHead", "FPN", "RetinaNeck", "ReduceNeck", "RetinaHead", "MaskHead")
]


_BUILT = {}  # detectors by the text of their model: rows that differ in data or schedule alone share one


@pytest.fixture(autouse=True, scope="module")
def forgotten():
    """A hundred detectors are not kept for the tests of other files."""
    yield
    _BUILT.clear()
    names_of.cache_clear()
    check_round_trip.cache_clear()


def built(name, *bindings):
    config.register_all()
    configuration = config.parse([name], [*THIN, "MlpBboxHead.channels = 8", *bindings])
    model = model_text(configuration)
    if model not in _BUILT:
        with zeros_for_random_weights():  # names and shapes matter here
            _BUILT[model] = configuration.build("build_detector", num_classes=3)
    return _BUILT[model]


@functools.cache
def names_of(detector, program):
    """The file's name of each variable; checks that each has one, its own, and that it leads back."""
    rules = program.name_map(detector, {}).rules
    paths = [variable.path for variable in detector.weights if not variable.path.endswith(COUNTERS)]
    found = {path: (source_of(path, rules) or ("",))[0] for path in paths}
    assert [path for path, name in found.items() if not name] == []
    assert len(set(found.values())) == len(found)
    assert {path: target_of(name, rules) for path, name in found.items()} == {path: path for path in found}
    return found


@functools.cache
def check_round_trip(detector):
    """Through a checkpoint of SimpleDet and back, every bit."""
    rng = np.random.default_rng(0)
    for variable in detector.weights:
        variable.assign(rng.normal(size=variable.shape))
    report, values = compare(detector, to_simpledet(detector), simpledet.name_map(detector), "x")
    assert not report.missing and not report.mismatched and not report.unused
    ones = [path for path in values if path.endswith("bn_data/gamma")]  # fixed at 1 by SimpleDet
    for variable in detector.weights:
        assert variable.path in ones or values[variable.path].tobytes() == variable.numpy().tobytes(), variable.path


@pytest.mark.parametrize("name", [*SAME_PARTS, *ROWS, *(name for name in EXAMPLES if name != KERAS_EXAMPLE)])
def test_every_variable_of_a_row_has_a_name_of_simpledets_and_comes_back(name):
    detector = built(name)
    names_of(detector, simpledet)
    check_round_trip(detector)
    if "v1" in name:
        names_of(detector, detectron2)


def test_every_variable_of_the_example_on_kerass_backbone_has_a_name_there():
    detector = built(KERAS_EXAMPLE)
    rules = keras_applications.v2_map(detector).rules
    paths = [variable.path for variable in detector.backbone.weights]
    found = [source_of(path, rules)[0] for path in paths]
    assert len(set(found)) == len(paths) and [target_of(each, rules) for each in found] == paths


@pytest.mark.parametrize("name", DETECTRON2)
def test_every_variable_of_a_file_of_detectron2_has_a_name(name):
    found = names_of(built(name), detectron2)
    assert found["backbone/conv0/kernel"].endswith("stem.conv1.weight")


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("mask_rcnn_r50_fpn_3x_gn", lambda: detectron2_layout.normed("GN")),
        ("mask_rcnn_r50_fpn_3x_syncbn", lambda: detectron2_layout.normed("BN")),
        ("mask_rcnn_r50_fpn_1x_cls_agnostic", detectron2_layout.class_agnostic),
        ("cascade_mask_rcnn_x152_32x8d_fpn_in5k_gn_dconv", detectron2_layout.resnext),
    ],
)
def test_a_file_of_detectron2s_layout_fills_the_detector_and_nothing_of_it_is_left(name, layout):
    arrays, detector = layout(), built(f"detectron2/{name}.gin")
    # At depth 50, a ResNeXt is Detectron2's own, whose pixels are divided; the layout is the same.
    report, values = compare(detector, arrays, detectron2.name_map(detector, arrays), name)
    assert not report.mismatched and not report.unused
    assert [path for path in report.missing if not path.endswith(COUNTERS)] == []
    plane = arrays["roi_heads.mask_head.predictor.weight"][:, :, 0, 0].T
    np.testing.assert_array_equal(values["mask_head/logit/kernel"][0, 0], plane)


@pytest.mark.parametrize("name", TORCHVISION)
def test_every_variable_of_a_file_of_torchvision_has_a_name(name):
    assert names_of(built(name), torchvision)["backbone/conv0/kernel"] == "backbone.body.conv1.weight"


def test_the_compositions_have_the_names_of_their_parts():
    cascade = names_of(built("examples/cascade_mask_r50v1_fpn.gin"), simpledet)
    assert cascade["neck/p3_lateral/kernel"] == "arg:P3_lateral_weight"
    assert cascade["rpn_head/box/bias"] == "arg:rpn_conv_bbox_bias"
    assert cascade["bbox_head_2nd/fc1/kernel"] == "arg:bbox_fc1_2nd_weight"
    assert cascade["mask_head/conv0/kernel"] == "arg:mask_fcn_conv0_weight"
    trident = names_of(built("examples/trident_cascade_r50v2_c4.gin"), simpledet)
    assert trident["rpn_head/box/bias"] == "arg:rpn_bbox_delta_bias"
    assert trident["bbox_head_3rd/predictor/cls/bias"] == "arg:bbox_cls_logit_3rd_bias"
    assert not any("stage4" in name for name in trident.values())
    on_c4 = names_of(built("examples/mask_r50v1_c4.gin"), simpledet)
    assert on_c4["bbox_head/stage4/unit1/sc/kernel"] == "arg:stage4_unit1_sc_weight"
    assert on_c4["mask_head/up/kernel"] == "arg:mask_up0_weight"


def test_an_imagenet_file_reaches_every_head_of_a_cascade_on_stage_4():
    """A composition that no program has: one stage 4 in the file, three in the detector."""
    bindings = ["TwoStageDetector.bbox_head = @C5BboxHead", "C5BboxHead.width = %WIDTH"]
    detector = built("examples/cascade_r50v1_fpn.gin", *bindings)
    rules = torchvision.imagenet_map(detector).rules
    heads = [f"bbox_head_{suffix}/stage4/unit2/conv3/kernel" for suffix in ("1st", "2nd", "3rd")]
    assert {source_of(path, rules)[0] for path in heads} == {"layer4.1.conv3.weight"}
    with pytest.raises(UserError, match="SimpleDet has one arg:stage4_unit1.*, this detector several"):
        to_simpledet(detector)


def test_a_class_of_a_persons_own_has_the_rules_of_the_class_it_is_made_from():
    class Mine(RpnHead):
        pass

    class Other(keras.layers.Layer):
        pass

    table = simpledet.PARTS
    assert parts.rules_for(Mine(3), table) is table[RpnHead]
    assert parts.rules_for(Other(), table) is None


def test_fully_connected_layers_know_the_size_of_what_they_read():
    detector = built("faster_r50v1_fpn.gin", "RoiExtractor.output_size = 5")
    assert isinstance(detector.bbox_head, MlpBboxHead)
    assert to_simpledet(detector)["arg:bbox_fc1_weight"].shape == (8, 8 * 5 * 5)
    check_round_trip(detector)
