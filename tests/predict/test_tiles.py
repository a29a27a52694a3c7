"""Large photos in tiles: what is cut, what is put together, and the arithmetic of the fusion."""

from __future__ import annotations

import numpy as np
import pytest

from tests.fakes import picture
from tests.predict.color_predictor import ColorPredictor
from tfdet.errors import UserError
from tfdet.predict.fusion import moved_mask, suppress, weighted_box_fusion
from tfdet.predict.thresholds import Thresholds
from tfdet.predict.tiles import TiledPredictor, Tiles

# The example of ensemble-boxes' page, and what its version 1.0.9 gives.
BOXES = [
    [[0.00, 0.51, 0.81, 0.91], [0.10, 0.31, 0.71, 0.61], [0.01, 0.32, 0.83, 0.93], [0.02, 0.53, 0.11, 0.94]]
    + [[0.03, 0.24, 0.12, 0.35]],
    [[0.04, 0.56, 0.84, 0.92], [0.12, 0.33, 0.72, 0.64], [0.38, 0.66, 0.79, 0.95], [0.08, 0.49, 0.21, 0.89]],
]
SCORES, LABELS = [[0.9, 0.8, 0.2, 0.4, 0.7], [0.5, 0.8, 0.7, 0.3]], [[0, 1, 0, 1, 1], [1, 1, 1, 0]]
FUSED = [
    [0.11, 0.32, 0.715, 0.625], [0.0018182, 0.4754545, 0.8136364, 0.9136364], [0.03, 0.24, 0.12, 0.35],
    [0.38, 0.66, 0.79, 0.95], [0.04, 0.56, 0.84, 0.92], [0.02, 0.53, 0.11, 0.94], [0.08, 0.49, 0.21, 0.89],
]  # fmt: skip


def test_fusion_is_that_of_ensemble_boxes():
    boxes, scores, labels = (np.concatenate(parts) for parts in (BOXES, SCORES, LABELS))
    fused = weighted_box_fusion(boxes, scores, labels, iou_threshold=0.5, num_models=2)
    np.testing.assert_allclose(fused.boxes, FUSED, atol=1e-6)
    np.testing.assert_allclose(fused.scores, [0.8, 0.55, 0.35, 0.35, 0.25, 0.2, 0.15], atol=1e-6)
    assert fused.classes.tolist() == [1, 0, 1, 1, 1, 1, 0] and [len(one) for one in fused.members][:2] == [2, 2]
    alone = weighted_box_fusion(boxes, scores, labels, iou_threshold=0.5)
    np.testing.assert_allclose(sorted(alone.scores), sorted([0.8, 0.55, 0.7, 0.7, 0.5, 0.4, 0.3]), atol=1e-6)
    assert len(weighted_box_fusion(np.zeros([0, 4]), np.zeros(0), np.zeros(0)).boxes) == 0


def test_suppression_is_of_each_class():
    boxes = [[0, 0, 10, 10], [1, 0, 11, 10], [1, 0, 11, 10], [50, 50, 60, 60]]
    assert suppress(boxes, np.array([0.5, 0.9, 0.7, 0.6]), np.array([0, 0, 1, 0])).tolist() == [1, 2, 3]


def test_tiles_cover_the_image_and_are_full():
    places = Tiles(800, 0.2).places(1000, 2000)
    assert places[:3] == [(0, 0, 800, 800), (640, 0, 1440, 800), (1200, 0, 2000, 800)]
    assert {y1 for _, y1, _, _ in places} == {0, 200} and len(places) == 6
    assert Tiles(800).places(800, 500) == [(0, 0, 500, 800)]
    for bad in ({"side": 10}, {"side": 2.5}, {"side": 800, "overlap": 0.95}, {"side": 800, "merge": "mean"}):
        with pytest.raises(UserError, match="tile"):
            Tiles(**bad)


def large(boxes):
    return picture(300, 400, boxes)


