"""Mask targets out of bitmaps of the image's size, as torchvision makes them."""

from __future__ import annotations

import tensorflow as tf

from tfdet.ops.roi_align import roi_align


def bitmap_targets(boxes, matched, bitmaps, size: int = 28) -> tf.Tensor:
    """The mask of the matched object inside each RoI, by RoIAlign of its bitmap: shares of 1, not 0 or 1.

    Args:
        boxes: float32 [B, R, 4] in pixels of the network input.
        matched: int32 [B, R], the object of each RoI; -1: none, and a target of zeros.
        bitmaps: [B, H, W, G], 1 inside an object.
        size: pixels a side of the target.

    Returns:
        float32 [B, R, size, size], 0 to 1. No gradient flows back.

    Source: torchvision models/detection/roi_heads.py, project_masks_on_boxes.
    """
    bitmaps = tf.stop_gradient(tf.cast(bitmaps, tf.float32))
    levels = tf.zeros(tf.shape(boxes)[:2], tf.int32)
    shares = roi_align([bitmaps], boxes, levels, [1], size, mode="average", sampling_ratio=0, aligned=False)
    chosen = tf.one_hot(matched, bitmaps.shape[-1])
    return tf.stop_gradient(tf.einsum("bryxg,brg->bryx", shares, chosen))
