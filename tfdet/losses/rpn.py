"""Losses of the region proposal network."""

from __future__ import annotations

import tensorflow as tf

from tfdet.losses.smooth_l1 import smooth_l1


def rpn_losses(
    cls_logits, deltas, labels, box_targets, batch_per_image: int = 256, sigma: float = 3.0
) -> tuple[tf.Tensor, tf.Tensor]:
    """Cross entropy of the drawn anchors, and smooth L1 of the foreground ones.

    The first divides by the number of anchors drawn in all images of the replica, the second by
    `batch_per_image` times the number of images, however many anchors were drawn.

    Args:
        cls_logits: [B, N, 2], background and foreground, any float dtype.
        deltas: [B, N, 4], predicted offsets, any float dtype.
        labels: int32 [B, N], 1 foreground, 0 background, -1 ignored.
        box_targets: float32 [B, N, 4].
        batch_per_image: anchors drawn per image.
        sigma: of `smooth_l1`.

    Returns:
        Two float32 scalars: classification, box.

    Source: SimpleDet symbol/builder.py, RpnHead.get_loss.
    """
    drawn = labels >= 0
    cross_entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=tf.maximum(labels, 0), logits=tf.cast(cls_logits, tf.float32)
    )
    count = tf.reduce_sum(tf.cast(drawn, tf.float32))
    cls_loss = tf.reduce_sum(tf.where(drawn, cross_entropy, 0.0)) / tf.maximum(count, 1.0)

    # The mask acts on the difference: beyond it an overflow in an ignored anchor would turn the gradient to NaN.
    difference = tf.where((labels == 1)[..., None], tf.cast(deltas, tf.float32) - box_targets, 0.0)
    images = tf.cast(tf.shape(labels)[0], tf.float32)
    box_loss = tf.reduce_sum(smooth_l1(difference, sigma)) / tf.maximum(images * batch_per_image, 1.0)
    return cls_loss, box_loss
