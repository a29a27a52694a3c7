"""The loss of the mask branch."""

from __future__ import annotations

import tensorflow as tf


def mask_loss(logits, targets, valid) -> tf.Tensor:
    """Binary cross entropy of every pixel, over the pixels of the replica that count.

    Args:
        logits: [B, R, M, M], of each RoI's own class, any float dtype.
        targets: float32 [B, R, M, M], 0 or 1.
        valid: bool [B, R], RoIs that count: the drawn foreground.

    Returns:
        float32 scalar: the sum divided by the number of pixels + 1e-5; 0 where no RoI counts.

    Source: SimpleDet operator_cxx/contrib/sigmoid_cross_entropy.cu.
    """
    # The mask acts on the logits: beyond it an overflow in a RoI that does not count would turn the gradient to NaN.
    logits = tf.where(valid[..., None, None], tf.cast(logits, tf.float32), 0.0)
    loss = tf.nn.sigmoid_cross_entropy_with_logits(labels=targets, logits=logits)
    loss = tf.where(valid[..., None, None], loss, 0.0)
    pixels = tf.cast(tf.shape(logits)[2] * tf.shape(logits)[3], tf.float32)
    count = tf.reduce_sum(tf.cast(valid, tf.float32)) * pixels
    return tf.reduce_sum(loss) / (count + 1e-5)
