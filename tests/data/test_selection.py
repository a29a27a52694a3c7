"""Some classes of a data set: what is counted, trained on and measured."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tfdet.data.inputs import EvalInput, TrainInput
from tfdet.data.manifest import Manifest
from tfdet.data.selection import select_classes
from tfdet.errors import UserError

CAT, DOG = 3, 7
# Of images 10 to 13: both classes, a dog, a cat, nothing.
BOXES = [[(1, 2, 9, 9, CAT), (5, 5, 20, 9, DOG)], [(1, 2, 8, 9, DOG)], [(3, 3, 7, 7, CAT)], []]


@pytest.fixture
def folder(tmp_path, make_set):
    make_set(tmp_path / "set", [(30, 40), (30, 40), (40, 30), (30, 40)], BOXES)
    return tmp_path / "set"


def test_objects_of_other_classes_are_not_there(folder):
    train = TrainInput(folder, 30, 40, 1, flip=False, classes=("dog",))
    manifest = train.manifest
    assert (manifest.classes, manifest.category_ids, manifest.left_out) == (["dog"], [DOG], (CAT,))
    assert (manifest.num_boxes, manifest.boxes_per_class, manifest.num_images_without_boxes) == (2, [2], 2)
    assert (manifest.num_images, manifest.num_trainable_landscape, manifest.num_trainable_portrait) == (4, 2, 0)
    batches = list(train.dataset().take(2).as_numpy_iterator())
    assert sorted(int(batch.image_ids[0]) for batch in batches) == [10, 11] and train.steps_per_epoch(1) == 2
    for batch in batches:
        np.testing.assert_array_equal(batch.classes, [[0]])  # the cat of image 10 is background
    measured = EvalInput(folder, 30, 40, classes=("dog",))
    truth = measured.ground_truth()
    assert [entry["category_id"] for entry in truth["annotations"]] == [DOG, DOG] and len(truth["images"]) == 4
    assert truth["categories"] == [{"id": DOG, "name": "dog"}]
    assert [int((batch.classes >= 0).sum()) for batch in measured.dataset().as_numpy_iterator()] == [1, 1, 0, 0]


def test_an_order_of_ones_own_changes_the_numbers_alone(folder):
    whole = Manifest.load(folder)
    turned = select_classes(whole, ("dog", "cat"), "TrainInput.classes")
    assert (turned.classes, turned.category_ids, turned.boxes_per_class) == (["dog", "cat"], [DOG, CAT], [2, 2])
    assert turned.load_index() is not None and turned.left_out == () and select_classes(whole, None, "") is whole


def test_what_a_run_keeps_of_a_selection_is_a_manifest(folder, tmp_path):
    selected = select_classes(Manifest.load(folder), ("cat",), "TrainInput.classes")
    (tmp_path / "run").mkdir()
    dataclasses.replace(selected, name="renamed").write(tmp_path / "run")
    again = Manifest.load(tmp_path / "run", check_shards=False)
    assert (again.name, again.classes, again.num_boxes) == ("renamed", ["cat"], 2)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (
            ("dgo",),
            "TrainInput.classes names 'dgo', which the data set 'tiny' .* Did you mean 'dog'.* It has cat, dog",
        ),
        (("dog", "dog"), "must name each class once"),
        ((), "must name each class once, and one at least"),
    ],
)
def test_wrong_names_are_refused(folder, classes, message):
    with pytest.raises(UserError, match=message):
        TrainInput(folder, 30, 40, classes=classes)
