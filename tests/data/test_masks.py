import json
import math

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from tfdet.data import masks
from tfdet.data.masks import MaskError, read_mask
from tfdet.data.rle import counts_from_mask, counts_to_string
from tfdet.data.shapes import draw_shapes

HEIGHT, WIDTH = 8, 12
TRIANGLE = [1, 1.25, 9.7, 2, 4, 7]


def ring_mask():
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[1:7, 2:10], mask[3:5, 4:6] = True, False
    return mask


def test_polygons_stay_as_annotated():
    square = [0.1, 0.7, 3, 0.7, 3, 3, 0.1, 3]
    mask = read_mask([TRIANGLE, square], HEIGHT, WIDTH)
    assert json.loads(mask.segmentation) == [TRIANGLE, square]
    assert (mask.ring_lengths, mask.ring_parts) == ((3, 4), (0, 1))
    np.testing.assert_array_equal(mask.vertices, np.array(TRIANGLE + square, np.float32).reshape(-1, 2))


@pytest.mark.parametrize("compressed", [False, True])
def test_an_rle_becomes_one_part_with_its_hole(compressed):
    counts = counts_from_mask(ring_mask())
    rle = {"size": [HEIGHT, WIDTH], "counts": counts_to_string(counts) if compressed else counts}
    mask = read_mask(rle, HEIGHT, WIDTH)
    np.testing.assert_array_equal(coco_mask.decode(json.loads(mask.segmentation)), ring_mask())
    assert (mask.ring_lengths, mask.ring_parts) == ((4, 4), (0, 0))
    assert {tuple(vertex) for vertex in mask.vertices.tolist()} == {
        (2, 1), (10, 1), (10, 7), (2, 7), (4, 3), (6, 3), (6, 5), (4, 5),
    }  # fmt: skip
    crowd = read_mask(rle, HEIGHT, WIDTH, is_crowd=True)
    assert crowd.segmentation == mask.segmentation and crowd.vertices.shape == (0, 2) and crowd.ring_lengths == ()


@pytest.mark.parametrize("nothing", [None, []])
def test_no_segmentation_is_no_mask(nothing):
    assert read_mask(nothing, HEIGHT, WIDTH) is None


@pytest.mark.parametrize(
    "segmentation, kind",
    [
        (TRIANGLE, masks.UNREADABLE),  # coordinates without the list of polygons
        ("text", masks.UNREADABLE),
        ([[1, 2, 3, 4, 5, "6"]], masks.UNREADABLE),
        ([[1, 2, 3, 4, 5, True]], masks.UNREADABLE),
        ([TRIANGLE, [1, 2, 3, 4, 5, 6, 7]], masks.ODD_COORDINATES),
        ([[]], masks.FEW_POINTS),
        ([[1, 2, 3, 4]], masks.FEW_POINTS),
        ([[1, 2, 3, 4, 5, math.nan]], masks.NOT_FINITE),
        ([[1, 2, 3, 4, 5, math.inf]], masks.NOT_FINITE),
        ([[1, 2, 3, 4, 5, 1e12]], masks.FAR_OUTSIDE),
        ([[1, 2, 3, 4, -13, 5]], masks.FAR_OUTSIDE),
        ([[1, 2, 3, 4, 10**400, 5]], masks.FAR_OUTSIDE),
        ({"counts": [96]}, masks.UNREADABLE),
        ({"size": [HEIGHT, "12"], "counts": [96]}, masks.UNREADABLE),
        ({"size": [HEIGHT, WIDTH]}, masks.UNREADABLE),
        ({"size": [HEIGHT, WIDTH], "counts": [90, -4, 10]}, masks.UNREADABLE),
        ({"size": [HEIGHT, WIDTH], "counts": [90.5, 5.5]}, masks.UNREADABLE),
        ({"size": [HEIGHT, WIDTH], "counts": "\x7f"}, masks.UNREADABLE),
        ({"size": [WIDTH, HEIGHT], "counts": [90, 6]}, masks.WRONG_SIZE),
        ({"size": [HEIGHT, WIDTH], "counts": [90, 5]}, masks.WRONG_SUM),
        ({"size": [HEIGHT, WIDTH], "counts": counts_to_string([90, 10**9])}, masks.WRONG_SUM),
        ({"size": [HEIGHT, WIDTH], "counts": [96]}, masks.NO_PIXEL),
    ],
)
def test_what_cannot_be_a_mask_is_named(segmentation, kind):
    with pytest.raises(MaskError) as caught:
        read_mask(segmentation, HEIGHT, WIDTH)
    assert caught.value.kind == kind and len(caught.value.reason) < 200


def test_shapes_have_the_masks_that_were_drawn():
    kinds = set()
    for image in draw_shapes(12, 64, 96, seed=5).images:
        for item in image.objects:
            mask = read_mask(item.segmentation, image.height, image.width)
            rle = coco_mask.merge(
                coco_mask.frPyObjects(item.segmentation, image.height, image.width)
                if isinstance(item.segmentation, list) else [item.segmentation]
            )  # fmt: skip
            kinds.add((item.category_id, isinstance(item.segmentation, list), max(mask.ring_parts)))
            area = float(coco_mask.area(rle))
            if item.category_id == 1:  # a polygon cuts the pixels of a drawn circle a little differently
                assert abs(area - item.area) < 0.1 * item.area
                np.testing.assert_allclose(coco_mask.toBbox(rle), [item.x, item.y, item.width, item.height], atol=1.01)
            else:
                assert area == item.area
                assert coco_mask.toBbox(rle).tolist() == [item.x, item.y, item.width, item.height]
    assert kinds == {(1, True, 0), (2, True, 1), (3, False, 0)}
