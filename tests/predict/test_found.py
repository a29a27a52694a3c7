"""What was found on an image: choosing, drawing, masks, and the forms of other programs."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from tests.fakes import CATEGORY_IDS, CLASSES, ColorDetector, MaskedColorDetector, PictureInput, picture
from tfdet.data.resize import Resize
from tfdet.errors import UserError
from tfdet.evaluate.run import evaluate
from tfdet.ops.paste_masks import PASTE_RULES
from tfdet.predict.found import Found, Labels
from tfdet.predict.predictors import CheckpointPredictor, edges_of

PICTURE = (64, 128, {0: (10, 8, 41, 47), 1: (60, 4, 99, 43), 2: (104, 20, 127, 63)})
RESIZE = Resize(100, 200)  # enlarged: the last pixel's edge is beyond the border


def find(detector, picture_of=PICTURE):
    return CheckpointPredictor(detector, RESIZE, CLASSES, CATEGORY_IDS)(picture(*picture_of), "street.png")


@pytest.fixture(scope="module")
def found():
    return find(ColorDetector())


@pytest.fixture(scope="module")
def masked():
    return find(MaskedColorDetector())


def test_names_and_ids_follow_the_objects(found):
    assert len(found) == 3 and found.class_ids.tolist() == [0, 1, 2]
    assert found.class_names == CLASSES and found.category_ids == CATEGORY_IDS and found.path == "street.png"
    assert (found.boxes.dtype, found.scores.dtype, found.boxes.shape) == (np.float32, np.float32, (3, 4))
    np.testing.assert_allclose(found.boxes, [[10, 8, 42, 48], [60, 4, 100, 44], [104, 20, 128, 64]], atol=1.0)
    assert found.boxes[:, 2].max() == 128 and found.corners[:, 2].max() > 127, "edges end at the border"
    assert repr(found) == "Found(1 red, 1 green, 1 blue on 128x64 pixels)"


def test_choosing(found, masked):
    assert found.above(float(found.scores[1])).class_names == ["red", "green"] and len(found.above(1.0)) == 0
    assert found.of_class("blue", "red").class_ids.tolist() == [0, 2]
    assert [one.class_names for one in found] == [["red"], ["green"], ["blue"]]
    last = masked[-1]
    np.testing.assert_array_equal(last.masks, masked.masks[2:])
    np.testing.assert_array_equal(masked[masked.class_ids > 0].corners, masked.corners[1:])
    assert len(found[:2]) == 2 and len(found[[2, 0]]) == 2 and len(found[[]]) == 0
    assert repr(found[:0]).startswith("Found(nothing") and found[:0].to_coco() == []
    with pytest.raises(UserError, match="no class 'rad'. Did you mean 'red'"):
        found.of_class("rad")
    with pytest.raises(IndexError):
        found[3]


def test_records_are_those_of_evaluation(found, masked):
    for one, detector in ((found, ColorDetector()), (masked, MaskedColorDetector())):
        source = PictureInput([PICTURE], RESIZE.short_side, RESIZE.long_side)
        assert one.to_coco(1000) == evaluate(detector, source, num_samples=0).detections


@pytest.mark.parametrize("rule", PASTE_RULES)
def test_masks_are_pasted_by_the_models_rule(masked, rule):
    one = dataclasses.replace(masked, labels=masked.labels._replace(mask_paste=rule))
    assert (one.masks.dtype, one.masks.shape) == (bool, (3, 64, 128))
    for mask, record in zip(one.masks, one.to_coco(), strict=True):
        np.testing.assert_array_equal(mask, coco_mask.decode(record["segmentation"]).astype(bool))
    assert one.masks is one.masks, "pasted once"


def test_a_model_without_masks_has_none(found):
    assert found.masks is None and "segmentation" not in found.to_coco()[0]


def test_a_drawing_is_a_new_pil_image(found, masked):
    before = found.image.copy()
    drawn = found.draw()
    assert drawn.size == (128, 64) and np.array_equal(found.image, before)
    assert (np.asarray(drawn) != before).any()
    assert (np.asarray(masked.draw()) != np.asarray(drawn)).any(), "masks are drawn too"
    assert np.array_equal(np.asarray(found[:0].draw()), before)


def test_an_export_without_labels_numbers_its_classes(found):
    bare = dataclasses.replace(found, labels=Labels([], []))
    assert bare.class_names == ["class 1", "class 2", "class 3"] and bare.category_ids == [1, 2, 3]
    assert len(bare.of_class("class 2")) == 1


def test_edges_end_at_the_border():
    corners = np.float32([[0, 1, 126.5, 62.9], [5, 5, 127.3, 63.9]])
    np.testing.assert_array_equal(edges_of(corners, 64, 128)[:, 2:], np.float32([[127.5, 63.9], [128, 64]]))


def test_supervision_gets_the_same(masked):
    import supervision

    detections = masked.to_supervision()
    assert isinstance(detections, supervision.Detections) and len(detections) == 3
    np.testing.assert_array_equal(detections.xyxy, masked.boxes)
    np.testing.assert_array_equal(detections.mask, masked.masks)
    np.testing.assert_array_equal(detections.confidence, masked.scores)
    assert detections.class_id.tolist() == [0, 1, 2] and detections["class_name"].tolist() == CLASSES
    assert len(detections[detections.confidence > masked.scores[1]]) == 1
    assert len(masked[:0].to_supervision()) == 0


def test_supervision_that_is_not_there_is_one_line(found, monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(UserError, match=r"pip install 'tfdet\[supervision\]'"):
        found.to_supervision()


def test_found_needs_no_predictor():
    one = Found(
        np.zeros([4, 6, 3], np.uint8), np.float32([[1, 1, 3, 3]]), np.float32([0.5]), np.int32([0]), Labels([], [])
    )
    assert one.to_coco(3) == [{"image_id": 3, "category_id": 1, "bbox": [1.0, 1.0, 2.0, 2.0], "score": 0.5}]
