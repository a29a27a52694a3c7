"""Runs an image through the network of the program that a file is of, where it is installed, and through a detector.

SimpleDet's, torchvision's and Detectron2's networks run in programs of their own, in another Python where a variable
of the environment names one; keras.applications' run here.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tfdet.errors import UserError
from tfdet.layers import BN_EPSILON
from tfdet.necks import FPN, RetinaNeck
from tfdet.ops.tensor_float_32 import allow_tensor_float_32
from tfdet.other_python import run_other_python
from tfdet.weights import sources
from tfdet.weights.agreement import Rows, measures
from tfdet.weights.formats import read_weights
from tfdet.weights.load import COUNTERS
from tfdet.weights.load import compare as compare_tensors
from tfdet.weights.maps import simpledet
from tfdet.weights.maps.coco_ids import COCO_IDS, COCO_NUMBERS
from tfdet.weights.verify_maps import backbone_maps, branches_of, detections, detector_maps, own_to_simpledet

TOLERANCE = 1e-4
"""Largest difference over a map's absolute maximum, as for stored outputs of SimpleDet."""

_DETECTIONS = ("boxes", "scores", "classes", "masks")
_TORCH_MAPS = ("fpn_", "rpn_", "cls_logits", "box_deltas")
"""First letters of the maps of a whole detector that the programs of PyTorch give."""

Outputs = dict[str, np.ndarray]


def programs_folder() -> Path:
    """The folder with the programs that run other networks: inside an installed package, or in a source tree."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "crosscheck"
    return installed if os.path.isdir(installed) else package.parent / "tools" / "crosscheck"


def run_program(name: str, packages: str, variable: str, path: str | Path, **inputs: Any) -> Outputs:
    """Runs a program of `programs_folder` on a file, in the Python that `variable` names, else in this one.

    Args:
        name: of the program.
        packages: that it needs, as a person installs them.
        variable: of the environment.
        path: of the weights.
        **inputs: arrays and numbers for it.

    Returns:
        The arrays that it wrote.

    Raises:
        UserError: it did not come to its end.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "input.npz", Path(folder) / "output.npz"
        np.savez(source, **inputs)
        arguments = [str(path), str(source), str(target)]
        run_other_python(variable, programs_folder() / name, arguments, str(path), packages)
        with np.load(target) as outputs:
            return dict(outputs)


def compare(
    detector: keras.Model, program: str | None, path: str | Path, image: str | Path
) -> dict[str, tuple[float, float]]:
    """What differs and how much may: maps by their absolute maxima, of PyTorch's programs detections too.

    Args:
        detector: with the weights of `path`, in float32, as the gin file of the row or of the other program builds it.
        program: of `sources.PROGRAMS`, that the file is of.
        path: the file.
        image: a picture; resized to what the comparison wants.

    Raises:
        UserError: the program is not run from here or not installed, it does not load the file, the detector is of
            another architecture, or the picture cannot be read.
    """
    if program not in PROGRAMS:
        raise UserError(
            "--verify runs networks of SimpleDet, keras.applications, torchvision and Detectron2; the program of "
            f"{path} is not run from here"
        )
    if detector.backbone.compute_dtype != "float32":
        raise UserError(f"--verify compares in float32, the detector computes in {detector.backbone.compute_dtype}")
    sides, both_sides = PROGRAMS[program]
    allow_tensor_float_32(False)
    try:
        pixels = tf.image.decode_image(tf.io.read_file(str(image)), channels=3, expand_animations=False)
    except (tf.errors.OpError, ValueError) as error:
        raise UserError(f"{image}: not a picture that can be read") from error
    pixels = np.round(tf.image.resize(pixels, sides)).astype(np.uint8)
    return differences(*both_sides(detector, path, pixels))


