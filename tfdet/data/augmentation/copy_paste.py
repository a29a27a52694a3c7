"""Objects of one image pasted onto another.

Source: Ghiasi et al., Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation, CVPR 2021.
"""

from __future__ import annotations

import tensorflow as tf

from tfdet.config import configurable
from tfdet.config.ranges import Fraction, PositiveFloat, PositiveInt
from tfdet.data.augmentation.draws import ReadImage, between, check_order, is_open, own_seed, uniform
from tfdet.data.augmentation.geometry import (
    continuous,
    has_mask,
    inclusive,
    keep_objects,
    move_objects,
    sides_of,
)
from tfdet.data.augmentation.mosaic import joined_objects
from tfdet.data.augmentation.spans import edges_of_spans, spans_of_edges, without
from tfdet.data.canvas import Canvas
from tfdet.data.pillow_resize import Window, resize_as_pillow
from tfdet.structures import Example


@configurable
class CopyPaste:
    """Pastes objects of another image of the training set, cut out along their masks, onto an image.

    The other image is mirrored at random, resized to fit in the image times a drawn scale, and laid at a drawn place:
    inside of the image, or over it where it is larger. Some of its objects that have a mask are pasted, the pixels as
    they are: the paper found no use in blending them. What they cover is taken from the masks of the image's own
    objects, whose boxes are then those of what is still seen; objects of which too little is seen are left out. An
    object without a mask is taken for its box, which stays as it is.

    The paper pastes by large-scale jitter of both images: `TrainInput.jitter` does the rest of it.

    Args:
        probability: of doing it.
        object_probability: of pasting each object; one is pasted at least.
        max_objects: pasted ones.
        min_scale, max_scale: of the draw.
        min_visible: an own object stays when so much of its mask is not covered, a pasted one when so much of its box
            is inside of the image.
        off_for_last: the part of the run, at its end, in which it is not done.

    Raises:
        UserError: the smallest scale is larger than the largest.
    """

    def __init__(
        self,
        probability: Fraction = 0.5,
        object_probability: Fraction = 0.5,
        max_objects: PositiveInt = 30,
        min_scale: PositiveFloat = 0.5,
        max_scale: PositiveFloat = 1.5,
        min_visible: Fraction = 0.1,
        off_for_last: Fraction = 0.1,
    ):
        check_order("CopyPaste", "min_scale", min_scale, "max_scale", max_scale)
        self.probability, self.object_probability, self.max_objects = probability, object_probability, max_objects
        self.min_scale, self.max_scale = min_scale, max_scale
        self.min_visible, self.off_for_last = min_visible, off_for_last

    def __call__(
        self, example: Example, seed: tf.Tensor, progress: tf.Tensor, read: ReadImage
    ) -> tuple[Example, tf.Tensor]:
        """One image.

        Args:
            example: a decoded image with its masks.
            seed: int64 [2].
            progress: float64 [], the part of the run that is done.
            read: gives the other one, with its masks.

        Returns:
            The image with more objects, the pasted ones last, and a word for what was done, "" for nothing.
        """
        draws = uniform(own_seed(seed, 0), 6)
        does = (draws[0] < self.probability) & is_open(progress, self.off_for_last)
        pasted = tf.cond(does, lambda: self._mix(example, draws, seed, read), lambda: example)
        return pasted, tf.where(does, "copy-paste", "")

    def _mix(self, example: Example, draws: tf.Tensor, seed: tf.Tensor, read: ReadImage) -> Example:
        other = read(draws[1])
        other = keep_objects(other, self._chosen(other, own_seed(seed, 1)))
        sides, stored = sides_of(example.image), sides_of(other.image)
        size = tf.reduce_min(sides / stored) * between(draws[2], self.min_scale, self.max_scale)
        size = tf.maximum(tf.round(stored * size), 1.0)
        other = tf.cond(draws[3] < 0.5, lambda: _mirrored(other), lambda: other)
        offset = tf.round((sides - size) * draws[4:])
        objects = move_objects(other, size / stored, offset, tf.zeros([2]), sides, self.min_visible)
        return paste(example, objects._replace(image=_laid(other.image, size, offset, sides)), self.min_visible)

    def _chosen(self, other: Example, seed: tf.Tensor) -> tf.Tensor:
        """Which objects are pasted: bool [G]."""
        draw = tf.where(has_mask(other), uniform(seed, tf.shape(other.boxes)[0]), 2.0)
        place = tf.argsort(tf.argsort(draw))
        return (draw < 2.0) & (place < self.max_objects) & ((draw < self.object_probability) | (place == 0))


