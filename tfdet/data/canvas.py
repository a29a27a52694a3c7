"""An area of one size, on which an image is laid."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf


class Canvas(NamedTuple):
    """A size in pixels, and where on it an image begins."""

    height: tf.Tensor | int
    width: tf.Tensor | int
    top: tf.Tensor | int = 0
    left: tf.Tensor | int = 0
    fill: tuple[int, ...] = (0,)
    """Beside the image: a level for each channel, or one for all."""


def pad_to_canvas(image: tf.Tensor, canvas: Canvas) -> tf.Tensor:
    """Lays an image on a canvas.

    Args:
        image: [H, W, C], not larger than the canvas is from its place on.
        canvas: what it is laid on.

    Returns:
        [height, width, C], type of `image`.
    """
    height, width, top, left, fill = canvas
    shape = tf.shape(image)
    below, right = height - top - shape[0], width - left - shape[1]
    one_level = len(set(fill)) == 1
    level = tf.constant(fill[0] if one_level else 0, image.dtype)
    padded = tf.pad(image, [[top, below], [left, right], [0, 0]], constant_values=level)
    if one_level:
        return padded
    rows, columns = tf.range(height), tf.range(width)
    is_row = (rows >= top) & (rows < top + shape[0])
    is_column = (columns >= left) & (columns < left + shape[1])
    return tf.where((is_row[:, None] & is_column)[..., None], padded, tf.constant(fill, image.dtype))


def mirror_if(mirror: tf.Tensor | None, image: tf.Tensor) -> tf.Tensor:
    """An image [H, W, C], mirrored left to right where `mirror`, bool [], says so; None: not."""
    if mirror is None:
        return image
    return tf.cond(mirror, lambda: tf.reverse(image, axis=[1]), lambda: image)
