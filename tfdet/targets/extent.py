"""Which anchors take part in training: those in the padding of an image need not."""

from __future__ import annotations

from typing import Literal

import tensorflow as tf

Extent = Literal["canvas", "batch", "image"]
"""Where an anchor's centre must lie for the anchor to take part: see `centred_within`."""

_SLACK = 0.1  # pixels; centres lie whole strides apart, and are read from corners that are rounded


def centred_within(anchors: tf.Tensor, image_info: tf.Tensor, extent: Extent, size_divisor: int) -> tf.Tensor | None:
    """Whether an anchor's centre lies on the part of the canvas that counts.

    "image": on the image itself. "batch": on the canvas that Detectron2 and torchvision make of a batch, as large as
    the largest height and width among its images, each rounded up to the divisor. Their feature maps end there, so
    these are their anchors, whatever larger canvas the batch lies on here. "canvas": anywhere.

    Args:
        anchors: float32 [N, 4], pixels of the network input.
        image_info: float32 [B, 3], height and width of the image content first.
        extent: "canvas", "batch" or "image".
        size_divisor: of "batch": what sides are rounded up to a multiple of.

    Returns:
        bool [B, N]; None with "canvas": all do.

    Source: Detectron2 structures/image_list.py, ImageList.from_tensors; torchvision models/detection/transform.py,
    batch_images.
    """
    if extent == "canvas":
        return None
    sizes = image_info[:, :2]
    if extent == "batch":
        largest = tf.reduce_max(sizes, axis=0, keepdims=True)
        sizes = tf.broadcast_to(tf.math.ceil(largest / size_divisor) * size_divisor, tf.shape(sizes))
    centres = (anchors[:, 1::-1] + anchors[:, 3:1:-1]) / 2.0  # y, x
    return tf.reduce_all(centres[None] < sizes[:, None] - _SLACK, axis=-1)
