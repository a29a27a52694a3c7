"""The comparison of whole photographs finds what is wrong with them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from tfdet.errors import UserError
from tfdet.predict.found import Found, Labels
from tools.golden import photos

GOLDEN = SimpleNamespace(program="torchvision", family="maskrcnn_r50_fpn")
COUNT, HEIGHT, WIDTH = 40, 60, 90


def stored_and_found():
    """Forty objects, best first, and the same found: classes from 1 there, from 0 here."""
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 40, (COUNT, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(8, 20, (COUNT, 2))], axis=1).astype(np.float32)
    scores = np.linspace(0.9, 0.3, COUNT, dtype=np.float32)
    classes = np.arange(COUNT) % 5
    found = Found(
        np.zeros([HEIGHT, WIDTH, 3], np.uint8), boxes, scores, classes, Labels([], [], "torchvision"),
        np.ones([COUNT, 28, 28], np.float32), boxes - np.float32([0, 0, 1, 1]),
    )  # fmt: skip
    stored = {
        "file_names": np.array(["a.jpg"]),
        "det_boxes_0": boxes,
        "det_scores_0": scores,
        "det_classes_0": classes + 1,
        "det_masks_0": np.packbits(found.masks, axis=-1),
        "det_masks_shape_0": np.array([COUNT, HEIGHT, WIDTH]),
    }
    return stored, found


def compare(stored, found):
    return photos._compare(GOLDEN, stored, 0, "predict", found, 0.0, [])


def test_the_same_passes():
    row = compare(*stored_and_found())
    assert row.passed and (row.count, row.missing, row.extra, row.box, row.score) == (COUNT, 0, 0, 0, 0)


@pytest.mark.parametrize(
    "change, fault",
    [
        (lambda found: found[1:], "best detections that are not here: 1, at most 0"),
        (lambda found: found[:-2], "detections more or fewer: 0.05"),
        (lambda found: replace(found, boxes=found.boxes + 0.4), "detections without counterpart: 1,"),
        (lambda found: replace(found, class_ids=found.class_ids + 1), "detections without counterpart: 1,"),
        (lambda found: replace(found, scores=found.scores / 2), "detections without counterpart: 1,"),
        (
            lambda found: replace(found, class_ids=np.r_[found.class_ids[:39], found.class_ids[39] - 1]),
            "detections of another class: 1,",
        ),
        (
            lambda found: replace(found, mask_probabilities=found.mask_probabilities * erase(0)),
            "masks of the best detections that differ: 1,",
        ),
        (lambda found: replace(found, mask_probabilities=None), "there are no masks"),
    ],
)
def test_what_is_wrong_is_named(change, fault):
    stored, found = stored_and_found()
    assert fault in "; ".join(compare(stored, change(found)).faults)


def replace(found, **fields):
    names = ("image", "boxes", "scores", "class_ids", "labels", "mask_probabilities", "corners")
    return Found(**{name: getattr(found, name) for name in names} | fields)


def erase(row):
    return (np.arange(COUNT) != row)[:, None, None].astype(np.float32)


def test_a_folder_without_photographs_is_one_line(tmp_path):
    for name in ("meta.json", "jpeg_e2e.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(UserError, match="no photographs' golden"):
        photos.check(tmp_path, tmp_path)
