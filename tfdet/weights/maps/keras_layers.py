"""Files of Keras' networks for a `FunctionalBackbone`, whose layers have the names that Keras gave them.

Spellings have changed with Keras' versions: `expanded_conv_1/expand/BatchNorm` is `expanded_conv_1_expand_bn` now, and
`depthwise_kernel` is `kernel`.
"""

from __future__ import annotations

import re

import keras

from tfdet.weights.maps import layouts
from tfdet.weights.maps.rules import Arrays, NameMap, Rule

_LEFT_OUT = re.compile(r"(.*/)?(top_(conv|bn)|predictions|probs|logits|[cC]onv_[12](_bn)?|normalization(_\d+)?)/.*")
"""What stands before the first and behind the last map."""

_COUNTED = re.compile(r"(layer_normalization)_\d+")


def name_map(detector: keras.Model, arrays: Arrays) -> NameMap:
    """The map of a file of the same network; its notes compare the pixels with what the network was trained on."""
    backbone = detector.backbone
    paths = {_key(variable.path): variable.path for variable in backbone.weights}
    mean, std = getattr(backbone, "trained_with", (None, None))
    return NameMap(
        [Rule(path, path, layouts.hwio) for path in paths.values()],
        lambda stored: _by_path(stored, paths),
        _LEFT_OUT,
        mean,
        std,
    )


def _by_path(arrays: Arrays, paths: dict[tuple[str, str], str]) -> Arrays:
    """The tensors under the paths of the variables that they are for; what is for none keeps its name."""
    found: Arrays = {}
    for name, array in arrays.items():
        *layers, part = _plain(name).split("/")
        spellings = ["_".join(layers[start:]) for start in range(len(layers))]
        keys = [key for spelling in spellings for key in ((spelling, part), (spelling, _scale(spelling, part)))]
        path = next((paths[key] for key in keys if key in paths), name)
        found[path] = array
    return found


def _key(path: str) -> tuple[str, str]:
    """Layer and part of `backbone/stage1/layer/part`, or of a layer within a layer."""
    _, _, *layers, part = _plain(path).split("/")
    return "_".join(layers), part


def _plain(name: str) -> str:
    name = name.removesuffix(":0").lower().replace("batchnorm", "bn").replace("depthwise_kernel", "kernel")
    return _COUNTED.sub(r"\1", name)


def _scale(layer: str, part: str) -> str:
    """The number of a `LayerScale`, whose only weight Keras calls `gamma`, `variable` or by a number."""
    return "scale" if layer.endswith("layer_scale") else part
