"""The geometry of single boxes: sizes, areas, clipping, coordinate order."""

from __future__ import annotations

from typing import Literal

import tensorflow as tf

from tfdet.errors import UserError

LEGACY = "legacy_plus_one"  # x2, y2 name the last pixel: width = x2 - x1 + 1 (Detectron 1, SimpleDet)
CONTINUOUS = "continuous"  # x2, y2 are the right and lower edge: width = x2 - x1

Convention = Literal["legacy_plus_one", "continuous"]

_EXTRA_PIXEL = {LEGACY: 1.0, CONTINUOUS: 0.0}


def extra_pixel(convention: str) -> float:
    """Returns what a convention adds to `x2 - x1` to make it a width: 1.0 or 0.0.

    Args:
        convention: `"legacy_plus_one"` or `"continuous"`.

    Raises:
        UserError: for any other name.
    """
    if convention not in _EXTRA_PIXEL:
        raise UserError(f'box convention: expected "{LEGACY}" or "{CONTINUOUS}". Received: {convention!r}')
    return _EXTRA_PIXEL[convention]


def to_float32(*tensors):
    """Returns the arguments as float32 tensors, so that half-precision callers do not lower a box's accuracy."""
    cast = tuple(tf.cast(tf.convert_to_tensor(t), tf.float32) for t in tensors)
    return cast[0] if len(cast) == 1 else cast


def sizes(boxes, convention: str = LEGACY) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the width and height, float32 [...] each, of float32 `boxes` [..., 4] in pixels."""
    extra = extra_pixel(convention)
    x1, y1, x2, y2 = tf.unstack(to_float32(boxes), 4, axis=-1)
    return x2 - x1 + extra, y2 - y1 + extra


def area(boxes, convention: str = LEGACY) -> tf.Tensor:
    """Area of boxes in square pixels; 0 where a box is inverted.

    Args:
        boxes: float32 [..., 4], `[x1, y1, x2, y2]`.
        convention: `"legacy_plus_one"` (default) or `"continuous"`.

    Returns:
        float32 [...].
    """
    width, height = sizes(boxes, convention)
    return tf.maximum(width, 0.0) * tf.maximum(height, 0.0)


def box_scale(image_info) -> tf.Tensor:
    """Pixels of the network input in one of the original image, for each coordinate of a box.

    Args:
        image_info: float32 [B, 3], whose third column is the scale of both axes, or [B, 4], whose third and fourth are
            those of rows and of columns; see `Batch`.

    Returns:
        float32 [B, 1] or, of `[x1, y1, x2, y2]`, [B, 4]: either way what boxes [B, 4] are multiplied by.
    """
    image_info = to_float32(image_info)
    if image_info.shape[-1] == 3:
        return image_info[:, 2:]
    return tf.gather(image_info, [3, 2, 3, 2], axis=-1)


def clip_to_image(boxes, image_info, convention: str = LEGACY) -> tf.Tensor:
    """Moves coordinates outside the image to its border.

    Args:
        boxes: float32 [B, ..., 4].
        image_info: float32 [B, 2 or more], height and width of the image content first; padding lies outside.
        convention: with `"legacy_plus_one"` the largest x is width - 1, else it is width.

    Returns:
        float32, the shape of `boxes`.

    Source: SimpleDet operator_cxx/contrib/proposal.cu, BBoxPredKernel.
    """
    boxes, image_info = to_float32(boxes, image_info)
    limit = tf.gather(image_info, [1, 0, 1, 0], axis=-1) - extra_pixel(convention)  # [B, 4]: w, h, w, h
    between = [1] * (boxes.shape.rank - 2)
    limit = tf.reshape(limit, [-1, *between, 4])
    return tf.maximum(tf.minimum(boxes, limit), 0.0)
