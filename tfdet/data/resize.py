"""SimpleDet's resize in TensorFlow graph ops, for the input pipeline and for exported models.

Source: SimpleDet core/detection_input.py, ResizeRoiRec / cv2.resize(fx=scale, fy=scale, INTER_LINEAR).
"""

from __future__ import annotations

import tensorflow as tf


def resized_size(height, width, short_side: int | tf.Tensor, long_side: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Size of an image after SimpleDet's resize.

    scale = min(short_side / min(h, w), long_side / max(h, w)); each side is multiplied and rounded half to even
    (cvRound). In float64, as Python and OpenCV compute it.

    Args:
        height, width: int [], size of the image in pixels; numbers or tensors.
        short_side, long_side: what the shorter side shall become, and what the longer side may not exceed.

    Returns:
        height int32 [], width int32 [], scale float64 [].

    Example:
        resized_size(480, 640, 800, 1200) is (800, 1067, 1.6667).
    """
    height, width = tf.cast(height, tf.float64), tf.cast(width, tf.float64)
    short_side = tf.cast(short_side, tf.float64)
    scale = tf.minimum(short_side / tf.minimum(height, width), long_side / tf.maximum(height, width))
    new_height, new_width = tf.cast(tf.round(height * scale), tf.int32), tf.cast(tf.round(width * scale), tf.int32)
    # A sliver of an image keeps one pixel; cv2.resize would refuse it.
    return tf.maximum(new_height, 1), tf.maximum(new_width, 1), scale


def resize_image(image: tf.Tensor, short_side: int | tf.Tensor, long_side: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Resizes one image as SimpleDet does: bilinear, half-pixel centres, no antialiasing, the exact scale.

    tf.image.resize maps by the ratio of the rounded sizes and so drifts by up to .03 source pixel; here the source
    coordinate is (x + .5) / scale - .5 in float64, as in cv2.resize with fx and fy. Before rounding the result agrees
    with OpenCV's float path within 1e-3; OpenCV's uint8 path has fixed-point weights and can differ by one level.

    Args:
        image: uint8 [H, W, C].
        short_side, long_side: as in `resized_size`.

    Returns:
        image uint8 [H', W', C], rounded half to even; image_info float32 [3]: H', W', scale.
    """
    shape = tf.shape(image)
    height, width, scale = resized_size(shape[0], shape[1], short_side, long_side)
    resized = scale_bilinear(image, height, width, scale)
    info = tf.stack([tf.cast(height, tf.float32), tf.cast(width, tf.float32), tf.cast(scale, tf.float32)])
    return tf.cast(tf.round(resized), tf.uint8), info


def scale_bilinear(image: tf.Tensor, height: tf.Tensor, width: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    """Bilinear interpolation at the source coordinates (x + .5) / scale - .5, the border repeated.

    Columns come first: the image is then still small and, up to here, uint8.

    Args:
        image: uint8 or float32 [H, W, C].
        height, width: int32 [], size of the result.
        scale: float64 [].

    Returns:
        float32 [height, width, C].
    """
    shape = tf.shape(image)
    left, right, weight = _taps(shape[1], width, scale)
    first = tf.cast(tf.gather(image, left, axis=1), tf.float32)
    second = tf.cast(tf.gather(image, right, axis=1), tf.float32)
    columns = first + (second - first) * weight[None, :, None]
    top, bottom, weight = _taps(shape[0], height, scale)
    first, second = tf.gather(columns, top), tf.gather(columns, bottom)
    return first + (second - first) * weight[:, None, None]


def pad_to_canvas(image: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Puts an image at the top left of a canvas of zeros.

    Args:
        image: [H, W, C], not larger than the canvas.
        height, width: int32 [], size of the canvas.

    Returns:
        [height, width, C], type of `image`.
    """
    shape = tf.shape(image)
    return tf.pad(image, [[0, height - shape[0]], [0, width - shape[1]], [0, 0]])


def _taps(size: tf.Tensor, new_size: tf.Tensor, scale: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The two source positions of every output position (int32), and the float32 weight of the second."""
    source = (tf.cast(tf.range(new_size), tf.float64) + 0.5) / scale - 0.5
    source = tf.clip_by_value(source, 0.0, tf.cast(size - 1, tf.float64))
    low = tf.floor(source)
    first = tf.cast(low, tf.int32)
    return first, tf.minimum(first + 1, size - 1), tf.cast(source - low, tf.float32)
