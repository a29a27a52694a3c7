"""Compares a detector with stored outputs of Detectron2 or torchvision for the same weights and image.

A golden folder holds `meta.json`, a checkpoint of the program, `golden.npz` (maps, proposals, detections) and, for most
families, `train.npz` (losses and gradients), `noise.json` (the program's own noise; or that is in `meta.json`), and of
Detectron2 `config.yaml`. The detector is that of the family's gin file, with the widths of the
checkpoint's tensors and the samplers of the stored training step.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfdet import config
from tfdet.detectors import Detector
from tfdet.errors import UserError
from tfdet.weights import read_weights
from tfdet.weights.load import assign
from tfdet.weights.maps import detectron2, torchvision
from tfdet.weights.maps.rules import NameMap
from tools.golden import torch_parts
from tools.golden.files import left_out, read_arrays, read_json, read_yaml
from tools.golden.noise import Noise, read_noise

_FULL_WIDTH = 256
_DEPTHS = {6: 50, 23: 101, 36: 152}  # by the units of the third stage


class TorchGolden(NamedTuple):
    """One golden folder, read."""

    folder: Path
    meta: dict
    settings: dict  # Detectron2's config.yaml by dotted names; empty for torchvision
    noise: Noise
    arrays: dict[str, np.ndarray]  # the checkpoint, in the newer of torchvision's spellings
    outputs: dict[str, np.ndarray]
    train: dict[str, np.ndarray]  # empty where the folder has no training step
    program: str  # "detectron2" or "torchvision"
    family: str  # the gin file without its ending
    left_out: frozenset[str] = frozenset()  # names of arrays that this copy of a folder goes without

    @property
    def four_convs(self) -> bool:
        """Whether the box head has convolutions before its fully connected layer."""
        return self.family.endswith("rcnn_r50_fpn_v2") or self.family.startswith("new_baselines/")

    @property
    def trains(self) -> bool:
        """Whether such a folder has a training step: all have but the TridentNet that is tested with every branch."""
        return not (self.family.startswith("trident") and self.outputs["rpn_logits_0"].shape[0] > 1)


_NEEDED = {"model": str, "weights": str, "conventions": dict, "state_dict": dict}
"""Of a `meta.json`, with their types."""


def is_torch(meta: dict) -> bool:
    """Whether a `meta.json` is of Detectron2 or torchvision."""
    return "row" not in meta and not {"model", "conventions", "state_dict"}.isdisjoint(meta)


def read(folder: str | Path, partial: bool = False) -> TorchGolden:
    """Reads a golden folder.

    Args:
        folder: with the files above.
        partial: it may go without the arrays that its `meta.json` lists as `left_out`.

    Raises:
        UserError: a file is missing or broken, or the network has a part that tfdet does not build.
    """
    folder = Path(folder)
    meta = read_json(folder / "meta.json")
    for name, kind in _NEEDED.items():
        if not isinstance(meta.get(name), kind):
            raise UserError(f"{folder}/meta.json: {name} is missing or no {kind.__name__}")
    arrays = read_weights(folder / meta["weights"])
    program = _program(arrays)
    settings = read_yaml(folder / "config.yaml") if program == "detectron2" else {}
    if parts := torch_parts.not_built(torch_parts.Described(meta, settings, arrays)):
        raise UserError(f"{folder}: not compared; tfdet does not build {', nor '.join(parts)}")
    outputs = read_arrays(folder / "golden.npz")
    has_training = (folder / "train.npz").is_file()
    train = read_arrays(folder / "train.npz") if has_training else {}
    golden = make(folder, meta, arrays, outputs, train, read_noise(folder, meta), settings)
    golden = golden._replace(left_out=left_out(meta, partial))
    if golden.family.startswith("trident") and "rpn_logits_0" not in outputs:  # says how many branches are tested
        raise UserError(f"{folder}/golden.npz: rpn_logits_0 is missing")
    if not has_training and (golden.trains or "train_losses" in meta):
        raise UserError(f"{folder}/train.npz: is missing; a folder of this kind has it")
    return golden


def make(
    folder: Path,
    meta: dict,
    arrays: dict,
    outputs: dict,
    train: dict,
    noise: Noise | None = None,
    settings: dict | None = None,
) -> TorchGolden:
    """A golden from its parts; the tensors of the checkpoint say which program and family it is of."""
    program = _program(arrays)
    if program == "torchvision":
        arrays = torchvision.current_names(arrays)
    family = _family(program, arrays, meta)
    noise = noise or Noise("noise.json", {}, [])
    return TorchGolden(folder, meta, settings or {}, noise, arrays, outputs, train, program, family)


def _program(arrays: dict) -> str:
    return "torchvision" if any(name.startswith("backbone.body.") for name in arrays) else "detectron2"


def name_map(golden: TorchGolden, detector: Detector) -> NameMap:
    """The map of the golden's checkpoint to a detector."""
    return {"detectron2": detectron2, "torchvision": torchvision}[golden.program].name_map(detector, golden.arrays)


