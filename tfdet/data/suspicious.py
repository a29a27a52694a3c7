"""Boxes that cannot be what was meant, said with the likely reason: what the boxes of a whole set have in common.

Numpy alone. What is wrong with a single box is `annotations.judge_box`'s.
"""

from __future__ import annotations

import array
import collections
import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from tfdet.data.problems import Problem
from tfdet.data.tiny_boxes import NORMALISED

CORNERS = "boxes look like corners"
CENTRES = "centres and top left corners mixed up"
IN_PIXELS = "boxes far beyond the image"
SWAPPED = "width and height exchanged"
BEFORE_TURNING = "boxes of the photo before it was turned"
IDENTICAL = "one box again and again"
WHOLE_IMAGE = "boxes around the whole image"
OFF_BY_ONE = "class ids off by one"
BACKGROUND = "background among the classes"
UNUSED_END = "first or last class without a box"

_NEARLY_ALL = 0.9
_LEAST_OVER = 0.1  # of the boxes that go over the border, for all to be taken for something else
_LEAST_BOXES, _LEAST_IMAGES = 10, 5  # fewer may be alike by chance
_LEAST_IDENTICAL, _LEAST_WHOLE = 0.8, 0.6
_WHOLE = 0.98  # of the image's area
_LEAST_SWAPPED = 3  # images
_CENSUS = ("boxes", "counts", "sizes", "turned")
_BACKGROUND_NAMES = {"background", "_background_", "__background__"}


@dataclasses.dataclass(frozen=True)
class Suspicion:
    """What many boxes of a set have in common and should not.

    Attributes:
        kind: one of the names above.
        reason: how many, and what is likely wrong, for a person.
        images: numbers of the images that it is seen on, as they were added; empty: of none in particular.
        is_note: it may be as it was meant.
    """

    kind: str
    reason: str
    images: list[int]
    is_note: bool = False


class BoxCensus:
    """Takes in the boxes of all images of a set, then says what is suspicious about them."""

    def __init__(self):
        # Numbers alone: of a million images these are 16 MB and 32 bytes a box.
        self._boxes, self._counts = array.array("d"), array.array("i")
        self._sizes, self._turned = array.array("i"), array.array("b")

    def add(self, boxes: np.ndarray | Sequence, height: int, width: int, turned: bool = False) -> None:
        """Takes in an image.

        Args:
            boxes: float [G, 4], `[x, y, width, height]` in pixels as annotated, those outside of the image and of no
                extent too; without crowds. Boxes that are not finite take no part.
            height, width: of the image as it is stored, in pixels.
            turned: whether it was turned upright by its EXIF orientation.
        """
        boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
        boxes = boxes[np.isfinite(boxes).all(axis=1)]
        self._boxes.frombytes(boxes.tobytes())
        self._counts.append(len(boxes))
        self._sizes.extend((width, height))
        self._turned.append(turned)

    def columns(self) -> dict[str, np.ndarray]:
        """All that was taken in, for `extend`."""
        return {name: np.array(getattr(self, f"_{name}")) for name in _CENSUS}

    def extend(self, columns: Mapping[str, np.ndarray]) -> None:
        """Takes in what another census gave as `columns`."""
        for name in _CENSUS:
            own = getattr(self, f"_{name}")
            own.frombytes(np.asarray(columns[name]).astype(own.typecode).tobytes())

    def suspicions(self) -> list[Suspicion]:
        """What was found; at most one explanation of boxes that leave their images."""
        if not self._boxes:
            return []
        boxes = np.array(self._boxes).reshape(-1, 4)
        owner = np.repeat(np.arange(len(self._counts)), self._counts)
        sizes = np.array(self._sizes, np.float64).reshape(-1, 2)[owner]
        found = _below_a_pixel(boxes, owner) or self._leaving(boxes, owner, sizes)
        return [*found, *_identical(boxes, owner, sizes), *_whole(boxes, owner, sizes)]

    def _leaving(self, boxes: np.ndarray, owner: np.ndarray, sizes: np.ndarray) -> list[Suspicion]:
        over = _leaves(boxes, sizes)
        if not over.any():
            return []
        found = _in_pixels(boxes, owner, sizes) or _written_otherwise(boxes, owner, sizes, over)
        return found or self._swapped(boxes, owner, sizes, over)

    def _swapped(self, boxes: np.ndarray, owner: np.ndarray, sizes: np.ndarray, over: np.ndarray) -> list[Suspicion]:
        """Images whose boxes leave them, and would not if width and height were exchanged."""
        leaving = set(owner[over].tolist())
        not_fitting = set(owner[_leaves(boxes, sizes[:, ::-1])].tolist())
        found = []
        for turned in (True, False):
            images = {number for number, own in enumerate(self._turned) if own == turned}
            own = sorted(leaving & images)
            fitting = [number for number in own if number not in not_fitting]
            least = 1 if turned else _LEAST_SWAPPED
            if len(fitting) < least or len(fitting) < _NEARLY_ALL * len(own):
                continue
            count = f"the boxes of {len(fitting)} of {len(images & set(owner.tolist()))} images"
            if turned:
                reason = (
                    f"{count} that were turned upright by EXIF leave them, and fit the photo as it was before: drawn "
                    "in a program that does not turn photos. Turn the files themselves and draw anew, or give the "
                    "size before turning with the annotations"
                )
                found.append(Suspicion(BEFORE_TURNING, reason, fitting))
            else:
                reason = (
                    f"{count} leave them, and would not if width and height were exchanged: were the sides written in "
                    "the other order, or the photos turned after they were labelled?"
                )
                found.append(Suspicion(SWAPPED, reason, fitting))
        return found


