"""Losses of the region proposal network."""

from __future__ import annotations

from typing import Literal

import tensorflow as tf

from tfdet.config import configurable
from tfdet.config.ranges import NonNegativeFloat, PositiveFloat
from tfdet.losses.box_distance import BoxDistance, box_distance
from tfdet.ops.boxes import LEGACY

Divisor = Literal["drawn", "batch"]


def rpn_losses(
    cls_logits,
    deltas,
    labels,
    box_targets,
    batch_per_image: int = 256,
    sigma: float | None = 3.0,
    cls_divisor: str = "drawn",
    box_divisor: str = "batch",
    box_loss: BoxDistance = "smooth_l1",
    box_weight: float = 1.0,
    anchors=None,
    convention: str = LEGACY,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Cross entropy of the drawn anchors, and the distance of the foreground ones' boxes.

    A divisor is "drawn", the number of anchors drawn in all images of the replica, or "batch", `batch_per_image` times
    the number of images, however many anchors were drawn.

    Args:
        cls_logits: [B, N, 2], background and foreground, or [B, N, 1], of the sigmoid; any float dtype.
        deltas: [B, N, 4], predicted offsets, any float dtype.
        labels: int32 [B, N], 1 foreground, 0 background, -1 ignored.
        box_targets: float32 [B, N, 4].
        batch_per_image: anchors drawn per image.
        sigma: of `smooth_l1`.
        cls_divisor, box_divisor: of the two losses.
        box_loss: see `box_distance`.
        box_weight: factor of the box loss.
        anchors: float32 [N, 4] in pixels; needed unless `box_loss` is "smooth_l1".
        convention: of the anchors.

    Returns:
        Two float32 scalars: classification, box.

    Source: SimpleDet symbol/builder.py, RpnHead.get_loss; Detectron2 modeling/proposal_generator/rpn.py, losses;
    torchvision models/detection/rpn.py, compute_loss.
    """
    drawn = labels >= 0
    cls_logits = tf.cast(cls_logits, tf.float32)
    if cls_logits.shape[-1] == 1:
        cross_entropy = tf.nn.sigmoid_cross_entropy_with_logits(
            labels=tf.cast(labels == 1, tf.float32), logits=cls_logits[..., 0]
        )
    else:
        cross_entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=tf.maximum(labels, 0), logits=cls_logits)
    count = tf.reduce_sum(tf.cast(drawn, tf.float32))
    images = tf.cast(tf.shape(labels)[0], tf.float32)
    divisors = {"drawn": tf.maximum(count, 1.0), "batch": tf.maximum(images * batch_per_image, 1.0)}
    cls_loss = tf.reduce_sum(tf.where(drawn, cross_entropy, 0.0)) / divisors[cls_divisor]

    distance = box_distance(deltas, box_targets, labels == 1, box_loss, sigma, anchors, convention=convention)
    return cls_loss, _weigh(tf.reduce_sum(distance) / divisors[box_divisor], box_weight)


def _weigh(loss: tf.Tensor, weight: float) -> tf.Tensor:
    return loss if weight == 1.0 else weight * loss


@configurable
class RpnLoss:
    """`rpn_losses` with its numbers, for gin files.

    Args:
        sigma: of `smooth_l1`; None for plain L1.
        cls_divisor, box_divisor: "drawn" or "batch". SimpleDet divides the classes by the one and the boxes by the
            other, Detectron2 both by "batch", torchvision both by "drawn".
        box_loss: "smooth_l1" of offsets, or an IoU loss of boxes, see `box_distance` (Detectron2:
            `RPN.BBOX_REG_LOSS_TYPE`).
        box_weight: factor of the box loss.
    """

    def __init__(
        self,
        sigma: PositiveFloat | None = 3.0,
        cls_divisor: Divisor = "drawn",
        box_divisor: Divisor = "batch",
        box_loss: BoxDistance = "smooth_l1",
        box_weight: NonNegativeFloat = 1.0,
    ):
        self.sigma, self.cls_divisor, self.box_divisor = sigma, cls_divisor, box_divisor
        self.box_loss, self.box_weight = box_loss, box_weight

    def __call__(
        self,
        cls_logits,
        deltas,
        labels,
        box_targets,
        batch_per_image: int,
        anchors: tf.Tensor | None = None,
        convention: str = LEGACY,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """See `rpn_losses`."""
        return rpn_losses(
            cls_logits,
            deltas,
            labels,
            box_targets,
            batch_per_image,
            self.sigma,
            self.cls_divisor,
            self.box_divisor,
            self.box_loss,
            self.box_weight,
            anchors,
            convention,
        )