def _family(program: str, arrays: dict[str, np.ndarray], meta: dict) -> str:
    """The gin file of the architecture that the tensors are of."""
    with_masks = "mask" if any(".mask_head." in name for name in arrays) else "faster"
    if any(name.startswith("head.") for name in arrays):
        return "retinanet_r50_fpn_v2" if "head.classification_head.conv.0.1.weight" in arrays else "retinanet_r50_fpn"
    if program == "torchvision":
        return f"{with_masks}rcnn_r50_fpn{'_v2' if 'roi_heads.box_head.0.0.weight' in arrays else ''}"
    if "roi_heads.box_head.conv1.weight" in arrays:
        return f"new_baselines/{with_masks}_rcnn_r50_fpn_100ep_lsj"
    if "roi_heads.box_predictor.0.cls_score.weight" in arrays:
        return "cascade_mask_rcnn_r50_fpn" if with_masks == "mask" else "cascade_rcnn_r50_fpn"
    if any(name.startswith("backbone.res5.") for name in arrays):
        return f"{with_masks}_rcnn_r50_dc5_1x"
    if not any(name.startswith("roi_heads.res5.") for name in arrays):
        return f"{with_masks}_rcnn_r50_fpn"
    if "trident" in meta["model"] + meta.get("config_base", ""):  # whose tensors are those of Faster R-CNN
        return "trident_r50_c4"
    return f"{with_masks}_rcnn_r50_c4"


def build_like(golden: TorchGolden) -> Detector:
    """The detector of a golden, with its weights.

    Every configurable must have been registered (`tfdet.config.register_all`).
    """
    return build(golden, configuration_of(golden))


def configuration_of(golden: TorchGolden) -> config.Configuration:
    """The gin file of the golden's family with the widths and samplers of what is stored."""
    return config.parse([f"{golden.program}/{golden.family}.gin"], overrides(golden))


def build(golden: TorchGolden, configuration: config.Configuration) -> Detector:
    """The detector of `configuration_of`, with the golden's weights.

    Raises:
        UserError: the checkpoint does not fit.
    """
    detector = configuration.build("build_detector", num_classes=_num_classes(golden))
    report = assign(detector, golden.arrays, name_map(golden, detector), str(golden.folder / golden.meta["weights"]))
    # The moving number of RetinaNet's foreground anchors is in no checkpoint.
    missing = [path for path in report.missing if not path.endswith("moving_foreground")]
    if missing or report.mismatched or report.unused:
        raise UserError(f"{report.summary()}; the checkpoint does not fit {golden.program}/{golden.family}.gin")
    return detector


def _shape(golden: TorchGolden, pattern: str) -> tuple[int, ...]:
    """The shape of the first tensor whose name matches."""
    for name, array in golden.arrays.items():
        if re.fullmatch(pattern, name):
            return array.shape
    raise UserError(f"{golden.folder}: the checkpoint has no tensor {pattern}")


def _num_classes(golden: TorchGolden) -> int:
    if golden.family.startswith("retinanet"):
        predictor, box = r"head\.(.*\.)?cls_(score|logits)\.bias", r"head\.(.*\.)?bbox_(pred|reg)\.bias"
        return _shape(golden, predictor)[0] // (_shape(golden, box)[0] // 4)
    return _shape(golden, r"roi_heads\.box_predictor\.(0\.)?cls_score\.bias")[0] - 1