def differences(expected: Outputs, found: Outputs) -> dict[str, tuple[float, float]]:
    """What differs of each map over its absolute maximum, and of the detections, each with what it may be.

    Args:
        expected: the other program's: maps by name, and where it detects `boxes` [D, 4], `scores` [D], `classes` [D]
            and perhaps `masks`, bool [D, H, W].
        found: ours, under the same names.

    Raises:
        UserError: a map is on one side alone, is empty, or of another shape.
    """
    result = {}
    for name in dict.fromkeys([*expected, *found]):
        if name in _DETECTIONS:
            continue
        theirs, ours = (side[name].shape if name in side else "not there" for side in (expected, found))
        if theirs != ours or 0 in theirs:
            raise UserError(
                f"--verify: {name} is {theirs} by the file and {ours} by the detector: it is of "
                "another architecture or class count"
            )
        error = np.max(np.abs(found[name] - expected[name])) / (np.max(np.abs(expected[name])) or 1.0)
        result[name] = (float(error) if np.isfinite(error) else np.inf, TOLERANCE)
    if not result:
        raise UserError("--verify: the other program gives no map that could be compared")
    detects = [[key for key in _DETECTIONS if key in side] for side in (expected, found)]
    if not any(detects):
        return result
    if detects[0] != detects[1] or len(detects[0]) < 3:
        raise UserError(f"--verify: detections are {detects[0]} by the file and {detects[1]} by the detector")
    theirs, ours = (Rows(*(side.get(key) for key in _DETECTIONS)) for side in (expected, found))
    return result | {name: (value, limit) for name, value, limit in measures(theirs, ours)}


# Keras


_KERAS_UNITS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


def _keras(detector: keras.Model, path: str | Path, pixels: np.ndarray) -> tuple[Outputs, Outputs]:
    """Of ResNet-v1, or ResNet-v2 of variant "keras", the maps of the backbone's stages."""
    backbone = detector.backbone
    if getattr(backbone, "depth", None) not in _KERAS_UNITS or getattr(backbone, "width", 1.0) != 1.0:
        raise UserError(f"--verify needs a full-size ResNet of depth {' or '.join(map(str, _KERAS_UNITS))}")
    variant = getattr(backbone, "variant", None)
    if variant == "mxnet":
        raise UserError("--verify needs a network that keras.applications has: set ResNetV2.variant = 'keras'")
    pixels = tf.cast(pixels[None], tf.float32)
    units = _KERAS_UNITS[backbone.depth][: backbone.num_stages]
    if variant == "keras":
        theirs, applied = _keras_network(f"ResNet{backbone.depth}V2", path), keras.applications.resnet_v2
        # Maps of strides 4 to 16 are what goes into the striding last units.
        layers = [*(f"conv{s + 2}_block{n - 1}_out" for s, n in enumerate(units[:3])), "post_relu"]
        found = backbone(pixels)
    else:
        theirs, applied = _keras_network(f"ResNet{backbone.depth}", path), keras.applications.resnet
        layers = [f"conv{s + 2}_block{n}_out" for s, n in enumerate(units)]
        found = backbone(pixels - tf.constant([123.68, 116.779, 103.939]))  # R, G, B, as preprocess_input has them
    expected = keras.Model(theirs.input, [theirs.get_layer(name).output for name in layers])(
        applied.preprocess_input(pixels.numpy())
    )
    return tuple(dict(zip(layers, map(np.asarray, maps), strict=True)) for maps in (expected, found))


def _keras_network(name: str, path: str | Path) -> keras.Model:
    """keras.applications' network with the file's weights, with or without its classifier."""
    make = getattr(keras.applications, name)
    for top in (False, True):
        network = make(include_top=top, weights=None, **({} if top else {"input_shape": (*_KERAS_SIDES, 3)}))
        try:
            network.load_weights(path)
            return network
        except (ValueError, OSError, KeyError):
            continue
    raise UserError(f"{path}: keras.applications.{name} does not load it")


# torchvision


def _torchvision(detector: keras.Model, path: str | Path, pixels: np.ndarray) -> tuple[Outputs, Outputs]:
    """Of fasterrcnn_resnet50_fpn, maskrcnn_resnet50_fpn, retinanet_resnet50_fpn, resnet50 and resnet101."""
    expected = numbered_as_here(
        run_program(
            "run_torchvision.py",
            "PyTorch and torchvision: pip install torch torchvision",
            "TFDET_TORCH_PYTHON",
            path,
            pixels=pixels,
            epsilon=getattr(detector.backbone, "epsilon", BN_EPSILON),
        )
    )
    found = _with_detections(detector, pixels, expected, "torchvision")
    if "cls_logits" in expected:  # all anchors of all levels in one row
        for name, last in (("cls_logits", detector.num_classes), ("box_deltas", 4)):
            levels = [found.pop(key) for key in sorted(found) if key.startswith(f"{name}_")]
            found[name] = np.concatenate([x.transpose(0, 2, 3, 1).reshape(-1, last) for x in levels])
    return expected, found


