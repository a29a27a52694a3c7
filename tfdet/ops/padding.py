"""Zeros at the bottom and at the right of images and maps, and their removal."""

from __future__ import annotations

import tensorflow as tf


def pad_to_multiple(images: tf.Tensor, divisor: int) -> tf.Tensor:
    """[B, H, W, C] -> zeros added at the bottom and at the right until `divisor` divides both sides."""
    if all(side is not None and side % divisor == 0 for side in images.shape[1:3]):
        return images
    height, width = (-tf.shape(images)[i] % divisor for i in (1, 2))
    return tf.pad(images, [[0, 0], [0, height], [0, width], [0, 0]])


def crop_to_stride(maps: tf.Tensor, images: tf.Tensor, stride: int) -> tf.Tensor:
    """A map [B, h, w, C] without the cells that lie outside of the images [B, H, W, any]: ceil(H / stride) rows.

    Args:
        maps: of `stride`, of images that were padded at the bottom and at the right.
        images: before they were padded; their size counts alone.
        stride: pixels in a cell.
    """
    wanted = [None if side is None else -(-side // stride) for side in images.shape[1:3]]
    if None not in wanted and wanted == list(maps.shape[1:3]):
        return maps  # the gradient of a slice that takes everything is still a copy
    height, width = (-(-tf.shape(images)[i] // stride) for i in (1, 2))
    return maps[:, :height, :width]
