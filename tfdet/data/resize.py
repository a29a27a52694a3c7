"""The resize of images, for the input pipeline and for exported models: SimpleDet's, and those of the two programs
whose trained detectors are read too. By the custom op, or in TensorFlow's own ops, with the same bits.

Sources: SimpleDet core/detection_input.py, ResizeRoiRec: cv2.resize(fx=scale, fy=scale, INTER_LINEAR); Detectron2
data/transforms/augmentation_impl.py, ResizeShortestEdge, with Pillow's Image.resize(BILINEAR); torchvision
models/detection/transform.py, with torch.nn.functional.interpolate(recompute_scale_factor=True).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import tensorflow as tf

from tfdet.data.canvas import Canvas, mirror_if, pad_to_canvas
from tfdet.data.pillow_resize import resize_as_pillow
from tfdet.errors import UserError
from tfdet.ops import native
from tfdet.ops.fit_image import fit_image

Rule = Literal["simpledet", "detectron2", "torchvision"]


def view_signature(rule: Rule) -> list[tf.TensorSpec]:
    """What a detector receives of a batch of images that were resized by this rule, see `resize_image`.

    Returns:
        The specs of images uint8 or float32 [B, H, W, 3] and of `image_info` float32 [B, 3 or 4].
    """
    pixels = tf.float32 if rule == "torchvision" else tf.uint8
    columns = 3 if rule == "simpledet" else 4
    return [tf.TensorSpec([None, None, None, 3], pixels), tf.TensorSpec([None, columns], tf.float32)]


class Resize(NamedTuple):
    """To what size images are resized, and how.

    A trained detector expects the rule of the program that trained it; the sizes of the three differ by a pixel, and
    Detectron2's smooths what it shrinks.
    """

    short_side: int | tf.Tensor
    """Pixels that the shorter side shall have."""
    long_side: int | tf.Tensor
    """The most that the longer side may have."""
    rule: Rule = "simpledet"

    def check(self, owner: str) -> Resize:
        """Itself.

        Args:
            owner: whose parameters these are, for the message.

        Raises:
            UserError: the short side is longer than the long one.
        """
        if self.short_side > self.long_side:
            raise UserError(
                f"{owner}.short_side must be at most its long_side. Received: {self.short_side}, {self.long_side}"
            )
        return self

    def within(self, image: tf.Tensor, portrait: tf.Tensor) -> Resize:
        """The same for a canvas of either orientation: what stands across it has the canvas' short side at most.

        Args:
            image: [H, W, C], to be resized.
            portrait: bool [], the canvas is upright.
        """
        shape = tf.shape(image)
        across = (shape[0] >= shape[1]) != portrait
        return self._replace(long_side=tf.where(across, self.short_side, self.long_side))


def resized_size(
    height, width, short_side: int | tf.Tensor, long_side: int | tf.Tensor, rule: Rule = "simpledet"
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Size of an image after the resize.

    scale = min(short_side / min(h, w), long_side / max(h, w)), and each side times the scale is rounded: half to even
    in SimpleDet (cvRound), half up in Detectron2, down in torchvision. In float64, as Python and OpenCV compute it;
    torchvision did in float32 before it had its scale in Python, and then 480 x 640 could become 799 x 1066.

    Args:
        height, width: int [], size of the image in pixels; numbers or tensors.
        short_side, long_side, rule: of `Resize`.

    Returns:
        height int32 [], width int32 [], scale float64 [].

    Example:
        resized_size(480, 640, 800, 1200) is (800, 1067, 1.6667).
    """
    sides = tf.cast(tf.stack([height, width]), tf.float64)
    short_side, long_side = tf.cast(short_side, tf.float64), tf.cast(long_side, tf.float64)
    scale = tf.minimum(short_side / tf.reduce_min(sides), long_side / tf.reduce_max(sides))
    if rule == "detectron2":
        # In its order of operations: the short side is exact, and both shrink together where the longer is too long.
        shortest = tf.reduce_min(sides)
        new = tf.where(sides == shortest, short_side, short_side / shortest * sides)
        longest = tf.reduce_max(new)
        new = tf.floor(tf.where(longest > long_side, new * (long_side / longest), new) + 0.5)
    elif rule == "torchvision":
        new = tf.floor(sides * scale)
    else:
        new = tf.round(sides * scale)
    # A sliver of an image keeps one pixel; cv2.resize would refuse it.
    new = tf.maximum(tf.cast(new, tf.int32), 1)
    return new[0], new[1], scale


