"""What a training image goes through, in order."""

from __future__ import annotations

import tensorflow as tf

from tfdet.config import configurable
from tfdet.config.ranges import Fraction
from tfdet.data.augmentation.color import ColorJitter, joined
from tfdet.data.augmentation.copy_paste import CopyPaste
from tfdet.data.augmentation.crop import RandomIoUCrop
from tfdet.data.augmentation.draws import ReadImage, own_seed, uniform
from tfdet.data.augmentation.geometry import flip_vertically, turn
from tfdet.data.augmentation.mosaic import Mosaic
from tfdet.structures import Example


@configurable
class Augmentation:
    """Changes decoded images before they are resized; what is None or 0 is not done.

    The order is that of the arguments. What is drawn for an image is a function of its seed alone.

    Args:
        mosaic: four images in one.
        copy_paste: objects of another image pasted onto it, by their masks.
        crop: a part of it that shows an object.
        vertical_flip: probability of turning it upside down. (Mirroring left to right is `TrainInput.flip`.)
        quarter_turns: probability of turning it by 90, 180 or 270 degrees, each as likely.
        color: brightness, contrast, saturation and hue.
    """

    def __init__(
        self,
        mosaic: Mosaic | None = None,
        copy_paste: CopyPaste | None = None,
        crop: RandomIoUCrop | None = None,
        vertical_flip: Fraction = 0.0,
        quarter_turns: Fraction = 0.0,
        color: ColorJitter | None = None,
    ):
        self.mosaic, self.copy_paste, self.crop, self.color = mosaic, copy_paste, crop, color
        self.vertical_flip, self.quarter_turns = vertical_flip, quarter_turns

    @property
    def needs_masks(self) -> bool:
        """Whether the masks of the images have to be read, even for a detector without masks."""
        return self.copy_paste is not None

    @property
    def mixes(self) -> bool:
        """Whether other images of the set are read for an image."""
        return self.mosaic is not None or self.copy_paste is not None

    def names(self) -> list[str]:
        """What is done, with the arguments that are not self-evident, for people."""
        parts = {"mosaic": self.mosaic, "copy-paste": self.copy_paste, "crop": self.crop, "colour": self.color}
        numbers = {"vertical flip": self.vertical_flip, "quarter turns": self.quarter_turns}
        listed = [
            f"{name} (p={part.probability:g})" for name, part in parts.items() if part is not None and part.probability
        ]
        return listed + [f"{name} (p={number:g})" for name, number in numbers.items() if number]

    def __call__(
        self, example: Example, seed: tf.Tensor, progress: tf.Tensor, read: ReadImage
    ) -> tuple[Example, tf.Tensor]:
        """One image.

        Args:
            example: a decoded image.
            seed: int64 [2], the image's own at this step.
            progress: float64 [], the part of the run that is done; 0 where that is not known.
            read: gives other images of the training set.

        Returns:
            The image, and what was done to it in words: string [].
        """
        words = []
        for stream, part in enumerate((self.mosaic, self.copy_paste)):
            if part is not None:
                example, word = part(example, own_seed(seed, stream), progress, read)
                words.append(word)
        if self.crop is not None:
            example, word = self.crop(example, own_seed(seed, 2))
            words.append(word)
        if self.vertical_flip:
            flips = uniform(own_seed(seed, 3)) < self.vertical_flip
            example = _either(flips, flip_vertically, example)
            words.append(tf.where(flips, "upside down", ""))
        if self.quarter_turns:
            draws = uniform(own_seed(seed, 4), 2)
            quarters = tf.where(draws[0] < self.quarter_turns, 1 + tf.cast(draws[1] * 3, tf.int32), 0)
            example = _either(quarters > 0, lambda upright: turn(upright, quarters), example)
            words.append(tf.gather(["", "turned by 90", "turned by 180", "turned by 270"], quarters))
        if self.color is not None:
            example, word = self.color(example, own_seed(seed, 5))
            words.append(word)
        return example, joined(words) if words else tf.constant("")


def _either(does: tf.Tensor, change, example: Example) -> Example:
    return tf.cond(does, lambda: change(example), lambda: example)
