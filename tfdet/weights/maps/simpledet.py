"""Name maps from SimpleDet's checkpoints, and its ImageNet files, to tfdet's variables: the rules of each part.

Checkpoints come in two forms: as trained (BN with four vectors) and, from SimpleDet's later revision,
with BN folded (utils/graph_optimize.py: merge_bn) to a scale and a shift that keep the names of gamma and beta.
"""

from __future__ import annotations

import re

import keras
import numpy as np

from tfdet.backbones import ResNetV1, ResNetV2
from tfdet.heads import C5BboxHead, C5V2BboxHead, MaskHead, MlpBboxHead, RetinaHead, RpnHead
from tfdet.layers import BN_EPSILON
from tfdet.necks import FPN, ReduceNeck, RetinaNeck
from tfdet.weights.maps import layouts
from tfdet.weights.maps.parts import PartRules, compose, named, pooled_cells, suffix_in_cascade
from tfdet.weights.maps.rules import Arrays, NameMap, Rule

MARK = re.compile(r"(arg|aux):.+")
"""Names that MXNet's checkpoints have."""

CLASS_BIASES = [
    (r"arg:bbox_cls_logit(_1st)?_bias", None),
    (r"arg:cls_pred_bias", r"arg:bbox_pred_bias"),
]
"""See `classes.num_classes`."""

IGNORED = re.compile(r"arg:anchor_stride\d+|(arg|aux):fc1_(weight|bias)")
"""Not parameters of a detector: the later revision's stored anchors, and the classifier of the ImageNet files."""


def _ones(array: np.ndarray) -> np.ndarray:
    """A fixed gamma is 1, whatever stands in the file (mxnext simple.py: fix_gamma)."""
    return np.ones(array.size, np.float32)


_ones.inverse = _ones


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


def _stage(number: int, owner: str, norm_behind_shortcut: bool) -> list[Rule]:
    """A stage of residual units (mxnext backbone/resnet_v1.py, resnet_v2.py)."""
    source, target = f"stage{number}_unit{{unit}}", f"{owner}/stage{number}/unit{{unit}}"
    return [
        *_conv(f"{source}_conv{{c}}", f"{target}/conv{{c}}", bias=False),
        *_batch_norm(f"{source}_bn{{c}}", f"{target}/bn{{c}}"),
        *_conv(f"{source}_conv2_offset", f"{target}/conv2/offset", bias=False),  # models/dcn/builder.py
        *_conv(f"{source}_sc", f"{target}/sc", bias=False),
        *(_batch_norm(f"{source}_sc_bn", f"{target}/sc_bn") if norm_behind_shortcut else []),
    ]


def _stages(backbone: keras.layers.Layer, norm_behind_shortcut: bool) -> list[Rule]:
    numbers = range(1, backbone.num_stages + 1)
    return [rule for number in numbers for rule in _stage(number, backbone.name, norm_behind_shortcut)]


def _resnet_v1(backbone: ResNetV1, detector: keras.Model) -> list[Rule]:
    return [
        *_conv("conv0", f"{backbone.name}/conv0", bias=False),
        *_batch_norm("bn0", f"{backbone.name}/bn0"),
        *_stages(backbone, norm_behind_shortcut=True),
    ]


def _resnet_v2(backbone: ResNetV2, detector: keras.Model) -> list[Rule]:
    """The branches of a TridentNet share all that they have."""
    return [
        Rule("arg:bn_data_gamma", f"{backbone.name}/bn_data/gamma", _ones),
        *_batch_norm("bn_data", f"{backbone.name}/bn_data"),
        *_conv("conv0", f"{backbone.name}/conv0", bias=False),
        *_batch_norm("bn0", f"{backbone.name}/bn0"),
        *_stages(backbone, norm_behind_shortcut=False),
        *(_batch_norm("bn1", f"{backbone.name}/bn1") if backbone.num_stages == 4 else []),
    ]


_PYRAMID = named(_conv, {"p{level}_lateral": "P{level}_lateral", "p{level}_conv": "P{level}_conv"})
"""models/FPN/builder.py, models/retinanet/builder.py: P2 to P5, of RetinaNet P3 to P7."""


def _reduce(neck: ReduceNeck, detector: keras.Model) -> list[Rule]:
    """Cascade's neck: 1x1 in the first release, 3x3 in the later revision, each with a name of its own."""
    return _conv("conv_neck" if neck.kernel_size == 1 else "backbone_reduce", f"{neck.name}/reduce")


_RPN = named(_conv, {"conv": "rpn_conv_3x3", "cls": "rpn_cls_logit", "box": "rpn_bbox_delta"})
_RPN_ON_PYRAMID = named(_conv, {"conv": "rpn_conv", "cls": "rpn_conv_cls", "box": "rpn_conv_bbox"})


def _rpn(head: RpnHead, detector: keras.Model) -> list[Rule]:
    """symbol/builder.py: RpnHead; models/FPN/builder.py: FPNRpnHead where it reads several maps."""
    return (_RPN_ON_PYRAMID if len(detector.anchors.strides) > 1 else _RPN)(head, detector)