def paste(example: Example, objects: Example, min_visible: float = 0.0) -> Example:
    """Lays the pixels of objects over an image.

    Args:
        example: the image.
        objects: an image of the same size, with objects that all have masks within it.
        min_visible: an own object stays when so much of its mask (of its box, where it has none) is not covered, and a
            pixel of it at least.

    Returns:
        The image with its own objects, whose masks and boxes are those of what is not covered, and the others behind.
    """
    height, width = tf.unstack(tf.shape(example.image)[:2])
    one = tf.stack([tf.zeros_like(objects.edge_owners[:, 0]), _parts_apart(objects.edge_owners)], axis=1)
    over = spans_of_edges(objects.edges, one, height, width)
    image = tf.where(over.raster(height, width)[..., None], objects.image, example.image)

    count = tf.shape(example.boxes)[0]
    masked = has_mask(example)
    bare = tf.where(~masked)[:, 0]
    sides, number = _sides_of_boxes(tf.gather(continuous(example.boxes), bare), tf.cast(bare, tf.int32))
    own = spans_of_edges(
        tf.concat([example.edges, sides], axis=0), tf.concat([example.edge_owners, number], axis=0), height, width
    )
    seen = without(own, over, height, width)
    before, after = own.areas(count), seen.areas(count)
    covered = after < before
    part = tf.cast(after, tf.float32) / tf.maximum(tf.cast(before, tf.float32), 1.0)
    keep = ~covered | ((after > 0) & (part >= min_visible))

    changed = covered & masked
    boxes = tf.where(changed[:, None], inclusive(seen.boxes(count)), example.boxes)
    new = type(seen)(*(tf.boolean_mask(column, tf.gather(changed, seen.objects)) for column in seen))
    edges, owners = edges_of_spans(new, height, width)
    as_before = ~tf.gather(changed, example.edge_owners[:, 0])
    edges = tf.concat([tf.boolean_mask(example.edges, as_before), edges], axis=0)
    owners = tf.concat([tf.boolean_mask(example.edge_owners, as_before), owners], axis=0)
    order = tf.argsort(owners[:, 0], stable=True)
    own_objects = keep_objects(
        example._replace(boxes=boxes, edges=tf.gather(edges, order), edge_owners=tf.gather(owners, order)), keep
    )
    return joined_objects(example, [own_objects, objects])._replace(image=tf.ensure_shape(image, [None, None, 3]))


def _parts_apart(owners: tf.Tensor) -> tf.Tensor:
    """Numbers of the parts of all objects, as if they were of one: int32 [E]."""
    num_parts = tf.reduce_max(tf.concat([owners[:, 1], [0]], axis=0)) + 1
    return owners[:, 0] * num_parts + owners[:, 1]


def _sides_of_boxes(boxes: tf.Tensor, numbers: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The four edges of continuous boxes [N, 4], and as their owners the numbers of the boxes."""
    edges = tf.gather(boxes, [[0, 1, 2, 1], [2, 1, 2, 3], [2, 3, 0, 3], [0, 3, 0, 1]], axis=1)
    numbers = tf.repeat(numbers, 4)
    return tf.reshape(edges, [-1, 4]), tf.stack([numbers, tf.zeros_like(numbers)], axis=1)


def _mirrored(example: Example) -> Example:
    """Left to right: x' = width - x."""
    width = tf.cast(tf.shape(example.image)[1], tf.float32)
    x1, y1, x2, y2 = tf.unstack(example.boxes, axis=1)
    return example._replace(
        image=tf.reverse(example.image, axis=[1]),
        boxes=tf.stack([width - 1.0 - x2, y1, width - 1.0 - x1, y2], axis=1),
        edges=example.edges * [-1.0, 1.0, -1.0, 1.0] + width * tf.constant([1.0, 0.0, 1.0, 0.0]),
    )


def _laid(image: tf.Tensor, size: tf.Tensor, offset: tf.Tensor, sides: tf.Tensor) -> tf.Tensor:
    """An image resized to `size` and laid at `offset` on black of the size `sides`; all float64 [2]."""
    low, high = tf.maximum(offset, 0.0), tf.minimum(offset + size, sides)
    place, seen = tf.cast(low - offset, tf.int32), tf.cast(high - low, tf.int32)
    height, width = tf.unstack(tf.cast(size, tf.int32))
    canvas = Canvas(*tf.unstack(tf.cast(sides, tf.int32)), *tf.unstack(tf.cast(low, tf.int32)))
    return resize_as_pillow(image, height, width, Window(*tf.unstack(place), *tf.unstack(seen)), canvas=canvas)
