"""tfdet's own weights as a source: checkpoints of a run, and the files that `tfdet convert_weights` writes.

A converted file is `.safetensors`: tensors under the paths of tfdet's variables, in tfdet's layouts, and beside them
what the network was trained with, under `tfdet/`.
"""

from __future__ import annotations

import re

import keras
import numpy as np

from tfdet.layers import BN_EPSILON
from tfdet.weights.maps import layouts
from tfdet.weights.maps.rules import Arrays, NameMap, Rule

MARK = re.compile(r"detector/backbone\.S.+|backbone/conv0/.+")
"""Names that a checkpoint and a converted file have."""

CLASS_BIASES = [
    (r"(detector/)?bbox_head(_1st)?(/|\.S)predictor(/|\.S)cls(/|\.S)bias", None),
    (r"(detector/)?retina_head(/|\.S)cls(/|\.S)bias", r"(detector/)?retina_head(/|\.S)box(/|\.S)bias"),
]
"""See `classes.num_classes`."""

_FACTS = "tfdet/"
_GROUPS = ("detector", "averages")  # of a checkpoint; the average of the weights, where it is kept, is what counts


def name_map(detector: keras.Model, arrays: Arrays) -> NameMap:
    """The map of a detector to itself."""
    rules = [Rule(variable.path, variable.path, layouts.hwio) for variable in detector.weights]
    # For units that the detector does not have, so that a deeper network is known for what it is.
    rules.append(
        Rule("backbone/stage{s}/unit{u}/conv{c}/kernel", "backbone/stage{s}/unit{u}/conv{c}/kernel", layouts.hwio)
    )
    mean, std = (_triple(arrays.get(f"{_FACTS}{name}")) for name in ("pixel_mean", "pixel_std"))
    strides = arrays.get(f"{_FACTS}stride_in_1x1")
    stride_in_1x1 = bool(strides[0]) if strides is not None and strides.shape == (1,) else None
    return NameMap(rules, from_checkpoint, re.compile(rf"{_FACTS}.*"), mean, std, stride_in_1x1)


def _triple(array: np.ndarray | None) -> tuple[float, ...] | None:
    return tuple(float(value) for value in array) if array is not None and array.shape == (3,) else None


def from_checkpoint(arrays: Arrays) -> Arrays:
    """Names of a run's checkpoint -> paths; momenta and counters are left out. A converted file stays as it is."""
    if not any(name.startswith("detector/") for name in arrays):
        return arrays
    found: Arrays = {}
    for group in _GROUPS:
        for name, array in arrays.items():
            if name.startswith(f"{group}/"):
                # TensorFlow's form of a slash and a dot within a name.
                found[re.sub(r"\.(S|\.)", lambda m: "/" if m[1] == "S" else ".", name[len(group) + 1 :])] = array
    return found


def facts(detector: keras.Model, name_map: NameMap) -> Arrays:
    """What a converted file says of its weights, by name.

    Args:
        detector: with the weights.
        name_map: by which they were loaded; what it does not know of the pixels, the detector does.
    """
    found = {}
    if getattr(detector.backbone, "bn_data", None) is None:  # which normalises by itself
        for name in ("pixel_mean", "pixel_std"):
            found[_FACTS + name] = np.float32(getattr(name_map, name) or getattr(detector, name))
    if hasattr(detector.backbone, "stride_on"):
        found[f"{_FACTS}stride_in_1x1"] = np.uint8([detector.backbone.stride_on == "1x1"])
    return found | {f"{_FACTS}epsilon": np.float32([getattr(detector.backbone, "epsilon", BN_EPSILON)])}
