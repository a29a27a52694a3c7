"""Images moved with their boxes and masks: cut, laid onto another, mirrored, turned."""

from __future__ import annotations

import tensorflow as tf

from tfdet.data.augmentation.clip import clip_edges
from tfdet.data.visible import edges_of_kept
from tfdet.structures import Example

_LEAST_SIDE = 1.0  # pixels of a box that is cut


def sides_of(image: tf.Tensor) -> tf.Tensor:
    """Height and width in pixels, float64 [2]."""
    return tf.cast(tf.shape(image)[:2], tf.float64)


def continuous(boxes: tf.Tensor) -> tf.Tensor:
    """Boxes of inclusive corners [G, 4] as edges: x2 and y2 one pixel further."""
    return boxes + tf.constant([0.0, 0.0, 1.0, 1.0])


def inclusive(boxes: tf.Tensor) -> tf.Tensor:
    """The inverse of `continuous`."""
    return boxes - tf.constant([0.0, 0.0, 1.0, 1.0])


def area(boxes: tf.Tensor) -> tf.Tensor:
    """Of continuous boxes [..., 4]: float32 [...]."""
    sides = tf.maximum(boxes[..., 2:] - boxes[..., :2], 0.0)
    return sides[..., 0] * sides[..., 1]


def keep_objects(example: Example, keep: tf.Tensor) -> Example:
    """Those objects of an example of which `keep` (bool [G]) is true."""
    edges, owners = edges_of_kept(keep, example.edges, example.edge_owners)
    boxes, classes = tf.boolean_mask(example.boxes, keep), tf.boolean_mask(example.classes, keep)
    return example._replace(boxes=boxes, classes=classes, edges=edges, edge_owners=owners)


def has_mask(example: Example) -> tf.Tensor:
    """Which objects have a mask: bool [G]."""
    owner = example.edge_owners[:, 0]
    return tf.math.unsorted_segment_sum(tf.ones_like(owner), owner, tf.shape(example.boxes)[0]) > 0


def move_objects(
    example: Example,
    ratio: tf.Tensor,
    offset: tf.Tensor,
    low: tf.Tensor,
    high: tf.Tensor,
    min_visible: float = 0.0,
    keep: tf.Tensor | None = None,
) -> Example:
    """Scales and shifts the objects of an image, and cuts them to what is seen of the image.

    Args:
        example: the image itself stays as it is.
        ratio, offset: float [2], of y and x: p' = p ratio + offset.
        low, high: float [2], y and x of the corners of what is seen, in the new pixels.
        min_visible: an object stays when so much of its box is seen at least, and a pixel of it.
        keep: bool [G]: others are left out beside; None: none.
    """
    ratio, offset, low, high = (tf.cast(value, tf.float32)[::-1] for value in (ratio, offset, low, high))
    whole = continuous(example.boxes) * tf.tile(ratio, [2]) + tf.tile(offset, [2])
    boxes = tf.clip_by_value(whole, tf.tile(low, [2]), tf.tile(high, [2]))
    seen = (area(boxes) >= min_visible * area(whole)) & (area(boxes) > 0.0)
    least = tf.minimum(_LEAST_SIDE, whole[:, 2:] - whole[:, :2])
    seen &= tf.reduce_all(boxes[:, 2:] - boxes[:, :2] >= 0.999 * least, axis=1)
    edges = example.edges * tf.tile(ratio, [2]) + tf.tile(offset, [2])
    edges, owners = clip_edges(edges, example.edge_owners, low, high)
    moved = example._replace(boxes=inclusive(boxes), edges=edges, edge_owners=owners)
    seen &= has_mask(moved) | ~has_mask(example)  # a mask of which nothing is seen
    return keep_objects(moved, seen if keep is None else seen & keep)


def cut_out(example: Example, place: tf.Tensor, size: tf.Tensor, keep: tf.Tensor | None = None) -> Example:
    """A part of an image.

    Args:
        example: the image.
        place, size: int32 [2], upper left corner, and height and width.
        keep: bool [G]: objects that stay, where any of them is seen; None: all.
    """
    image = tf.slice(example.image, tf.concat([place, [0]], axis=0), tf.concat([size, [3]], axis=0))
    moved = move_objects(example, tf.ones([2]), -tf.cast(place, tf.float32), tf.zeros([2]), size, keep=keep)
    return moved._replace(image=tf.ensure_shape(image, [None, None, 3]))


def flip_vertically(example: Example) -> Example:
    """Upside down, to the pixel: y' = height - y."""
    height = tf.cast(tf.shape(example.image)[0], tf.float32)
    sign, shift = tf.constant([1.0, -1.0, 1.0, -1.0]), height * tf.constant([0.0, 1.0, 0.0, 1.0])
    x1, y1, x2, y2 = tf.unstack(example.boxes, axis=1)
    return example._replace(
        image=tf.reverse(example.image, axis=[0]),
        boxes=tf.stack([x1, height - 1.0 - y2, x2, height - 1.0 - y1], axis=1),
        edges=example.edges * sign + shift,
    )


def turn(example: Example, quarters: tf.Tensor) -> Example:
    """Turns an image counter-clockwise, to the pixel.

    Args:
        example: the image.
        quarters: int32 [], 0..3, quarter turns: each takes (x, y) to (y, width - x).
    """
    height, width = (tf.cast(side, tf.float32) for side in tf.unstack(tf.shape(example.image)[:2]))
    boxes, edges = [example.boxes], [example.edges]
    for number in range(3):
        across = height if number % 2 else width
        x1, y1, x2, y2 = tf.unstack(boxes[-1], axis=1)
        boxes.append(tf.stack([y1, across - 1.0 - x2, y2, across - 1.0 - x1], axis=1))
        x1, y1, x2, y2 = tf.unstack(edges[-1], axis=1)
        edges.append(tf.stack([y1, across - x1, y2, across - x2], axis=1))
    image = tf.ensure_shape(tf.image.rot90(example.image, quarters), [None, None, 3])
    return example._replace(
        image=image, boxes=tf.gather(tf.stack(boxes), quarters), edges=tf.gather(tf.stack(edges), quarters)
    )
