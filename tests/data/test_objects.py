"""What becomes of the objects of one image."""

import pytest

from tfdet.data import masks, objects
from tfdet.data.annotations import ObjectAnnotation
from tfdet.data.objects import judge_objects

HEIGHT, WIDTH = 120, 160
SQUARE = [[40, 30, 80, 30, 80, 60, 40, 60]]


def item(box=(40, 30, 40, 30), segmentation=None, number=1, crowd=False):
    return ObjectAnnotation(*box, 3, box[2] * box[3], crowd, segmentation, number)


def judge(*items, size=(HEIGHT, WIDTH)):
    kept, problems = judge_objects(list(items), *size, "a.jpg", 1)
    return kept, [(problem.kind, problem.action) for problem in problems]


def shifted(dx, dy):
    return [[value + (dy if place % 2 else dx) for place, value in enumerate(SQUARE[0])]]


@pytest.mark.parametrize(
    ("segmentation", "apart"),
    [
        (SQUARE, False), (shifted(2, 2), False), (shifted(10, 0), False),
        (shifted(25, 0), True), (shifted(60, 0), True),
        ([[value / 160 for value in SQUARE[0]]], True),  # normalised
        ([[30, 40, 30, 80, 60, 80, 60, 40]], True),  # x and y swapped
        ({"size": [HEIGHT, WIDTH], "counts": [40 * HEIGHT + 30, 30] + [90, 30] * 39 + [HEIGHT * 81 - 60]}, False),
        ({"size": [HEIGHT, WIDTH], "counts": [0, 30, HEIGHT * WIDTH - 30]}, True),
    ],
)  # fmt: skip
def test_box_and_mask_that_are_apart_are_named(segmentation, apart):
    if isinstance(segmentation, dict):
        segmentation["counts"][-1] += HEIGHT * WIDTH - sum(segmentation["counts"])
    kept, found = judge(item(segmentation=segmentation))
    assert (objects.APART, "both kept") in found if apart else found == []
    assert kept[0][1] is not None


def test_tiny_masks_and_crowds_are_not_apart():
    assert judge(item((10, 10, 1, 1), [[10, 10, 11.9, 10, 11.9, 11.9]]))[1] == []
    rle = {"size": [HEIGHT, WIDTH], "counts": [0, HEIGHT * WIDTH]}
    assert judge(item(segmentation=rle, crowd=True))[1] == []


def test_the_same_annotation_twice_is_left_out():
    twice = [item(segmentation=SQUARE, number=number) for number in (1, 2)]
    kept, found = judge(*twice, item(number=3), item(segmentation=shifted(1, 1), number=4), item(number=5, crowd=True))
    assert [one.annotation_id for one, _ in kept] == [1, 3, 4, 5]
    assert found == [(objects.TWICE, "left out")]


def test_no_mask_is_the_same_in_all_its_forms():
    kept, found = judge(*(item(segmentation=none, number=number) for number, none in enumerate(([], None, []))))
    assert [one.annotation_id for one, _ in kept] == [0] and found == [(objects.TWICE, "left out")] * 2


@pytest.mark.parametrize(
    ("polygon", "action"),
    [
        ([50, 40, 50, 40, 50, 40], "box kept without mask"),
        ([40, 30, 60, 45, 80, 60], "box kept without mask"),  # a line
        ([40, 45.1, 80, 45.1, 80, 45.2, 40, 45.2], "kept"),  # between the centres of two rows
        ([40, 30, 80, 60, 80, 30, 40, 60], None),  # it crosses itself: the signed area is 0, pixels there are
    ],
)
def test_polygons_without_a_pixel(polygon, action):
    kept, found = judge(item(segmentation=[polygon]))
    found = [act for kind, act in found if kind == masks.NO_PIXEL]
    assert found == ([action] if action else []) and (kept[0][1] is None) == (action == "box kept without mask")


def test_an_image_without_size_has_no_borders_and_no_masks():
    kept, found = judge(item((500, 30, 40, 30), SQUARE), size=(0, 0))
    assert len(kept) == 1 and kept[0][1] is None
    assert found == [("mask of an image without size", "box kept without mask")]