def _predictor(head: keras.layers.Layer, detector: keras.Model) -> list[Rule]:
    suffix = suffix_in_cascade(head, detector)
    return [
        *_dense(f"bbox_cls_logit{suffix}", f"{head.name}/predictor/cls"),
        *_dense(f"bbox_reg_delta{suffix}", f"{head.name}/predictor/box"),
    ]


def _c5_head(head: C5BboxHead, detector: keras.Model) -> list[Rule]:
    return [*_stage(4, head.name, norm_behind_shortcut=True), *_predictor(head, detector)]


def _c5_v2_head(head: C5V2BboxHead, detector: keras.Model) -> list[Rule]:
    return [
        *_stage(4, head.name, norm_behind_shortcut=False),
        *_batch_norm("bn1", f"{head.name}/bn1"),
        *_predictor(head, detector),
    ]


def _mlp_head(head: MlpBboxHead, detector: keras.Model) -> list[Rule]:
    """models/FPN/builder.py: FPNBbox2fcHead; models/cascade_rcnn/builder.py: CascadeBbox2fcHead."""
    suffix = suffix_in_cascade(head, detector)
    return [
        *_dense(f"bbox_fc1{suffix}", f"{head.name}/fc1", layouts.dense_from_chw(pooled_cells(detector))),
        *_dense(f"bbox_fc2{suffix}", f"{head.name}/fc2"),
        *_predictor(head, detector),
    ]


PARTS: PartRules = {
    ResNetV1: _resnet_v1,
    ResNetV2: _resnet_v2,
    FPN: _PYRAMID,
    RetinaNeck: _PYRAMID,
    ReduceNeck: _reduce,
    RpnHead: _rpn,
    C5BboxHead: _c5_head,
    C5V2BboxHead: _c5_v2_head,
    MlpBboxHead: _mlp_head,
    # models/maskrcnn/builder.py, numbered as in the first release. MXNet keeps a deconvolution's kernel as
    # [in, out, kh, kw], Keras as [kh, kw, out, in]: the transposition of a convolution's.
    MaskHead: named(_conv, {"conv{i}": "mask_fcn_conv{i}", "up": "mask_up0", "logit": "mask_fcn_logit"}),
    RetinaHead: named(
        _conv, {"cls_conv{i}": "cls_conv{i}", "cls": "cls_pred", "box_conv{i}": "bbox_conv{i}", "box": "bbox_pred"}
    ),
}
"""What SimpleDet's checkpoints call the tensors of each part."""


def name_map(detector: keras.Model, arrays: Arrays | None = None) -> NameMap:
    """The map of SimpleDet's checkpoints, folded or not, of either revision, and of its ImageNet files.

    Networks of v1 and v1b have the same tensors. Those of v1b stride on the 3x3, and see pixels divided by their
    deviation: a detector that does not is one of v1.
    """
    is_v1b = tuple(detector.pixel_std) != (1.0, 1.0, 1.0)
    return NameMap(compose(detector, PARTS), prepare, IGNORED, stride_in_1x1=not is_v1b)


def misfit(detector: keras.Model, arrays: Arrays) -> str:
    """What to set where the file is of SimpleDet's ResNet-v2 and the detector of the other variant; else empty."""
    if getattr(detector.backbone, "variant", None) == "keras" and "arg:bn_data_beta" in arrays:
        return "of SimpleDet's ResNet-v2: set ResNetV2.variant = 'mxnet', the default"
    return ""


def prepare(arrays: Arrays) -> Arrays:
    """SimpleDet's checkpoints in one form: mask convolutions from 0, one branch, BN with statistics."""
    return unfold_batch_norm(number_from_zero(join_branches(arrays)))


def unfold_batch_norm(arrays: Arrays) -> Arrays:
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


_NUMBERED = re.compile(r"arg:mask_fcn_conv(\d+)_(weight|bias)")


def number_from_zero(arrays: Arrays) -> Arrays:
    """Gives the convolutions of the later revision, mask_fcn_conv1 to 4, the numbers of the first release, 0 to 3."""
    return arrays if "arg:mask_fcn_conv0_weight" in arrays else _numbered(arrays, -1)


def number_from_one(arrays: Arrays) -> Arrays:
    """The way back: the numbers of the later revision."""
    return _numbered(arrays, 1)


def _numbered(arrays: Arrays, shift: int) -> Arrays:
    def renamed(name: str) -> str:
        match = _NUMBERED.fullmatch(name)
        return f"arg:mask_fcn_conv{int(match[1]) + shift}_{match[2]}" if match else name

    return {renamed(name): array for name, array in arrays.items()}


_SHARED = re.compile(r"(?P<base>arg:stage3_unit\d+_bn\d)_shared(?P<branch>\d)_(?P<part>gamma|beta)")


def join_branches(arrays: Arrays) -> Arrays:
    """Takes the copies that folding made of a shared BN, one a branch, for the one they came from: their first.

    They are equal but for rounding. Entries that stand under the shared name already stay.
    """
    joined = {name: array for name, array in arrays.items() if not _SHARED.fullmatch(name)}
    for name in sorted(set(arrays) - set(joined)):
        match = _SHARED.fullmatch(name)
        joined.setdefault(f"{match['base']}_{match['part']}", arrays[name])
    return joined
