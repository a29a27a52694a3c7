"""Ground truth is read by the rules of conversion before pycocotools sees it."""

import copy
import math
import random
from types import SimpleNamespace

import numpy as np
import pytest

from tfdet.data.problems import ProblemReport
from tfdet.errors import UserError
from tfdet.evaluate.coco import CocoEvaluator
from tfdet.evaluate.ground_truth import checked_ground_truth
from tfdet.structures import Detections

MANIFEST = SimpleNamespace(name="hand", classes=["dog"], category_ids=[90])
SQUARE = [[10, 20, 40, 20, 40, 60, 10, 60]]
TRUTH = {
    "images": [{"id": 1, "width": 100, "height": 80}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 90, "bbox": [10, 20, 30, 40], "area": 1200, "segmentation": SQUARE},
        {"id": 2, "image_id": 1, "category_id": 90, "bbox": [60, 20, 30, 40], "area": 1200, "iscrowd": 0},
    ],
    "categories": [{"id": 90, "name": "dog"}],
}


def changed(**fields):
    truth = copy.deepcopy(TRUTH)
    truth["annotations"][0] |= fields
    return truth


def measured(truth):
    """The evaluator after the first box and its mask were found exactly."""
    masks = np.ones([1, 1, 28, 28], np.float32)
    evaluator = CocoEvaluator(truth, MANIFEST)
    box = np.float32([[[10, 20, 39, 59]]])
    evaluator.add([1], Detections(box, np.float32([[0.9]]), np.int32([[0]]), np.int32([1]), masks))
    return evaluator


@pytest.mark.parametrize(
    ("fields", "kind", "num_boxes"),
    [
        ({"bbox": [math.nan, 20, 30, 40], "segmentation": None}, "degenerate box", 1),
        ({"bbox": [10, 20, math.inf, 40], "segmentation": None}, "degenerate box", 1),
        ({"bbox": None, "segmentation": None}, "degenerate box", 1),
        ({"bbox": [], "segmentation": []}, "degenerate box", 1),
        ({"bbox": [0, 0, 0, 0]}, "box from the mask", 2),
        ({"area": math.nan}, "area replaced", 2),
        ({"area": None}, "area replaced", 2),
        ({"iscrowd": "false"}, None, 2),
        ({"iscrowd": None}, None, 2),
        ({"iscrowd": "maybe"}, "unknown flag", 2),
        ({"image_id": "1", "category_id": "90"}, None, 2),
        ({"image_id": 2**64}, "annotation without image", 1),
        ({"image_id": [1]}, "annotation without image", 1),
        ({"category_id": "90.5"}, "unknown category", 1),
        ({"segmentation": [[]]}, "mask polygon of fewer than 3 points", 2),
        ({"segmentation": [[10, 10, 20, 20]]}, "mask polygon of fewer than 3 points", 2),
        ({"segmentation": [1, 1, 9, 1, 9, 9]}, "unreadable mask", 2),
        ({"segmentation": {"size": [80, 100], "counts": "zzz'"}}, "unreadable mask", 2),
        ({"segmentation": {"size": [80, 100], "counts": [8000, -5, 5]}}, "unreadable mask", 2),
        ({"segmentation": {"size": [80, 100], "counts": [0, 7999]}}, "mask RLE does not fill the image", 2),
        ({"segmentation": {"size": [800, 1000], "counts": [0, 800000]}}, "mask RLE of another size than the image", 2),
    ],
)
def test_what_is_not_sound_is_named_and_not_measured(fields, kind, num_boxes):
    evaluator = measured(changed(**fields))
    assert list(evaluator.report.counts()) == ([kind] if kind else [])
    result = evaluator.result()
    assert len(evaluator.ground_truth()) == num_boxes
    assert result.metrics["AP"] == pytest.approx(0.5, abs=0.01) if num_boxes == 2 else result.metrics["AP"] == 0


def test_sound_ground_truth_is_not_talked_about():
    evaluator = measured(TRUTH)
    assert evaluator.report.problems == []
    assert evaluator.result().mask_metrics["AP50"] == pytest.approx(0.5, abs=0.01)


def test_a_detection_that_is_not_finite_is_named_and_not_measured():
    evaluator = CocoEvaluator(TRUTH, MANIFEST)
    boxes = np.float32([[[10, 20, 39, 59], [0, 0, math.nan, 9], [1, 1, 5, 5]]])
    scores = np.float32([[0.5, 0.9, math.nan]])
    evaluator.add([1], Detections(boxes, scores, np.int32([[0, 0, 0]]), np.int32([3])))
    assert evaluator.result().metrics["AP50"] == pytest.approx(0.505, abs=0.01)
    assert evaluator.report.counts() == {"detection not finite": 1} and "2 of 3" in evaluator.report.problems[0].reason


@pytest.mark.parametrize("content", [None, [], {"images": 3}, {"annotations": None}, {"categories": [4]}])
def test_what_is_no_ground_truth_is_one_line(content):
    with pytest.raises(UserError):
        checked_ground_truth(content, [90], ProblemReport())


def test_values_of_any_kind_are_read_or_named():
    """Values put into random places: what gets through can be measured, what does not is one line."""
    values = [
        None, True, -1, 0, 1.5, 2**63, 10**400, 1e308, math.nan, math.inf, "", "x", "1", "\ud800", [], [[]], [[1]], {},
        {"size": [80, 100], "counts": "0"}, {"size": "ab", "counts": [8000]}, [1, 2, 3, 4], [math.nan] * 4, SQUARE * 2,
    ]  # fmt: skip
    draw = random.Random(0)
    refused = 0
    for _ in range(400):
        truth = copy.deepcopy(TRUTH)
        for _ in range(draw.randint(1, 3)):
            entries = truth[draw.choice(["annotations", "annotations", "images", "categories"])]
            if draw.random() < 0.05:
                entries[0] = draw.choice(values)
            elif isinstance(entries[0], dict):
                entries[0][draw.choice([*entries[0], "iscrowd", "ignore", "file_name"])] = draw.choice(values)
        try:
            clean = checked_ground_truth(truth, [90], report := ProblemReport())
        except UserError as error:
            refused += 1
            assert "\n" not in str(error) and len(str(error)) < 250
            continue
        for annotation in clean["annotations"]:
            assert all(map(math.isfinite, [*annotation["bbox"], annotation["area"]])) and annotation["iscrowd"] in (
                0,
                1,
            )
            assert (annotation["image_id"], annotation["category_id"]) == (1, 90)
        if clean["images"] and clean["categories"] == [{"id": 90, "name": "dog"}]:
            if clean["images"][0].get("height") and clean["images"][0]["id"] == 1:
                measured(truth).result()
        assert all(len(line) < 600 for line in report.lines())
    assert 10 < refused < 200