def numbered_as_here(outputs: Outputs) -> Outputs:
    """Outputs whose `classes` are numbered as tfdet does, out of torchvision's `labels`; a backbone's stay as they are.

    Files of COCO count category ids, 91 `numbers`; the logits of RetinaNet are then cut to the 80 that there are.
    """
    if "labels" not in outputs:
        return outputs
    labels, numbers = outputs.pop("labels"), int(outputs.pop("numbers"))
    has_background = "cls_logits" not in outputs
    if numbers != COCO_NUMBERS:
        return outputs | {"classes": labels - int(has_background)}
    if not has_background:
        outputs["cls_logits"] = outputs["cls_logits"][:, COCO_IDS]
    places = {number: place for place, number in enumerate(COCO_IDS)}
    return outputs | {"classes": np.array([places.get(int(label), -1) for label in labels], np.int64)}


def _with_detections(detector: keras.Model, pixels: np.ndarray, expected: Outputs, rule: str) -> Outputs:
    """Our maps and, where the other program detects, our detections; of a file of a backbone its maps.

    Only of what the programs of PyTorch give: a map of these kinds that they leave out is missed. Stages of theirs that
    our backbone has not are taken out of `expected`.
    """
    if "boxes" in expected:
        maps = {name: x for name, x in detector_maps(detector, pixels)[0].items() if name.startswith(_TORCH_MAPS)}
        return maps | detections(detector, pixels, rule)
    found = backbone_maps(detector, pixels)[0]
    found = {name: x for name, x in found.items() if name.startswith("stage_")}
    for name in [name for name in expected if name.startswith("stage_") and name not in found]:
        del expected[name]
    return found


# Detectron2


_SCHEDULES = {50: "1x", 101: "3x"}  # of the published files; the network is the same
_CONFIGS = {
    (RetinaNeck, False, False): "COCO-Detection/retinanet_R_{depth}_FPN_{schedule}.yaml",
    (NoneType, False, False): "COCO-Detection/faster_rcnn_R_{depth}_C4_{schedule}.yaml",
    (NoneType, False, True): "COCO-InstanceSegmentation/mask_rcnn_R_{depth}_C4_{schedule}.yaml",
    (FPN, False, False): "COCO-Detection/faster_rcnn_R_{depth}_FPN_{schedule}.yaml",
    (FPN, False, True): "COCO-InstanceSegmentation/mask_rcnn_R_{depth}_FPN_{schedule}.yaml",
    (FPN, True, False): "Misc/cascade_mask_rcnn_R_{depth}_FPN_{schedule}.yaml",
    (FPN, True, True): "Misc/cascade_mask_rcnn_R_{depth}_FPN_{schedule}.yaml",
}
"""By neck, whether there are several box heads, and whether there are masks."""


def _detectron2(detector: keras.Model, path: str | Path, pixels: np.ndarray) -> tuple[Outputs, Outputs]:
    """Of Detectron2's detectors, not of its project TridentNet, and of R-50.pkl and R-101.pkl."""
    expected = run_program(
        "run_detectron2.py",
        "Detectron2: https://github.com/facebookresearch/detectron2",
        "TFDET_TORCH_PYTHON",
        path,
        pixels=pixels,
        config=config_name(detector),
        num_classes=detector.num_classes,
        has_masks=getattr(detector, "mask_head", None) is not None,
    )
    return expected, _with_detections(detector, pixels, expected, "detectron2")


