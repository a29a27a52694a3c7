"""Name maps of keras.applications' ResNets: backbones trained on ImageNet, in Keras's old .h5 and new .weights.h5.

The files hold four stages. Stage 4 goes to the backbone or, with a C4 trunk on ResNet-v1, to the RCNN head.
"""

from __future__ import annotations

import re

import keras
import numpy as np

from tfdet.backbones import ResNetV1, ResNetV2
from tfdet.heads import C5BboxHead
from tfdet.layers import BN_EPSILON
from tfdet.weights.maps import layouts
from tfdet.weights.maps.parts import PartRules, compose
from tfdet.weights.maps.rules import Arrays, NameMap, Rule

MARK = re.compile(r"(?!backbone/)(.+/)?conv[2-5]_block\d+_\d_(conv|bn)/.+")
"""Names that all ResNets have; those of a `FunctionalBackbone` in tfdet's own files stand in `backbone/`."""

V2_MARK = re.compile(r"(?!backbone/)(.+/)?conv[2-5]_block\d+_preact_bn/.+")
"""Names that the ResNets V2 have alone."""


def _batch_norm(source: str, target: str) -> list[Rule]:
    return [
        Rule(f"{source}/gamma", f"{target}/gamma", layouts.same),
        Rule(f"{source}/beta", f"{target}/beta", layouts.same),
        Rule(f"{source}/moving_mean", f"{target}/moving_mean", layouts.same),
        Rule(f"{source}/moving_variance", f"{target}/moving_variance", layouts.variance_from_epsilon(1.001e-5)),
    ]


def _units(source: str, target: str) -> list[Rule]:
    """The bottleneck units of a stage of ResNet50 and ResNet101 (applications/resnet.py)."""
    source, target = f"{source}_block{{unit}}", f"{target}/unit{{unit}}"
    return [
        Rule(f"{source}_0_conv/kernel", f"{target}/sc/kernel", layouts.hwio),
        *_batch_norm(f"{source}_0_bn", f"{target}/sc_bn"),
        Rule(f"{source}_{{c}}_conv/kernel", f"{target}/conv{{c}}/kernel", layouts.hwio),
        *_batch_norm(f"{source}_{{c}}_bn", f"{target}/bn{{c}}"),
    ]


def _resnet_v1(backbone: ResNetV1, detector: keras.Model) -> list[Rule]:
    """Fed B, G, R."""
    return [
        Rule("conv1_conv/kernel", f"{backbone.name}/conv0/kernel", layouts.first_hwio_from_bgr),
        *_batch_norm("conv1_bn", f"{backbone.name}/bn0"),
        *_units("conv{stage+1}", f"{backbone.name}/stage{{stage}}"),
    ]


def _resnet_v2(backbone: ResNetV2, detector: keras.Model) -> list[Rule]:
    """ResNet50V2 and ResNet101V2 (applications/resnet_v2.py); fed R, G, B from -1 to 1."""
    name = backbone.name
    unit, target = "conv{stage+1}_block{unit}", f"{name}/stage{{stage}}/unit{{unit}}"
    return [
        *[Rule(f"bn_data/{part}", f"{name}/bn_data/{part}", layouts.same) for part in _BN_DATA],
        Rule("conv1_conv/kernel", f"{name}/conv0/kernel", layouts.hwio),
        Rule("conv1_conv/bias", f"{name}/conv0/bias", layouts.same),
        *_batch_norm(f"{unit}_preact_bn", f"{target}/bn1"),
        Rule(f"{unit}_0_conv/kernel", f"{target}/sc/kernel", layouts.hwio),
        Rule(f"{unit}_0_conv/bias", f"{target}/sc/bias", layouts.same),
        Rule(f"{unit}_{{c}}_conv/kernel", f"{target}/conv{{c}}/kernel", layouts.hwio),
        Rule(f"{unit}_3_conv/bias", f"{target}/conv3/bias", layouts.same),
        *_batch_norm(f"{unit}_{{c-1}}_bn", f"{target}/bn{{c}}"),
        *_batch_norm("post_bn", f"{name}/bn1"),
    ]


PARTS: PartRules = {
    ResNetV1: _resnet_v1,
    C5BboxHead: lambda head, detector: _units("conv5", f"{head.name}/stage4"),
}
"""What the files of ResNet50 and ResNet101 call the tensors of each part."""

V2_PARTS: PartRules = {ResNetV2: _resnet_v2}
"""The same of ResNet50V2 and ResNet101V2, for `ResNetV2.variant = 'keras'`."""


def name_map(detector: keras.Model, arrays: Arrays | None = None) -> NameMap:
    """The map of ResNet50 and ResNet101."""
    return NameMap(
        compose(detector, PARTS),
        from_keras,
        re.compile(r"(predictions|probs|fc1000)/.*"),
        # keras/src/applications/imagenet_utils.py, mode "caffe"; there in the order B, G, R.
        pixel_mean=(123.68, 116.779, 103.939),
        pixel_std=(1.0, 1.0, 1.0),
        stride_in_1x1=True,
    )


def v2_map(detector: keras.Model, arrays: Arrays | None = None) -> NameMap:
    """The map of ResNet50V2 and ResNet101V2."""
    return NameMap(
        compose(detector, V2_PARTS),
        from_keras_v2,
        re.compile(r"(predictions|probs)/.*"),
        pixel_mean=(0.0, 0.0, 0.0),  # the backbone normalises
        pixel_std=(1.0, 1.0, 1.0),
    )


def v2_misfit(detector: keras.Model, arrays: Arrays) -> str:
    """What to set where the detector's backbone is not of this variant; else empty."""
    variant = getattr(detector.backbone, "variant", None)  # ResNetV2 alone has it
    if variant == "keras":
        return ""
    backbone = "" if variant else f"{type(detector).__name__}.backbone = @ResNetV2() and "
    return (
        f"of keras.applications' ResNet V2: set {backbone}ResNetV2.variant = 'keras', as "
        "gin_configs/examples/faster_r50v2_fpn_keras.gin does; it takes four stages and a neck"
    )


# x / 127.5 - 1 (keras/src/applications/imagenet_utils.py, mode "tf") as a BN: the square of 127.5 less its epsilon.
_BN_DATA = {"gamma": 1.0, "beta": 0.0, "moving_mean": 127.5, "moving_variance": 127.5**2 - BN_EPSILON}

_KERAS_NAME = re.compile(r"(?:.*/)?(?P<layer>(?:conv|post_bn|predictions|probs|fc)\w*)/(?P<part>\w+?)(?::0)?")


def from_keras(arrays: Arrays) -> Arrays:
    """Names `layer/part` out of either file format; biases of convolutions go into the mean of the BN behind them."""
    renamed: Arrays = {}
    for name, array in arrays.items():
        match = _KERAS_NAME.fullmatch(name)
        renamed[f"{match['layer']}/{match['part']}" if match else name] = array
    for name in list(renamed):
        layer, _, part = name.rpartition("/")
        mean = f"{layer.removesuffix('_conv')}_bn/moving_mean"
        if (
            part == "bias"
            and layer.endswith("_conv")
            and mean in renamed
            and renamed[mean].shape == renamed[name].shape
        ):
            renamed[mean] = layouts.fold_bias(renamed[mean], renamed.pop(name))
    return renamed


def from_keras_v2(arrays: Arrays) -> Arrays:
    """`from_keras`, whose biases have no BN behind them here, and what keras.applications does to pixels as a BN."""
    return from_keras(arrays) | {f"bn_data/{part}": np.full(3, value, np.float32) for part, value in _BN_DATA.items()}
