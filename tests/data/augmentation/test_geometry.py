"""Boxes and masks go where the pixels go: objects are drawn in colours, and found again in the pixels."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageDraw

from tests.data.augmentation.test_masks import draw, example_of, square
from tfdet.data.augmentation.augmentation import Augmentation
from tfdet.data.augmentation.copy_paste import CopyPaste
from tfdet.data.augmentation.crop import RandomIoUCrop
from tfdet.data.augmentation.geometry import flip_vertically, turn
from tfdet.data.augmentation.mosaic import Mosaic
from tfdet.errors import UserError

COLORS = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255), (255, 0, 255)], np.uint8)


def picture(height, width, boxes, first=0):
    """Rectangles in a colour each, of which none lies over another, and objects of class = colour."""
    image = Image.new("RGB", (width, height), (90, 90, 90))
    for number, (x1, y1, x2, y2) in enumerate(boxes):
        color = tuple(map(int, COLORS[first + number]))
        ImageDraw.Draw(image).rectangle((x1, y1, x2 - 1, y2 - 1), fill=color)
    example = example_of(boxes, [[[square(*box)]] for box in boxes], np.asarray(image))
    return example._replace(classes=example.classes + first)


def found_in(image, kind):
    """The box of the pixels that are nearest to a colour, and how far they fill it; None without such a pixel."""
    near = np.abs(image.astype(int) - COLORS[kind].astype(int)).sum(-1) < 255
    rows, columns = np.nonzero(near)
    if not len(rows):
        return None
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


def check(example, tolerance=0.0, least=1.0):
    """Every box and mask is where its colour is, and every colour of which there is enough has a box."""
    image = example.image.numpy()
    boxes = example.boxes.numpy() + [0, 0, 1, 1]
    kinds = example.classes.numpy().tolist()
    for number, (kind, box) in enumerate(zip(kinds, boxes)):
        found = found_in(image, kind)
        assert found is not None and np.abs(found - box).max() <= tolerance, (kind, found, box)
        mask = draw(example.edges, example.edge_owners, number, *image.shape[:2])
        rows, columns = np.nonzero(mask)
        around = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert np.abs(around - box).max() <= 0.5 + tolerance
    for kind in set(range(len(COLORS))) - set(kinds):
        found = found_in(image, kind)
        assert found is None or np.prod(found[2:] - found[:2]) <= least
    return kinds


PHOTO = (40, 60, [(3, 4, 20, 15), (30, 5, 55, 18), (8, 22, 16, 38), (40, 25, 58, 36)])


def test_turns_are_exact():
    example = picture(*PHOTO)
    for quarters in range(4):
        turned = turn(example, tf.constant(quarters))
        np.testing.assert_array_equal(turned.image, np.rot90(example.image, quarters))
        assert check(turned) == [0, 1, 2, 3]
        again = turn(turned, tf.constant(-quarters % 4))
        for field, same in zip(example, again, strict=True):
            np.testing.assert_array_equal(field, same)
    flipped = flip_vertically(example)
    np.testing.assert_array_equal(flipped.image, np.flipud(example.image))
    assert check(flipped) == [0, 1, 2, 3]
    np.testing.assert_array_equal(flip_vertically(flipped).edges, example.edges)


def seeds(count):
    return [tf.constant([11, number], tf.int64) for number in range(count)]


def test_crops_show_an_object_and_keep_those_whose_centre_is_inside():
    example = picture(*PHOTO)
    crop = RandomIoUCrop(min_ious=(0.3, 0.5))
    sizes, numbers = set(), set()
    for seed in seeds(12):
        cropped, word = crop(example, seed)
        kinds = check(cropped, least=np.inf)  # of the others up to a half is seen
        height, width = cropped.image.shape[:2]
        sizes.add((height, width)), numbers.add(len(kinds))
        boxes = cropped.boxes.numpy() + [0, 0, 1, 1]
        assert word == b"crop" and 0.5 <= width / height <= 2 and height >= 12 and width >= 18
        whole = np.array(PHOTO[2], float)[kinds]
        part = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
        areas = np.prod(whole[:, 2:] - whole[:, :2], axis=1)
        assert np.max(part / (areas + height * width - part)) >= 0.3
        assert np.all(part >= 0.25 * areas), "the centre is inside"
    assert len(sizes) > 8 and len(numbers) > 1
    whole, word = RandomIoUCrop(min_ious=(1.0,))(example, seeds(1)[0])
    assert word == b"" and check(whole) == [0, 1, 2, 3]
    # No part overlaps a box so small by so much: the image stays.
    small = picture(40, 60, [(3, 4, 6, 7)])
    assert RandomIoUCrop(min_ious=(0.9,))(small, seeds(1)[0])[0].image.shape == (40, 60, 3)


OTHERS = [picture(50, 30, [(2, 3, 26, 20)], 4), picture(30, 60, [(10, 5, 50, 25)], 5)]
START, ALWAYS = tf.constant(0.0, tf.float64), {"probability": 1.0}


def read_other(number):
    examples = [tf.nest.map_structure(tf.identity, other) for other in OTHERS]
    return tf.cond(number < 0.5, lambda: examples[0], lambda: examples[1])


def test_mosaics_have_the_objects_of_four_images():
    example = picture(*PHOTO)
    mosaic = Mosaic(**ALWAYS, min_visible=0.0)
    seen, empty = set(), 0
    for seed in seeds(10):
        mixed, word = mosaic(example, seed, START, read_other)
        assert mixed.image.shape == (40, 60, 3) and word == b"mosaic" and mixed.image_id == 7
        image, kinds = mixed.image.numpy(), mixed.classes.numpy().tolist()
        drawn = np.zeros([40, 60], bool)
        for number, (kind, box) in enumerate(zip(kinds, mixed.boxes.numpy() + [0, 0, 1, 1])):
            mask = draw(mixed.edges, mixed.edge_owners, number, 40, 60)
            rows, columns = np.nonzero(mask)
            around = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert np.abs(around - box).max() <= 0.5
            inner = mask[1:-1, 1:-1] & mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
            assert np.all(np.abs(image[1:-1, 1:-1][inner].astype(int) - COLORS[kind]).sum(-1) < 100)
            drawn |= mask
        grounds = (np.abs(image.astype(int) - 90).max(-1) < 8) | np.all(image == 114, axis=-1)
        assert not np.any(drawn & grounds) and np.mean(drawn == ~grounds) > 0.9
        seen.update(kinds)
        empty += np.any(np.all(image == 114, axis=-1))
    assert seen == set(range(6)) and empty


def test_pasted_objects_are_where_their_pixels_are():
    example = picture(*PHOTO)
    pasting = CopyPaste(**ALWAYS, object_probability=1.0, min_visible=0.3)
    places, hidden = set(), 0
    for seed in seeds(10):
        mixed, word = pasting(example, seed, START, read_other)
        *own, pasted = check(mixed, tolerance=1.0, least=0.3 * 25 * 13)
        assert word == b"copy-paste" and pasted in (4, 5) and set(own) <= {0, 1, 2, 3}
        places.add(tuple(mixed.boxes[-1].numpy().tolist()))
        hidden += len(own) < 4
    assert len(places) == 10 and hidden


def test_images_are_not_mixed_at_the_end_of_a_run():
    example, seed = picture(*PHOTO), seeds(1)[0]
    for part in (Mosaic(**ALWAYS, off_for_last=0.25), CopyPaste(**ALWAYS, off_for_last=0.25)):
        again, _ = part(example, seed, START, read_other)
        for field, same in zip(part(example, seed, START, read_other)[0], again, strict=True):
            np.testing.assert_array_equal(field, same)
        words = [part(example, seed, tf.constant(done, tf.float64), read_other)[1] for done in (0.0, 0.74, 0.75)]
        assert [bool(word.numpy()) for word in words] == [True, True, False]


def test_words_say_what_was_done_and_bounds_are_checked():
    example = picture(*PHOTO)
    both = Augmentation(vertical_flip=1.0, quarter_turns=1.0)
    turned, words = both(example, seeds(1)[0], START, read_other)
    assert words.numpy().decode().startswith("upside down, turned by ") and check(turned) == [0, 1, 2, 3]
    assert both.names() == ["vertical flip (p=1)", "quarter turns (p=1)"]
    with pytest.raises(UserError, match="Mosaic.min_scale must be at most its max_scale"):
        Mosaic(min_scale=2.0)
    with pytest.raises(UserError, match="RandomIoUCrop.min_ious"):
        RandomIoUCrop(min_ious=())
