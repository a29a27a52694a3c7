"""Name map of SimpleDet's mask head, which joins that of the detector it belongs to."""

from __future__ import annotations

import re

import numpy as np

from tfdet.weights.simpledet import Rule, _conv

MASK_HEAD: list[Rule] = [
    *_conv("mask_fcn_conv{i}", "mask_head/conv{i}"),
    # MXNet keeps a deconvolution's kernel as [in, out, kh, kw], Keras as [kh, kw, out, in]: the same transposition.
    *_conv("mask_up0", "mask_head/up"),
    *_conv("mask_fcn_logit", "mask_head/logit"),
]
"""The mask branch (config/mask_r50v1_fpn_1x.py; models/maskrcnn/builder.py), numbered as in the first release."""

_NUMBERED = re.compile(r"arg:mask_fcn_conv(\d+)_(weight|bias)")


def number_from_zero(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Gives the convolutions of the later revision, mask_fcn_conv1 to 4, the numbers of the first release, 0 to 3."""
    if "arg:mask_fcn_conv0_weight" in arrays:
        return arrays

    def renamed(name: str) -> str:
        match = _NUMBERED.fullmatch(name)
        return f"arg:mask_fcn_conv{int(match[1]) - 1}_{match[2]}" if match else name

    return {renamed(name): array for name, array in arrays.items()}
