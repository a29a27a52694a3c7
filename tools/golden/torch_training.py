"""The training step of `tools.golden.torch_folder`: its losses and gradients."""

from __future__ import annotations

from collections.abc import Sequence
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


def losses_and_gradients(detector: Detector, golden: TorchGolden, frozen: Sequence[str]) -> Step:
    """The losses of the stored training step, and the gradients of their sum.

    Args:
        detector: with the weights.
        golden: with a training step.
        frozen: parts of the paths of variables that are not trained.
    """
    batch = training_batch(golden)
    if "gt_masks" in golden.train and detector.masks is not None:
        bitmaps = tf.constant(golden.train["gt_masks"].transpose(1, 2, 0)[None])
        detector.masks.draw_targets = lambda boxes, matched, *_, size: bitmap_targets(boxes, matched, bitmaps, size)
    wanted, still, rules = {}, set(), torch_folder.name_map(golden, detector).rules
    trained = {variable.path for variable in select_trained(detector, frozen)}
    for variable in detector.trainable_variables:
        found = source_of(variable.path, rules)
        if found is not None and variable.path in trained:
            wanted[found[0]] = (variable, found[1])
        elif found is not None and not variable.path.endswith(_FROZEN_NORM):
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
    return Step({name: float(value) for name, value in losses.items()}, by_name, still)


def in_file_layout(values: np.ndarray, step, shape: tuple[int, ...]) -> np.ndarray:
    """Values or a gradient of our variable, in the layout of the file's tensor of `shape`, whatever the step is."""
    count = int(np.prod(shape))
    origin = step(np.arange(1, count + 1, dtype=np.float64).reshape(shape)).astype(np.int64).reshape(-1)
    flat = np.zeros(count + 1, np.float32)
    flat[origin] = values.reshape(-1)  # number 0 is what the step adds of its own
    return flat[1:].reshape(shape)


def training_batch(golden: TorchGolden) -> Batch:
    """The stored image with its ground truth. Objects' polygons are their boxes, as Detectron2 was given."""
    image, image_info = image_batch(golden)
    boxes = golden.train["gt_boxes"].astype(np.float32)
    classes = golden.train["gt_classes"].astype(np.int32)
    if golden.program == "torchvision" and golden.family.startswith("retinanet"):
        classes = classes + 1  # its classes are category ids
    x1, y1, x2, y2 = boxes.T
    corners = [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]
    edges = [np.stack([*corners[i], *corners[(i + 1) % 4]], axis=-1) for i in range(4)]
    return Batch(
        images=tf.constant(image),
        image_info=tf.constant(image_info),
        boxes=tf.constant(boxes[None]),
        classes=tf.constant(classes[None]),
        image_ids=tf.constant([0], tf.int64),
        edges=tf.constant(np.stack(edges, axis=1).reshape(1, -1, 4), tf.float32),
        edge_owners=tf.constant([[[number, 0] for number in range(len(boxes)) for _ in edges]], tf.int32),
    )


def our_loss(golden: TorchGolden, name: str) -> str:
    """Our name of a loss of the program's."""
    own = RETINA_LOSS_NAMES.get(name) if golden.family.startswith("retinanet") else None
    return own or LOSS_NAMES[name]
