import collections

import numpy as np
import pytest

from tfdet.data.annotations import AnnotationSet, Category, ImageAnnotation, ObjectAnnotation
from tfdet.data.conversion import Division, splits_of
from tfdet.data.problems import ProblemReport
from tfdet.data.splitting import divide, own_splits
from tfdet.errors import UserError

CATEGORIES = [Category(number, name) for number, name in enumerate(("common", "some", "rare"), 1)]


def images(count=200, name="v{:02d}_{:04d}.jpg", split=""):
    """Images with a common class in each, another in a third, a rare one in 10; every tenth without objects."""
    found = []
    for number in range(count):
        kinds = [1] + [2] * (number % 3 == 0) + [3] * (number % (count // 10) == 1)
        objects = [] if number % 10 == 9 else [ObjectAnnotation(1, 1, 5, 5, kind, 25) for kind in kinds]
        found.append(ImageAnnotation(number + 1, name.format(number // 10, number), None, 40, 60, objects, b"", split))
    return found


def names(part):
    return [image.file_name for image in part.images]


def test_each_split_has_its_share_of_every_class():
    whole = AnnotationSet(CATEGORIES, images())
    parts = divide(whole, 0.2, 0.1)
    assert {name: len(part.images) for name, part in parts.items()} == {"train": 140, "val": 40, "test": 20}
    assert sorted(sum(map(names, parts.values()), [])) == names(whole)

    def with_class(part, kind):
        return sum(any(item.category_id == kind for item in image.objects) for image in part.images)

    for kind in (1, 2, 3):
        total = with_class(whole, kind)
        shares = [with_class(part, kind) / total for part in parts.values()]
        np.testing.assert_allclose(shares, [0.7, 0.2, 0.1], atol=1.01 / total, err_msg=f"class {kind} of {total}")
    empty = [sum(not image.objects for image in part.images) for part in parts.values()]
    np.testing.assert_allclose(empty, [14, 4, 2], atol=1.5)


def test_the_order_of_files_does_not_matter_but_the_seed_does():
    whole = images()
    parts = divide(AnnotationSet(CATEGORIES, whole), 0.2)
    turned = divide(AnnotationSet(CATEGORIES, whole[::-1]), 0.2)
    assert names(parts["val"]) == names(turned["val"])[::-1]
    assert names(divide(AnnotationSet(CATEGORIES, whole), 0.2, seed=1)["val"]) != names(parts["val"])
    assert names(parts["train"]) == sorted(names(parts["train"])), "images stay in their order"


def test_frames_of_one_video_stay_together():
    whole = AnnotationSet(CATEGORIES, images())
    parts = divide(whole, 0.25, group_by=r"^v\d+")
    owner = collections.defaultdict(set)
    for name, part in parts.items():
        for image in part.images:
            owner[image.file_name.split("_")[0]].add(name)
    assert len(owner) == 20 and all(len(splits) == 1 for splits in owner.values())
    assert len(parts["val"].images) == 50
    assert divide(whole, 0.25, group_by=r"^(v\d+)_") == parts, "a group of the expression is what is compared"
    for pattern, message in (("(", "no regular expression"), ("^x", "found in no name"), ("^v", "makes 1 groups")):
        with pytest.raises(UserError, match=message):
            divide(whole, 0.25, group_by=pattern)


def test_few_images_and_wrong_fractions():
    whole = AnnotationSet(CATEGORIES, images(20)[:3])
    parts = divide(whole, 0.05, 0.05)
    assert [len(part.images) for part in parts.values()] == [1, 1, 1]
    for fractions, message in (
        ((1.0,), "val_fraction is 1"), ((-0.1,), "val_fraction is -0.1"), ((0.5, 0.5), "leave no image"),
        ((float("nan"),), "val_fraction is nan"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=message):
            divide(whole, *fractions)
    with pytest.raises(UserError, match="1 images, too few|there are 1 images"):
        divide(AnnotationSet(CATEGORIES, whole.images[:1]), 0.2)


def test_splits_of_the_source_are_kept_unless_one_says():
    train, val = images(20, "t{}{}.jpg", "train"), images(10, "v{}{}.jpg", "val")
    both = AnnotationSet(CATEGORIES, [*train, *val])
    assert {name: len(part.images) for name, part in own_splits(both).items()} == {"train": 20, "val": 10}
    assert own_splits(AnnotationSet(CATEGORIES, train)) == {}
    report = ProblemReport()
    assert list(splits_of(both, Division(), report)) == ["train", "val"] and not report.problems
    assert len(splits_of(both, Division(split="val"), report)["all"].images) == 10
    with pytest.raises(UserError, match="have splits already .train 20, val 10.*--split=all"):
        splits_of(both, Division(val_fraction=0.2), report)
    with pytest.raises(UserError, match="of the split 'test'; there are: train, val"):
        splits_of(both, Division(split="test"), report)
    with pytest.raises(UserError, match="--renumber"):
        splits_of(both, Division(split="all"), report)
    assert list(splits_of(both, Division(val_fraction=0.2, split="train"), report)) == ["train", "val"]
    with pytest.raises(UserError, match="group_by is for"):
        Division(group_by="x")
    both.images.append(images(10, "x{}{}.jpg")[0])
    assert list(splits_of(both, Division(), report)) == ["train", "val"]
    assert report.counts() == {"image in no split": 1}
