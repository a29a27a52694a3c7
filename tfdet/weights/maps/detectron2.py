"""Name maps from Detectron2's checkpoints, and its ImageNet files, to tfdet's variables: the rules of each part.

Detectron2 feeds B, G, R, puts background last, and has no box of it: see the layout steps.
"""

from __future__ import annotations

import re

import keras
import numpy as np

from tfdet.backbones import ResNetV1
from tfdet.heads import C5BboxHead, ConvBboxHead, MaskHead, MlpBboxHead, RetinaHead, RpnHead
from tfdet.layers import BN_EPSILON
from tfdet.necks import FPN, RetinaNeck
from tfdet.weights.maps import layouts
from tfdet.weights.maps.parts import PartRules, both, compose, named, place_in_cascade, pooled_cells
from tfdet.weights.maps.rules import Arrays, NameMap, Rule
from tfdet.weights.maps.torch_layers import (
    FROM_TORCH_EPSILON,
    IMAGENET_MEAN,
    Step,
    conv,
    conv_norm,
    dense,
    head_norms,
    units,
)

MARK = re.compile(r"backbone\.(bottom_up\.)?(stem|res\d|fpn_lateral\d)\..+")
"""Names that the checkpoints of detectors have."""

IMAGENET_MARK = re.compile(r"(stem\.conv1|res\d\.\d+\.conv\d)\..+|res\d_\d+_branch2[abc]_w")
"""Names that the ImageNet files have."""

CLASS_BIASES = [
    (r"roi_heads\.box_predictor\.(0\.)?cls_score\.bias", None),
    (r"head\.cls_score\.bias", r"head\.bbox_pred\.bias"),
]
"""See `classes.num_classes`."""

IGNORED = re.compile(r"pixel_(mean|std)|.*\.cell_anchors\.\d+|.*\.num_batches_tracked|.*anchor_generator\..*")
"""Not parameters of a detector: numbers of its configuration that some files repeat."""

_MSRA = {"pixel_mean": IMAGENET_MEAN, "pixel_std": (1.0, 1.0, 1.0), "stride_in_1x1": True}
_RESNEXT = {"pixel_mean": IMAGENET_MEAN, "pixel_std": (58.395, 57.12, 57.375), "stride_in_1x1": False}
_DETECTRONS = {"pixel_mean": IMAGENET_MEAN, "pixel_std": (1.0, 1.0, 1.0), "stride_in_1x1": False}
_UNKNOWN = {"pixel_mean": IMAGENET_MEAN, "pixel_std": None, "stride_in_1x1": None}

_UNIT = (("conv{c}", "conv{c}.norm", "conv{c}", "bn{c}"), ("shortcut", "shortcut.norm", "sc", "sc_bn"))
"""Of a bottleneck unit (modeling/backbone/resnet.py): the file's names and ours of a convolution and its BN."""

_THREE_BY_THREE = re.compile(r"(.*\.)?res\d\.\d+\.conv2\.weight")


_DEEPEST = re.compile(r"(.*\.)?res4\.35\.conv2\.weight")
"""A tensor of depth 152, of which there is the first Detectron's network alone."""

_STEM_SCALE = re.compile(r"(.*\.)?stem\.conv1\.norm\.weight")
_LATERAL_SCALE = "backbone.fpn_lateral2.norm.weight"


def _trained_with(arrays: Arrays | None) -> dict:
    """Pixels and stride of the networks in a file, as far as its tensors tell.

    MSRA's stride on the 1x1. Those of the first Detectron, with group normalisation or 152 layers deep, and ResNeXt,
    whose 3x3 are grouped, stride on the 3x3; ResNeXt of Detectron2 divides the pixels. Networks that began with random
    weights, whose pyramids are normalised, do either; Detectron2's older files repeat what the pixels are divided by.
    """
    arrays = arrays or {}
    known = _network_of(arrays)
    std = arrays.get("pixel_std")  # B, G, R
    return known if std is None or std.size != 3 else known | {"pixel_std": tuple(map(float, std.reshape(-1)[::-1]))}


def _network_of(arrays: Arrays) -> dict:
    normalised = _LATERAL_SCALE in arrays
    for name in arrays:
        if _STEM_SCALE.fullmatch(name) and name.removesuffix("weight") + "running_mean" not in arrays:
            return _DETECTRONS | ({"pixel_std": None} if normalised else {})
    for name, kernel in arrays.items():
        following = arrays.get(name.replace("conv2", "conv3"))
        if _THREE_BY_THREE.fullmatch(name) and following is not None and kernel.ndim == following.ndim == 4:
            if kernel.shape[1] < following.shape[1]:
                return _DETECTRONS if any(_DEEPEST.fullmatch(other) for other in arrays) else _RESNEXT
            break
    return _UNKNOWN if normalised else _MSRA


