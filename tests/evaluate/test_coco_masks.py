"""COCO's mask figures of hand-made cases whose AP is known."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from tests.evaluate.test_coco import annotation, detections, evaluate, truth
from tfdet.errors import UserError
from tfdet.evaluate.coco import to_records

SQUARE, WHOLE = [0, 0, 99, 99], [0, 0, 100, 100]
LEFT_HALF = [[0, 0, 50, 0, 50, 100, 0, 100]]
ALL = [[0, 0, 100, 0, 100, 100, 0, 100]]


def with_masks(found, *columns):
    """Masks of 28x28 whose first columns are inside, for the slots of each image."""
    inside = np.arange(28) < np.array(columns, np.float32)[..., None]
    slots = found.classes.shape[1]
    masks = np.zeros([*found.classes.shape, 28, 28], np.float32)
    masks[:, : inside.shape[1]] = inside[:, :slots, None]
    return found._replace(masks=masks)


def test_masks_have_figures_of_their_own():
    """The box is perfect, its mask twice the object: IoU 1/2, above no threshold but .50."""
    found = detections([(SQUARE, 0, 0.9)])
    ground_truth = truth(annotation(1, WHOLE, segmentation=LEFT_HALF), images=[1])
    result, evaluator = evaluate(ground_truth, [1], with_masks(found, [28]))
    assert result.metrics["AP"] == pytest.approx(1.0)
    assert result.mask_metrics["AP"] < 0.11
    assert [entry.num_boxes for entry in result.mask_per_class] == [1, 0, 0]
    result, _ = evaluate(ground_truth, [1], with_masks(found, [14]))
    assert result.metrics["AP"] == pytest.approx(1.0) and result.mask_metrics["AP"] >= 0.9
    assert result.mask_per_class[0].ap == result.mask_metrics["AP"]
    (record,) = evaluator.detections
    assert record["segmentation"]["size"] == [200, 200]
    assert coco_mask.area(record["segmentation"]) == pytest.approx(10000, rel=0.05)


def test_objects_of_any_form():
    """Polygons, run lengths with and without compression, a crowd, and an object without a segmentation."""
    drawn = np.zeros([200, 200], np.uint8)
    drawn[:100, :100] = 1
    compressed = coco_mask.encode(np.asfortranarray(drawn))
    plain = {"size": [200, 200], "counts": [value for _ in range(100) for value in (100, 100)]}
    plain["counts"] = [0, *plain["counts"][:-1], 100 + 200 * 100]
    assert coco_mask.area(coco_mask.frPyObjects(plain, 200, 200)) == 10000
    for segmentation in (ALL, compressed, plain, None, []):
        objects = [
            annotation(1, WHOLE, segmentation=segmentation),
            annotation(2, WHOLE, segmentation=ALL),
            annotation(2, [120, 120, 60, 60], segmentation=compressed, iscrowd=1),
        ]
        found = with_masks(detections([(SQUARE, 0, 0.9)], [(SQUARE, 0, 0.8)]), [28], [28])
        result, _ = evaluate(truth(*objects), [1, 2], found)
        assert result.mask_metrics["AP"] == pytest.approx(1.0), segmentation


def test_no_mask_figures_where_one_side_has_none():
    found = detections([(SQUARE, 0, 0.9)])
    result, evaluator = evaluate(truth(annotation(1, WHOLE), images=[1]), [1], with_masks(found, [28]))
    assert result.mask_metrics is None and "segmentation" in evaluator.detections[0]
    result, evaluator = evaluate(truth(annotation(1, WHOLE, segmentation=ALL), images=[1]), [1], found)
    assert result.mask_metrics is None and "segmentation" not in evaluator.detections[0]


def test_no_detection_is_zero_and_no_object_is_nothing():
    sizeless = truth(annotation(1, WHOLE), images=[1])
    sizeless["images"] = [{"id": 1}]
    with pytest.raises(UserError, match="no height and width"):
        evaluate(sizeless, [1], with_masks(detections([(SQUARE, 0, 0.9)]), [28]))
    nothing = with_masks(detections([]), [28])
    result, _ = evaluate(truth(annotation(1, WHOLE, segmentation=ALL), images=[1]), [1], nothing)
    assert result.mask_metrics["AP"] == 0.0
    result, _ = evaluate(truth(annotation(2, WHOLE, segmentation=ALL)), [1], nothing)
    assert result.mask_metrics["AP"] == -1.0


def test_the_detectors_own_rule_of_pasting_decides():
    """A mask of one half: Detectron2 counts the pixels whose centres see 0.5, SimpleDet those that see more."""
    found = with_masks(detections([(SQUARE, 0, 0.9)]), [28])
    found = found._replace(masks=found.masks * 0.5)
    area = {
        rule: coco_mask.area(to_records(1, found, 0, [1, 2, 3], (200, 200), rule)[0]["segmentation"])
        for rule in ("simpledet", "torchvision", "detectron2")
    }
    assert area["simpledet"] == area["torchvision"] == 0 and area["detectron2"] > 9000
