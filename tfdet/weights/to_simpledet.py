"""A detector's weights by SimpleDet's names and in its layouts, so that people can go back."""

from __future__ import annotations

import re

import keras
import numpy as np

from tfdet.errors import UserError
from tfdet.layers import BN_EPSILON
from tfdet.weights import layouts
from tfdet.weights.load import COUNTERS, family_rules
from tfdet.weights.rules import Arrays, source_of

_FC = re.compile(r"arg:bbox_fc[12](?P<cascade>_(1st|2nd|3rd))?_weight")
_MASK_CONV = re.compile(r"arg:mask_fcn_conv(\d+)_(weight|bias)")


def to_simpledet(detector: keras.Model, paths: list[str] | None = None) -> Arrays:
    """The tensors of a SimpleDet checkpoint with BN not folded, as its first release saves them.

    A detector of SimpleDet's later revision (no bias in the fully connected layers of FPN; a 3x3 neck of Cascade) gets
    that revision's names and shapes: fully connected layers as 1x1 convolutions, mask convolutions from 1.

    Args:
        detector: with the weights.
        paths: of the variables to take; None takes all.

    Returns:
        Name with `arg:` or `aux:` -> float32 array.

    Raises:
        UserError: SimpleDet has no such detector.
    """
    backbone = detector.backbone
    if getattr(backbone, "stride_on", "1x1") != "1x1":
        raise UserError(
            "SimpleDet's ResNet-v1 strides on its 1x1 convolutions; this detector on the 3x3: not convertible"
        )
    if getattr(backbone, "variant", "mxnet") != "mxnet":
        raise UserError(
            "SimpleDet's ResNet-v2 strides in a stage's first unit, keras.applications' in its last: not convertible"
        )
    if getattr(backbone, "norm", None) == "group":
        raise UserError("SimpleDet's backbones have batch normalisation, this detector's groups: not convertible")
    if detector.convention != "legacy_plus_one":
        raise UserError("SimpleDet's boxes are of whole pixels, this detector's are continuous: not convertible")
    epsilon = getattr(backbone, "epsilon", BN_EPSILON)
    if abs(epsilon - BN_EPSILON) > 1e-8:
        raise UserError(f"SimpleDet's BN adds {BN_EPSILON} to variances, this detector's {epsilon}: not convertible")
    rules, arrays, chosen = family_rules(detector), {}, None if paths is None else set(paths)
    for variable in detector.weights:
        if variable.path.endswith(COUNTERS) or (chosen is not None and variable.path not in chosen):
            continue
        found = source_of(variable.path, rules)
        if found is None:
            raise UserError(f"SimpleDet has no {variable.path} in this family: not convertible")
        name, step = found
        arrays[name] = np.ascontiguousarray(layouts.inverse(step)(variable.numpy().astype(np.float32)))
    return _of_revision(arrays)


def _of_revision(arrays: Arrays) -> Arrays:
    later = "arg:bbox_fc1_weight" in arrays and "arg:bbox_fc1_bias" not in arrays
    renamed = {}
    for name, array in arrays.items():
        fc, conv = _FC.fullmatch(name), _MASK_CONV.fullmatch(name)
        if fc and (later or fc["cascade"]):
            array = array[:, :, None, None]
        if conv and later:
            name = f"arg:mask_fcn_conv{int(conv[1]) + 1}_{conv[2]}"
        renamed[name] = array
    return renamed
