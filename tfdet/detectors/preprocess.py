"""Pixels to network input: the first operation of every detector, so that an exported model holds it."""

from __future__ import annotations

import tensorflow as tf


def content_mask(images: tf.Tensor, image_info: tf.Tensor) -> tf.Tensor:
    """1 where [B, H, W, 1] holds image content, 0 on the padding, by the sizes in `image_info` [B, 3 or 4]."""
    size = tf.shape(images)
    rows = tf.cast(tf.range(size[1]), tf.float32)[None, :] < image_info[:, :1]
    columns = tf.cast(tf.range(size[2]), tf.float32)[None, :] < image_info[:, 1:2]
    return tf.cast(rows[:, :, None, None] & columns[:, None, :, None], tf.float32)


def normalize_images(
    images: tf.Tensor, image_info: tf.Tensor, mean: tuple[float, ...], std: tuple[float, ...]
) -> tf.Tensor:
    """uint8 or float32 [B, H, W, 3] RGB, 0..255 -> float32 `(image - mean) / std`, with zeros on the padding.

    SimpleDet subtracts the mean before it pads (core/detection_input.py: Norm2DImage, Pad2DImageBbox), so padding is
    the mean colour, not black.
    """
    normalized = (tf.cast(images, tf.float32) - tf.constant(mean, tf.float32)) / tf.constant(std, tf.float32)
    return normalized * content_mask(images, image_info)