@pytest.mark.parametrize("merge", ["nms", "wbf"])
@pytest.mark.parametrize("masks", [False, True])
def test_objects_come_out_once_and_whole(merge, masks):
    """Red lies over four tiles, green within the overlap of two, blue is longer than a tile."""
    boxes = {0: (70, 70, 139, 129), 1: (84, 10, 97, 30), 2: (5, 250, 350, 280)}
    plain, predictor = ColorPredictor(masks)(large(boxes)), ColorPredictor(masks)
    found = TiledPredictor(predictor, Tiles(100, 0.2, merge))(large(boxes), "a.png")
    assert found.class_names == ["red", "green", "blue"] and found.path == "a.png"
    np.testing.assert_allclose(found.boxes, plain.boxes, atol=1e-4)
    np.testing.assert_allclose(found.scores, plain.scores, atol=1e-6)
    assert set(predictor.shapes) == {(100, 100)}, "no more than a tile is ever looked at"
    if masks:
        assert found.masks.shape == (3, 300, 400)
        for mine, theirs in zip(found.masks, plain.masks, strict=True):
            assert (mine & theirs).sum() / (mine | theirs).sum() > 0.85


def test_the_whole_image_is_looked_at_too_where_asked_for():
    predictor = ColorPredictor()
    boxes = {0: (20, 20, 379, 279)}
    found = TiledPredictor(predictor, Tiles(100, full_image=True))(large(boxes))
    np.testing.assert_allclose(found.boxes, [[20, 20, 380, 280]])
    assert predictor.shapes[-1] == (300, 400)


def test_a_small_image_is_not_cut():
    predictor, image = ColorPredictor(True), large({0: (70, 70, 139, 129)})
    found = TiledPredictor(predictor, Tiles(400), Thresholds(0.5).keep)(image)
    plain = predictor(image)
    assert predictor.shapes == [(300, 400)] * 2
    np.testing.assert_array_equal(found.mask_probabilities, plain.mask_probabilities)


class Given(ColorPredictor):
    """Finds on the n-th tile what it was given for it."""

    def __init__(self, *tiles):
        super().__init__()
        self._tiles = list(tiles)

    def __call__(self, image, path=None):
        rows = np.array(self._tiles.pop(0), np.float32).reshape(-1, 6)
        found = super().__call__(image, path)
        order = np.argsort(-rows[:, 4])
        import dataclasses

        return dataclasses.replace(
            found, boxes=rows[order, :4], scores=rows[order, 4], class_ids=rows[order, 5].astype(np.int32)
        )


def tiled(*tiles):
    """Two tiles of an image of 180 x 100: columns 0 to 100 and 80 to 180."""
    return TiledPredictor(Given(*tiles), Tiles(100, 0.2))(np.zeros([100, 180, 3], np.uint8))


def test_a_part_of_an_object_gives_way_to_the_whole_whatever_its_score():
    found = tiled([[85, 10, 100, 40, 0.9, 0]], [[5, 10, 60, 40, 0.5, 0]])
    np.testing.assert_allclose(found.boxes, [[85, 10, 140, 40]])
    np.testing.assert_allclose(found.scores, [0.5])


def test_neighbours_are_not_joined():
    # Of other classes, of other rows, and a whole object that lies in a larger one.
    found = tiled([[50, 10, 100, 40, 0.9, 0]], [[0, 10, 60, 40, 0.8, 1]])
    assert len(found) == 2
    found = tiled([[50, 10, 100, 40, 0.9, 0]], [[0, 50, 60, 80, 0.8, 0]])
    assert len(found) == 2
    found = tiled([], [[2, 10, 90, 90, 0.8, 0], [30, 30, 50, 60, 0.9, 0]])
    assert len(found) == 2
    joined = tiled([[50, 10, 100, 40, 0.7, 0]], [[0, 12, 60, 41, 0.8, 0]])
    np.testing.assert_allclose(joined.boxes, [[50, 10, 140, 41]])
    np.testing.assert_allclose(joined.scores, [0.8])


def test_masks_move_with_their_boxes():
    mask = np.zeros([4, 4], np.float32)
    mask[:, 2:] = 1
    box = np.array([0.0, 0, 4, 4])
    np.testing.assert_allclose(moved_mask(mask, box, box), mask)
    wider = moved_mask(mask, box, np.array([0.0, 0, 8, 4]))
    np.testing.assert_allclose(wider[0], [0, 1, 0, 0], atol=1e-6)
