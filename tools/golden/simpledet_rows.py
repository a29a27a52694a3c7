"""The gin files that build the detector of a golden folder of SimpleDet, with the widths and counts of what is stored.

The stored graphs are of SimpleDet's later revision, so each row comes with that revision's overlay.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from tfdet import config
from tfdet.detectors import Detector
from tfdet.errors import UserError
from tfdet.weights.sources import num_classes_of
from tools.golden import simpledet_mask, simpledet_retina, simpledet_v1, simpledet_v2
from tools.golden.simpledet_folder import Golden

_FULL_STEM = 64


class Row(NamedTuple):
    """A family of rows.

    Fields:
        pattern: of the names of its rows.
        files: gin files, with the row's `{depth}`.
        widths: parameters in gin by the tensor whose number of outputs they are.
        counts: called with the golden and the configuration of the files, returns the parameters that say how many
            boxes the stored graph keeps.
        reads: stored outputs that the second half of the network is given.
        results: how many results the graph has.
        compute: called with the detector, the golden, the normalised image and `image_info`, returns our counterparts
            of the stored outputs, under their names and in their layout.
    """

    pattern: str
    files: tuple[str, ...]
    widths: dict[str, str]
    counts: Callable[[Golden, config.Configuration], dict]
    reads: tuple[str, ...]
    compute: Callable[..., dict]
    results: int = 5


def _proposals(golden: Golden, configuration: config.Configuration) -> dict:
    kept = golden.outputs.get("proposal", golden.outputs.get("get_top_proposal: reshape5")).shape[1]
    counts = {"ProposalGenerator.post_nms_top_n": kept}
    changed = " ".join(golden.meta.get("substitutions", []))
    if found := re.search(r"else \\?d\+ -> pre_nms_top_n = .* else (\d+)", changed):
        counts["ProposalGenerator.pre_nms_top_n"] = int(found[1])
    return {name: (configuration.value(name)[0], count) for name, count in counts.items()}


def _mask_counts(golden: Golden, configuration: config.Configuration) -> dict:
    counts, boxes = _proposals(golden, configuration), simpledet_mask.final_boxes(golden.outputs)
    return counts if boxes is None else counts | {"PostProcess.max_detections": golden.outputs[boxes].shape[-2]}


def _candidates(golden: Golden, configuration: config.Configuration) -> dict:
    finest = configuration.value("AnchorGenerator.strides")[0]
    return {"DensePostProcess.pre_nms_top_n": golden.outputs[f"proposal_pre_nms_stride{finest}"].shape[1]}


_C4 = {"RpnHead.channels": "arg:rpn_conv_3x3_weight"}
_FPN = {
    "RpnHead.channels": "arg:rpn_conv_weight",
    "FPN.channels": "arg:P2_conv_weight",
    "MlpBboxHead.channels": "arg:bbox_fc1_weight",
}
_MASK = _FPN | {"MaskHead.channels": "arg:mask_up0_weight"}
_CASCADE = _C4 | {
    "ReduceNeck.channels": "arg:backbone_reduce_weight",
    "MlpBboxHead.channels": "arg:bbox_fc1_1st_weight",
}
_RETINA = {"RetinaNeck.channels": "arg:P3_conv_weight", "RetinaHead.channels": "arg:cls_conv1_weight"}

_ROIS, _TOP_ROIS = ("proposal",), ("get_top_proposal: reshape5",)
_PAIRS = tuple(
    name
    for level, stride in enumerate((8, 16, 32, 64, 128))
    for name in (
        simpledet_v1.numbered("cls_pred", level),
        simpledet_v1.numbered("bbox_pred", level),
        f"proposal_pre_nms_stride{stride}",
        f"proposal_pre_nms_stride{stride}_score",
    )
)

ROWS = [
    Row(
        "faster_r{depth}v1c4.*",
        ("faster_r{depth}v1_c4.gin", "overlays/later_revision.gin"),
        _C4,
        _proposals,
        _ROIS,
        simpledet_v1.c4,
    ),
    Row(
        "faster_r{depth}v1_fpn.*",
        ("faster_r{depth}v1_fpn.gin", "overlays/later_revision_fpn.gin"),
        _FPN,
        _proposals,
        _TOP_ROIS,
        simpledet_v1.fpn,
    ),
    Row(
        "mask_r{depth}v1_fpn.*",
        ("mask_r{depth}v1_fpn.gin", "overlays/later_revision_mask.gin"),
        _MASK,
        _mask_counts,
        _TOP_ROIS,
        simpledet_mask.compute,
        results=7,
    ),
    Row(
        "retina_r{depth}v1_fpn.*",
        ("retina_r{depth}v1_fpn.gin", "overlays/later_revision_retina.gin"),
        _RETINA,
        _candidates,
        _PAIRS,
        simpledet_retina.compute,
    ),
    Row(
        "faster_r{depth}v2c4.*",
        ("faster_r{depth}v2_c4.gin", "overlays/later_revision.gin"),
        _C4,
        _proposals,
        _ROIS,
        simpledet_v2.c4,
    ),
    Row(
        "tridentnet_r{depth}v2c4.*fastapprox.*",
        ("trident_fast_r{depth}v2_c4.gin", "overlays/later_revision.gin"),
        _C4,
        _proposals,
        _ROIS,
        simpledet_v2.c4,
    ),
    Row(
        "tridentnet_r{depth}v2c4.*",
        ("trident_r{depth}v2_c4.gin", "overlays/later_revision_trident.gin"),
        _C4,
        _proposals,
        _ROIS,
        simpledet_v2.c4,
    ),
    Row(
        "cascade_r{depth}v2_c5.*",
        ("cascade_r{depth}v2_c5.gin", "overlays/later_revision_cascade.gin"),
        _CASCADE,
        _proposals,
        _ROIS,
        simpledet_v2.cascade,
    ),
]
"""Where two patterns fit, the first counts."""


def row_of(golden: Golden) -> tuple[Row, int]:
    """The family of a golden, and its depth.

    Raises:
        UserError: `meta.json` names a row of none.
    """
    name = str(golden.meta.get("row", ""))
    for row in ROWS:
        if match := re.fullmatch(row.pattern.format(depth=r"(50|101)"), name):
            return row, int(match[1])
    known = ", ".join(row.pattern.format(depth=50).replace(".*", "*") for row in ROWS)
    raise UserError(f"{golden.folder}/meta.json: row {name!r} is of no known family; known are {known}; r101 as r50")


def build_like(golden: Golden, bindings: Sequence[str] = ()) -> Detector:
    """The detector of a golden, by the gin files of its row.

    Every configurable must have been registered (`tfdet.config.register_all`).

    Args:
        golden: of any width.
        bindings: that come last, such as a wrong one to see that it matters.
    """
    row, depth = row_of(golden)
    files = [file.format(depth=depth) for file in row.files]
    bound = {"WIDTH": golden.folded["arg:conv0_weight"].shape[0] / _FULL_STEM}
    bound |= {name: golden.folded[tensor].shape[0] for name, tensor in row.widths.items()}
    bound |= row.counts(golden, config.parse(files))
    configuration = config.parse(files, [*(f"{name} = {value!r}" for name, value in bound.items()), *bindings])
    return configuration.build("build_detector", num_classes=num_classes_of(golden.folded))


def compute(detector: Detector, golden: Golden) -> dict[str, np.ndarray]:
    """Our counterparts of the stored outputs, under their names and in their layout."""
    import tensorflow as tf

    image_info = tf.constant(golden.inputs["im_info"])
    inputs = detector.normalize(tf.constant(golden.inputs["image_rgb_uint8"])[None], image_info)
    stored_input = golden.inputs["data"].transpose(0, 2, 3, 1)
    if np.abs(inputs.numpy() - stored_input).max() > 1e-3:
        raise UserError(f"{golden.folder}/inputs.npz: data is not image_rgb_uint8 minus the channel means")
    found = row_of(golden)[0].compute(detector, golden, inputs, image_info)
    for number, name in enumerate(("rec_id", "im_id", "im_info")):  # handed through by the graph
        if name in golden.inputs:
            found[f"HEAD{number}"] = golden.inputs[name]
    return {name: np.asarray(value) for name, value in found.items()}
