"""What is wrong or odd with each picture, beside what its data set says: boxes upon boxes, detections that differ."""

from __future__ import annotations

import collections
from collections.abc import Sequence

import numpy as np

from tfdet.report.browse.collection import Collection, Objects, Picture

NO_OBJECT = "no object"
TWO_BOXES = "two boxes on one object"
TWO_CLASSES = "two classes on one object"
MISSED = "missed"
WRONG_CLASS = "wrong class"
FOUND_TWICE = "found twice"
NOT_THERE = "found where nothing is"
SAME_IN_SPLITS = "same picture in two splits"
NEAR_IN_SPLITS = "nearly the same picture in two splits"
SAME = "same picture twice"
NEAR = "nearly the same picture twice"

_ONE_OBJECT = 0.9  # IoU of two boxes that are most likely on one object
_FOUND = 0.5  # IoU of a detection that is right


def find_problems(collection: Collection, score_threshold: float) -> None:
    """Adds what is found to the pictures' own problems.

    Args:
        collection: its pictures are changed.
        score_threshold: detections below it take no part.
    """
    for picture in collection.pictures:
        if picture.truth is not None:
            if not len(picture.truth):
                picture.problems.append((NO_OBJECT, "nothing is annotated"))
            _boxes_upon_boxes(picture, picture.truth, collection.classes)
            if picture.found is not None:
                _compare(picture, picture.truth, picture.found, collection.classes, score_threshold)
    for suspicion in collection.suspicions:
        for number in suspicion.images:
            collection.pictures[number].problems.append((suspicion.kind, suspicion.reason))
    for group in collection.duplicates:
        own = [collection.pictures[number] for number in group.members]
        across = len({picture.split for picture in own}) > 1
        kinds = (SAME_IN_SPLITS, SAME) if group.exact else (NEAR_IN_SPLITS, NEAR)
        for picture in own:
            others = [other for other in own if other is not picture]
            names = ", ".join(f"{collection.splits[other.split]}: {other.file_name}" for other in others[:3])
            more = f" and {len(others) - 3} more" if len(others) > 3 else ""
            picture.problems.append((kinds[0 if across else 1], f"as {names}{more}"))


def problem_counts(pictures: Sequence[Picture]) -> dict[str, int]:
    """Pictures by kind of problem, most frequent first."""
    return dict(collections.Counter(kind for one in pictures for kind in {k for k, _ in one.problems}).most_common())


def _overlaps(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Intersections of boxes `[x, y, width, height]`, float [N, M] in square pixels."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum((one[:, :2] + one[:, 2:])[:, None], (other[:, :2] + other[:, 2:])[None])
    return np.clip(high - low, 0, None).prod(axis=-1)


def _ious(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    shared = _overlaps(one, other)
    union = one[:, 2:].prod(axis=1)[:, None] + other[:, 2:].prod(axis=1)[None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _boxes_upon_boxes(picture: Picture, truth: Objects, classes: list[str]) -> None:
    own = np.flatnonzero(~truth.is_crowd)
    if len(own) < 2:
        return
    pairs = np.argwhere(np.triu(_ious(truth.boxes[own], truth.boxes[own]) >= _ONE_OBJECT, 1))
    kinds = truth.classes[own]
    same = [pair for pair in pairs.tolist() if kinds[pair[0]] == kinds[pair[1]]]
    other = [pair for pair in pairs.tolist() if kinds[pair[0]] != kinds[pair[1]]]
    if same:
        names = sorted({classes[kinds[pair[0]]] for pair in same})
        picture.problems.append((TWO_BOXES, f"{len(same)} pairs of boxes lie upon each other: {', '.join(names)}"))
    if other:
        names = sorted({" and ".join(sorted(classes[kinds[number]] for number in pair)) for pair in other})
        picture.problems.append((TWO_CLASSES, f"boxes lie upon each other: {', '.join(names)}"))


def _compare(picture: Picture, truth: Objects, found: Objects, classes: list[str], threshold: float) -> None:
    """Best first, each detection takes the object of its class that it overlaps most; the rest are errors."""
    truth.remarks, found.remarks = [""] * len(truth), [""] * len(found)
    ious, shared = _ious(found.boxes, truth.boxes), _overlaps(found.boxes, truth.boxes)
    taken = np.zeros(len(truth), bool)
    same = found.classes[:, None] == truth.classes[None]
    real = ~truth.is_crowd
    unmatched = []
    for number in np.flatnonzero(found.scores >= threshold).tolist():
        fitting = np.where(same[number] & real & ~taken, ious[number], 0.0)
        if fitting.size and fitting.max() >= _FOUND:
            taken[int(fitting.argmax())] = True
        else:
            unmatched.append(number)
    for number in unmatched:
        area = found.boxes[number, 2:].prod()
        in_crowd = same[number] & truth.is_crowd & (shared[number] >= _FOUND * area)
        if in_crowd.any():
            continue
        near = real & (ious[number] >= _FOUND)
        if (near & same[number]).any():
            found.remarks[number] = FOUND_TWICE
        elif (near & ~taken).any():
            place = int(np.where(near & ~taken, ious[number], 0).argmax())
            found.remarks[number] = f"{WRONG_CLASS}: is {classes[truth.classes[place]]}"
        else:
            found.remarks[number] = NOT_THERE
    for number in np.flatnonzero(real & ~taken).tolist():
        truth.remarks[number] = MISSED
    for kind, own, remarks in (
        (MISSED, truth, truth.remarks),
        (WRONG_CLASS, found, found.remarks),
        (FOUND_TWICE, found, found.remarks),
        (NOT_THERE, found, found.remarks),
    ):
        counts = collections.Counter(
            classes[kind_number] for kind_number, remark in zip(own.classes, remarks) if remark.startswith(kind)
        )
        if counts:
            what = ", ".join(f"{count} {name}" for name, count in counts.most_common())
            picture.problems.append((kind, f"{what}, at scores from {100 * threshold:.0f}%"))
