"""The contract of Keras: a layer made of the config of one is the same; what cannot be made so has no config."""

import importlib
import inspect
import pkgutil

import keras
import numpy as np
import pytest

import tfdet
from tests.backbones.pyramid import SmallPyramid
from tests.detectors.small import small_detector, small_retina
from tfdet.backbones import (
    FunctionalBackbone,
    KerasBackbone,
    KerasHubBackbone,
    Residuals,
    ResNetV1,
    ResNetV1Stage,
    ResNetV2,
    ResNetV2Stage,
)
from tfdet.backbones.mix_transformer import MixBlock, PatchEmbedding, ReducedAttention
from tfdet.backbones.residual import BasicUnit, BottleneckUnit, UnitSpec
from tfdet.backbones.resnet_v2 import PreActivationUnit
from tfdet.detectors import Detector
from tfdet.heads import C5BboxHead, C5V2BboxHead, ConvBboxHead, MaskHead, MlpBboxHead, RetinaHead, RpnHead
from tfdet.heads.bbox import BoxPredictor
from tfdet.heads.mask import _PlaneConv2D
from tfdet.layers import (
    BatchNorm,
    CompositeLayer,
    ConfiguredLayer,
    DeformConv2D,
    DilatedConv2D,
    DropPath,
    GroupNorm,
    LayerScale,
    SymmetricConv2D,
    TorchDense,
)
from tfdet.necks import FPN, ReduceNeck, RetinaNeck

IMAGE, MAP, ROIS = (1, 64, 64, 3), (1, 8, 8, 16), (2, 4, 4, 16)
PYRAMID = [(1, 16, 16, 4), (1, 8, 8, 8), (1, 4, 4, 16), (1, 2, 2, 32)]
WIDTH = 1 / 16

# (layer, shape of its input), no argument its default where that can be.
LAYERS = [
    (SymmetricConv2D(4, 3, 2, use_bias=True, kernel_initializer="ones", activation="relu", name="a"), MAP),
    (SymmetricConv2D(4, 1, 2, kernel_initializer=keras.initializers.RandomNormal(stddev=0.1), dtype="float32"), MAP),
    (SymmetricConv2D(4, 3, dilation_rate=2), MAP),
    (DilatedConv2D(4, 5, 2, use_bias=True), MAP),
    (DeformConv2D(4, 3, 2, 1, 2, 4, True, True, False, "ones", name="deformed"), MAP),
    (_PlaneConv2D(4, 1, use_bias=True, name="logit"), MAP),
    (TorchDense(4, use_bias=False, dtype="float32", name="linear"), (2, 16)),
    (BatchNorm("sync", momentum=0.5, epsilon=1e-3, fixed_gamma=True, name="bn"), MAP),
    (GroupNorm(4, epsilon=1e-3, name="gn"), MAP),
    (BottleneckUnit(UnitSpec(4, 16, 2, True, "local", 1e-3, "3x3", 2, 1, 2, True), name="unit1"), MAP),
    (BasicUnit(UnitSpec(16, 16, norm="group"), name="unit1"), MAP),
    (PreActivationUnit(4, 16, 1, True, "frozen", dilation=2, use_bias=True, name="unit1"), MAP),
    (ResNetV1Stage(Residuals(50, "local", WIDTH, "3x3", 1e-3), 4, 1, 2, 2, recompute=True, name="stage4"), MAP),
    (ResNetV2Stage(26, 2, 2, "local", WIDTH, recompute=True, variant="keras", name="stage2"), MAP),
    (ResNetV1(50, 3, "local", WIDTH, 8, "3x3", 1e-3, (1, 2), (2,), (1, 3), "detectron2", 2, name="trunk"), IMAGE),
    (
        ResNetV1(
            50, 4, "local", WIDTH, None, "3x3", 1e-3, (), (), (), "detectron2", 1, True, 2, 32, (0, 0, 1), True, 2
        ),
        IMAGE,
    ),
    (ResNetV2(26, 4, "group", WIDTH, dilate_c5=True, recompute=(4,), name="trunk"), IMAGE),
    (ResNetV2(26, 3, "sync", WIDTH, branches=(1, 2), test_branches=(2,)), IMAGE),
    (KerasBackbone("MobileNetV3Small", "local", 0.0, (2,), (1.0, 2.0, 3.0), (4.0, 5.0, 6.0), name="trunk"), IMAGE),
    (KerasHubBackbone(None, SmallPyramid, {"width": 2}, "sync", (2,), name="trunk"), IMAGE),
    (PatchEmbedding(8, 3, 2, name="patches"), MAP),
    (ReducedAttention(16, 2, 2, name="attn"), MAP),
    (MixBlock(16, 2, 2, 1e-5, name="block"), MAP),
    (LayerScale(0.5, name="scale"), MAP),
    (FPN(8, "torch_sync", 1e-3, name="pyramid"), PYRAMID),
    (ReduceNeck(8, 3, use_bias=False, stride=8, name="reduced"), PYRAMID),
    (RetinaNeck(8, p6_from="p5", norm="group", name="pyramid"), PYRAMID),
    (RpnHead(2, 8, "sigmoid", 2, name="rpn"), [MAP]),
    (
        RetinaHead(3, 2, 8, num_convs=1, prior=0.1, init_std=0.1, norm="group", name="dense"),
        [MAP],
    ),
    (BoxPredictor(3, class_agnostic=True, initializer="torchvision", name="outputs"), (2, 16)),
    (C5BboxHead(3, 50, "local", WIDTH, False, 2, "1x1", 1e-3, True, "detectron2", 4, 32, name="head"), ROIS),
    (C5V2BboxHead(3, 26, "group", WIDTH, class_agnostic=False, recompute=True, name="head"), ROIS),
    (MlpBboxHead(3, 8, use_bias=False, class_agnostic=True, initializer="gaussian", name="head"), ROIS),
    (ConvBboxHead(3, 2, 8, 2, 8, "torch_local", 1e-3, True, "torchvision", name="head"), ROIS),
    (MaskHead(3, 8, 2, "local", False, "torchvision", 1e-3, name="masks"), ROIS),
]


