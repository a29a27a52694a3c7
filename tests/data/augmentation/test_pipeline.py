"""Augmentation in the training input: a function of seed and step, off without a word, on canvases of fixed size."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from tfdet.data.augmentation.augmentation import Augmentation
from tfdet.data.augmentation.color import ColorJitter
from tfdet.data.augmentation.copy_paste import CopyPaste
from tfdet.data.augmentation.crop import RandomIoUCrop
from tfdet.data.augmentation.mosaic import Mosaic
from tfdet.data.inputs import TrainInput
from tfdet.errors import UserError

SIDES = {"short_side": (20, 24), "long_side": 36}


@pytest.fixture(scope="module")
def masked_set(tmp_path_factory):
    """6 landscape and 3 portrait images of two objects with masks and a crowd each, and one image of nothing."""
    from tests.data.conftest import CocoBuilder
    from tfdet.data.convert import convert
    from tfdet.data.formats.coco import read_coco
    from tfdet.data.problems import ProblemReport

    folder = tmp_path_factory.mktemp("masked")
    coco = CocoBuilder(folder / "coco")
    for number in range(10):
        height, width = (40, 30) if number % 3 == 2 else (30, 40)
        coco.image(number, height, width)
        if number == 9:
            continue
        for shift, crowd in ((0, 0), (12, 0), (5, 1)):
            left, top = 2 + number % 4 + shift, 3 + shift // 2
            corners = [left, top, left + 10, top, left + 10, top + 9, left + 3, top + 12]
            mask = {"size": [height, width], "counts": [0, height * width]} if crowd else [corners]
            coco.box(number, (left, top, 10, 12), iscrowd=crowd, segmentation=mask)
    report = ProblemReport()
    convert(read_coco([coco.write()], report), folder / "set", "masked", "test", report, 2, num_workers=0)
    return folder / "set"


def light():
    """What reads no other image, and is traced in a second."""
    return Augmentation(crop=RandomIoUCrop(), vertical_flip=0.5, quarter_turns=0.5, color=ColorJitter())


def mixing():
    return Augmentation(mosaic=Mosaic(), copy_paste=CopyPaste(), crop=RandomIoUCrop(), quarter_turns=0.5)


class Clock:
    """In place of an augmentation: images as bright as the run is old, in hundredths."""

    needs_masks = False

    def __call__(self, example, seed, progress, read):
        level = tf.cast(tf.round(100 * progress), tf.uint8)
        return example._replace(image=tf.zeros_like(example.image) + level), tf.constant("")


def take(dataset, count):
    return list(itertools.islice(dataset.as_numpy_iterator(), count))


def assert_same(first, second):
    assert len(first) == len(second)
    for a, b in zip(first, second):
        for name, x, y in zip(a._fields, a, b):
            np.testing.assert_array_equal(x, y, err_msg=name)


def joined(parts):
    """The batches of the replicas of a step as one, slots without an object left out."""
    return [
        [np.concatenate([part.images for part in parts]), np.concatenate([part.image_ids for part in parts])],
        [box for part in parts for boxes in part.boxes for box in boxes.tolist() if box[0] >= 0 or box[2] >= 0],
        [edge for part in parts for edges, own in zip(part.edges, part.edge_owners) for edge in edges[own[:, 0] >= 0]],
    ]


@pytest.mark.parametrize("make", [light, pytest.param(mixing, marks=pytest.mark.slow)])
def test_a_function_of_seed_and_step(masked_set, make):
    """Again from the middle, and by one thread on two replicas; on canvases, boxes within the images."""
    options = {"masks": make is mixing, "augmentation": make(), **SIDES}
    one = TrainInput(masked_set, images_per_replica=2, num_parallel_calls=4, **options)
    two = TrainInput(masked_set, images_per_replica=1, num_parallel_calls=1, **options)
    steps = one.steps_per_epoch(1)
    whole = take(one.dataset(1, seed=5, total_steps=20), steps + 6)
    assert_same(take(one.dataset(1, start_step=steps - 2, seed=5, total_steps=20), 8), whole[steps - 2 :])
    halves = take(two.dataset(2, start_step=3, seed=5, total_steps=20), 8)
    for step, batch in enumerate(whole[3:7]):
        for mine, theirs in zip(joined([batch]), joined(halves[2 * step : 2 * step + 2]), strict=True):
            for value, same in zip(mine, theirs, strict=True):
                np.testing.assert_array_equal(value, same)
    for batch in whole:
        assert batch.images.shape[1:3] in ((24, 36), (36, 24))
        real = batch.classes >= 0
        sides = batch.boxes[..., 2:] - batch.boxes[..., :2]
        height, width = batch.image_info[:, None, 0], batch.image_info[:, None, 1]
        assert real.any(1).all() and np.all(sides[real] >= 0)
        assert np.all((batch.boxes[..., 2] <= width) | ~real) and np.all((batch.boxes[..., 3] <= height) | ~real)
        assert np.all(np.diff(np.where(batch.edge_owners[..., 0] < 0, 99, batch.edge_owners[..., 0]), axis=1) >= 0)
    assert len({size for batch in whole for size in batch.image_info[:, 2].tolist()}) > 4
    if make is mixing:
        assert np.max([np.sum(batch.classes >= 0, axis=1) for batch in whole]) > 2


def test_the_part_of_the_run_that_is_done(masked_set):
    """Of 20 steps and from the middle; without a number of steps a run has no end."""
    train = TrainInput(masked_set, images_per_replica=2, augmentation=Clock(), **SIDES)
    levels = [batch.images.max((1, 2, 3)).tolist() for batch in take(train.dataset(start_step=7, total_steps=20), 13)]
    assert levels == [[5 * step] * 2 for step in range(7, 20)]
    assert not take(train.dataset(start_step=7), 1)[0].images.any()


def test_views_are_what_training_sees_with_words_for_it(masked_set):
    pasting = Augmentation(copy_paste=CopyPaste(), vertical_flip=0.5)
    train = TrainInput(masked_set, augmentation=pasting, **SIDES)
    views = list(train.views([4, 2], 4, seed=1))
    assert [int(item.image_ids) for item, _ in views] == [4] * 4 + [2] * 4
    assert [item.images.shape for item, _ in views] == [(24, 36, 3)] * 4 + [(36, 24, 3)] * 4
    words = [text for _, text in views]
    assert {"upside down", "copy-paste"} <= set(", ".join(words).split(", ")) and len(set(words)) > 2
    assert len({item.images.tobytes() for item, _ in views}) > 6
    assert any(len(item.classes) > 2 for item, text in views if "copy-paste" in text)
    assert views[0][0].edges.shape == (0, 4), "masks were read to paste, and are not for a detector of boxes"


def test_copy_paste_needs_masks(mixed_set):
    pasting = Augmentation(copy_paste=CopyPaste())
    with pytest.raises(UserError, match="Augmentation.copy_paste cuts objects out along their masks, but data set"):
        TrainInput(mixed_set, augmentation=pasting, **SIDES)
