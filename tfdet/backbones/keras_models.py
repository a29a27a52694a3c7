"""What keras.applications' networks are as backbones: where their maps are, how they read pixels, their weights' files.

Sources: keras/src/applications of Keras 3 for layers, files and preprocessing; keras.io/api/applications for top-1.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

KerasModelName = Literal[
    "EfficientNetV2B0", "EfficientNetV2B1", "EfficientNetV2B2", "EfficientNetV2B3",
    "EfficientNetV2S", "EfficientNetV2M", "EfficientNetV2L",
    "EfficientNetB0", "EfficientNetB1", "EfficientNetB2", "EfficientNetB3",
    "EfficientNetB4", "EfficientNetB5", "EfficientNetB6", "EfficientNetB7",
    "ConvNeXtTiny", "ConvNeXtSmall", "ConvNeXtBase", "ConvNeXtLarge", "ConvNeXtXLarge",
    "MobileNetV3Small", "MobileNetV3Large", "MobileNetV2",
    "ResNet50", "ResNet101", "ResNet152", "ResNet50V2", "ResNet101V2", "ResNet152V2",
    "DenseNet121", "DenseNet169", "DenseNet201",
]  # fmt: skip


class Pixels(NamedTuple):
    """What a network was trained on: `(image - mean) / std` of RGB from 0 to 255; `bgr`: in the order B, G, R."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    bgr: bool = False


_CAFFE = Pixels((123.68, 116.779, 103.939), (1.0, 1.0, 1.0), bgr=True)
_TORCH = Pixels((0.485 * 255, 0.456 * 255, 0.406 * 255), (0.229 * 255, 0.224 * 255, 0.225 * 255))
_TF = Pixels((127.5, 127.5, 127.5), (127.5, 127.5, 127.5))
_HALVES = Pixels((128.0, 128.0, 128.0), (128.0, 128.0, 128.0))


class KerasModel(NamedTuple):
    """One network of keras.applications.

    Fields:
        cuts: names of the layers where conv0 ends (all before stride 4) and whose outputs are the maps of strides 4, 8,
            16 and 32; "" for the output of the whole network without its classifier.
        channels: of the four maps.
        pixels: what it was trained on.
        file: its ImageNet weights without classifier, as Keras calls them in ~/.keras/models.
        top1: percent on ImageNet's validation images, published with the weights.
        switch: whether the constructor can leave the preprocessing out.
        drops: parts of the names of the layers that are its stochastic depth.
    """

    cuts: tuple[str, ...]
    channels: tuple[int, int, int, int]
    pixels: Pixels
    file: str
    top1: float
    switch: bool = False
    drops: str = ""


def _end(block: int, count: int, single: str = "project_bn") -> str:
    """The last layer of a block of `count` repeats; one alone has no sum."""
    return f"block{block}{chr(96 + count)}_{'add' if count > 1 else single}"


def _efficientnet_v2(variant: str, counts: tuple[int, ...], channels, top1: float) -> KerasModel:
    blocks = [_end(1, counts[0], "project_activation"), *(_end(i, counts[i - 1]) for i in (2, 3, 5, len(counts)))]
    pixels = _TORCH if variant.startswith("b") else _HALVES
    return KerasModel(tuple(blocks), channels, pixels, f"efficientnetv2-{variant}_notop.h5", top1, True, "_drop")


def _efficientnet(variant: str, depth: float, channels, top1: float) -> KerasModel:
    counts = [math.ceil(depth * count) for count in (1, 2, 2, 3, 3, 4, 1)]
    blocks = tuple(_end(i, counts[i - 1]) for i in (1, 2, 3, 5, 7))
    return KerasModel(blocks, channels, _TORCH, f"efficientnet{variant}_notop.h5", top1, False, "_drop")


def _convnext(variant: str, channels, top1: float) -> KerasModel:
    """The maps are behind the normalisation that each next stage begins with: plain sums grow along a stage."""
    name = f"convnext_{variant}"
    norms = (f"{name}_downsampling_layernorm_{i}" for i in range(3))
    return KerasModel(
        (f"{name}_stem_layernorm", *norms, ""), channels, _TORCH, f"{name}_notop.h5", top1, True, "_identity"
    )


def _resnet(depth: int, counts: tuple[int, ...], top1: float) -> KerasModel:
    cuts = ("pool1_pool", *(f"conv{i}_block{count}_out" for i, count in enumerate(counts, 2)))
    return KerasModel(cuts, (256, 512, 1024, 2048), _CAFFE, _KERNELS.format(f"resnet{depth}"), top1)


def _resnet_v2(depth: int, counts: tuple[int, ...], top1: float) -> KerasModel:
    """Stages 1 to 3 stride in their last unit, before which are the deepest maps of their strides."""
    cuts = ("pool1_pool", *(f"conv{i}_block{count - 1}_out" for i, count in enumerate(counts[:3], 2)), "post_relu")
    return KerasModel(cuts, (256, 512, 1024, 2048), _TF, _KERNELS.format(f"resnet{depth}v2"), top1)


