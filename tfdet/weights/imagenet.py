"""Name maps of backbones trained on ImageNet by other programs than SimpleDet.

Their files hold four stages. Stage 4 goes to the backbone or, with a C4 trunk on ResNet-v1, to the RCNN head.
"""

from __future__ import annotations

import re

import numpy as np

from tfdet.layers import BN_EPSILON
from tfdet.weights import detectron2, layouts, torchvision
from tfdet.weights.rules import Arrays, NameMap, Rule

_OWNERS = ("backbone/stage{stage}", "bbox_head/stage{stage}")


# PyTorch's BN adds 1e-5, ours MXNet's number.
_VARIANCE = layouts.variance_from_epsilon(1e-5)


def _keras_batch_norm(source: str, target: str) -> list[Rule]:
    return [
        Rule(f"{source}/gamma", f"{target}/gamma", layouts.same),
        Rule(f"{source}/beta", f"{target}/beta", layouts.same),
        Rule(f"{source}/moving_mean", f"{target}/moving_mean", layouts.same),
        Rule(f"{source}/moving_variance", f"{target}/moving_variance", layouts.variance_from_epsilon(1.001e-5)),
    ]


def _keras_rules() -> list[Rule]:
    """keras.applications.ResNet50 and ResNet101 (applications/resnet.py); fed B, G, R."""
    rules = [
        Rule("conv1_conv/kernel", "backbone/conv0/kernel", layouts.first_hwio_from_bgr),
        *_keras_batch_norm("conv1_bn", "backbone/bn0"),
    ]
    for owner in _OWNERS:
        unit, target = "conv{stage+1}_block{unit}", f"{owner}/unit{{unit}}"
        rules += [
            Rule(f"{unit}_0_conv/kernel", f"{target}/sc/kernel", layouts.hwio),
            *_keras_batch_norm(f"{unit}_0_bn", f"{target}/sc_bn"),
            Rule(f"{unit}_{{c}}_conv/kernel", f"{target}/conv{{c}}/kernel", layouts.hwio),
            *_keras_batch_norm(f"{unit}_{{c}}_bn", f"{target}/bn{{c}}"),
        ]
    return rules


def _keras_v2_rules() -> list[Rule]:
    """keras.applications.ResNet50V2 and ResNet101V2 (applications/resnet_v2.py); fed R, G, B from -1 to 1."""
    unit, target = "conv{stage+1}_block{unit}", "backbone/stage{stage}/unit{unit}"
    return [
        *[Rule(f"bn_data/{part}", f"backbone/bn_data/{part}", layouts.same) for part in _BN_DATA],
        Rule("conv1_conv/kernel", "backbone/conv0/kernel", layouts.hwio),
        Rule("conv1_conv/bias", "backbone/conv0/bias", layouts.same),
        *_keras_batch_norm(f"{unit}_preact_bn", f"{target}/bn1"),
        Rule(f"{unit}_0_conv/kernel", f"{target}/sc/kernel", layouts.hwio),
        Rule(f"{unit}_0_conv/bias", f"{target}/sc/bias", layouts.same),
        Rule(f"{unit}_{{c}}_conv/kernel", f"{target}/conv{{c}}/kernel", layouts.hwio),
        Rule(f"{unit}_3_conv/bias", f"{target}/conv3/bias", layouts.same),
        *_keras_batch_norm(f"{unit}_{{c-1}}_bn", f"{target}/bn{{c}}"),
        *_keras_batch_norm("post_bn", "backbone/bn1"),
    ]


# x / 127.5 - 1 (keras/src/applications/imagenet_utils.py, mode "tf") as a BN: the square of 127.5 less its epsilon.
_BN_DATA = {"gamma": 1.0, "beta": 0.0, "moving_mean": 127.5, "moving_variance": 127.5**2 - BN_EPSILON}

