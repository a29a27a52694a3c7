"""The analysis of detections: known errors are told apart, and figures are those of pycocotools."""

import contextlib
import io
import json

import numpy as np
import pytest

from tfdet.errors import UserError
from tfdet.report.analysis.advice import Context, advise, headline
from tfdet.report.analysis.scene import build_scene, checked_detections
from tfdet.report.analysis.summary import analyse, figures

CLASSES, IDS = ["cat", "dog", "bird"], [3, 1, 7]  # ids in another order than the classes


def truth_of(images, size=(200, 300)):
    """COCO's dictionary of boxes `(class, x, y, w, h)` by image; a class with * is a crowd."""
    content = {"images": [], "annotations": []}
    for number, objects in images.items():
        content["images"].append(
            {"id": number, "height": size[0], "width": size[1], "file_name": f"{number}.jpg"}
        )  # fmt: skip
        for name, *box in objects:
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1, "image_id": number, "bbox": list(map(float, box)),
                    "category_id": IDS[CLASSES.index(name.strip("*"))], "area": float(box[2] * box[3]),
                    "iscrowd": int(name.endswith("*")), "segmentation": None,
                }
            )  # fmt: skip
    return content


def found_of(images):
    """Result records of detections `(class, score, x, y, w, h)` by image."""
    return [
        {
            "image_id": number, "category_id": IDS[CLASSES.index(name)], "score": score,
            "bbox": list(map(float, box)),
        }
        for number, detections in images.items()
        for name, score, *box in detections
    ]  # fmt: skip


def analysis_of(truth, found, **options):
    return analyse(build_scene(truth_of(truth), found_of(found), CLASSES, IDS, "bbox"), **options)


# One image for each error; three right ones beside them, so that no class is without any.
TRUTH = {
    1: [("cat", 10, 10, 50, 50)],
    2: [("cat", 10, 10, 50, 50)],
    3: [("dog", 10, 10, 50, 50)],
    4: [("dog", 10, 10, 50, 50)],
    5: [("cat", 10, 10, 50, 50)],
    6: [("bird", 10, 10, 20, 20)],
    7: [("dog*", 100, 100, 90, 90), ("bird", 10, 10, 50, 50)],
}
FOUND = {
    1: [("cat", 0.9, 10, 10, 50, 50)],
    2: [("dog", 0.8, 10, 10, 50, 50)],  # another class
    3: [("dog", 0.8, 30, 30, 50, 50)],  # another place: overlap 0.22
    4: [("dog", 0.9, 10, 10, 50, 50), ("dog", 0.85, 12, 10, 50, 50)],  # twice
    5: [("cat", 0.9, 10, 10, 50, 50), ("bird", 0.95, 200, 100, 40, 40), ("bird", 0.7, 30, 30, 50, 50)],
    6: [],  # a small one is missed
    7: [("dog", 0.99, 110, 110, 40, 40), ("bird", 0.9, 10, 10, 50, 50)],  # the dog lies in a crowd
}


@pytest.fixture(scope="module")
def known():
    return analysis_of(TRUTH, FOUND)


def test_each_known_error_is_told(known):
    kinds = {"classification": 1, "localisation": 1, "both": 1, "duplicate": 1, "background": 1, "missed": 1}
    assert known.tide.counts == kinds
    scene = known.scene
    assert scene.classes[scene.truth.label[known.tide.missed][0]] == "bird"
    assert known.missed_by_size() == {"small": 1, "medium": 0, "large": 0}


def test_what_each_error_costs_is_what_its_repair_gives(known):
    """By hand, of three classes with 3 cats, 2 dogs and 2 birds."""
    cat = lambda right, count: np.mean(np.linspace(0, 1, 101) <= right / count + 1e-9)  # noqa: E731
    # Dogs by score: right .9, twice .85, class .8, place .8. Birds: background .95, right .9, both .7.
    base = [cat(2, 3), cat(1, 2), 0.5 * cat(1, 2)]
    repaired = {
        "classification": [1.0, cat(1, 2), base[2]],  # the dog becomes the cat that it is, at score .8
        "localisation": [base[0], (51 + 50 * 0.5) / 101, base[2]],
        "both": base,
        "duplicate": base,
        "background": [base[0], base[1], cat(1, 2)],
        "missed": [base[0], base[1], 0.5],
    }
    tide = known.tide
    assert tide.ap == pytest.approx(100 * np.mean(base))
    expected = {kind: 100 * (np.mean(values) - np.mean(base)) for kind, values in repaired.items()}
    assert tide.costs == pytest.approx(expected)
    assert tide.false_positives == pytest.approx(100 * (cat(1, 2) - base[2]) / 3)
    assert tide.false_negatives == pytest.approx(100 * (1 + 1 + 0.5 - sum(base)) / 3)


