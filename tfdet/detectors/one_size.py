"""Images of several sizes in one batch, each seen as if it were alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from tfdet.structures import Detections

View = tuple[tf.Tensor, tf.Tensor]
"""One scale of a batch: images [B, H, W, 3] and `image_info`, as in `Batch`."""


def detect_by_size(detect: Callable[[Sequence[View]], Detections], views: Sequence[View]) -> Detections:
    """Detects on the images of each size together, cut to their content: nothing of the padding takes part.

    A layer's bias makes the padding of a larger neighbour's canvas differ from the zeros that a convolution sees beyond
    the border of an image alone, RoIs are pooled beyond the border, and anchors there become proposals. None of it can
    be told from an image's content later on; so an image is never put on another canvas than its own.

    Args:
        detect: of views without padding.
        views: the same B images at one or more scales, content at the top left; B may be 0.

    Returns:
        Detections, in the order of the images.
    """
    if tf.executing_eagerly() and views[0][0].shape[0] == 0:  # a graph knows the shapes of results without an image
        return tf.function(lambda: detect_by_size(detect, views), autograph=False)()
    sizes = tf.concat([tf.cast(image_info[:, :2], tf.int64) for _, image_info in views], axis=1)
    sizes, size_of_image = tf.raw_ops.UniqueV2(x=sizes, axis=[0])

    def of_size(number) -> tuple[tf.Tensor, list[View]]:
        """The images of a size, int64 [N], and their views."""
        rows = tf.where(size_of_image == number)[:, 0]
        return rows, [_without_padding(view, rows) for view in views]

    if tf.executing_eagerly():
        groups = [of_size(number) for number in range(len(sizes))]
        order = tf.argsort(tf.concat([rows for rows, _ in groups], axis=0))
        found = zip(*(_present(detect(own)) for _, own in groups), strict=True)
        return Detections(*(tf.gather(tf.concat(parts, axis=0), order) for parts in found))

    # Traced once, and for its shapes alone outside of the loop.
    signature = [
        (tf.TensorSpec([None, None, None, 3], images.dtype), tf.TensorSpec([None, *image_info.shape[1:]], tf.float32))
        for images, image_info in views
    ]
    alone = tf.function(detect, input_signature=[signature], autograph=False).get_concrete_function()
    results = [(spec.dtype, spec.shape[1:]) for spec in _present(alone.structured_outputs)]

    def step(number, *fields):
        rows, own = of_size(number)
        found = zip(fields, _present(alone(own)), strict=True)
        return number + 1, *(tf.tensor_scatter_nd_update(field, rows[:, None], part) for field, part in found)

    images = views[0][0]
    fields = [tf.zeros([tf.shape(images)[0], *shape], dtype) for dtype, shape in results]
    _, *fields = tf.while_loop(lambda number, *_: number < tf.shape(sizes)[0], step, (0, *fields))
    shapes = [[images.shape[0], *shape] for _, shape in results]
    return Detections(*(tf.ensure_shape(field, shape) for field, shape in zip(fields, shapes, strict=True)))


def _without_padding(view: View, rows: tf.Tensor) -> View:
    """The images of these rows, which are of one size, cut to it."""
    images, image_info = view
    image_info = tf.gather(image_info, rows)
    height, width = tf.unstack(tf.cast(image_info[0, :2], tf.int32))
    return tf.gather(images, rows)[:, :height, :width], image_info


def _present(found: Detections) -> list:
    return [field for field in found if field is not None]