def resize_image(
    image: tf.Tensor,
    short_side: int | tf.Tensor,
    long_side: int | tf.Tensor,
    rule: Rule = "simpledet",
    mirror: tf.Tensor | None = None,
    canvas: Canvas | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Resizes one image: bilinear, half-pixel centres.

    "simpledet": no antialiasing, the exact scale. tf.image.resize maps by the ratio of the rounded sizes and so drifts
    by up to .03 source pixel; here the source coordinate is (x + .5) / scale - .5 in float64, as in cv2.resize with fx
    and fy. Before rounding the result agrees with OpenCV's float path within 1e-3; OpenCV's uint8 path has fixed-point
    weights and can differ by one level. Rounded half to even.

    "detectron2": by the ratio of the sizes, with Pillow's antialiasing, bit for bit: see `resize_as_pillow`.

    "torchvision": by the ratio of the sizes in float32, no antialiasing, not rounded. torchvision normalises before,
    which is the same but for the last digit, as the weights of a pixel add up to 1.

    Args:
        image: uint8 [H, W, C].
        short_side, long_side, rule: of `Resize`.
        mirror: bool [], mirror left to right; None: not. Before the resize, on fewer pixels: the grid of source
            coordinates is symmetric, so this equals mirroring afterwards up to rounding where the scaled width is not
            whole. Detectron2 mirrors afterwards, and so its rule does.
        canvas: lay the result on a canvas; None: it is returned as it is.

    Returns:
        image uint8 [H', W', C], with "torchvision" float32 in 0..255. image_info float32: with "simpledet" [3], H', W'
        and the scale before the sizes are rounded, by which SimpleDet's boxes go there and back; with the others [4],
        H', W', H' / H, W' / W: their boxes go by the ratio of each axis.
    """
    shape = tf.shape(image)
    height, width, scale = resized_size(shape[0], shape[1], short_side, long_side, rule)
    size = tf.stack([height, width])
    scales = scale[None] if rule == "simpledet" else size / shape[:2]
    info = tf.concat([tf.cast(size, tf.float32), tf.cast(scales, tf.float32)], axis=0)
    if rule == "detectron2":
        return resize_as_pillow(image, height, width, mirror=mirror, canvas=canvas), info
    if native.in_use():
        laid = canvas or Canvas(height, width)
        resized = fit_image(
            image, (height, width), rule, scale, mirror is not None and mirror,
            canvas=(laid.height, laid.width), place=(laid.top, laid.left), fill=laid.fill,
        )  # fmt: skip
        return resized, info
    image = mirror_if(mirror, image)
    if rule == "torchvision":
        resized = _interpolate(image, _taps_of_torch(shape[0], height), _taps_of_torch(shape[1], width))
    else:
        resized = tf.cast(tf.round(scale_bilinear(image, height, width, scale)), tf.uint8)
    return (resized if canvas is None else pad_to_canvas(resized, canvas)), info


def scale_bilinear(image: tf.Tensor, height: tf.Tensor, width: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    """Bilinear interpolation at the source coordinates (x + .5) / scale - .5, the border repeated.

    Args:
        image: uint8 or float32 [H, W, C].
        height, width: int32 [], size of the result.
        scale: float64 [].

    Returns:
        float32 [height, width, C].
    """
    shape = tf.shape(image)
    return _interpolate(image, _taps(shape[0], height, scale), _taps(shape[1], width, scale))


Taps = tuple[tf.Tensor, tf.Tensor, tf.Tensor]
"""The two source positions of every output position (int32), and the float32 weight of the second."""


def _interpolate(image: tf.Tensor, rows: Taps, columns: Taps) -> tf.Tensor:
    """Columns come first: the image is then still small and, up to here, uint8."""
    left, right, weight = columns
    first = tf.cast(tf.gather(image, left, axis=1), tf.float32)
    second = tf.cast(tf.gather(image, right, axis=1), tf.float32)
    wide = first + (second - first) * weight[None, :, None]
    top, bottom, weight = rows
    first, second = tf.gather(wide, top), tf.gather(wide, bottom)
    return first + (second - first) * weight[:, None, None]


def _taps(size: tf.Tensor, new_size: tf.Tensor, scale: tf.Tensor) -> Taps:
    source = (tf.cast(tf.range(new_size), tf.float64) + 0.5) / scale - 0.5
    source = tf.clip_by_value(source, 0.0, tf.cast(size - 1, tf.float64))
    return _taps_at(source, size)


def _taps_of_torch(size: tf.Tensor, new_size: tf.Tensor) -> Taps:
    """In float32, as PyTorch computes them (aten/src/ATen/native/UpSample.h): in float64 the weights differ by 3e-5."""
    ratio = tf.cast(size, tf.float32) / tf.cast(new_size, tf.float32)
    source = ratio * (tf.cast(tf.range(new_size), tf.float32) + 0.5) - 0.5
    return _taps_at(tf.clip_by_value(source, 0.0, tf.cast(size - 1, tf.float32)), size)


def _taps_at(source: tf.Tensor, size: tf.Tensor) -> Taps:
    low = tf.floor(source)
    first = tf.cast(low, tf.int32)
    return first, tf.minimum(first + 1, size - 1), tf.cast(source - low, tf.float32)
