"""Images of several sizes in one batch, each seen as if it were alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfdet.structures import Detections

View = tuple[tf.Tensor, tf.Tensor]
"""One scale of a batch: images [B, H, W, 3] and `image_info`, as in `Batch`."""

_NO_IMAGE_SIDE = 64  # of the image that stands in where a batch is empty


class _Sizes(NamedTuple):
    """The images of a batch by the size of their content."""

    of_image: tf.Tensor  # int32 [B], the size of each, 0..S-1
    count: tf.Tensor  # int32 [], S


def detect_by_size(
    detect: Callable[[tf.Tensor, tf.Tensor], Detections], images: tf.Tensor, image_info: tf.Tensor
) -> Detections:
    """Detects on the images of each size together, cut to their content: nothing of the padding takes part.

    A layer's bias makes the padding of a larger neighbour's canvas differ from the zeros that a convolution sees beyond
    the border of an image alone, RoIs are pooled beyond the border, and anchors there become proposals. None of it can
    be told from an image's content later on; so an image is never put on another canvas than its own.

    Args:
        detect: of images without padding, with their `image_info`.
        images: uint8 or float32 [B, H, W, 3], content at the top left; B may be 0.
        image_info: float32 [B, 3 or 4], height and width of the content first.

    Returns:
        Detections, in the order of the images.
    """
    if tf.executing_eagerly():
        return by_size(lambda views: detect(*views[0]), [(images, image_info)])
    # Traced once, and for its shapes alone outside of the loop.
    signature = [
        tf.TensorSpec([None, None, None, 3], images.dtype),
        tf.TensorSpec([None, *image_info.shape[1:]], tf.float32),
    ]
    alone = tf.function(detect, input_signature=signature, autograph=False).get_concrete_function()
    static, count = images.shape[0], tf.shape(images)[0]
    images, image_info = _one_at_least(images, image_info)
    sizes = _sizes([(images, image_info)])

    def step(number, *fields):
        rows = tf.where(sizes.of_image == number)[:, 0]
        found = alone(*_without_padding((images, image_info), rows))
        fields = [
            tf.tensor_scatter_nd_update(a, rows[:, None], b) for a, b in zip(fields, _present(found), strict=True)
        ]
        return number + 1, *fields

    rows = tf.shape(images)[0]
    shapes = [spec.shape[1:] for spec in _present(alone.structured_outputs)]
    kinds = [spec.dtype for spec in _present(alone.structured_outputs)]
    empty = [tf.zeros([rows, *shape], kind) for shape, kind in zip(shapes, kinds, strict=True)]
    _, *fields = tf.while_loop(lambda number, *_: number < sizes.count, step, (0, *empty))
    return Detections(*(tf.ensure_shape(field[:count], [static, *shape]) for field, shape in zip(fields, shapes)))


def by_size(detect: Callable[[Sequence[View]], Detections], views: Sequence[View]) -> Detections:
    """`detect_by_size` of a function of several scales of the same images, called outside of a graph.

    Args:
        detect: of views without padding.
        views: the same B images at one or more scales.
    """
    count = int(views[0][0].shape[0])
    if count == 0:
        views = [_one_at_least(*view) for view in views]
    sizes = _sizes(views)
    groups = [np.flatnonzero(sizes.of_image == number) for number in range(int(sizes.count))]
    found = [detect([_without_padding(view, rows) for view in views]) for rows in groups]
    if len(found) == 1 and count:
        return found[0]
    order = np.argsort(np.concatenate(groups), kind="stable")[:count]
    return Detections(
        *(tf.gather(tf.concat(parts, axis=0), order) for parts in zip(*map(_present, found), strict=True))
    )


def _sizes(views: Sequence[View]) -> _Sizes:
    heights_and_widths = tf.concat([tf.cast(image_info[:, :2], tf.int64) for _, image_info in views], axis=1)
    _, of_image = tf.raw_ops.UniqueV2(x=heights_and_widths, axis=[0])
    return _Sizes(of_image, tf.reduce_max(of_image) + 1)


def _without_padding(view: View, rows) -> View:
    """The images of these rows, which are of one size, cut to it."""
    images, image_info = view
    image_info = tf.gather(image_info, rows)
    height, width = tf.unstack(tf.cast(image_info[0, :2], tf.int32))
    return tf.gather(images, rows)[:, :height, :width], image_info


def _one_at_least(images: tf.Tensor, image_info: tf.Tensor) -> View:
    """An empty batch becomes one of one black image: the layers need an image to say the shapes of their results."""
    missing = tf.cast(tf.equal(tf.shape(images)[0], 0), tf.int32)
    side = missing * _NO_IMAGE_SIDE
    images = tf.pad(images, [[0, missing], [0, side], [0, side], [0, 0]])
    return images, tf.pad(image_info, [[0, missing], [0, 0]], constant_values=_NO_IMAGE_SIDE)


def _present(found: Detections) -> list:
    return [field for field in found if field is not None]