def config_name(detector: keras.Model) -> str:
    """Detectron2's configuration file of the network.

    Raises:
        UserError: it has none.
    """
    backbone = detector.backbone
    depth = getattr(backbone, "depth", None)
    if depth not in _SCHEDULES or getattr(backbone, "branches", ()) or getattr(backbone, "width", 1.0) != 1.0:
        raise UserError("--verify runs Detectron2's full-size networks on ResNet-50 and -101, without branches")
    is_cascade = len(getattr(detector, "bbox_heads", ())) > 1
    if is_cascade and depth != 50:
        raise UserError("--verify: Detectron2 has a Cascade R-CNN on ResNet-50 alone")
    parts = (type(detector.neck), is_cascade, getattr(detector, "mask_head", None) is not None)
    if parts not in _CONFIGS:
        raise UserError("--verify: Detectron2 has no configuration of a detector of these parts")
    return _CONFIGS[parts].format(depth=depth, schedule=_SCHEDULES[depth])


# SimpleDet


_FOLDED_BRANCH = re.compile(r"_shared\d_(gamma|beta)$")


def _simpledet(detector: keras.Model, path: str | Path, pixels: np.ndarray) -> tuple[Outputs, Outputs]:
    """Of any detector whose parts SimpleDet has, of any width, BN folded or not, and of its ImageNet backbones."""
    arrays = read_weights(path)
    whole, branches = check_parts(detector, arrays, path), branches_of(detector)
    if not len(branches) and any(_FOLDED_BRANCH.search(name) for name in arrays):
        raise UserError(f"{path} is of a TridentNet with BN folded, the detector has no branches: give its gin file")
    found, features = detector_maps(detector, pixels) if whole else backbone_maps(detector, pixels)
    found = own_to_simpledet(detector, found)
    expected = run_program(
        "run_mxnet.py",
        "MXNet, in an environment of its own: python -m venv mx; mx/bin/pip install mxnet==1.9.1 numpy==1.23.5",
        "TFDET_MXNET_PYTHON",
        path,
        pixels=pixels,
        num_stages=detector.backbone.num_stages,
        dilate_c5=getattr(detector.backbone, "dilate_c5", False),
        branches=branches,
        **features,
    )
    return expected, found


def check_parts(detector: keras.Model, arrays: Outputs, path: str | Path) -> bool:
    """Whether a file of SimpleDet is of a whole detector, not of a backbone alone.

    Raises:
        UserError: it is of one of other parts, or of another class count.
    """
    classes = sources.num_classes_of(arrays)
    if classes is None:
        return False
    report, _ = compare_tensors(detector, arrays, simpledet.name_map(detector), str(path))
    missing = [path for path in report.missing if not path.endswith(COUNTERS)]
    if missing or report.unused:
        some = f"no {missing[0]} in it" if missing else f"no place for {report.unused[0]} here"
        raise UserError(f"{path} is of a detector of other parts, there is {some}: give its gin file")
    if classes != detector.num_classes:
        raise UserError(f"{path} has {classes} classes, the detector {detector.num_classes}: leave --num_classes out")
    if report.mismatched:
        raise UserError(f"{path} is of a detector of other widths ({report.mismatched[0]}): give its gin file")
    return True


class Comparison(NamedTuple):
    """How a program's networks are compared: the sides of the picture, and what gives its outputs and ours."""

    sides: tuple[int, int]
    both_sides: Callable[[keras.Model, str | Path, np.ndarray], tuple[Outputs, Outputs]]


_KERAS_SIDES = (224, 224)
_TORCH_SIDES = (320, 416)  # multiples of 32, so that no program pads
_SIMPLEDET_SIDES = (216, 312)  # no multiples of 32, so that pyramids have to crop

PROGRAMS = {
    sources.KERAS: Comparison(_KERAS_SIDES, _keras),
    sources.KERAS_V2: Comparison(_KERAS_SIDES, _keras),
    sources.DETECTRON2: Comparison(_TORCH_SIDES, _detectron2),
    sources.DETECTRON2_RESNETS: Comparison(_TORCH_SIDES, _detectron2),
    sources.TORCHVISION: Comparison(_TORCH_SIDES, _torchvision),
    sources.TORCHVISION_RESNETS: Comparison(_TORCH_SIDES, _torchvision),
    sources.SIMPLEDET: Comparison(_SIMPLEDET_SIDES, _simpledet),
}
"""By title in `sources.PROGRAMS`."""
