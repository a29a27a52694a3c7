"""Detectors on ResNeXt, dilated C5 and deformable units: as many parameters as published, training, files."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.detectors.small import random_batch
from tests.rows import zeros_for_random_weights
from tfdet import config
from tfdet.detectors import build_detector

# All of them in one detector.
EVERYTHING = (
    "DEPTH = 50",
    "WIDTH = 0.0625",
    "NORM = 'local'",  # frozen statistics over random weights leave the range of half precision
    "ResNetV1.groups = 2",
    "ResNetV1.width_per_group = 32",
    "ResNetV1.deformable = (0, 0, 1, -1)",
    "ResNetV1.modulated = True",
    "ResNetV1.offset_groups = 2",
    "RpnHead.channels = 8",
    "MlpBboxHead.channels = 16",
    "ProposalGenerator.pre_nms_top_n = (60, 40)",
    "ProposalGenerator.post_nms_top_n = (30, 20)",
)


def built():
    config.register_all()
    configuration = config.parse(["detectron2/families/faster_dc5.gin"], EVERYTHING)
    return configuration.build(build_detector, num_classes=3)


@pytest.mark.slow  # full-size networks
@pytest.mark.parametrize(
    "row, published",
    [
        ("faster_rcnn_r50_dc5_1x", 165_581_468),
        ("faster_rcnn_x101_32x8d_fpn_3x", 104_784_480),
        ("mask_rcnn_r50_fpn_1x_dconv_c3-c5", 42_280_778 + 2_643_280),
    ],
)
def test_parameters_are_as_many_as_published(row, published):
    """Counted by Detectron2 itself of the networks that its configurations build.

    Its frozen BN has none; of ours the box of the background is one more. The deformable network was counted without
    its mask head of four convolutions, a transposed one and 80 planes.
    """
    config.register_all()
    with zeros_for_random_weights():
        detector = config.parse([f"detectron2/{row}.gin"]).build(build_detector, num_classes=80)
    counted = sum(int(np.prod(v.shape)) for v in detector.trainable_variables if not v.path.endswith(("gamma", "beta")))
    assert counted - 4 * (detector.bbox_head.channels + 1) == published


def test_a_step_in_half_precision_reaches_every_kernel():
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        detector = built()
    finally:
        keras.mixed_precision.set_global_policy("float32")
    wanted = [v for v in detector.trainable_variables if "kernel" in v.path or "offset" in v.path]

    @tf.function
    def step(batch):
        with tf.GradientTape() as tape:
            losses = detector.losses(batch, tf.constant([0, 0]))
            total = tf.add_n(list(losses.values()))
        return losses, tape.gradient(total, [v.value for v in wanted])

    losses, gradients = step(random_batch([3, 2], 4))
    assert all(np.isfinite(value) for value in losses.values())
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    still = {v.path for v, g in zip(wanted, gradients, strict=True) if not np.any(g)}
    # Masks begin at one half everywhere and offsets at zero, and all have a slope.
    assert not {path for path in still if "backbone" in path}