def _units(source: str, target: str, variance: Step = layouts.same) -> list[Rule]:
    """The units of a stage, which may be deformable."""
    offsets = conv(f"{source}.{{unit-1}}.conv2_offset", f"{target}/unit{{unit}}/conv2/offset")
    return [*units(source, target, _UNIT, variance), *offsets]


def _stem(source: str, target: str, variance: Step = layouts.same) -> list[Rule]:
    """The first convolution, which is fed B, G, R."""
    bgr = layouts.first_oihw_from_bgr
    return conv_norm(f"{source}.conv1", f"{source}.conv1.norm", f"{target}/conv0", f"{target}/bn0", bgr, variance)


def _backbone(backbone: ResNetV1, detector: keras.Model) -> list[Rule]:
    """The branches of a TridentNet share all that they have."""
    prefix = "backbone" if detector.neck is None else "backbone.bottom_up"
    name = backbone.name
    return [*_stem(f"{prefix}.stem", name), *_units(f"{prefix}.res{{stage+1}}", f"{name}/stage{{stage}}")]


_FPN = {"p{level}_lateral": "backbone.fpn_lateral{level}", "p{level}_conv": "backbone.fpn_output{level}"}
_FPN_NORMS = {
    "p{level}_lateral_bn": "backbone.fpn_lateral{level}.norm",
    "p{level}_bn": "backbone.fpn_output{level}.norm",
}


def _numbered(source: str, head: keras.layers.Layer, detector: keras.Model) -> str:
    """The name of a module that a cascade has one of for each stage."""
    place = place_in_cascade(head, detector)
    return source if place is None else f"{source}.{place}"


def _predictor(head: keras.layers.Layer, detector: keras.Model) -> list[Rule]:
    source, target = _numbered("roi_heads.box_predictor", head, detector), f"{head.name}/predictor"
    return [
        Rule(f"{source}.cls_score.weight", f"{target}/cls/kernel", layouts.dense_background_first),
        Rule(f"{source}.cls_score.bias", f"{target}/cls/bias", layouts.background_first),
        Rule(f"{source}.bbox_pred.weight", f"{target}/box/kernel", layouts.dense_with_background_box),
        Rule(f"{source}.bbox_pred.bias", f"{target}/box/bias", layouts.with_background_box),
    ]


def _c5_head(head: C5BboxHead, detector: keras.Model) -> list[Rule]:
    return [*_units("roi_heads.res5", f"{head.name}/stage4"), *_predictor(head, detector)]


def _mlp_head(head: MlpBboxHead, detector: keras.Model) -> list[Rule]:
    source = _numbered("roi_heads.box_head", head, detector)
    return [
        *dense(f"{source}.fc1", f"{head.name}/fc1", layouts.dense_from_chw(pooled_cells(detector))),
        *dense(f"{source}.fc2", f"{head.name}/fc2"),
        *_predictor(head, detector),
    ]


def _conv_head(head: ConvBboxHead, detector: keras.Model) -> list[Rule]:
    source, name = _numbered("roi_heads.box_head", head, detector), head.name
    first = layouts.dense_from_chw(pooled_cells(detector))
    return [
        *conv(f"{source}.conv{{i}}", f"{name}/conv{{i}}"),
        *head_norms({"bn{i}": f"{source}.conv{{i}}.norm"})(head, detector),
        *(
            rule
            for k in range(1, head.num_fcs + 1)
            for rule in dense(f"{source}.fc{k}", f"{name}/fc{k}", first if k == 1 else layouts.dense)
        ),
        *_predictor(head, detector),
    ]


def _rpn_head(head: RpnHead, detector: keras.Model) -> list[Rule]:
    source, name = "proposal_generator.rpn_head", head.name
    first = f"{source}.conv" if head.num_convs == 1 else f"{source}.conv.conv0"
    return [
        *conv(first, f"{name}/conv"),
        *conv(f"{source}.conv.conv{{i-1}}", f"{name}/conv{{i}}"),
        *conv(f"{source}.objectness_logits", f"{name}/cls"),
        *conv(f"{source}.anchor_deltas", f"{name}/box"),
    ]


def _retina_head(head: RetinaHead, detector: keras.Model) -> list[Rule]:
    # The layers of a tower are numbered with the ReLUs, and with the normalisations where there are some.
    period = 2 if head.norm is None else 3
    towers = [
        rule
        for i in range(head.num_convs)
        for source, own in (("cls_subnet", "cls"), ("bbox_subnet", "box"))
        for rule in (
            *conv(f"head.{source}.{period * i}", f"{head.name}/{own}_conv{i + 1}"),
            *head_norms({f"{own}_bn{i + 1}": f"head.{source}.{period * i + 1}"})(head, detector),
        )
    ]
    return [*towers, *conv("head.cls_score", f"{head.name}/cls"), *conv("head.bbox_pred", f"{head.name}/box")]


