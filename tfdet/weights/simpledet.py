"""Name maps from SimpleDet's checkpoints to tfdet's variables, one table a family.

Checkpoints come in two forms: as trained (BN with four vectors) and, from SimpleDet's later revision,
with BN folded (utils/graph_optimize.py: merge_bn) to a scale and a shift that keep the names of gamma and beta.
"""

from __future__ import annotations

import re

import numpy as np

from tfdet.layers import BN_EPSILON
from tfdet.weights import layouts
from tfdet.weights.rules import Rule


def _batch_norm(source: str, target: str) -> list[Rule]:
    return [
        Rule(f"arg:{source}_gamma", f"{target}/gamma", layouts.same),
        Rule(f"arg:{source}_beta", f"{target}/beta", layouts.same),
        Rule(f"aux:{source}_moving_mean", f"{target}/moving_mean", layouts.same),
        Rule(f"aux:{source}_moving_var", f"{target}/moving_variance", layouts.same),
    ]


def _conv(source: str, target: str, bias: bool = True) -> list[Rule]:
    rules = [Rule(f"arg:{source}_weight", f"{target}/kernel", layouts.oihw_to_hwio)]
    return rules + ([Rule(f"arg:{source}_bias", f"{target}/bias", layouts.same)] if bias else [])


def _dense(source: str, target: str, step=layouts.dense) -> list[Rule]:
    return [
        Rule(f"arg:{source}_weight", f"{target}/kernel", step),
        Rule(f"arg:{source}_bias", f"{target}/bias", layouts.same),
    ]


def _resnet_v1_stage(stage: str, owner: str) -> list[Rule]:
    source, target = f"stage{stage}_unit{{unit}}", f"{owner}/stage{stage}/unit{{unit}}"
    return [
        *_conv(f"{source}_conv{{c}}", f"{target}/conv{{c}}", bias=False),
        *_batch_norm(f"{source}_bn{{c}}", f"{target}/bn{{c}}"),
        *_conv(f"{source}_sc", f"{target}/sc", bias=False),
        *_batch_norm(f"{source}_sc_bn", f"{target}/sc_bn"),
    ]


_RESNET_V1_STEM = [*_conv("conv0", "backbone/conv0", bias=False), *_batch_norm("bn0", "backbone/bn0")]

RESNET_V1_C4 = [
    *_RESNET_V1_STEM,
    *[rule for s in "123" for rule in _resnet_v1_stage(s, "backbone")],
    *_resnet_v1_stage("4", "bbox_head"),
    *_conv("rpn_conv_3x3", "rpn_head/conv"),
    *_conv("rpn_cls_logit", "rpn_head/cls"),
    *_conv("rpn_bbox_delta", "rpn_head/box"),
    *_dense("bbox_cls_logit", "bbox_head/predictor/cls"),
    *_dense("bbox_reg_delta", "bbox_head/predictor/box"),
]
"""Faster R-CNN C4 on ResNet-v1 (config/faster_r50v1c4_c5_512roi_1x.py, faster_r101v1c4_c5_512roi_1x.py)."""

RESNET_V1_FPN = [
    *_RESNET_V1_STEM,
    *[rule for s in "1234" for rule in _resnet_v1_stage(s, "backbone")],
    *_conv("P{level}_lateral", "neck/p{level}_lateral"),
    *_conv("P{level}_conv", "neck/p{level}_conv"),
    *_conv("rpn_conv", "rpn_head/conv"),
    *_conv("rpn_conv_cls", "rpn_head/cls"),
    *_conv("rpn_conv_bbox", "rpn_head/box"),
    *_dense("bbox_fc1", "bbox_head/fc1", layouts.dense_from_chw(7)),
    *_dense("bbox_fc2", "bbox_head/fc2"),
    *_dense("bbox_cls_logit", "bbox_head/predictor/cls"),
    *_dense("bbox_reg_delta", "bbox_head/predictor/box"),
]
"""Faster R-CNN FPN on ResNet-v1 (config/faster_r50v1_fpn_1x.py, faster_r101v1_fpn_1x.py)."""

RESNET_V1_RETINA = [
    *_RESNET_V1_STEM,
    *[rule for s in "1234" for rule in _resnet_v1_stage(s, "backbone")],
    *_conv("P{level}_lateral", "neck/p{level}_lateral"),
    *_conv("P{level}_conv", "neck/p{level}_conv"),
    *_conv("cls_conv{i}", "retina_head/cls_conv{i}"),
    *_conv("cls_pred", "retina_head/cls"),
    *_conv("bbox_conv{i}", "retina_head/box_conv{i}"),
    *_conv("bbox_pred", "retina_head/box"),
]
"""RetinaNet on ResNet-v1 (config/retina_r50v1_fpn_1x.py, retina_r101v1_fpn_1x.py)."""

IGNORED = re.compile(r"arg:anchor_stride\d+|(arg|aux):fc1_(weight|bias)")
"""Not parameters of a detector: the later revision's stored anchors, and the classifier of the ImageNet files."""


def unfold_batch_norm(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Gives folded BNs the statistics that make `gamma * (x - mean) / sqrt(var + eps) + beta` their scale and shift.

    A folded BN is recognised by its shape (1, C, 1, 1) and its missing statistics: mean 0 and variance 1 - eps.
    """
    full = dict(arrays)
    for name, array in arrays.items():
        if not (name.startswith("arg:") and name.endswith("_gamma") and array.ndim == 4):
            continue
        base, channels = name[len("arg:") : -len("_gamma")], array.size
        full.setdefault(f"aux:{base}_moving_mean", np.zeros(channels, np.float32))
        full.setdefault(f"aux:{base}_moving_var", np.full(channels, 1.0 - BN_EPSILON, np.float32))
    return full
