"""Losses of the second stage."""

from __future__ import annotations

import tensorflow as tf

from tfdet.config import configurable
from tfdet.config.ranges import PositiveFloat
from tfdet.losses.smooth_l1 import smooth_l1
from tfdet.structures import RoiSamples


def bbox_losses(
    cls_logits, deltas, samples: RoiSamples, class_agnostic: bool, sigma: float | None = 1.0
) -> tuple[tf.Tensor, tf.Tensor]:
    """Cross entropy and smooth L1 of the drawn RoIs, each divided by the number of all RoIs of the replica.

    Rows of class -2 are no RoIs: they count nowhere.

    Args:
        cls_logits: [B, R, 1 + C], background first, any float dtype.
        deltas: [B, R, 4 * K], predicted offsets divided by the std of the targets, any float dtype. Of a
            class-agnostic head the last four count (SimpleDet's has eight); of a class-specific one, K = 1 + C, the
            four of the RoI's class.
        samples: RoiSamples of B images and R rows.
        class_agnostic: whether one set of offsets serves all classes.
        sigma: of `smooth_l1`.

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
    foreground = (samples.classes >= 0)[..., None]
    difference = tf.where(foreground, tf.cast(own, tf.float32) - samples.box_targets, 0.0)
    return tf.reduce_sum(cross_entropy) / count, tf.reduce_sum(smooth_l1(difference, sigma)) / count


@configurable
class BoxLoss:
    """`bbox_losses` with its number, for gin files.

    Args:
        sigma: of `smooth_l1`: 1 (SimpleDet), 3 (torchvision, a beta of 1 / 9), None for plain L1 (Detectron2).
    """

    def __init__(self, sigma: PositiveFloat | None = 1.0):
        self.sigma = sigma

    def __call__(self, cls_logits, deltas, samples: RoiSamples, class_agnostic: bool) -> tuple[tf.Tensor, tf.Tensor]:
        """See `bbox_losses`."""
        return bbox_losses(cls_logits, deltas, samples, class_agnostic, self.sigma)