def suspicious_problems(census: BoxCensus, file: str, known: Collection[str] = ()) -> Iterable[Problem]:
    """The suspicions of a set as findings of its conversion.

    Args:
        census: of all images.
        file: what they are called together.
        known: kinds that were reported already, by a reader that knows the file and the annotation.
    """
    for found in census.suspicions():
        if found.kind not in known:
            yield Problem(found.kind, file, None, found.reason, "kept as they are", found.is_note)


def off_by_one(used: Iterable[int], known: Iterable[int]) -> str | None:
    """Whether class ids of annotations are one less or one more than those that are meant.

    Args:
        used: the ids that objects have.
        known: those of the classes.

    Returns:
        The likely reason in words; None where it is another one or nothing is wrong.
    """
    used, known = set(used), set(known)
    unknown = sorted(used - known)
    if not unknown or not known:
        return None
    has = f"id {unknown[0]} is none of the classes', which are {min(known)} to {max(known)}"
    for by, words in ((1, "one less than meant: add 1 to each"), (-1, "one more than meant: take 1 from each")):
        if all(number + by in known for number in used):
            return f"{has}, and all ids would be if they were {words}"
    return None


def suspicious_classes(names: Sequence[str], boxes_per_class: Sequence[int]) -> list[Suspicion]:
    """What the counts of a set's classes tell.

    Args:
        names: of the classes, in the order of their ids.
        boxes_per_class: in the same order.
    """
    empty = [number for number, count in enumerate(boxes_per_class) if not count]
    for number in empty:
        if names[number].strip().lower() in _BACKGROUND_NAMES:
            reason = f"class {names[number]!r} has no box: background is no class of a detector; leave it out"
            return [Suspicion(BACKGROUND, reason, [], is_note=True)]
    if len(empty) == 1 and len(names) > 2 and empty[0] in (0, len(names) - 1):
        if sum(boxes_per_class) >= _LEAST_BOXES * len(names):
            place = "first" if empty[0] == 0 else "last"
            reason = (
                f"class {names[empty[0]]!r}, the {place} of {len(names)}, is the only one without a box: are the ids "
                "off by one? Look whether the names fit the pictures"
            )
            return [Suspicion(UNUSED_END, reason, [], is_note=True)]
    return []


