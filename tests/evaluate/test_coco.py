"""COCO figures of hand-made cases whose AP is known."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from tfdet.errors import UserError
from tfdet.evaluate import coco
from tfdet.files import write_json
from tfdet.structures import Detections

MANIFEST = SimpleNamespace(name="hand", classes=["dog", "cat", "owl"], category_ids=[90, 7, 13])


def annotation(image_id, box, category_id=90, **fields):
    return {"id": 0, "image_id": image_id, "bbox": box, "category_id": category_id, **fields}


def truth(*annotations, images=(1, 2)):
    return {
        "images": [{"id": number, "width": 200, "height": 200} for number in images],
        "annotations": list(annotations),
        "categories": [{"id": number} for number in (7, 13, 90)],
    }


def detections(*images, slots=4):
    """Each image is a list of (inclusive box, class, score)."""
    boxes = np.zeros([len(images), slots, 4], np.float32)
    scores = np.zeros([len(images), slots], np.float32)
    classes = np.full([len(images), slots], -1, np.int32)
    for index, image in enumerate(images):
        for slot, (box, class_index, score) in enumerate(image):
            boxes[index, slot], classes[index, slot], scores[index, slot] = box, class_index, score
    return Detections(boxes, scores, classes, np.array([len(image) for image in images], np.int32))


def evaluate(ground_truth, image_ids, found):
    evaluator = coco.CocoEvaluator(ground_truth, MANIFEST)
    evaluator.add(np.array(image_ids, np.int64), found)
    return evaluator.result(), evaluator


def test_perfect_detections_of_sparse_ids_have_ap_one():
    # Inclusive corners [10, 20, 39, 59] are the COCO box [10, 20, 30, 40]: without the +1 AP would be below 1.
    result, evaluator = evaluate(
        truth(annotation(1, [10, 20, 30, 40]), annotation(2, [0, 0, 5, 5], category_id=7)),
        [1, 2],
        detections([([10, 20, 39, 59], 0, 0.9)], [([0, 0, 4, 4], 1, 0.8)]),
    )
    assert result.metrics["AP"] == pytest.approx(1.0)
    assert result.metrics["AR1"] == pytest.approx(1.0)
    assert set(result.metrics) == set(coco.METRIC_NAMES)
    assert result.metrics["APl"] == -1
    assert evaluator.detections == [
        {"image_id": 1, "category_id": 90, "bbox": [10, 20, 30, 40], "score": pytest.approx(0.9)},
        {"image_id": 2, "category_id": 7, "bbox": [0, 0, 5, 5], "score": pytest.approx(0.8)},
    ]


def test_classes_keep_their_own_figures_whatever_the_order_of_their_ids():
    result, _ = evaluate(
        truth(annotation(1, [10, 20, 30, 40]), annotation(1, [100, 100, 50, 50], category_id=7)),
        [1, 2],
        detections([([10, 20, 39, 59], 0, 0.9)], []),
    )
    assert [(entry.name, entry.num_boxes, entry.ap, entry.ap50) for entry in result.per_class] == [
        ("dog", 1, pytest.approx(1.0), pytest.approx(1.0)),
        ("cat", 1, 0.0, 0.0),
        ("owl", 0, -1.0, -1.0),
    ]
    assert result.metrics["AP"] == pytest.approx(0.5)


def test_shifted_box_counts_up_to_its_iou():
    # 100x100 moved by 20: IoU = 80 / 120 = .667, right at thresholds .50, .55, .60, .65 of ten.
    result, _ = evaluate(truth(annotation(1, [0, 0, 100, 100])), [1, 2], detections([([20, 0, 119, 99], 0, 0.9)], []))
    assert result.metrics["AP"] == pytest.approx(0.4)
    assert result.metrics["AP50"] == pytest.approx(1.0)
    assert result.metrics["AP75"] == 0.0


def test_false_positive_above_the_true_one_halves_precision():
    result, _ = evaluate(
        truth(annotation(1, [0, 0, 50, 50])),
        [1, 2],
        detections([([100, 100, 149, 149], 0, 0.9), ([0, 0, 49, 49], 0, 0.5)], []),
    )
    assert result.metrics["AP"] == pytest.approx(0.5)


def test_detections_inside_a_crowd_are_ignored():
    crowd = annotation(1, [100, 100, 100, 100], iscrowd=1, area=9000)
    found = detections([([110, 110, 139, 139], 0, 0.95), ([0, 0, 49, 49], 0, 0.5)], [])
    result, _ = evaluate(truth(annotation(1, [0, 0, 50, 50]), crowd), [1, 2], found)
    assert result.metrics["AP"] == pytest.approx(1.0)
    assert result.per_class[0].num_boxes == 1


def test_empty_cases_give_figures():
    some = truth(annotation(1, [0, 0, 50, 50]))
    result, evaluator = evaluate(some, [1, 2], detections([], []))
    assert result.metrics["AP"] == 0.0 and evaluator.detections == []
    result, _ = evaluate(truth(), [1, 2], detections([([0, 0, 9, 9], 0, 0.5)], []))
    assert result.metrics["AP"] == -1 and result.per_class[0].ap == -1
    result = coco.CocoEvaluator(truth(images=()), MANIFEST).result()
    assert result.metrics["AP"] == -1 and len(result.per_class) == 3


def test_only_images_that_were_added_are_measured():
    two = truth(annotation(1, [0, 0, 50, 50]), annotation(2, [0, 0, 50, 50]))
    result, evaluator = evaluate(two, [1], detections([([0, 0, 49, 49], 0, 0.5)]))
    assert result.metrics["AP"] == pytest.approx(1.0) and evaluator.num_images == 1


def test_ground_truth_is_left_as_it_was():
    ground_truth = truth(annotation(1, [0, 0, 50, 50]))
    before = json.dumps(ground_truth)
    evaluate(ground_truth, [1, 2], detections([([0, 0, 49, 49], 0, 0.5)], []))
    assert json.dumps(ground_truth) == before


def test_wrong_ids_are_named():
    evaluator = coco.CocoEvaluator(truth(), MANIFEST)
    with pytest.raises(UserError, match="image id 5 .*not in the ground truth"):
        evaluator.add([5], detections([]))
    evaluator.add([1], detections([]))
    with pytest.raises(ValueError, match="twice"):
        evaluator.add([1], detections([]))
    stranger = SimpleNamespace(classes=["bee"], category_ids=[4])
    with pytest.raises(UserError, match="bee"):
        coco.CocoEvaluator(truth(), stranger)


def test_padding_of_the_batch_is_left_out():
    evaluator = coco.CocoEvaluator(truth(annotation(1, [0, 0, 50, 50])), MANIFEST)
    evaluator.add([1, -1], detections([([0, 0, 49, 49], 0, 0.5)], [([0, 0, 9, 9], 0, 0.9)]))
    assert evaluator.num_images == 1 and len(evaluator.detections) == 1


def test_quiet(capsys):
    evaluate(truth(annotation(1, [0, 0, 50, 50])), [1, 2], detections([], []))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid json"), ('{"images": []}', "'annotations'"), ("[]", "'images'"),
        ('{"images": [], "annotations": 7, "categories": []}', "'annotations' is 7"),
    ],
)  # fmt: skip
def test_bad_annotation_files_are_one_line(tmp_path, text, message):
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        coco.load_annotations(path)
    with pytest.raises(UserError, match="absent.json"):
        coco.load_annotations(tmp_path / "absent.json")


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "out.json"
    write_json([{"a": 1}], path)
    assert json.loads(path.read_text()) == [{"a": 1}]
    with pytest.raises(TypeError):
        write_json([object()], path)
    assert json.loads(path.read_text()) == [{"a": 1}]
    assert [entry.name for entry in path.parent.iterdir()] == ["out.json"]
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(UserError, match="cannot write"):
        write_json([], blocked / "out.json")
