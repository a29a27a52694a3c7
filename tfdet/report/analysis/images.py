"""What is wrong on which image, at the threshold of each class: the confusion of classes, and the worst images."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from tfdet.report.analysis.matching import FALSE, TRUE, Matches
from tfdet.report.analysis.scene import MATCH_IOU, Scene
from tfdet.report.analysis.tide import BACKGROUND, BOTH, CLASS, DUPLICATE, KINDS, MISSED, PLACE, Tide

_DUPLICATE_WEIGHT = 0.5  # beside a missed object a second box on one that is found is a small thing


class ImageError(NamedTuple):
    """One thing that is wrong on an image."""

    kind: str  # of KINDS
    found: int  # the detection; -1 where an object is missed
    truth: int  # the object that is missed, or that the detection is of; -1 where there is none
    weight: float  # how much it counts among the errors of the image


@dataclasses.dataclass(frozen=True)
class ImageErrors:
    """An image and what is wrong on it."""

    image: int
    errors: list[ImageError]

    @property
    def weight(self) -> float:
        """By how much the image is wrong: an object counts 1, a false detection its score."""
        return sum(error.weight for error in self.errors)


class Outcome(NamedTuple):
    """Detections and objects at the thresholds."""

    shown: np.ndarray  # bool [N], detections with a score from their class's threshold on
    right: np.ndarray  # bool [N], those of `shown` that found an object
    false: np.ndarray  # bool [N], those of `shown` that count as errors
    found: np.ndarray  # bool [G], objects that a detection of `right` found


def at_thresholds(scene: Scene, matches: Matches, thresholds: np.ndarray) -> Outcome:
    """What is shown at a threshold for each class, float [C]. What lies in a crowd of its class is neither right nor
    false."""
    shown = scene.found.score >= thresholds[scene.found.label]
    state = matches.state[:, 0, 0]
    right, false = shown & (state == TRUE), shown & (state == FALSE)
    found = np.zeros(len(scene.truth), bool)
    found[matches.object_of[right]] = True
    return Outcome(shown, right, false, found)


def confusion(scene: Scene, outcome: Outcome) -> np.ndarray:
    """How often which class was taken for which.

    Detections that found an object of their class are settled first. Of the others the best takes the free object, of
    whatever class, that it overlaps most, by IoU 0.5 or more.

    Returns:
        int64 [C + 1, C + 1]: row the true class, column the detected one; the last row is background, where something
        was found, the last column objects that were missed.
    """
    truth, found, num_classes = scene.truth, scene.found, len(scene.classes)
    table = np.zeros([num_classes + 1, num_classes + 1], np.int64)
    np.add.at(table, (found.label[outcome.right], found.label[outcome.right]), 1)
    free = ~truth.crowd & ~outcome.found
    settled = ~outcome.false
    near = scene.pairs.where((scene.pairs.iou >= MATCH_IOU) & outcome.false[scene.pairs.found])
    near = near.where(free[near.truth])
    for index in np.lexsort((near.truth, -near.iou, near.found)):
        detection, thing = near.found[index], near.truth[index]
        if free[thing] and not settled[detection]:
            free[thing], settled[detection] = False, True
            table[truth.label[thing], found.label[detection]] += 1
    np.add.at(table[num_classes], found.label[~settled], 1)
    np.add.at(table[:, num_classes], truth.label[free], 1)
    return table


def image_errors(scene: Scene, tide: Tide, outcome: Outcome) -> list[ImageErrors]:
    """What is wrong on every image that has errors, the worst image first; of an image the heaviest error first.

    An object that a detection of another class or place is of is one error together with it, and not missed.
    """
    truth, found = scene.truth, scene.found
    by_image: dict[int, list[ImageError]] = {}
    about = np.zeros(len(truth), bool)
    for detection in np.flatnonzero(outcome.false).tolist():
        kind, target, weight = int(tide.kind[detection]), int(tide.target[detection]), float(found.score[detection])
        if kind not in (CLASS, PLACE, DUPLICATE, BACKGROUND):
            kind = BOTH
        if target >= 0 and not outcome.found[target] and not about[target]:
            about[target], weight = True, 1.0
        elif kind == DUPLICATE:
            weight *= _DUPLICATE_WEIGHT
        error = ImageError(KINDS[kind], detection, target, weight)
        by_image.setdefault(int(found.image[detection]), []).append(error)
    for thing in np.flatnonzero(~truth.crowd & ~outcome.found & ~about).tolist():
        by_image.setdefault(int(truth.image[thing]), []).append(ImageError(KINDS[MISSED], -1, thing, 1.0))
    images = [ImageErrors(image, sorted(errors, key=lambda error: -error.weight)) for image, errors in by_image.items()]
    return sorted(images, key=lambda entry: (-entry.weight, entry.image))
