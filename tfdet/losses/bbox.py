"""Losses of the second stage."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from tfdet.config import configurable
from tfdet.config.ranges import NonNegativeFloat, PositiveFloat
from tfdet.losses.box_distance import BoxDistance, box_distance
from tfdet.ops.box_coding import BOX_STD
from tfdet.ops.boxes import LEGACY
from tfdet.structures import RoiSamples


def bbox_losses(
    cls_logits,
    deltas,
    samples: RoiSamples,
    class_agnostic: bool,
    sigma: float | None = 1.0,
    box_loss: BoxDistance = "smooth_l1",
    box_weight: float = 1.0,
    box_std: Sequence[float] = BOX_STD,
    convention: str = LEGACY,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Cross entropy and box distance of the drawn RoIs, each divided by the number of all RoIs of the replica.

    Rows of class -2 are no RoIs: they count nowhere.

    Args:
        cls_logits: [B, R, 1 + C], background first, any float dtype.
        deltas: [B, R, 4 * K], predicted offsets divided by the std of the targets, any float dtype. Of a
            class-agnostic head the last four count (SimpleDet's has eight); of a class-specific one, K = 1 + C, the
            four of the RoI's class.
        samples: RoiSamples of B images and R rows.
        class_agnostic: whether one set of offsets serves all classes.
        sigma: of `smooth_l1`.
        box_loss: see `box_distance`.
        box_weight: factor of the box loss.
        box_std, convention: of the samples' targets and boxes.

    Returns:
        Two float32 scalars: classification, box.

    Source: SimpleDet symbol/builder.py, BboxHead.get_loss.
    """
    slot = tf.maximum(samples.classes, -1) + 1  # background 0
    exists = samples.classes >= -1
    cross_entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=slot, logits=tf.cast(cls_logits, tf.float32))
    cross_entropy = tf.where(exists, cross_entropy, 0.0)
    count = tf.maximum(tf.reduce_sum(tf.cast(exists, tf.float32)), 1.0)

    if class_agnostic:
        own = deltas[..., -4:]
    else:
        shape = tf.shape(deltas)
        own = tf.gather(tf.reshape(deltas, [shape[0], shape[1], shape[2] // 4, 4]), slot, batch_dims=2)
    distance = box_distance(
        own, samples.box_targets, samples.classes >= 0, box_loss, sigma, samples.boxes, box_std, convention
    )
    loss = tf.reduce_sum(distance) / count
    return tf.reduce_sum(cross_entropy) / count, loss if box_weight == 1.0 else box_weight * loss


@configurable
class BoxLoss:
    """`bbox_losses` with its number, for gin files.

    Args:
        sigma: of `smooth_l1`: 1 (SimpleDet), 3 (torchvision, a beta of 1 / 9), None for plain L1 (Detectron2).
        box_loss: "smooth_l1" of offsets, or an IoU loss of boxes, see `box_distance` (Detectron2:
            `ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE`).
        box_weight: factor of the box loss.
    """

    def __init__(
        self,
        sigma: PositiveFloat | None = 1.0,
        box_loss: BoxDistance = "smooth_l1",
        box_weight: NonNegativeFloat = 1.0,
    ):
        self.sigma, self.box_loss, self.box_weight = sigma, box_loss, box_weight

    def __call__(
        self,
        cls_logits,
        deltas,
        samples: RoiSamples,
        class_agnostic: bool,
        box_std: Sequence[float] = BOX_STD,
        convention: str = LEGACY,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """See `bbox_losses`."""
        options = self.sigma, self.box_loss, self.box_weight, box_std, convention
        return bbox_losses(cls_logits, deltas, samples, class_agnostic, *options)
