"""Colours beside Pillow's and the formulas of the HSV cone."""

import colorsys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance

from tests.data.augmentation.test_masks import example_of
from tfdet.data.augmentation.color import (
    ColorJitter,
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
)
from tfdet.errors import UserError

IMAGE = np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)
ENHANCED = {
    adjust_brightness: ImageEnhance.Brightness,
    adjust_contrast: ImageEnhance.Contrast,
    adjust_saturation: ImageEnhance.Color,
}


@pytest.mark.parametrize("factor", [0.0, 0.6, 1.0, 1.7])
def test_factors_are_those_of_pillow(factor):
    """To a level: Pillow cuts fractions off, and rounds the grey."""
    for adjust, enhance in ENHANCED.items():
        expected = np.asarray(enhance(Image.fromarray(IMAGE)).enhance(factor), float)
        result = adjust(tf.constant(IMAGE, tf.float32), tf.constant(factor)).numpy()
        assert np.abs(result - expected).max() <= 1.0 + 1.0 * abs(1 - factor), adjust.__name__


@pytest.mark.parametrize("turn", [-0.4, 0.0, 0.05, 0.5])
def test_hue_turns_around_the_cone(turn):
    expected = []
    for pixel in IMAGE.reshape(-1, 3) / 255:
        hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
        expected.append(colorsys.hsv_to_rgb((hue + turn) % 1.0, saturation, value))
    result = adjust_hue(tf.constant(IMAGE, tf.float32), tf.constant(turn)).numpy()
    np.testing.assert_allclose(result.reshape(-1, 3), 255 * np.array(expected), atol=0.05)


def test_jitter_draws_each_and_rounds_once():
    example = example_of([(1, 1, 9, 9)], [[]], IMAGE)
    only = {"brightness": (1, 1), "contrast": (1, 1), "saturation": (1, 1), "hue": (0, 0), "probability": 1.0}
    factors = set()
    for number in range(3):
        image, words = ColorJitter(**only | {"brightness": (0.5, 0.9)})(example, tf.constant([2, number], tf.int64))
        name, factor = words.numpy().decode().split()
        factors.add(factor)
        assert name == "brightness" and 0.5 <= float(factor) < 0.905
        np.testing.assert_allclose(image.image, IMAGE * float(factor), atol=0.5 + 255 * 0.005)
        np.testing.assert_array_equal(image.boxes, example.boxes)
    assert len(factors) == 3
    same, words = ColorJitter(**only)(example, tf.constant([2, 5], tf.int64))
    assert words == b"" and np.array_equal(same.image, IMAGE)
    call = ColorJitter(probability=0.5)
    words = [call(example, tf.constant([3, number], tf.int64))[1].numpy().decode() for number in range(20)]
    counts = [len(text.split(", ")) if text else 0 for text in words]
    assert min(counts) <= 1 and max(counts) >= 3 and all(any(name in text for text in words) for name in ("hue", "con"))


def test_order_matters_and_is_drawn():
    """Two orders of the same two factors give two images: with one seed after the other both are met."""
    example = example_of([(1, 1, 9, 9)], [[]], IMAGE)
    call = ColorJitter(brightness=(1.8, 1.8), contrast=(0.4, 0.4), saturation=(1, 1), hue=(0, 0), probability=1.0)
    image = tf.constant(IMAGE, tf.float32)
    one = adjust_contrast(adjust_brightness(image, 1.8), 0.4).numpy().round()
    other = adjust_brightness(adjust_contrast(image, 0.4), 1.8).numpy().round()
    met = set()
    for number in range(8):
        result = call(example, tf.constant([number, 0], tf.int64))[0].image.numpy()
        fits = [bool(np.abs(result - want).max() <= 1) for want in (one, other)]
        assert sum(fits) == 1
        met.add(fits.index(True))
    assert met == {0, 1}
    with pytest.raises(UserError, match=r"ColorJitter.hue\[0\] must be at most its hue\[1\]"):
        ColorJitter(hue=(0.1, -0.1))