def _densenet(depth: int, channels, top1: float) -> KerasModel:
    cuts = ("pool1", "pool2_relu", "pool3_relu", "pool4_relu", "relu")
    return KerasModel(cuts, channels, _TORCH, _KERNELS.format(f"densenet{depth}"), top1)


_KERNELS = "{}_weights_tf_dim_ordering_tf_kernels_notop.h5"

MODELS: dict[str, KerasModel] = {
    "EfficientNetV2B0": _efficientnet_v2("b0", (1, 2, 2, 3, 5, 8), (32, 48, 112, 192), 78.7),
    "EfficientNetV2B1": _efficientnet_v2("b1", (2, 3, 3, 4, 6, 9), (32, 48, 112, 192), 79.8),
    "EfficientNetV2B2": _efficientnet_v2("b2", (2, 3, 3, 4, 6, 10), (32, 56, 120, 208), 80.5),
    "EfficientNetV2B3": _efficientnet_v2("b3", (2, 3, 3, 5, 7, 12), (40, 56, 136, 232), 82.0),
    "EfficientNetV2S": _efficientnet_v2("s", (2, 4, 4, 6, 9, 15), (48, 64, 160, 256), 83.9),
    "EfficientNetV2M": _efficientnet_v2("m", (3, 5, 5, 7, 14, 18, 5), (48, 80, 176, 512), 85.3),
    "EfficientNetV2L": _efficientnet_v2("l", (4, 7, 7, 10, 19, 25, 7), (64, 96, 224, 640), 85.7),
    "EfficientNetB0": _efficientnet("b0", 1.0, (24, 40, 112, 320), 77.1),
    "EfficientNetB1": _efficientnet("b1", 1.1, (24, 40, 112, 320), 79.1),
    "EfficientNetB2": _efficientnet("b2", 1.2, (24, 48, 120, 352), 80.1),
    "EfficientNetB3": _efficientnet("b3", 1.4, (32, 48, 136, 384), 81.6),
    "EfficientNetB4": _efficientnet("b4", 1.8, (32, 56, 160, 448), 82.9),
    "EfficientNetB5": _efficientnet("b5", 2.2, (40, 64, 176, 512), 83.6),
    "EfficientNetB6": _efficientnet("b6", 2.6, (40, 72, 200, 576), 84.0),
    "EfficientNetB7": _efficientnet("b7", 3.1, (48, 80, 224, 640), 84.3),
    "ConvNeXtTiny": _convnext("tiny", (96, 192, 384, 768), 81.3),
    "ConvNeXtSmall": _convnext("small", (96, 192, 384, 768), 82.3),
    "ConvNeXtBase": _convnext("base", (128, 256, 512, 1024), 85.3),
    "ConvNeXtLarge": _convnext("large", (192, 384, 768, 1536), 86.3),
    "ConvNeXtXLarge": _convnext("xlarge", (256, 512, 1024, 2048), 86.7),
    "MobileNetV3Small": KerasModel(
        (
            "conv_bn",
            "expanded_conv_project_bn",
            "expanded_conv_2_add",
            "expanded_conv_7_add",
            "expanded_conv_10_add",
        ),
        (16, 24, 48, 96),
        _TF,
        "weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5",
        68.1,
        True,
    ),
    "MobileNetV3Large": KerasModel(
        ("expanded_conv_add", *(f"expanded_conv_{i}_add" for i in (2, 5, 11, 14))),
        (24, 40, 112, 160),
        _TF,
        "weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5",
        75.6,
        True,
    ),
    "MobileNetV2": KerasModel(
        ("expanded_conv_project_BN", "block_2_add", "block_5_add", "block_12_add", "block_16_project_BN"),
        (24, 32, 96, 320),
        _TF,
        "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5",
        71.3,
    ),
    "ResNet50": _resnet(50, (3, 4, 6, 3), 74.9),
    "ResNet101": _resnet(101, (3, 4, 23, 3), 76.4),
    "ResNet152": _resnet(152, (3, 8, 36, 3), 76.6),
    "ResNet50V2": _resnet_v2(50, (3, 4, 6, 3), 76.0),
    "ResNet101V2": _resnet_v2(101, (3, 4, 23, 3), 77.2),
    "ResNet152V2": _resnet_v2(152, (3, 8, 36, 3), 78.0),
    "DenseNet121": _densenet(121, (256, 512, 1024, 1024), 75.0),
    "DenseNet169": _densenet(169, (256, 512, 1280, 1664), 76.2),
    "DenseNet201": _densenet(201, (256, 512, 1792, 1920), 77.3),
}
