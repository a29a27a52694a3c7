"""COCO's figures of a few classes at a time: memory is not that of images times classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_PAIRS = 500_000  # of an image and a class that are evaluated at once; COCO's 5,000 images of 80 classes are 400,000
_OfClasses = Mapping[int, Sequence[dict]]


def coco_evaluation(
    kind: str,
    images: Sequence[dict],
    classes: Sequence[int],
    annotations: Sequence[dict],
    detections: Sequence[dict],
    max_detections: int,
) -> Any:
    """A COCOeval that has evaluated, accumulated and summarized; of `eval` it has "precision" and "recall" alone.

    The evaluator has a table of every image and class: more than 14 GB for 143,000 images of 80 classes. What is
    counted of a class depends on no other one, nor on images that have nothing of it, so that parts give the same bits.

    Args:
        kind: "bbox" or "segm".
        images: entries of the ground truth.
        classes: category ids.
        annotations: of the ground truth, of these classes.
        detections: likewise, as COCO's `loadRes` completes them.
        max_detections: of each class in an image that count.
    """
    classes, size = sorted(classes), max(1, _PAIRS // max(1, len(images)))
    truth, found = _by_class(annotations), _by_class(detections)
    parts = [
        _part(kind, images, classes[start : start + size], truth, found, max_detections)
        for start in range(0, max(1, len(classes)), size)
    ]
    evaluation = parts[-1]
    evaluation.params.catIds = classes
    for name, axis in (("precision", 2), ("recall", 1)):
        evaluation.eval[name] = np.concatenate([part.eval[name] for part in parts], axis)
    evaluation.summarize()
    return evaluation


def _part(
    kind: str, images: Sequence[dict], classes: list[int], truth: _OfClasses, found: _OfClasses, max_detections: int
) -> Any:
    """That of some classes, not summarized, on the images that have something of them. It keeps no input."""
    from faster_coco_eval import COCO, COCOeval_faster

    annotations, detections = ([one for number in classes for one in of.get(number, ())] for of in (truth, found))
    there = {one["image_id"] for one in (*annotations, *detections)}
    own = [image for image in images if image["id"] in there] or list(images[:1])

    def coco(entries: list[dict]) -> Any:
        made = COCO()
        categories = [{"id": number, "name": str(number)} for number in classes]
        made.dataset = {"images": own, "annotations": entries, "categories": categories}
        made.createIndex()
        return made

    evaluation = COCOeval_faster(coco(annotations), coco(detections), kind, print_function=lambda *_: None)
    evaluation.params.imgIds = sorted(image["id"] for image in own)
    evaluation.params.catIds = classes
    evaluation.params.maxDets = [1, 10, max_detections]
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.eval = {name: np.asarray(evaluation.eval[name]) for name in ("precision", "recall")}
    evaluation.cocoGt = evaluation.cocoDt = evaluation.ious = None
    evaluation.gt_dataset.clean()
    evaluation.dt_dataset.clean()
    return evaluation


def _by_class(annotations: Sequence[dict]) -> dict[int, list[dict]]:
    """Those of each category id, in their order."""
    found: dict[int, list[dict]] = {}
    for one in annotations:
        found.setdefault(one["category_id"], []).append(one)
    return found
