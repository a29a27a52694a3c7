"""A random part of an image that shows an object to some degree.

Sources: Liu et al., SSD: Single Shot MultiBox Detector, ECCV 2016, section 2.2; torchvision transforms/v2/_geometry.py,
RandomIoUCrop.
"""

from __future__ import annotations

from typing import Annotated

import tensorflow as tf

from tfdet.config import configurable
from tfdet.config.ranges import Fraction, PositiveFloat, PositiveFraction, Range
from tfdet.data.augmentation.draws import between, check_order, own_seed, uniform
from tfdet.data.augmentation.geometry import area, continuous, cut_out
from tfdet.errors import UserError
from tfdet.structures import Example

_ROUNDS = 8  # IoUs that are drawn, one after the other, before an image is left as it is


@configurable
class RandomIoUCrop:
    """Cuts a part out of an image. An IoU is drawn of `min_ious`; then parts are drawn until one of them holds the
    centre of a box, and overlaps such a box by that IoU at least. Where none does, another IoU is drawn; after eight
    the image is left as it is, as it is where the IoU is 1.

    Objects whose centre is in the part stay, their boxes cut to it. The sides of a part are drawn each for itself.
    torchvision draws IoUs without end; that 8 of them fit nowhere is rare.

    Args:
        min_scale, max_scale: the least and the most of a side, as parts of the image's.
        min_aspect_ratio, max_aspect_ratio: width / height of a part.
        min_ious: the IoUs; 1 is the whole image.
        trials: parts that are drawn for an IoU.
        probability: of doing it at all.

    Raises:
        UserError: a bound is larger than the other, or there is no IoU.
    """

    def __init__(
        self,
        min_scale: PositiveFraction = 0.3,
        max_scale: PositiveFraction = 1.0,
        min_aspect_ratio: PositiveFloat = 0.5,
        max_aspect_ratio: PositiveFloat = 2.0,
        min_ious: tuple[Fraction, ...] = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0),
        trials: Annotated[int, Range(least=1, most=1000)] = 40,
        probability: Fraction = 1.0,
    ):
        check_order("RandomIoUCrop", "min_scale", min_scale, "max_scale", max_scale)
        check_order("RandomIoUCrop", "min_aspect_ratio", min_aspect_ratio, "max_aspect_ratio", max_aspect_ratio)
        if not min_ious:
            raise UserError("RandomIoUCrop.min_ious must name one IoU at least. Received: ()")
        self.min_scale, self.max_scale = min_scale, max_scale
        self.min_aspect_ratio, self.max_aspect_ratio = min_aspect_ratio, max_aspect_ratio
        self.min_ious, self.trials, self.probability = tuple(map(float, min_ious)), trials, probability

    def __call__(self, example: Example, seed: tf.Tensor) -> tuple[Example, tf.Tensor]:
        """One image.

        Args:
            example: a decoded image.
            seed: int64 [2].

        Returns:
            The part of it, and a word for what was done, "" for nothing.
        """
        sides = tf.cast(tf.shape(example.image)[:2], tf.float32)
        draws = tf.cast(uniform(own_seed(seed, 0), _ROUNDS, self.trials, 4), tf.float32)
        options = tf.gather(
            tf.constant(self.min_ious),
            tf.random.stateless_uniform([_ROUNDS], own_seed(seed, 1), maxval=len(self.min_ious), dtype=tf.int32),
        )
        size = tf.floor(sides * between(draws[..., :2], self.min_scale, self.max_scale))
        place = tf.floor((sides - size) * draws[..., 2:])
        aspect = size[..., 1] / tf.maximum(size[..., 0], 1.0)
        fits = (self.min_aspect_ratio <= aspect) & (aspect <= self.max_aspect_ratio)
        fits &= tf.reduce_all(size >= 1.0, axis=-1)
        part = tf.concat([place[..., ::-1], (place + size)[..., ::-1]], axis=-1)[:, :, None]  # x1, y1, x2, y2

        boxes = continuous(example.boxes)
        holds = _centres_within(boxes, part)
        common = tf.concat([tf.maximum(boxes[:, :2], part[..., :2]), tf.minimum(boxes[:, 2:], part[..., 2:])], -1)
        iou = area(common) / (area(boxes) + area(part) - area(common))
        good = fits & tf.reduce_any(holds & (iou >= options[:, None, None]), axis=-1)

        as_it_is = options >= 1.0
        ends = as_it_is | tf.reduce_any(good, axis=1)
        number = tf.argmax(ends)
        trial = tf.argmax(good[number])
        cuts = ends[number] & ~as_it_is[number] & (uniform(own_seed(seed, 2)) < self.probability)
        place = tf.where(cuts, place[number, trial], 0.0)
        size = tf.where(cuts, size[number, trial], sides)
        keep = holds[number, trial] | ~cuts
        cropped = cut_out(example, tf.cast(place, tf.int32), tf.cast(size, tf.int32), keep)
        return cropped, tf.where(cuts, "crop", "")


def _centres_within(boxes: tf.Tensor, part: tf.Tensor) -> tf.Tensor:
    """Whether the centre of each box [G, 4] is in the part [..., 1, 4]: bool [..., G]."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    return tf.reduce_all((part[..., :2] < centre) & (centre < part[..., 2:]), axis=-1)
