"""The custom op that resizes, mirrors, cuts and pads an image in one pass; its twin is `resize.py` in `tfdet/data`."""

from __future__ import annotations

from typing import Literal

import tensorflow as tf

from tfdet.ops import native


def fit_image(
    image: tf.Tensor,
    size: tuple[tf.Tensor, tf.Tensor],
    rule: Literal["simpledet", "detectron2", "torchvision"],
    scale: tf.Tensor | float = 1.0,
    mirror: tf.Tensor | bool = False,
    window: tuple[tf.Tensor, ...] | None = None,
    canvas: tuple[tf.Tensor, tf.Tensor] | None = None,
    place: tuple[tf.Tensor | int, tf.Tensor | int] = (0, 0),
    fill: tuple[int, ...] = (0,),
) -> tf.Tensor:
    """Calls the op; `native.in_use()` says whether it is there.

    Args:
        image: uint8 [H, W, C], of at least one pixel.
        size: height and width of the resized image, int32 [], > 0.
        rule: whose resize, see `tfdet.data.resize.resize_image`.
        scale: float64 [], by which "simpledet" finds its source pixels.
        mirror: bool [], left to right: "detectron2" mirrors what is in the window, the others the image beforehand.
        window: top, left, height and width of the part of the resized image that is wanted, int32 []; None: all.
        canvas: height and width of the result, int32 []; None: those of the window.
        place: row and column of the canvas where the window begins.
        fill: of the canvas beside the window, a level for each channel, or one for all.

    Returns:
        [height, width, C] of the canvas; uint8, with "torchvision" float32.

    Raises:
        tf.errors.InvalidArgumentError: sizes that do not fit, when the op runs.
    """
    window = (0, 0, *size) if window is None else window
    canvas = tuple(window[2:]) if canvas is None else canvas
    with tf.device("cpu:0"):  # it has no other kernel
        levels = tf.constant(fill, tf.uint8)
        if len(fill) == 1:
            levels = tf.fill(tf.shape(image)[2:], levels[0])
        return native.library().tfdet_fit_image(
            image=image, size=tf.stack(size), scale=tf.cast(scale, tf.float64), mirror=mirror,
            window=tf.stack(window), canvas=tf.stack(canvas), place=tf.stack(place), fill=levels,
            T=tf.float32 if rule == "torchvision" else tf.uint8, rule=rule,
        )  # fmt: skip
