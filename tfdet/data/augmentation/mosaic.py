"""Four images in one.

Sources: Bochkovskiy et al., YOLOv4, arXiv:2004.10934; Ge et al., YOLOX, arXiv:2107.08430, with the images mixed no more
at the end of training; MMDetection datasets/transforms/transforms.py, Mosaic.
"""

from __future__ import annotations

from typing import Annotated

import tensorflow as tf

from tfdet.config import configurable
from tfdet.config.ranges import Fraction, PositiveFloat, Range
from tfdet.data.augmentation.draws import ReadImage, between, check_order, is_open, own_seed, uniform
from tfdet.data.augmentation.geometry import move_objects, sides_of
from tfdet.data.canvas import Canvas
from tfdet.data.pillow_resize import Window, resize_as_pillow
from tfdet.structures import Example

_CENTRE = (0.25, 0.75)  # where the four meet, as parts of the sides


@configurable
class Mosaic:
    """An image of the same size made of four: itself and three others of the training set, which meet at a drawn point.

    Each is resized to fit in the image's size times one drawn scale, and laid into its quarter with a corner at the
    point. What does not fit the quarter is cut off, what stays empty has one grey.

    Args:
        probability: of doing it.
        min_scale, max_scale: of the draw. At .5 nearly all of the four is seen, at half the size; at 1 a part of each,
            at full size.
        min_visible: an object stays when so much of its box is in its quarter at least.
        padding: level of the grey, 0..255.
        off_for_last: the part of the run, at its end, in which it is not done: the last images are real ones.

    Raises:
        UserError: the smallest scale is larger than the largest.
    """

    def __init__(
        self,
        probability: Fraction = 0.5,
        min_scale: PositiveFloat = 0.5,
        max_scale: PositiveFloat = 1.0,
        min_visible: Fraction = 0.1,
        padding: Annotated[int, Range(least=0, most=255)] = 114,
        off_for_last: Fraction = 0.1,
    ):
        check_order("Mosaic", "min_scale", min_scale, "max_scale", max_scale)
        self.probability, self.min_scale, self.max_scale = probability, min_scale, max_scale
        self.min_visible, self.padding, self.off_for_last = min_visible, padding, off_for_last
        # Traced once for the four: the graph of a mosaic is the largest of the input's.
        self._place_one = tf.function(self._place, autograph=False, reduce_retracing=True)

    def __call__(
        self, example: Example, seed: tf.Tensor, progress: tf.Tensor, read: ReadImage
    ) -> tuple[Example, tf.Tensor]:
        """One image.

        Args:
            example: a decoded image.
            seed: int64 [2].
            progress: float64 [], the part of the run that is done.
            read: gives the others.

        Returns:
            The four as one, under the id of the first, and a word for what was done, "" for nothing.
        """
        draws = uniform(own_seed(seed, 0), 8)
        does = (draws[0] < self.probability) & is_open(progress, self.off_for_last)
        mixed = tf.cond(does, lambda: self._mix(example, draws[1:], read), lambda: example)
        return mixed, tf.where(does, "mosaic", "")

    def _mix(self, example: Example, draws: tf.Tensor, read: ReadImage) -> Example:
        sides = sides_of(example.image)
        scale = between(draws[0], self.min_scale, self.max_scale)
        centre = tf.round(sides * between(draws[1:3], *_CENTRE))
        quarters = [example, *(read(draws[number]) for number in (3, 4, 5))]
        shift = tf.cast(draws[6] * 4, tf.int32)  # which of the four has the image itself
        place_one = self._place if tf.executing_eagerly() else self._place_one
        placed = [
            place_one(quarter, sides, scale, centre, (number + shift) % 4) for number, quarter in enumerate(quarters)
        ]
        objects = joined_objects(example, [part for part, _ in placed])
        images = [image for _, image in placed]
        # Rows and columns of the whole, from where the first is: a turn of the four by whole quarters.
        by_place = [tf.switch_case((place - shift) % 4, [lambda own=own: own for own in images]) for place in range(4)]
        upper, lower = (tf.concat(by_place[first : first + 2], axis=1) for first in (0, 2))
        return objects._replace(image=tf.ensure_shape(tf.concat([upper, lower], axis=0), [None, None, 3]))

    def _place(self, quarter: Example, sides, scale, centre, place: tf.Tensor) -> tuple[Example, tf.Tensor]:
        """The objects of an image in the whole, and its quarter of the pixels; of places 0..3, row by row."""
        stored = sides_of(quarter.image)
        size = tf.maximum(tf.round(stored * tf.reduce_min(sides * scale / stored)), 1.0)
        is_first = tf.stack([place // 2 == 0, place % 2 == 0])  # above, left
        offset = tf.where(is_first, centre - size, centre)
        room = tf.where(is_first, centre, sides - centre)
        seen = tf.minimum(size, room)
        low = tf.where(is_first, centre - seen, centre)
        moved = move_objects(quarter, size / stored, offset, low, low + seen, self.min_visible)

        height, width = tf.unstack(tf.cast(size, tf.int32))
        top, left = tf.unstack(tf.cast(low - offset, tf.int32))
        room, seen = tf.cast(room, tf.int32), tf.cast(seen, tf.int32)
        canvas = Canvas(*tf.unstack(room), *tf.unstack(tf.where(is_first, room - seen, 0)), (self.padding,))
        image = resize_as_pillow(quarter.image, height, width, Window(top, left, *tf.unstack(seen)), canvas=canvas)
        return moved, image


def joined_objects(first: Example, parts: list[Example]) -> Example:
    """The first example with the objects of all parts, one after the other."""
    counts = [tf.shape(part.boxes)[0] for part in parts]
    begins = [sum(counts[:number], tf.constant(0)) for number in range(len(parts))]
    owners = [part.edge_owners + tf.stack([begin, 0]) for part, begin in zip(parts, begins)]
    return first._replace(
        boxes=tf.concat([part.boxes for part in parts], axis=0),
        classes=tf.concat([part.classes for part in parts], axis=0),
        edges=tf.concat([part.edges for part in parts], axis=0),
        edge_owners=tf.concat(owners, axis=0),
    )
