"""Name maps of SimpleDet's families on ResNet-v2: Faster C4, TridentNet, Cascade."""

from __future__ import annotations

import re

import numpy as np

from tfdet.weights import layouts
from tfdet.weights.simpledet import Rule, _batch_norm, _conv, _dense


def _ones(array: np.ndarray) -> np.ndarray:
    """A fixed gamma is 1, whatever stands in the file (mxnext simple.py: fix_gamma)."""
    return np.ones(array.size, np.float32)


_ones.inverse = _ones


def _stage(stage: str, owner: str) -> list[Rule]:
    source, target = f"stage{stage}_unit{{unit}}", f"{owner}/stage{stage}/unit{{unit}}"
    return [
        *_conv(f"{source}_conv{{c}}", f"{target}/conv{{c}}", bias=False),
        *_batch_norm(f"{source}_bn{{c}}", f"{target}/bn{{c}}"),
        *_conv(f"{source}_sc", f"{target}/sc", bias=False),
    ]


def _backbone(stages: str) -> list[Rule]:
    return [
        Rule("arg:bn_data_gamma", "backbone/bn_data/gamma", _ones),
        *_batch_norm("bn_data", "backbone/bn_data"),
        *_conv("conv0", "backbone/conv0", bias=False),
        *_batch_norm("bn0", "backbone/bn0"),
        *[rule for s in stages for rule in _stage(s, "backbone")],
    ]


_RPN = [
    *_conv("rpn_conv_3x3", "rpn_head/conv"),
    *_conv("rpn_cls_logit", "rpn_head/cls"),
    *_conv("rpn_bbox_delta", "rpn_head/box"),
]

RESNET_V2_C4 = [
    *_backbone("123"),
    *_stage("4", "bbox_head"),
    *_batch_norm("bn1", "bbox_head/bn1"),
    *_RPN,
    *_dense("bbox_cls_logit", "bbox_head/predictor/cls"),
    *_dense("bbox_reg_delta", "bbox_head/predictor/box"),
]
"""Faster R-CNN C4 (config/faster_r50v2c4_c5_256roi_1x.py and the R101 rows), and TridentNet: its branches share all."""


def cascade(kernel_size: int) -> list[Rule]:
    """Cascade R-CNN C5 (config/cascade_r50v2_c5_red_1x.py, cascade_r101v2_c5_red_1x.py).

    Args:
        kernel_size: of the neck: 1 in the first release, which calls it conv_neck, 3 in the later revision:
            backbone_reduce.
    """
    heads = []
    for suffix in ("1st", "2nd", "3rd"):
        head = f"bbox_head_{suffix}"
        heads += [
            *_dense(f"bbox_fc1_{suffix}", f"{head}/fc1", layouts.dense_from_chw(7)),
            *_dense(f"bbox_fc2_{suffix}", f"{head}/fc2"),
            *_dense(f"bbox_cls_logit_{suffix}", f"{head}/predictor/cls"),
            *_dense(f"bbox_reg_delta_{suffix}", f"{head}/predictor/box"),
        ]
    return [
        *_backbone("1234"),
        *_batch_norm("bn1", "backbone/bn1"),
        *_RPN,
        *_conv("conv_neck" if kernel_size == 1 else "backbone_reduce", "neck/reduce"),
        *heads,
    ]


_SHARED = re.compile(r"(?P<base>arg:stage3_unit\d+_bn\d)_shared(?P<branch>\d)_(?P<part>gamma|beta)")


def join_branches(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Takes the copies that folding made of a shared BN, one a branch, for the one they came from: their first.

    They are equal but for rounding. Entries that stand under the shared name already stay.
    """
    joined = {name: array for name, array in arrays.items() if not _SHARED.fullmatch(name)}
    for name in sorted(set(arrays) - set(joined)):
        match = _SHARED.fullmatch(name)
        joined.setdefault(f"{match['base']}_{match['part']}", arrays[name])
    return joined
