"""What is looked at: pictures with their objects, the splits that they are of, the classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from tfdet.data.near_duplicates import Duplicates
from tfdet.data.suspicious import Suspicion

SMALL_AREA, MEDIUM_AREA = 32**2, 96**2
"""COCO's borders of sizes: an object below the first area is small, below the second medium, else large."""


@dataclasses.dataclass
class Objects:
    """The objects of a picture: those that are annotated, or those that were found. G of them.

    Attributes:
        boxes: float64 [G, 4], `[x, y, width, height]` in pixels of the picture.
        classes: int [G], of the collection.
        areas: float64 [G], pixels.
        is_crowd: bool [G].
        scores: float64 [G], 0..1; None for annotated ones.
        segmentations: G masks as COCO writes them, None where there is none; empty: not read yet.
        remarks: G texts, what is to be said of each, mostly empty; none: nothing of any.
    """

    boxes: np.ndarray
    classes: np.ndarray
    areas: np.ndarray
    is_crowd: np.ndarray
    scores: np.ndarray | None = None
    segmentations: list[Any] = dataclasses.field(default_factory=list)
    remarks: list[str] = dataclasses.field(default_factory=list)

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def none(cls) -> Objects:
        """No objects."""
        return cls(np.zeros([0, 4]), np.zeros(0, int), np.zeros(0), np.zeros(0, bool))


@dataclasses.dataclass
class Picture:
    """One picture to look at.

    Attributes:
        split: its number among the collection's.
        place: where its pixels are: the row of a data set, or the number of a file.
        image_id: of the data set or of the predictions.
        file_name: the original name.
        height, width: pixels that the boxes refer to; 0 where they are not known yet.
        truth: what is annotated; None: nobody says.
        found: what a model found; None: nobody looked.
        problems: kind and reason of what is wrong or odd with it.
    """

    split: int
    place: int
    image_id: int
    file_name: str
    height: int
    width: int
    truth: Objects | None = None
    found: Objects | None = None
    problems: list[tuple[str, str]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Collection:
    """All that a page can show.

    Attributes:
        title: for people.
        splits: names.
        classes: names; the numbers of classes are those of this list.
        pictures: all of them.
        load: yields the pixels uint8 [H, W, 3] of pictures, no side longer than the number given, and reads their
            masks; None where a picture cannot be read.
        suspicions: what many boxes have in common; images are numbers of pictures.
        duplicates: pictures that are the same or nearly so; members are numbers of pictures.
        left_out: what the conversion of the data left out, in words.
    """

    title: str
    splits: list[str]
    classes: list[str]
    pictures: list[Picture]
    load: Callable[[Sequence[Picture], int], Iterator[np.ndarray | None]]
    suspicions: list[Suspicion] = dataclasses.field(default_factory=list)
    duplicates: list[Duplicates] = dataclasses.field(default_factory=list)
    left_out: list[str] = dataclasses.field(default_factory=list)

    @property
    def has_truth(self) -> bool:
        """Whether anything is annotated."""
        return any(picture.truth is not None for picture in self.pictures)

    @property
    def has_found(self) -> bool:
        """Whether there are detections."""
        return any(picture.found is not None for picture in self.pictures)


def class_numbers(names: Iterable[str], classes: list[str]) -> list[int]:
    """The numbers of class names in a list that lacking ones are added to."""
    numbers = []
    for name in names:
        if name not in classes:
            classes.append(name)
        numbers.append(classes.index(name))
    return numbers
