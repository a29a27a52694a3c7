"""Divides a set into train, val and test: by class, by groups, and alike whatever the order of the files."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

from tfdet.data.annotations import AnnotationSet, ImageAnnotation
from tfdet.errors import UserError

TRAIN, VAL, TEST = "train", "val", "test"
ALL = "all"
"""What a set is called that is not divided; as `split` of `convert_data`, all splits of the source in one set."""


def own_splits(annotations: AnnotationSet) -> dict[str, AnnotationSet]:
    """The splits that the source itself has: those of images that say one. Empty: it has not several."""
    by_split: dict[str, list[ImageAnnotation]] = collections.defaultdict(list)
    for image in annotations.images:
        by_split[image.split].append(image)
    named = [name for name in (TRAIN, VAL, TEST) if name in by_split]
    if len(named) < 2:
        return {}
    return {name: dataclasses.replace(annotations, images=by_split[name]) for name in named}


def divide(
    annotations: AnnotationSet,
    val_fraction: float,
    test_fraction: float = 0.0,
    seed: int = 0,
    group_by: str | None = None,
) -> dict[str, AnnotationSet]:
    """Divides a set by image, so that every split has its share of each class.

    Iterative stratification: Sechidis, Tsoumakas, Vlahavas, "On the Stratification of Multi-Label Data", ECML 2011. The
    class with the fewest images left is dealt out first, each image to the split that lacks most of that class. Images
    are taken in the order of a hash of seed and name, so neither the order of the files nor the machine matters.

    Args:
        annotations: the set; crowds count for their classes too.
        val_fraction, test_fraction: of the images, 0 to 1; 0: no such split.
        seed: another one deals out otherwise.
        group_by: a regular expression, searched in the names of the images: images for which it finds the same text (of
            its groups, where it has some) stay together. Those where it finds nothing stand alone.

    Returns:
        The splits by name, each with its images in their order.

    Raises:
        UserError: a fraction, or the expression, is none; or a split would be empty.
    """
    fractions = {TRAIN: 1.0 - val_fraction - test_fraction, VAL: val_fraction, TEST: test_fraction}
    for name in (VAL, TEST):
        if not 0 <= fractions[name] < 1:
            raise UserError(f"{name}_fraction is {fractions[name]:g}, and must be at least 0 and below 1")
    if fractions[TRAIN] <= 1e-9:
        raise UserError(f"val_fraction {val_fraction:g} and test_fraction {test_fraction:g} leave no image to train on")
    fractions = {name: fraction for name, fraction in fractions.items() if fraction > 0}
    groups = _groups(annotations.images, group_by, seed)
    if len(groups) < len(fractions):
        what = f"--group_by {group_by} makes {len(groups)} groups" if group_by else f"there are {len(groups)} images"
        raise UserError(f"{what} of {len(annotations.images)} images, too few for {len(fractions)} splits")
    chosen = _deal(groups, annotations, fractions)
    _leave_none_empty(chosen, groups, fractions)
    images: dict[str, list[ImageAnnotation]] = {name: [] for name in fractions}
    split_of = {id(image): name for group, name in zip(groups, chosen, strict=True) for image in group}
    for image in annotations.images:
        images[split_of[id(image)]].append(image)
    return {name: dataclasses.replace(annotations, images=own) for name, own in images.items()}


def _groups(images: Sequence[ImageAnnotation], group_by: str | None, seed: int) -> list[list[ImageAnnotation]]:
    """Images that stay together, in the order of a hash."""
    pattern = None
    if group_by is not None:
        try:
            pattern = re.compile(group_by)
        except re.error as error:
            raise UserError(f"--group_by {group_by} is no regular expression: {error}") from None
    groups: dict[tuple[str, ...], list[ImageAnnotation]] = collections.defaultdict(list)
    num_matches = 0
    for image in images:
        match = pattern.search(image.file_name) if pattern is not None else None
        num_matches += match is not None
        # Two images may have one name, in files that say so.
        alone = ("image", image.file_name, str(image.image_id))
        groups[alone if match is None else ("group", *(match.groups("") or (match[0],)))].append(image)
    if pattern is not None and not num_matches:
        raise UserError(f"--group_by {group_by} is found in no name of an image, such as {images[0].file_name}")
    return [groups[key] for key in sorted(groups, key=lambda key: _hash(seed, key))]


def _hash(seed: int, key: tuple[str, ...]) -> bytes:
    return hashlib.sha256("\0".join((str(seed), *key)).encode("utf-8", "surrogatepass")).digest()


def _deal(groups: list[list[ImageAnnotation]], annotations: AnnotationSet, fractions: Mapping[str, float]) -> list[str]:
    """The split of each group, by iterative stratification."""
    place = {category.id: number for number, category in enumerate(annotations.categories)}
    classes_of = [  # how many images of the group have each class
        collections.Counter(place[c] for image in group for c in {item.category_id for item in image.objects})
        for group in groups
    ]
    sizes = [len(group) for group in groups]
    names = list(fractions)
    share = np.array([fractions[name] for name in names])
    left = np.zeros(len(place))
    with_class: list[list[int]] = [[] for _ in place]
    for number, counts in enumerate(classes_of):
        for kind, count in counts.items():
            left[kind] += count
            with_class[kind].append(number)
    wanted, wanted_images = share[:, None] * left[None], share * sum(sizes)
    chosen: list[str | None] = [None] * len(groups)

    def put(number: int, desire: np.ndarray) -> None:
        # Of splits that lack as much, the one that lacks most images; of those the first.
        best = max(range(len(names)), key=lambda split: (round(desire[split], 9), wanted_images[split], -split))
        chosen[number] = names[best]
        wanted_images[best] -= sizes[number]
        for kind, count in classes_of[number].items():
            wanted[best, kind] -= count
            left[kind] -= count

    while True:
        rarest = np.where(left > 0, left, math.inf)
        kind = int(np.argmin(rarest)) if len(rarest) else 0
        if not len(rarest) or not math.isfinite(rarest[kind]):
            break
        # Large groups first: small ones even out what they leave.
        for number in sorted((n for n in with_class[kind] if chosen[n] is None), key=lambda n: -sizes[n]):
            put(number, wanted[:, kind].copy())
        left[kind] = 0
    for number in sorted((n for n, split in enumerate(chosen) if split is None), key=lambda n: -sizes[n]):
        put(number, wanted_images.copy())
    return [name for name in chosen if name is not None]


def _leave_none_empty(chosen: list[str], groups: list[list[ImageAnnotation]], fractions: Mapping[str, float]) -> None:
    """A split that got nothing, of so few images, gets the smallest group of the split that has most groups."""
    for name in fractions:
        if name not in chosen:
            most = collections.Counter(chosen).most_common(1)[0][0]
            own = [number for number, split in enumerate(chosen) if split == most]
            chosen[min(own, key=lambda number: len(groups[number]))] = name