def _leaves(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """bool [B], whether a box goes over the border of an image `[width, height]` by more than a pixel."""
    return ((boxes[:, :2] < -1) | (boxes[:, :2] + boxes[:, 2:] > sizes + 1)).any(axis=1)


def _images(owner: np.ndarray, chosen: np.ndarray) -> list[int]:
    return np.unique(owner[chosen]).tolist()


def _below_a_pixel(boxes: np.ndarray, owner: np.ndarray) -> list[Suspicion]:
    tiny = (boxes[:, 2:] < 1).all(axis=1) & (boxes[:, 2:] >= 0).all(axis=1)
    if not tiny.any() or tiny.sum() < _NEARLY_ALL * len(boxes):
        return []
    within_one = (np.abs(boxes[tiny]) <= 1.5).all(axis=1).mean() >= _NEARLY_ALL
    why = (
        "they look normalised, 0 to 1; multiply x and width by the image's width, y and height by its height"
        if within_one
        else "are their sizes normalised, or points written as boxes? Sizes are in pixels"
    )
    reason = f"{tiny.sum()} of {len(boxes)} boxes are smaller than a pixel: {why}"
    return [Suspicion(NORMALISED, reason, _images(owner, tiny))]


def _in_pixels(boxes: np.ndarray, owner: np.ndarray, sizes: np.ndarray) -> list[Suspicion]:
    """Pixels that were taken for parts of the image, and multiplied by its size once more."""
    scale = np.concatenate([sizes, sizes], axis=1)
    far = (boxes[:, 2:] > 2 * sizes).any(axis=1) | (boxes[:, :2] > 2 * sizes).any(axis=1)
    if far.sum() < _NEARLY_ALL * len(boxes) or _leaves(boxes / scale, sizes).sum() > (1 - _NEARLY_ALL) * len(boxes):
        return []
    reason = (
        f"{far.sum()} of {len(boxes)} boxes lie far beyond their images, and would fit divided by the image's size: "
        "pixels were written where parts of the image, 0 to 1, are expected"
    )
    return [Suspicion(IN_PIXELS, reason, _images(owner, far))]


def _written_otherwise(boxes: np.ndarray, owner: np.ndarray, sizes: np.ndarray, over: np.ndarray) -> list[Suspicion]:
    """Boxes of which many leave their images, and none would if their numbers meant something else."""
    start, extent = boxes[:, :2], boxes[:, 2:]
    half = extent / 2
    centre = start + half
    for kind, low, high, least, words in (
        (CORNERS, start, extent, 1, "[x1, y1, x2, y2]: corners were written in place of sizes"),
        (CENTRES, start - half, start + half, _LEAST_SWAPPED, "[cx, cy, width, height]: x and y are the centre"),
        (CORNERS, centre, extent, _LEAST_SWAPPED, "[x1, y1, x2, y2]: corners where centre and size are expected"),
        (CENTRES, centre, centre + extent, _LEAST_SWAPPED, "[x, y, width, height]: corners where centres are expected"),
    ):
        fits = (high >= low).all() and (low >= -1).all() and (high <= sizes + 1).all()
        if fits and over.sum() >= max(least, _LEAST_OVER * len(boxes)):
            reason = f"{over.sum()} of {len(boxes)} boxes leave their images, and none would as {words}"
            return [Suspicion(kind, reason, _images(owner, over))]
    return []


def _identical(boxes: np.ndarray, owner: np.ndarray, sizes: np.ndarray) -> list[Suspicion]:
    if len(boxes) < _LEAST_BOXES or len(np.unique(owner)) < _LEAST_IMAGES:
        return []
    relative = boxes / np.concatenate([sizes, sizes], axis=1)
    for values, what in ((np.round(boxes, 2), "pixel for pixel"), (np.round(relative, 4), "relative to its image")):
        box, count = collections.Counter(map(tuple, values.tolist())).most_common(1)[0]
        same = (values == np.array(box)).all(axis=1)
        if count >= _LEAST_IDENTICAL * len(boxes):
            at = "x={:g} y={:g} width={:g} height={:g}".format(*boxes[same][0])
            reason = f"{count} of {len(boxes)} boxes are one and the same ({at}), {what}: a template that nobody moved?"
            return [Suspicion(IDENTICAL, reason, _images(owner, same))]
    return []


def _whole(boxes: np.ndarray, owner: np.ndarray, sizes: np.ndarray) -> list[Suspicion]:
    inside = np.minimum(boxes[:, :2] + boxes[:, 2:], sizes) - np.maximum(boxes[:, :2], 0)
    whole = (inside > 0).all(axis=1) & (inside.prod(axis=1) >= _WHOLE * sizes.prod(axis=1))
    images, covered = len(np.unique(owner)), _images(owner, whole)
    if images < _LEAST_IMAGES or len(covered) < _LEAST_WHOLE * images:
        return []
    reason = (
        f"{len(covered)} of {images} images with boxes have one around the whole image: labels of a classification? "
        "A detector learns from them that everything is everywhere"
    )
    return [Suspicion(WHOLE_IMAGE, reason, covered, is_note=True)]