def overrides(golden: TorchGolden) -> list[str]:
    """Bindings that give the full-size file the widths and the samplers of a golden."""
    meta, arrays = golden.meta, golden.arrays
    stem = _shape(golden, r"backbone\.(body\.|(bottom_up\.)?stem\.)conv1\.weight")[0]
    outer = _shape(golden, r"backbone\.(body\.layer1|(bottom_up\.)?res2)\.0\.conv3\.weight")[0]
    unit = re.compile(r"backbone\.(?:body\.layer3|(?:bottom_up\.)?res4)\.(\d+)\.conv1\.weight")
    units = len([name for name in arrays if unit.fullmatch(name)])
    if units not in _DEPTHS:
        raise UserError(f"{golden.folder}: the third stage has {units} units; tfdet builds {sorted(_DEPTHS)}")
    conventions = meta["conventions"]
    epsilon = conventions.get("frozen_bn_eps", conventions.get("bn_eps"))
    if not isinstance(epsilon, float) or "stride_on" not in conventions:
        raise UserError(
            f"{golden.folder}: meta.json has no conventions.frozen_bn_eps or none of stride_on; "
            "such networks are not compared"
        )
    stride_on = "3x3" if str(conventions["stride_on"]).startswith("3x3") else "1x1"
    bound = {
        "DEPTH": _DEPTHS[units],
        "WIDTH": outer / _FULL_WIDTH,
        "ResNetV1.stem_channels": stem,
        "EPSILON": epsilon,
        "ResNetV1.stride_on": stride_on,
    } | torch_parts.bindings_of(torch_parts.Described(meta, golden.settings, arrays))
    if golden.family.endswith(
        "_v2"
    ):  # the recipe trains everything, the stored step what `trainable_backbone_layers` left
        bound["Trainer.frozen"] = ("backbone/conv0", "backbone/bn0", "backbone/stage1")
    if golden.family.endswith("_c4"):
        bound["C5BboxHead.stride_on"] = stride_on
    if golden.family.startswith("retinanet"):
        bound["RetinaNeck.channels"] = _shape(golden, r"backbone\.(fpn_output3|fpn\.layer_blocks\.0\.0)\.weight")[0]
        towers = r"head\.(cls_subnet|classification_head\.conv)\.\d+\.(0\.)?weight"
        bound["RetinaHead.channels"] = _shape(golden, towers)[0]
        bound["RetinaHead.num_convs"] = len([name for name in arrays if re.fullmatch(towers, name)])
        return _as_gin(bound)
    bound["RpnHead.channels"] = _shape(golden, r".*rpn.*head\.conv\.(0\.0\.|conv0\.)?weight")[0]
    if "_fpn" in golden.family:
        bound["FPN.channels"] = _shape(golden, r"backbone\.(fpn_output2|fpn\.layer_blocks\.0\.0)\.weight")[0]
    if golden.four_convs:
        bound |= _conv_head(golden)
    elif not golden.family.endswith("_c4"):
        bound["MlpBboxHead.channels"] = _shape(golden, r"roi_heads\.box_head\.(0\.)?fc[17]\.weight")[0]
    if golden.family.startswith("trident") and golden.trains:
        bound["ResNetV1.test_branches"] = (2,)
    if "mask" in golden.family:
        convs = r"roi_heads\.mask_head\.(mask_fcn\d+|\d+\.0)\.weight"
        bound["MaskHead.num_convs"] = len([name for name in arrays if re.fullmatch(convs, name)])
        bound["MaskHead.channels"] = _shape(golden, r"roi_heads\.mask_.*(deconv|conv5_mask)\.bias")[0]
    return _as_gin(bound | _samplers(golden))


def _conv_head(golden: TorchGolden) -> dict:
    """The box head of convolutions before a fully connected layer."""
    convs = r"roi_heads\.box_head\.(conv\d|\d\.0)\.weight"
    return {
        "ConvBboxHead.num_convs": len([name for name in golden.arrays if re.fullmatch(convs, name)]),
        "ConvBboxHead.conv_channels": _shape(golden, convs)[0],
        "ConvBboxHead.channels": _shape(golden, r"roi_heads\.box_head\.(fc1|\d)\.weight")[0],
    }


def _samplers(golden: TorchGolden) -> dict:
    """The numbers of the stored training step: proposals, and samplers that take everything."""
    stated = golden.meta.get("config_overrides_train") or golden.meta.get("builder_overrides", {}).get("train", {})

    def number(detectron2_name: str, torchvision_name: str, default):
        return stated.get(f"MODEL.{detectron2_name}", stated.get(torchvision_name, default))

    if not stated:
        return {}
    kept = number("RPN.POST_NMS_TOPK_TRAIN", "post_nms_topk_train", 2000)
    objects = max(len(golden.train.get(f"gt_classes{which}", ())) for which in ("", 2))
    # Of more RoIs than there are every one is drawn; the rest of so many rows would be padding.
    rois = min(number("ROI_HEADS.BATCH_SIZE_PER_IMAGE", "roi_batch", 512), kept + objects)
    sampler = "first/RoiTargetSampler" if golden.family.startswith("cascade") else "RoiTargetSampler"
    six_thousand = "_fpn" not in golden.family
    return {
        "ProposalGenerator.pre_nms_top_n": (
            number("RPN.PRE_NMS_TOPK_TRAIN", "pre_nms_topk_train", 2000),
            6000 if six_thousand else 1000,
        ),
        "ProposalGenerator.post_nms_top_n": (kept, 1000),
        "RpnTargetAssigner.batch_per_image": number("RPN.BATCH_SIZE_PER_IMAGE", "rpn_batch", 256),
        "RpnTargetAssigner.fg_fraction": number("RPN.POSITIVE_FRACTION", "rpn_pos_frac", 0.5),
        f"{sampler}.num_rois": rois,
        f"{sampler}.fg_fraction": number("ROI_HEADS.POSITIVE_FRACTION", "roi_pos_frac", 0.25),
    }


def _as_gin(bound: dict) -> list[str]:
    return [f"{name} = {value!r}" for name, value in bound.items()]


def image_batch(golden: TorchGolden, *others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The image as uint8 [1, H, W, 3], RGB, and its `image_info` float32 [1, 3]; `others` in one batch with it."""
    images = [array.transpose(1, 2, 0) for array in (golden.outputs["image"], *others)]
    images = [image[..., ::-1] if golden.program == "detectron2" else image * 255.0 for image in images]
    canvas = np.zeros([len(images), *np.max([image.shape for image in images], axis=0)], np.uint8)
    for place, image in zip(canvas, images, strict=True):
        place[: image.shape[0], : image.shape[1]] = np.round(image)
    return canvas, np.array([[*image.shape[:2], 1.0] for image in images], np.float32)
