"""COCO's precision and recall, by faster-coco-eval, of as many classes at once as memory is meant for."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

_THRESHOLDS, _RECALLS, _CASES = 10, 101, (4, 3)  # of COCOeval: IoUs, recalls, areas and numbers of detections
_MOST_CELLS = 1_000_000  # images x classes at once, some kB each; COCO's val2017 has 400,000


def accumulated(
    kind: str,
    annotations: list[dict],
    found: list[dict],
    images: Mapping[int, dict],
    num_images: int,
    ids: Sequence[int],
    max_detections: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall of all classes. Classes do not meet in them, so that some are measured at a time: COCOeval
    has a cell for each image and class, and of 140,000 images and 500 classes no machine has the memory.

    Args:
        kind: "bbox" or "segm".
        annotations, found: with every field that COCOeval reads; those of other classes do not count.
        images: of COCO's form, by id.
        num_images: how many are measured, with and without boxes.
        ids: of the classes, in ascending order.
        max_detections: of each class in an image that count.

    Returns:
        Float64 [10 IoU thresholds, 101 recalls, classes, 4 areas, 3 numbers of detections]; -1 where there is nothing
        to measure; and recall, which has no second axis.
    """
    at_once = max(1, _MOST_CELLS // max(1, num_images))
    place = {number: index // at_once for index, number in enumerate(ids)}
    truth_by_part, found_by_part = _by_part(annotations, place), _by_part(found, place)
    parts = [
        _of_some(kind, truth_by_part[part], found_by_part[part], images, ids[start : start + at_once], max_detections)
        for part, start in enumerate(range(0, len(ids), at_once))
    ]
    precision, recall = (np.concatenate(arrays, axis=-3) for arrays in zip(*parts))
    return precision, recall


def _by_part(entries: list[dict], place: Mapping[int, int]) -> dict[int, list[dict]]:
    parts: dict[int, list[dict]] = {number: [] for number in place.values()}
    for entry in entries:
        if entry["category_id"] in place:
            parts[place[entry["category_id"]]].append(entry)
    return parts


def _of_some(
    kind: str,
    annotations: list[dict],
    found: list[dict],
    images: Mapping[int, dict],
    ids: Sequence[int],
    max_detections: int,
) -> tuple[np.ndarray, np.ndarray]:
    from faster_coco_eval import COCO, COCOeval_faster

    used = sorted({entry["image_id"] for entry in itertools.chain(annotations, found)})
    if not used:
        shape = [len(ids), *_CASES]
        return np.full([_THRESHOLDS, _RECALLS, *shape], -1.0), np.full([_THRESHOLDS, *shape], -1.0)
    sides = []
    for entries in (annotations, found):
        coco = COCO()
        coco.dataset = {
            "images": [images[number] for number in used],
            "annotations": entries,
            "categories": [{"id": number, "name": str(number)} for number in ids],
        }
        coco.createIndex()
        sides.append(coco)
    evaluation = COCOeval_faster(*sides, kind, print_function=lambda *_: None)
    evaluation.params.imgIds, evaluation.params.catIds = used, list(ids)
    evaluation.params.maxDets = [1, 10, max_detections]
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation.eval["precision"], evaluation.eval["recall"]


def summary(precision: np.ndarray, recall: np.ndarray) -> list[float]:
    """COCO's twelve figures, in their order; -1 where there is nothing to measure.

    Args:
        precision, recall: of `accumulated`.
    """
    ap = [precision[..., 0, -1], precision[:1, ..., 0, -1], precision[5:6, ..., 0, -1]]  # IoU .50:.95, .50, .75
    ap += [precision[..., area, -1] for area in (1, 2, 3)]
    ar = [recall[..., 0, place] for place in range(3)] + [recall[..., area, -1] for area in (1, 2, 3)]
    return [mean_of_valid(values) for values in ap + ar]


def mean_of_valid(values: np.ndarray) -> float:
    """The mean of the values that are not -1; -1 where there is none."""
    valid = values[values > -1]
    return float(valid.mean()) if valid.size else -1.0
