"""Pillow's bilinear resize of 8-bit images, bit for bit: by the custom op, or in TensorFlow's own ops.

Pillow makes one pass an axis. A pass has weights of 22 bits after the point, sums in integers and rounds to whole
levels, so that the order of the passes shows in the result.

Source: Pillow, src/libImaging/Resample.c; the order of the passes is that of its version 13.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from tfdet.data.canvas import Canvas, mirror_if, pad_to_canvas
from tfdet.ops import native
from tfdet.ops.fit_image import fit_image

_WEIGHT_BITS = 22  # after the point: PRECISION_BITS


class Window(NamedTuple):
    """A part of an image, in its pixels."""

    top: tf.Tensor | int
    left: tf.Tensor | int
    height: tf.Tensor | int
    width: tf.Tensor | int


def resize_as_pillow(
    image: tf.Tensor,
    height: tf.Tensor,
    width: tf.Tensor,
    window: Window | None = None,
    mirror: tf.Tensor | None = None,
    canvas: Canvas | None = None,
) -> tf.Tensor:
    """What `Image.resize((width, height), Resampling.BILINEAR)` of Pillow returns, to the bit.

    An image is resized along its rows first, as every version of Pillow does with nearly all images; where it loses
    more than twice as many rows as columns along its columns first, as Pillow does from version 13 on: of images of
    one aspect ratio those that are made smaller and more than twice as high as wide.

    Args:
        image: uint8 [H, W, C].
        height, width: int32 [], size of the result.
        window: of the result, in it; nothing else is computed then.
        mirror: bool [], mirror what is in the window left to right; None: not.
        canvas: lay that on a canvas.

    Returns:
        uint8 [height, width, C], or what of it is in the window, or the canvas.
    """
    window = window or Window(0, 0, height, width)
    if native.in_use():
        laid = canvas or Canvas(window.height, window.width)
        return fit_image(
            image, (height, width), "detectron2", mirror=mirror is not None and mirror, window=window,
            canvas=(laid.height, laid.width), place=(laid.top, laid.left), fill=laid.fill,
        )  # fmt: skip
    resized = mirror_if(mirror, _resize(image, height, width, window))
    return resized if canvas is None else pad_to_canvas(resized, canvas)


def _resize(image: tf.Tensor, height: tf.Tensor, width: tf.Tensor, window: Window) -> tf.Tensor:
    shape = tf.shape(image)
    rows, columns = (height, window.top, window.height), (width, window.left, window.width)
    rows_lost, columns_lost = shape[0] - height, shape[1] - width
    return tf.cond(
        (rows_lost > 0) & (rows_lost > 2 * columns_lost),
        lambda: _along_rows(_along_columns(image, *rows), *columns),
        lambda: _along_columns(_along_rows(image, *columns), *rows),
    )


def _along_columns(image: tf.Tensor, height: tf.Tensor, first: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """uint8 [H, W, C] -> [count, W, C], the rows from `first` on of `height`."""
    shape = tf.shape(image)
    rows = tf.reshape(image, [shape[0], shape[1] * shape[2]])
    resized = tf.reshape(_pass(rows, height, first, count), [count, shape[1], shape[2]])
    return tf.ensure_shape(resized, [None, image.shape[1], image.shape[2]])


def _along_rows(image: tf.Tensor, width: tf.Tensor, first: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """uint8 [H, W, C] -> [H, count, C], the columns from `first` on of `width`."""
    return tf.transpose(_along_columns(tf.transpose(image, [1, 0, 2]), width, first, count), [1, 0, 2])


def _pass(rows: tf.Tensor, new_size: tf.Tensor, first: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Weighs whole rows: uint8 [N, M] -> [count, M]. A sparse product, which adds each row where it counts."""
    size = tf.shape(rows)[0]
    if native.exchanged():
        return _dense_pass(rows, _matrix(size, new_size, first, count))
    positions, weights = _taps(size, new_size, first, count)
    places = tf.broadcast_to(tf.range(count)[:, None], tf.shape(positions))
    indices = tf.cast(tf.stack([tf.reshape(places, [-1]), tf.reshape(positions, [-1])], axis=1), tf.int64)
    matrix = tf.SparseTensor(indices, tf.reshape(weights, [-1]), tf.cast(tf.stack([count, size]), tf.int64))
    with tf.device("cpu:0"):  # of integers the product has no other kernel
        total = tf.sparse.sparse_dense_matmul(matrix, tf.cast(rows, tf.int32))
    half = 1 << (_WEIGHT_BITS - 1)
    return tf.cast(tf.bitwise.right_shift(total + half, _WEIGHT_BITS), tf.uint8)


def _dense_pass(rows: tf.Tensor, matrix: tf.Tensor) -> tf.Tensor:
    """As `_pass` by float32 weights [count, N], for programs without a sparse product.

    float32 adds up to 1e-5 of a level otherwise: where a value lies that near to a half, one level.
    """
    return tf.cast(tf.floor(tf.matmul(matrix, tf.cast(rows, tf.float32)) + 0.5), tf.uint8)


def _matrix(size: tf.Tensor, new_size: tf.Tensor, first: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """The weights of `_taps`, of every position of the source, float32 [count, size]."""
    scale = tf.cast(size, tf.float64) / tf.cast(new_size, tf.float64)
    support = tf.maximum(scale, 1.0)
    center = ((tf.cast(first + tf.range(count), tf.float64) + 0.5) * scale)[:, None]
    place = tf.range(size)[None]
    begin, end = (tf.cast(center + reach + 0.5, tf.int32) for reach in (-support, support))
    distance = tf.abs((tf.cast(place, tf.float64) - center + 0.5) * (1.0 / support))
    weights = tf.where((place >= begin) & (place < end), tf.maximum(1.0 - distance, 0.0), 0.0)
    weights /= tf.reduce_sum(weights, axis=1, keepdims=True)
    whole = tf.floor(weights * (1 << _WEIGHT_BITS) + 0.5)
    return tf.cast(whole / (1 << _WEIGHT_BITS), tf.float32)


def _taps(size: tf.Tensor, new_size: tf.Tensor, first: tf.Tensor, count: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The source positions of `count` positions of the result, and their weights: int32 [count, T] each.

    The filter is a triangle over two pixels of the smaller image. A position has as many taps as the one that has most;
    those too many weigh nothing.
    """
    scale = tf.cast(size, tf.float64) / tf.cast(new_size, tf.float64)
    support = tf.maximum(scale, 1.0)
    center = (tf.cast(first + tf.range(count), tf.float64) + 0.5) * scale
    begin = tf.maximum(tf.cast(center - support + 0.5, tf.int32), 0)
    end = tf.minimum(tf.cast(center + support + 0.5, tf.int32), size)
    positions = begin[:, None] + tf.range(tf.reduce_max(end - begin))[None]
    distance = tf.abs((tf.cast(positions, tf.float64) - center[:, None] + 0.5) * (1.0 / support))
    weights = tf.where(positions < end[:, None], tf.maximum(1.0 - distance, 0.0), 0.0)
    weights /= tf.reduce_sum(weights, axis=1, keepdims=True)
    whole = tf.cast(weights * (1 << _WEIGHT_BITS) + 0.5, tf.int32)
    return tf.minimum(positions, size - 1), whole
