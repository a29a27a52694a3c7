"""COCO's category ids, 1 to 90 with gaps, which torchvision counts as 91 classes, for the 80 classes that there are."""

from __future__ import annotations

import re

from tfdet.data.coco_names import COCO_CATEGORIES
from tfdet.weights.maps.rules import Arrays

COCO_IDS = list(COCO_CATEGORIES)
COCO_NUMBERS = 91
"""Numbers of classes in torchvision's files of COCO: category ids from 0 to 90, some of which there are not."""

_CLASSES = re.compile(
    r"roi_heads\.(box_predictor\.(cls_score|bbox_pred)|mask_predictor\.mask_fcn_logits)\.(weight|bias)"
)
_ANCHOR_CLASSES = re.compile(r"head\.classification_head\.cls_logits\.(weight|bias)")


def counts_ids(num_classes: int | None) -> bool:
    """Whether a file of torchvision with so many classes counts category ids: 91, or 90 and a background."""
    return num_classes in (COCO_NUMBERS, COCO_NUMBERS - 1)


def coco_classes(arrays: Arrays) -> Arrays:
    """The predictors of torchvision's published files, which count category ids from 0 to 90, for COCO's 80 classes.

    Two-stage detectors keep number 0, the background; RetinaNet, which has none, does not.
    """
    chosen = {}
    for name, array in arrays.items():
        if _CLASSES.fullmatch(name):
            by_class = array.reshape(COCO_NUMBERS, -1, *array.shape[1:])
            array = by_class[[0, *COCO_IDS]].reshape(-1, *array.shape[1:])
        elif _ANCHOR_CLASSES.fullmatch(name):
            by_class = array.reshape(-1, COCO_NUMBERS, *array.shape[1:])
            array = by_class[:, COCO_IDS].reshape(-1, *array.shape[1:])
        chosen[name] = array
    return chosen
