"""Brightness, contrast, saturation and hue of an image, changed at random.

Sources: torchvision transforms/v2/_color.py, ColorJitter and RandomPhotometricDistort, and functional/_color.py; the
ranges are the latter's, those of SSD.
"""

from __future__ import annotations

from typing import Annotated

import tensorflow as tf

from tfdet.config import configurable
from tfdet.config.ranges import Fraction, NonNegativeFloat, Range
from tfdet.data.augmentation.draws import between, check_order, own_seed, uniform
from tfdet.structures import Example

_Hue = Annotated[float, Range(least=-0.5, most=0.5)]
_GREY = (0.2989, 0.587, 0.114)  # torchvision's
_NAMES = ("brightness", "contrast", "saturation", "hue")


def adjust_brightness(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """An image float32 [H, W, 3] in 0..255, times a factor."""
    return tf.clip_by_value(image * factor, 0.0, 255.0)


def adjust_contrast(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """A mix of an image and its mean grey: factor 0 is the grey, 1 the image."""
    mean = tf.reduce_sum(tf.reduce_mean(image, axis=[0, 1]) * tf.constant(_GREY))
    return tf.clip_by_value(image * factor + (1.0 - factor) * mean, 0.0, 255.0)


def adjust_saturation(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """A mix of an image and itself in grey: factor 0 is the grey, 1 the image."""
    grey = tf.linalg.matvec(image, tf.constant(_GREY))[..., None]
    return tf.clip_by_value(image * factor + (1.0 - factor) * grey, 0.0, 255.0)


def adjust_hue(image: tf.Tensor, turn: tf.Tensor) -> tf.Tensor:
    """The hue of every pixel turned by a part of the colour circle, -.5 to .5; saturation and value stay."""
    return tf.raw_ops.AdjustHue(images=image, delta=turn)


@configurable
class ColorJitter:
    """Brightness, contrast, saturation and hue, each with its probability and a factor drawn from its range, in an
    order that is drawn too. Boxes and masks stay.

    With probability 1 it is torchvision's ColorJitter. Levels are rounded once, at the end; torchvision cuts their
    fractions after each of the four.

    Args:
        brightness, contrast, saturation: the least and the most of the factor; (1, 1) leaves the image as it is.
        hue: the least and the most, as parts of the colour circle; (0, 0) leaves the image as it is.
        probability: of each of the four.

    Raises:
        UserError: the least is larger than the most.
    """

    def __init__(
        self,
        brightness: tuple[NonNegativeFloat, NonNegativeFloat] = (0.875, 1.125),
        contrast: tuple[NonNegativeFloat, NonNegativeFloat] = (0.5, 1.5),
        saturation: tuple[NonNegativeFloat, NonNegativeFloat] = (0.5, 1.5),
        hue: tuple[_Hue, _Hue] = (-0.05, 0.05),
        probability: Fraction = 0.5,
    ):
        self.ranges = tuple(tuple(map(float, values)) for values in (brightness, contrast, saturation, hue))
        for name, (least, most) in zip(_NAMES, self.ranges):
            check_order("ColorJitter", f"{name}[0]", least, f"{name}[1]", most)
        self.probability = probability

    def __call__(self, example: Example, seed: tf.Tensor) -> tuple[Example, tf.Tensor]:
        """One image.

        Args:
            example: a decoded image.
            seed: int64 [2].

        Returns:
            The image in other colours, and words for what was done, "" for nothing.
        """
        draws = uniform(own_seed(seed, 0), len(_NAMES), 3)
        neutral = (1.0, 1.0, 1.0, 0.0)
        changes = [
            (draws[number, 0] < self.probability) if (least, most) != (none, none) else tf.constant(False)
            for number, ((least, most), none) in enumerate(zip(self.ranges, neutral))
        ]
        factors = [tf.cast(between(draws[number, 1], *values), tf.float32) for number, values in enumerate(self.ranges)]
        adjust = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)
        choices = [lambda image, change=change, by=by: change(image, by) for change, by in zip(adjust, factors)]
        order = tf.argsort(draws[:, 2])
        skipped = tf.where(tf.stack(changes), tf.range(len(_NAMES)), len(_NAMES))

        def change_all() -> tf.Tensor:
            image = tf.cast(example.image, tf.float32)
            for place in range(len(_NAMES)):
                now, before = tf.gather(skipped, order[place]), image
                branches = [lambda choice=choice, before=before: choice(before) for choice in choices]
                image = tf.switch_case(now, [*branches, lambda before=before: before])
            return tf.cast(tf.round(image), tf.uint8)

        image = tf.cond(tf.reduce_any(tf.stack(changes)), change_all, lambda: example.image)
        words = [
            tf.cond(changed, lambda name=name, by=by: f"{name} " + tf.strings.as_string(by, precision=2), lambda: "")
            for name, changed, by in zip(_NAMES, changes, factors)
        ]
        return example._replace(image=tf.ensure_shape(image, [None, None, 3])), joined(words)


def joined(words: list[tf.Tensor]) -> tf.Tensor:
    """Words with commas between, empty ones left out: string []."""
    words = tf.stack(words)
    return tf.strings.reduce_join(tf.boolean_mask(words, words != ""), separator=", ")