def test_confusion_and_images_name_the_errors(known):
    cat, dog, bird, other = range(4)
    table = known.confusion
    assert table[cat, dog] == 0  # the best threshold of dogs, .9, leaves the wrong one out
    shown = analysis_of(TRUTH, FOUND, score_threshold=0.5)
    table = shown.confusion
    assert table[cat].tolist() == [2, 1, 0, 0] and table[dog].tolist() == [0, 1, 0, 1]
    assert table[bird].tolist() == [0, 0, 1, 1] and table[other].tolist() == [0, 2, 2, 0]
    assert shown.confused() == [(cat, dog, 1)]
    errors = {shown.scene.image_ids[e.image]: [error.kind for error in e.errors] for e in shown.errors}
    assert errors == {
        2: ["classification"], 3: ["localisation"], 4: ["duplicate"], 5: ["background", "both"], 6: ["missed"],
    }  # fmt: skip
    assert [error.weight for entry in shown.errors for error in entry.errors][:2] == [0.95, 0.7]  # worst image first


def test_thresholds_are_where_f1_is_best(known):
    cat, dog, bird = known.curves
    assert cat.best == pytest.approx(0.45) and (cat.best_precision, cat.best_recall) == (1.0, pytest.approx(2 / 3))
    # Of dogs the first alone gives F1 2/3; the place between its score and the next one.
    assert dog.best == pytest.approx(0.875) and dog.best_f1 == pytest.approx(2 / 3)
    assert bird.best == pytest.approx(0.8) and bird.best_f1 == pytest.approx(0.5)
    scores = figures(known)["classes"][1]["scores"]
    assert scores["precision"][88] == 1.0 and scores["recall"][80] == 0.5 and scores["precision"][82] == 0.5
    only_ties = analysis_of({1: [("cat", 0, 0, 9, 9)]}, {1: [("cat", 0.5, 0, 0, 9, 9), ("cat", 0.5, 90, 0, 9, 9)]})
    assert only_ties.curves[0].best_precision == 0.5  # scores alike are shown together


def test_scores_are_set_against_what_is_right():
    truth = {1: [("cat", 20 * n, 0, 15, 15) for n in range(8)]}
    found = {1: [("cat", 0.85, 20 * n, 0 if n < 4 else 100, 15, 15) for n in range(8)] + [("cat", 0.15, 0, 60, 9, 9)]}
    calibration = analysis_of(truth, found).calibration
    assert calibration.counts.tolist() == [0, 1, 0, 0, 0, 0, 0, 0, 8, 0]
    assert calibration.precision[8] == 0.5 and calibration.error == pytest.approx(0.35)
    assert calibration.error_of_all == pytest.approx((8 * 0.35 + 0.15) / 9)


def random_set(seed):
    """Objects of three classes, crowds among them, and detections near and far, many with equal scores."""
    rng = np.random.default_rng(seed)
    truth, found = {}, {}
    for number in rng.permutation(np.arange(4, 40, 3)).tolist():
        truth[number], found[number] = [], []
        for _ in range(rng.integers(0, 8)):
            box = np.round([*rng.uniform(0, 150, 2), *np.exp(rng.uniform(2, 4.9, 2))], 1)
            truth[number].append((CLASSES[rng.integers(2)] + "*" * int(rng.random() < 0.1), *box))
        for _ in range(rng.integers(0, 30)):
            name, *box = truth[number][rng.integers(len(truth[number]))] if truth[number] else ("bird", 9, 9, 30, 30)
            name = name.strip("*") if rng.random() < 0.8 else CLASSES[rng.integers(3)]
            moved = np.round(np.array(box) * np.exp(rng.normal(size=4) * rng.choice([0.02, 0.2])), 1)
            found[number].append((name, round(float(rng.random()), 1), *moved))
    return truth_of(truth), found_of(found)


