"""The training step of `tools.golden.torch_folder`: its losses and gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfdet.detectors import Detector
from tfdet.structures import Batch
from tfdet.training.variables import select_trained
from tfdet.weights.maps.rules import source_of
from tools.golden import torch_folder
from tools.golden.bitmap_targets import bitmap_targets
from tools.golden.torch_folder import TorchGolden, image_batch

LOSS_NAMES = {
    "loss_rpn_cls": "rpn_cls", "loss_rpn_loc": "rpn_box", "loss_cls": "bbox_cls", "loss_box_reg": "bbox_reg",
    "loss_objectness": "rpn_cls", "loss_rpn_box_reg": "rpn_box", "loss_classifier": "bbox_cls",
    "loss_cls_stage0": "bbox_cls_1st", "loss_box_reg_stage0": "bbox_reg_1st",
    "loss_cls_stage1": "bbox_cls_2nd", "loss_box_reg_stage1": "bbox_reg_2nd",
    "loss_cls_stage2": "bbox_cls_3rd", "loss_box_reg_stage2": "bbox_reg_3rd",
    "loss_mask": "mask", "classification": "cls", "bbox_regression": "box",
}  # fmt: skip
"""The programs' names of losses, and ours."""

RETINA_LOSS_NAMES = {"loss_cls": "cls", "loss_box_reg": "box"}
_FROZEN_NORM = ("gamma", "beta")
"""Ends of the paths of what the programs do not count among parameters: their normalisation is made of constants."""


class Step(NamedTuple):
    """What a training step gives."""

    losses: dict[str, float]  # by our names
    gradients: dict[str, np.ndarray]  # of what is trained, by the checkpoint's names and in its layout
    still: set[str]  # the checkpoint's names of what is not trained
    statistics: Mapping[str, np.ndarray] = {}  # moving statistics after the step, by the checkpoint's names


def losses_and_gradients(detector: Detector, golden: TorchGolden, frozen: Sequence[str]) -> Step:
    """The losses of the stored training step, and the gradients of their sum.

    Args:
        detector: with the weights.
        golden: with a training step.
        frozen: parts of the paths of variables that are not trained.
    """
    batch = training_batch(golden)
    if "gt_masks" in golden.train and detector.masks is not None:
        bitmaps = tf.constant(_bitmaps(golden))
        detector.masks.draw_targets = lambda boxes, matched, *_, size: bitmap_targets(boxes, matched, bitmaps, size)
    wanted, still, rules = {}, set(), torch_folder.name_map(golden, detector).rules
    moving = [v for layer in detector._flatten_layers() for v in getattr(layer, "moving_statistics", ())]
    statistics_stand = not moving
    trained = {variable.path for variable in select_trained(detector, frozen)}
    for variable in detector.trainable_variables:
        found = source_of(variable.path, rules)
        if found is not None and variable.path in trained:
            wanted[found[0]] = (variable, found[1])
        elif found is not None and not (statistics_stand and variable.path.endswith(_FROZEN_NORM)):
            still.add(found[0])
    values = [variable.value for variable, _ in wanted.values()]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(values)
        losses = detector.losses(batch, tf.constant([0, 0]))
        total = tf.add_n(list(losses.values()))
    gradients = tape.gradient(total, values, unconnected_gradients="zero")
    by_name = {
        name: in_file_layout(gradient.numpy(), step, golden.arrays[name].shape)
        for (name, (_, step)), gradient in zip(wanted.items(), gradients, strict=True)
    }
    statistics = {source_of(variable.path, rules)[0]: variable.numpy() for variable in moving}
    return Step({name: float(value) for name, value in losses.items()}, by_name, still, statistics)


def in_file_layout(values: np.ndarray, step, shape: tuple[int, ...]) -> np.ndarray:
    """Values or a gradient of our variable, in the layout of the file's tensor of `shape`, whatever the step is."""
    count = int(np.prod(shape))
    origin = step(np.arange(1, count + 1, dtype=np.float64).reshape(shape)).astype(np.int64).reshape(-1)
    flat = np.zeros(count + 1, np.float32)
    flat[origin] = values.reshape(-1)  # number 0 is what the step adds of its own
    return flat[1:].reshape(shape)


def training_batch(golden: TorchGolden) -> Batch:
    """The stored image, or both, with the ground truth. Objects' polygons are their boxes, as Detectron2 was given."""
    train = golden.train
    images, image_info = image_batch(golden, *[train[name] for name in ("image2",) if name in train])
    boxes, classes = (_of_each_image(train, name) for name in ("gt_boxes", "gt_classes"))
    if golden.program == "torchvision" and golden.family.startswith("retinanet"):
        classes = np.where(classes >= 0, classes + 1, classes)  # its classes are category ids
    x1, y1, x2, y2 = np.moveaxis(boxes, -1, 0)
    corners = [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]
    edges = [np.stack([*corners[i], *corners[(i + 1) % 4]], axis=-1) for i in range(4)]
    owners = [[[number if found >= 0 else -1, 0] for number, found in enumerate(row) for _ in edges] for row in classes]
    return Batch(
        images=tf.constant(images),
        image_info=tf.constant(image_info),
        boxes=tf.constant(boxes.astype(np.float32)),
        classes=tf.constant(classes.astype(np.int32)),
        image_ids=tf.range(len(images), dtype=tf.int64),
        edges=tf.constant(np.stack(edges, axis=2).reshape(len(images), -1, 4), tf.float32),
        edge_owners=tf.constant(owners, tf.int32),
    )


def _of_each_image(train: dict[str, np.ndarray], name: str) -> np.ndarray:
    """An array of the stored image's objects, and of the second one's where there is one: [B, G, ...], -1 beyond."""
    of_images = [train[key] for key in (name, f"{name}2") if key in train]
    most = max(map(len, of_images))
    pads = [[(0, most - len(array))] + [(0, 0)] * (array.ndim - 1) for array in of_images]
    return np.stack([np.pad(array, pad, constant_values=-1) for array, pad in zip(of_images, pads, strict=True)])


def our_loss(golden: TorchGolden, name: str) -> str:
    """Our name of a loss of the program's."""
    own = RETINA_LOSS_NAMES.get(name) if golden.family.startswith("retinanet") else None
    return own or LOSS_NAMES[name]


def _bitmaps(golden: TorchGolden) -> np.ndarray:
    """Stored masks [B, H, W, G] on the canvas of the batch."""
    height, width = golden.outputs["image"].shape[1:]
    masks = [golden.train[key] for key in ("gt_masks", "gt_masks2") if key in golden.train]
    canvas = np.zeros([len(masks), height, width, max(map(len, masks))], masks[0].dtype)
    for place, own in zip(canvas, masks, strict=True):
        place[: own.shape[1], : own.shape[2], : len(own)] = own.transpose(1, 2, 0)
    return canvas
