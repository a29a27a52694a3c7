"""Boxes that cannot be what was meant: sets that are wrong in one way, and sets that are right."""

import json

import numpy as np
import pytest

from tfdet.data import suspicious
from tfdet.data.convert import convert
from tfdet.data.formats.coco import read_coco
from tfdet.data.problems import ProblemReport
from tfdet.data.suspicious import BoxCensus, off_by_one, suspicious_classes, suspicious_problems
from tfdet.data.tiny_boxes import NORMALISED

SIZES = [(480, 640)] * 8 + [(640, 480)] * 4  # height, width


def right_boxes(seed=0):
    """For each of `SIZES` five boxes `[x, y, width, height]` that lie inside, near its borders too."""
    random, found = np.random.default_rng(seed), []
    for height, width in SIZES:
        low = random.uniform(0, 0.9, (5, 2)) * [width, height]
        found.append(np.concatenate([low, random.uniform(0.02, 1, (5, 2)) * ([width, height] - low)], axis=1))
    return found


def kinds_of(boxes, sizes=SIZES, turned=None):
    census = BoxCensus()
    for own, (height, width), is_turned in zip(boxes, sizes, turned or [False] * len(sizes)):
        census.add(own, height, width, is_turned)
    return {found.kind: found for found in census.suspicions()}


def halves(boxes, sign):
    return [np.concatenate([own[:, :2] + sign * own[:, 2:] / 2, own[:, 2:]], axis=1) for own in boxes]


def as_corners(boxes):
    return [np.concatenate([own[:, :2], own[:, :2] + own[:, 2:]], axis=1) for own in boxes]


def test_nothing_is_said_of_what_is_right():
    assert kinds_of(right_boxes()) == {}
    over = [own + [0, 0, 1.5, 0] for own in right_boxes()]  # a tool that rounds outwards
    assert kinds_of([[]] * len(SIZES)) == {} and kinds_of(over) == {}
    assert kinds_of([[[np.nan, 0, 5, 5], [np.inf, 0, 1, 1]]], SIZES[:1]) == {}


@pytest.mark.parametrize(
    ("kind", "boxes", "says"),
    [
        (NORMALISED, [own / [w, h, w, h] for own, (h, w) in zip(right_boxes(), SIZES)], "multiply x and width"),
        (NORMALISED, [own * [1, 1, 0, 0] + [0, 0, 0.5, 0.5] for own in right_boxes()], "points written as boxes"),
        (suspicious.IN_PIXELS, [own * [w, h, w, h] for own, (h, w) in zip(right_boxes(), SIZES)], "divided by"),
        (suspicious.CORNERS, as_corners(right_boxes()), "corners were written in place of sizes"),
        (suspicious.CENTRES, halves(right_boxes(), 1), "x and y are the centre"),
        (suspicious.CENTRES, halves(right_boxes(), -1), "corners where centres are expected"),
        (suspicious.CORNERS, halves(as_corners(right_boxes()), -1), "corners where centre and size are expected"),
        (suspicious.SWAPPED, [own[:, [1, 0, 3, 2]] for own in right_boxes()], "width and height were exchanged"),
        (suspicious.IDENTICAL, [[[10, 20, 30, 40]]] * len(SIZES), "x=10 y=20 width=30 height=40"),
        (suspicious.IDENTICAL, [[[w * 0.1, h * 0.1, w * 0.2, h * 0.3]] for h, w in SIZES], "relative to its image"),
        (suspicious.WHOLE_IMAGE, [[[0, 0, w, h]] for h, w in SIZES], "labels of a classification"),
    ],
)
def test_each_mistake_is_told_by_its_reason(kind, boxes, says):
    found = kinds_of(boxes)
    assert kind in found and says in found[kind].reason
    assert set(found[kind].images) <= set(range(len(SIZES))) and found[kind].images
    others = set(found) - {kind}
    assert others <= {suspicious.IDENTICAL}, "one explanation of what leaves the images"


def test_photos_turned_after_they_were_labelled_are_told_apart_from_exchanged_sides():
    boxes = right_boxes()
    turned = [number in (1, 5) for number in range(len(SIZES))]
    # Labelled on the photo as it is stored, 640x480; turned upright it is 480x640.
    sizes = [(width, height) if is_turned else (height, width) for (height, width), is_turned in zip(SIZES, turned)]
    found = kinds_of(boxes, sizes, turned)
    assert list(found) == [suspicious.BEFORE_TURNING]
    assert set(found[suspicious.BEFORE_TURNING].images) <= {1, 5}
    assert "fit the photo as it was before" in found[suspicious.BEFORE_TURNING].reason


def test_a_few_boxes_over_the_border_prove_nothing():
    boxes = right_boxes()
    boxes[0][0] = [600, 10, 300, 50]
    assert kinds_of(boxes) == {}


@pytest.mark.parametrize(
    ("used", "known", "says"),
    [
        ({0, 1, 2}, {1, 2, 3}, "add 1"),
        ({1, 2, 3}, {0, 1, 2}, "take 1 from each"),
        ({0, 1, 2, 3}, {1, 2, 3}, None),  # the highest is used too: it is another fault
        ({7, 1, 2}, {1, 2, 3}, None),
        ({1, 2}, {1, 2, 3}, None),
        ({0, 1, 89}, {1, 2, 5, 90}, "add 1"),  # ids with gaps
        ({0}, set(), None),
    ],
)
def test_class_ids_off_by_one(used, known, says):
    found = off_by_one(used, known)
    assert found is None if says is None else says in found


def test_classes_without_a_box():
    assert suspicious_classes(["a", "b", "c"], [50, 40, 0])[0].kind == suspicious.UNUSED_END
    assert suspicious_classes(["__background__", "b"], [0, 4])[0].kind == suspicious.BACKGROUND
    for names, counts in (
        (["a", "b", "c"], [50, 0, 40]),
        (["a", "b", "c"], [5, 4, 0]),
        (["a", "b", "c", "d"], [0, 90, 90, 0]),
    ):
        assert suspicious_classes(names, counts) == []


def test_a_reader_that_said_it_is_not_repeated():
    census = BoxCensus()
    census.add([[0.1, 0.1, 0.5, 0.5]], 480, 640)
    (problem,) = suspicious_problems(census, "cats")
    assert (problem.kind, problem.file, problem.is_note) == (NORMALISED, "cats", False)
    assert list(suspicious_problems(census, "cats", {NORMALISED: 1})) == []


def test_conversion_says_it_with_the_findings(tmp_path, coco):
    """Of boxes that lie outside, and are left out, too; images are of 60x40."""
    for number in range(1, 7):
        coco.image(number).box(number, [40 - number, 26, 38, 26]).box(number, [44, 30, 20, 16 + number / 2])
    report = ProblemReport()
    convert(read_coco([coco.write()], report), tmp_path / "set", "set", "test", report, num_workers=0)
    assert report.counts()[suspicious.CENTRES] == 1
    assert suspicious.CENTRES in json.loads((tmp_path / "set" / "report.json").read_text())["problems"]


def test_coco_ids_from_0_are_named_once(make_coco):
    builder = make_coco("zero", ((1, "cat"), (2, "dog"))).image(1)
    builder.box(1, [1, 1, 9, 9], category_id=0).box(1, [20, 1, 9, 9], category_id=1)
    report = ProblemReport()
    read_coco([builder.write()], report)
    (problem,) = [problem for problem in report.problems if problem.kind == suspicious.OFF_BY_ONE]
    assert "add 1" in problem.reason