def cocoeval(truth, found, kind):
    from pycocotools import mask as coco_mask
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    sides = []
    for annotations in (truth["annotations"], found):
        coco = COCO()
        completed = [{"iscrowd": 0, "id": number, **entry} for number, entry in enumerate(annotations, 1)]
        for entry in completed:
            if "area" not in entry:
                box = entry["bbox"]
                entry["area"] = (
                    float(coco_mask.area(entry["segmentation"])) if kind == "segm" else box[2] * box[3]
                )  # fmt: skip
        coco.dataset = {
            "images": truth["images"], "annotations": completed, "categories": [{"id": n} for n in sorted(IDS)]
        }  # fmt: skip
        coco.createIndex()
        sides.append(coco)
    evaluation = COCOeval(*sides, kind)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_precision_is_that_of_pycocotools(kind):
    from pycocotools import mask as coco_mask

    truth, found = random_set(5)
    if kind == "segm":
        for entry in [*truth["annotations"], *found]:
            x, y, w, h = entry["bbox"]
            rle = coco_mask.merge(coco_mask.frPyObjects([[x, y, x + w, y, x + w, y + h, x, y + h / 2]], 200, 300))
            entry["segmentation"] = {"size": [200, 300], "counts": rle["counts"].decode()}
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = cocoeval(truth, found, kind)
    ours = analyse(build_scene(truth, found, CLASSES, IDS, kind)).precision
    place = [sorted(IDS).index(number) for number in IDS]
    np.testing.assert_array_equal(ours.precision[..., :4], theirs.eval["precision"][..., 2][:, :, place])
    np.testing.assert_array_equal(ours.recall[..., :4], theirs.eval["recall"][..., 2][:, place])
    assert ours.ap() == pytest.approx(theirs.stats[0]) and 0.02 < ours.ap() < 0.98
    assert [ours.ap(which) for which in (1, 2, 3)] == pytest.approx(theirs.stats[3:6].tolist())


def test_shapes_are_measured_alone():
    truth = {1: [("cat", 0, 0, 20, 100), ("cat", 50, 0, 100, 20), ("cat", 200, 50, 50, 50)]}
    found = {1: [("cat", 0.9, 0, 0, 20, 100), ("cat", 0.8, 200, 50, 50, 50)]}
    by_shape = figures(analysis_of(truth, found))["by_shape"]
    assert {name: entry["AP"] for name, entry in by_shape.items()} == {
        "very tall": 1.0, "tall": None, "square": 1.0, "wide": None, "very wide": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize("found", [{}, {1: [("bird", 0.9, 60, 60, 9, 9)]}], ids=["nothing", "another class alone"])
def test_classes_without_objects_and_sets_without_detections(found):
    analysis = analysis_of({1: [("cat", 0, 0, 9, 9)], 2: []}, found)
    content = figures(analysis)
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert content["AP"] == 0.0 and [entry["AP"] for entry in content["classes"]] == [0.0, None, None]
    assert analysis.thresholds.tolist() == [0.5, 0.5, 0.5]
    assert content["errors"]["count"]["missed"] == 1 and analysis.confusion[0, 3] == 1
    text = headline(analysis)
    assert text.startswith("AP 0.0" if found else "Nothing was found")
    assert any("no object in these data" in entry.what for entry in advise(analysis, Context()))


def test_the_first_screen_says_what_to_do():
    truth = {n: [("cat", 10, 10, 20, 20), ("dog", 100, 50, 60, 60)] for n in range(60)}
    found = {n: [("dog", 0.9, 100, 50, 60, 60)] for n in range(60)}
    context = Context(evaluations={100: 0.30, 200: 0.42}, train_ap=0.8)
    said = advise(analysis_of(truth, found), context)
    assert said[0].what.startswith("Missed objects cost 50.0 points of AP50: 60 objects") and "small" in said[0].what
    assert "--image_size" in said[0].do
    assert any("still rose" in entry.what and "12.0" in entry.what for entry in said)
    assert any("by heart" in entry.what for entry in said)


def test_detections_of_other_programs_are_checked():
    truth = truth_of({1: [("cat", 0, 0, 9, 9)]})
    good = found_of({1: [("cat", 0.5, 0, 0, 9, 9)]})
    other = [{**good[0], "image_id": 99}, {**good[0], "category_id": 88}]
    kept, notes = checked_detections(good + other, truth, IDS, "d.json")
    assert len(kept) == 1 and [note.split(" ")[0] for note in notes] == ["1", "1"]
    for wrong in ({"bbox": [0, 0, 1]}, {"score": float("nan")}, {"score": 87}, {"bbox": [0, 0, -1, 2]}, {"score": "x"}):
        with pytest.raises(UserError, match="d.json: entry 0"):
            checked_detections([{**good[0], **wrong}], truth, IDS, "d.json")
    with pytest.raises(UserError, match="none of its 1 detections is of the data set's images"):
        checked_detections(other[:1], truth, IDS, "d.json")
    with pytest.raises(UserError, match="no list"):
        checked_detections({"a": 1}, truth, IDS, "d.json")
    damaged = [{**good[0], "segmentation": {"size": [200, 300], "counts": "oops"}}]
    with pytest.raises(UserError, match="mask that cannot be read"):
        checked_detections(damaged, truth, IDS, "d.json")