PARTS: PartRules = {
    ResNetV1: _backbone,
    FPN: both(named(conv, _FPN), head_norms(_FPN_NORMS)),
    # The levels of names of their own first: the targets of the others would take these too.
    RetinaNeck: both(
        named(conv, {"p6_conv": "backbone.top_block.p6", "p7_conv": "backbone.top_block.p7"} | _FPN),
        head_norms(_FPN_NORMS),
    ),
    RpnHead: _rpn_head,
    C5BboxHead: _c5_head,
    MlpBboxHead: _mlp_head,
    ConvBboxHead: _conv_head,
    MaskHead: both(
        named(
            conv,
            {
                "conv{c}": "roi_heads.mask_head.mask_fcn{c+1}",
                "up": ("roi_heads.mask_head.deconv", layouts.deconv),
                "logit": "roi_heads.mask_head.predictor",
            },
        ),
        head_norms({"bn{c}": "roi_heads.mask_head.mask_fcn{c+1}.norm"}),
    ),
    RetinaHead: _retina_head,
}
"""What Detectron2's checkpoints call the tensors of each part."""

IMAGENET_PARTS: PartRules = {
    ResNetV1: lambda backbone, detector: [
        *_stem("stem", backbone.name, FROM_TORCH_EPSILON),
        *_units("res{stage+1}", f"{backbone.name}/stage{{stage}}", FROM_TORCH_EPSILON),
    ],
    C5BboxHead: lambda head, detector: _units("res5", f"{head.name}/stage4", FROM_TORCH_EPSILON),
}
"""The same of R-50.pkl, X-101-32x8d.pkl, R-50-GN.pkl and the others, under Detectron2's or Caffe2's names."""


def name_map(detector: keras.Model, arrays: Arrays | None = None) -> NameMap:
    """The map of Detectron2's detectors."""
    return NameMap(compose(detector, PARTS), ignored=IGNORED, **_trained_with(arrays))


def imagenet_map(detector: keras.Model, arrays: Arrays | None = None) -> NameMap:
    """The map of Detectron2's ImageNet backbones."""
    ignored = re.compile(r"(stem\.)?fc(1000)?\..*|pred\..*|lr|.*\.num_batches_tracked|.*_momentum|epoch|model_iter")
    pixels = _trained_with(from_caffe2(arrays)) if arrays else _MSRA
    return NameMap(compose(detector, IMAGENET_PARTS), from_caffe2, ignored, **pixels)


_CAFFE2 = [
    (re.compile(r"(res_)?conv1_[bg]n_(\w+)"), r"stem.conv1.norm.\2"),
    (re.compile(r"conv1_(\w+)"), r"stem.conv1.\1"),
    (re.compile(r"res(\d)_(\d+)_branch1_[bg]n_(\w+)"), r"res\1.\2.shortcut.norm.\3"),
    (re.compile(r"res(\d)_(\d+)_branch1_(\w+)"), r"res\1.\2.shortcut.\3"),
    (re.compile(r"res(\d)_(\d+)_branch2([abc])_[bg]n_(\w+)"), r"res\1.\2.conv\3.norm.\4"),
    (re.compile(r"res(\d)_(\d+)_branch2([abc])_(\w+)"), r"res\1.\2.conv\3.\4"),
    (re.compile(r"(fc1000|pred)_(w|b)"), r"\1.\2"),
]
_GROUP_NORM = re.compile(r".+_gn_[sb]")
_PARTS = {"w": "weight", "b": "bias", "s": "weight", "rm": "running_mean", "riv": "running_var"}


def from_caffe2(arrays: Arrays) -> Arrays:
    """Caffe2's names -> Detectron2's; a BN without statistics is a scale and a shift: mean 0, variance 1 - eps.

    A group normalisation, which Caffe2 calls gn, has none.

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
    if any(_GROUP_NORM.fullmatch(name) for name in arrays):
        return renamed
    for name in [name for name in renamed if name.endswith(".norm.weight")]:
        base, channels = name.removesuffix(".weight"), renamed[name].size
        renamed.setdefault(f"{base}.running_mean", np.zeros(channels, np.float32))
        renamed.setdefault(f"{base}.running_var", np.full(channels, 1.0 - BN_EPSILON, np.float32))
        bias = renamed.pop(f"{base.removesuffix('.norm')}.bias", None)
        if bias is not None and bias.size == channels:
            renamed[f"{base}.running_mean"] = layouts.fold_bias(renamed[f"{base}.running_mean"], bias.reshape(-1))
    return renamed
