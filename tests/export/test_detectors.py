"""Real detectors through the export: every operator of theirs must live in its graph, and in a SavedModel."""

import re

import pytest
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from tests.export.conftest import CARD
from tests.fakes import picture
from tfdet import config
from tfdet.config import register_all
from tfdet.data.resize import Resize
from tfdet.detectors import build_detector
from tfdet.export import verify
from tfdet.export.formats import FORMATS
from tfdet.export.run import Compared, Target, export_and_compare
from tfdet.export.saved_model import DetectionModule, export
from tfdet.ops import native
from tfdet.predict.found import Labels
from tfdet.predict.predictors import CheckpointPredictor

SMALL = [
    "DEPTH = 18",
    "WIDTH = 0.125",
    "ProposalGenerator.pre_nms_top_n = (200, 100)",
    "ProposalGenerator.post_nms_top_n = (50, 30)",
    # The weights are random: with the usual threshold nothing would be found, and nothing compared.
    "PostProcess.score_threshold = 0.2",
    "PostProcess.max_detections = 20",
]
WRITTEN = "examples/cascade_mask_r50v1_fpn.gin"
RETINA = [
    "RetinaNeck.channels = 16",
    "RetinaHead.channels = 16",
    # Random weights: larger ones tell the boxes' scores apart, and a low threshold lets some of them be compared.
    "RetinaHead.init_std = 0.1",
    "DensePostProcess.score_threshold = 0.02",
    "DensePostProcess.pre_nms_top_n = 30",
    "DensePostProcess.max_detections = 20",
]
NARROW_MASKS = ["MaskHead.channels = 16", "MaskHead.num_convs = 2"]


def op_types(folder) -> set[str]:
    """Every op in a SavedModel: of its graph and of its functions."""
    model = SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    nodes = [node for meta in model.meta_graphs for node in meta.graph_def.node]
    functions = [function for meta in model.meta_graphs for function in meta.graph_def.library.function]
    return {node.op for node in nodes} | {node.op for function in functions for node in function.node_def}


@pytest.mark.parametrize(
    "family,bindings,rule",
    [
        ("families/trident_c4_v2.gin", ["DEPTH = 26", "PostProcess.score_threshold = 0.2"], "detectron2"),
        ("families/retina_fpn.gin", RETINA, "torchvision"),
        ("examples/mask_r50v1_c4.gin", [], "detectron2"),
        (
            WRITTEN,
            ["MlpBboxHead.channels = 64", "FPN.channels = 32", *NARROW_MASKS],
            "torchvision",
        ),
        (
            "families/faster_c5_v2.gin overlays/cascade.gin",
            ["DEPTH = 26", "ReduceNeck.channels = 32", "MlpBboxHead.channels = 64"],
            "simpledet",
        ),
    ],
)
def test_export_finds_what_the_detector_finds(family, bindings, rule, monkeypatch, tmp_path):
    """The row of most parts is written and read again, with all its signatures: that takes most of the time."""
    register_all()
    detector = config.parse(family.split(), [*SMALL, *bindings]).build(build_detector, num_classes=3)
    images = [
        tf.io.encode_jpeg(picture(70, 100, {0: (10, 8, 60, 47), 1: (60, 4, 95, 43)}, noise_seed=1)).numpy(),
        tf.io.encode_png(picture(120, 80, {2: (20, 30, 70, 100)}, noise_seed=2)).numpy(),
    ]
    folder, resize = tmp_path / "model", Resize(96, 128, rule)
    if family == WRITTEN:
        with native.implementation("native" if native.state().library else "python"):  # which `export` does not take
            export(detector, folder, resize, ["a", "b", "c"], [1, 2, 3])
        ops = op_types(folder)  # any TensorFlow loads them
        assert "Conv2D" in ops and not [op for op in ops if op.startswith("Tfdet")]
    else:
        with native.implementation("python"):
            module = DetectionModule(detector, resize)
            graph = module.image_bytes.get_concrete_function()
        monkeypatch.setattr(verify, "SIGNATURES", ("image_bytes",))
        monkeypatch.setattr(verify, "load_signatures", lambda folder: {"image_bytes": graph})
    predictor = CheckpointPredictor(detector, resize, ["a", "b", "c"], [1, 2, 3])
    differences = verify.verify(predictor, str(folder), images)
    assert len(differences) == (3 if family == WRITTEN else 1)
    for entry in differences:
        assert entry.passed(), entry
        assert entry.num_detections >= 10
        assert (entry.mask is not None) == ("mask" in family)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    ("family", "bindings", "rule"),
    [
        ("families/retina_fpn.gin", RETINA, "torchvision"),
        ("families/faster_fpn.gin", ["MlpBboxHead.channels = 64", "FPN.channels = 32"], "simpledet"),
        (
            "mask_r50v1_fpn.gin",
            ["MlpBboxHead.channels = 64", "FPN.channels = 32", *NARROW_MASKS],
            "detectron2",
        ),
    ],
)
def test_other_programs_find_what_the_detector_finds(family, bindings, rule, name, tmp_path):
    """Weights are random: what is compared has the operators, sizes and order of trained ones."""
    register_all()
    detector = config.parse([family], [*SMALL, *bindings]).build(build_detector, num_classes=3)
    images = [
        tf.io.encode_png(picture(70, 100, {0: (10, 8, 60, 47), 1: (60, 4, 95, 43)}, noise_seed=1)).numpy(),
        tf.io.encode_png(picture(120, 80, {2: (20, 30, 70, 100)}, noise_seed=2)).numpy(),
    ]
    if "mask" in family:
        images = images[:1]
    for variable in detector.weights:  # or most boxes would be cut at the border, and their scores equal
        if re.fullmatch(r"rpn_head/box/kernel|bbox_head/predictor/.*/kernel", variable.path):
            variable.assign(0.02 * variable)
    labels = Labels(["a", "b", "c"], [1, 2, 3], detector.mask_paste)
    resize = Resize(96, 128, rule)
    target = Target(str(tmp_path / "out"), name)
    done = export_and_compare(detector, labels, resize, target, Compared(images, ""), CARD)
    assert done.passed and done.num_detections >= 10
    assert (done.differences[0].mask is not None) == ("mask" in family)