def call(layer, shape):
    """Runs a layer once on zeros, which makes its variables."""
    make = [np.zeros(part, "f") for part in shape] if isinstance(shape, list) else np.zeros(shape, "f")
    layer(make)


WITHOUT_WEIGHTS = [DropPath(0.2, name="drop")]


@pytest.mark.parametrize("layer, shape", LAYERS, ids=lambda value: type(value).__name__)
def test_a_layer_made_of_a_config_is_the_same(layer, shape):
    config = layer.get_config()
    again = type(layer).from_config(config)
    assert again.get_config() == config
    call(layer, shape), call(again, shape)
    assert layer.weights
    described = [[(w.path, tuple(w.shape), w.trainable, w.dtype) for w in one.weights] for one in (layer, again)]
    assert described[0] == described[1]


@pytest.mark.parametrize("layer, shape", LAYERS, ids=lambda value: type(value).__name__)
def test_a_config_holds_every_argument(layer, shape):
    known = inspect.signature(type(layer).__init__).parameters.values()
    wanted = {part.name for part in known if part.kind is not part.VAR_KEYWORD and part.name != "self"}
    assert wanted <= set(layer.get_config())


@pytest.mark.parametrize("make", [lambda: small_detector("c4"), small_retina])
def test_a_detector_has_no_config(make):
    with pytest.raises(NotImplementedError):
        make().get_config()


def test_every_layer_of_the_package_is_in_the_table():
    found = set()
    for package in ("layers", "backbones", "necks", "heads", "detectors"):
        for module in pkgutil.iter_modules(importlib.import_module(f"tfdet.{package}").__path__, f"tfdet.{package}."):
            classes = vars(importlib.import_module(module.name)).values()
            found |= {kind for kind in classes if inspect.isclass(kind) and issubclass(kind, keras.layers.Layer)}
    own = {kind for kind in found if kind.__module__.startswith(f"{tfdet.__name__}.")}
    abstract = {CompositeLayer, ConfiguredLayer, FunctionalBackbone}
    own = {kind for kind in own - abstract if not issubclass(kind, Detector)}
    assert own == {*(type(layer) for layer, _ in LAYERS), *map(type, WITHOUT_WEIGHTS)}


def test_a_layer_without_weights_keeps_its_arguments():
    for layer in WITHOUT_WEIGHTS:
        again = type(layer).from_config(layer.get_config())
        assert again.get_config() == layer.get_config() and again.rate == layer.rate