_CAFFE2 = [
    (re.compile(r"(res_)?conv1_bn_(\w+)"), r"stem.conv1.norm.\2"),
    (re.compile(r"conv1_(\w+)"), r"stem.conv1.\1"),
    (re.compile(r"res(\d)_(\d+)_branch1_bn_(\w+)"), r"res\1.\2.shortcut.norm.\3"),
    (re.compile(r"res(\d)_(\d+)_branch1_(\w+)"), r"res\1.\2.shortcut.\3"),
    (re.compile(r"res(\d)_(\d+)_branch2([abc])_bn_(\w+)"), r"res\1.\2.conv\3.norm.\4"),
    (re.compile(r"res(\d)_(\d+)_branch2([abc])_(\w+)"), r"res\1.\2.conv\3.\4"),
    (re.compile(r"(fc1000|pred)_(w|b)"), r"\1.\2"),
]
_PARTS = {"w": "weight", "b": "bias", "s": "weight", "rm": "running_mean", "riv": "running_var"}


def from_caffe2(arrays: Arrays) -> Arrays:
    """Caffe2's names -> Detectron2's; a BN without statistics is a scale and a shift: mean 0, variance 1 - eps.

    A convolution's bias, which one of MSRA's networks has in front of its first BN, goes into the BN's mean.
    """
    renamed: Arrays = {}
    for name, array in arrays.items():
        for pattern, template in _CAFFE2:
            if match := pattern.fullmatch(name):
                *stem, part = match.expand(template).split(".")
                stem = [{"conva": "conv1", "convb": "conv2", "convc": "conv3"}.get(piece, piece) for piece in stem]
                name = ".".join([*stem, _PARTS.get(part, part)])
                break
        renamed[name] = array
    for name in [name for name in renamed if name.endswith(".norm.weight")]:
        base, channels = name.removesuffix(".weight"), renamed[name].size
        renamed.setdefault(f"{base}.running_mean", np.zeros(channels, np.float32))
        renamed.setdefault(f"{base}.running_var", np.full(channels, 1.0 - BN_EPSILON, np.float32))
        bias = renamed.pop(f"{base.removesuffix('.norm')}.bias", None)
        if bias is not None and bias.size == channels:
            renamed[f"{base}.running_mean"] = layouts.fold_bias(renamed[f"{base}.running_mean"], bias.reshape(-1))
    return renamed


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


DETECTRON2 = NameMap(
    [
        *detectron2.stem("stem", _VARIANCE),
        *[rule for owner in _OWNERS for rule in detectron2.units("res{stage+1}", owner, _VARIANCE)],
    ],
    from_caffe2,
    re.compile(r"(stem\.)?fc(1000)?\..*|pred\..*|lr|.*\.num_batches_tracked|.*_momentum|epoch|model_iter"),
    pixel_mean=(123.675, 116.28, 103.53),
    pixel_std=(1.0, 1.0, 1.0),
    stride_in_1x1=True,
)
"""Detectron2's R-50.pkl and R-101.pkl: MSRA's networks, under Detectron2's or Caffe2's names."""

TORCHVISION = NameMap(
    [
        *torchvision.stem("", _VARIANCE),
        *[rule for owner in _OWNERS for rule in torchvision.units("layer{stage}", owner, _VARIANCE)],
    ],
    dict,
    re.compile(r"fc\..*|.*\.num_batches_tracked"),
    pixel_mean=(123.675, 116.28, 103.53),  # .485, .456, .406 of 255
    pixel_std=(58.395, 57.12, 57.375),  # .229, .224, .225 of 255
    stride_in_1x1=False,
)
"""torchvision's resnet50 and resnet101."""

KERAS = NameMap(
    _keras_rules(),
    from_keras,
    re.compile(r"(predictions|probs|fc1000)/.*"),
    # keras/src/applications/imagenet_utils.py, mode "caffe"; there in the order B, G, R.
    pixel_mean=(123.68, 116.779, 103.939),
    pixel_std=(1.0, 1.0, 1.0),
    stride_in_1x1=True,
)
"""keras.applications.ResNet50 and ResNet101, in Keras's old .h5 and its new .weights.h5."""

KERAS_V2 = NameMap(
    _keras_v2_rules(),
    from_keras_v2,
    re.compile(r"(predictions|probs)/.*"),
    pixel_mean=(0.0, 0.0, 0.0),  # the backbone normalises
    pixel_std=(1.0, 1.0, 1.0),
)
"""keras.applications.ResNet50V2 and ResNet101V2, for `ResNetV2.variant = 'keras'`; both file formats."""
