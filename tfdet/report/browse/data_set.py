"""Data sets as a collection of pictures."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfdet.data.annotations import ObjectAnnotation
from tfdet.data.formats.coco_entries import UNKNOWN_CATEGORY
from tfdet.data.images import TURNED, ImageError, stored_rgb
from tfdet.data.index import RecordIndex
from tfdet.data.manifest import REPORT_FILE, Manifest
from tfdet.data.near_duplicates import Fingerprint, find_duplicates, fingerprint
from tfdet.data.objects import TWICE, judge_objects
from tfdet.data.suspicious import BoxCensus, Suspicion, suspicious_classes
from tfdet.files import read_regular
from tfdet.report.browse.collection import Collection, Objects, Picture, class_numbers
from tfdet.strict_json import parse_json
from tfdet.text import one_line

_AT_A_TIME = 64  # images in memory while fingerprints are taken
_MOST_LEFT_OUT = 200  # named on the page


@dataclasses.dataclass(frozen=True)
class Split:
    """A data set among those that are looked at, with the numbers that its category ids have in the collection."""

    name: str
    manifest: Manifest
    index: RecordIndex
    class_of: dict[int, int]


def read_data_sets(
    folders: Sequence[str | os.PathLike], compare: bool = True, advance: Callable[[], None] = lambda: None
) -> tuple[Collection, list[Split]]:
    """Reads the annotations of data sets, and what is wrong with them; pixels and masks are read when they are shown.

    Args:
        folders: data set folders, splits of one set for example.
        compare: look for pictures that are nearly the same, for which each is decoded at an eighth of its size.
        advance: called after each image.

    Returns:
        The collection, and its splits.

    Raises:
        UserError: a folder is no data set, or damaged.
    """
    classes: list[str] = []
    splits = []
    for name, folder in zip(_names(folders), folders):
        manifest = Manifest.load(folder)
        numbers = class_numbers(manifest.classes, classes)
        class_of = dict(zip(manifest.category_ids, numbers, strict=True))
        splits.append(Split(name, manifest, manifest.load_index(), class_of))
    pictures: list[Picture] = []
    prints: list[Fingerprint] = []
    suspicions: list[Suspicion] = []
    left_out: list[str] = []
    for number, split in enumerate(splits):
        first = len(pictures)
        told = _Told(split)
        census = BoxCensus()
        for picture, own in _pictures(split, number, compare):
            pictures.append(picture)
            prints.append(own)
            picture.problems += told.of_image(picture.image_id, {kind for kind, _ in picture.problems})
            truth = picture.truth
            turned = picture.image_id in told.turned
            census.add(truth.boxes[~truth.is_crowd], picture.height, picture.width, turned)
            advance()
        left_out += told.left_out
        found = [*census.suspicions(), *suspicious_classes(split.manifest.classes, split.manifest.boxes_per_class)]
        for suspicion in found:
            reason = f"{split.name}: {suspicion.reason}" if len(splits) > 1 else suspicion.reason
            images = [first + image for image in suspicion.images]
            suspicions.append(dataclasses.replace(suspicion, reason=reason, images=images))
    collection = Collection(
        title=" and ".join(split.name for split in splits),
        splits=[split.name for split in splits],
        classes=classes,
        pictures=pictures,
        load=lambda chosen, side: _load(splits, chosen, side),
        suspicions=suspicions,
        duplicates=find_duplicates(prints) if compare else [],
        left_out=left_out,
    )
    return collection, splits


def _names(folders: Sequence[str | os.PathLike]) -> list[str]:
    """What the splits are called: the last parts of their paths that tell them apart."""
    paths = [Path(os.path.abspath(folder)) for folder in folders]
    for count in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-count:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [f"{path.name} ({number})" for number, path in enumerate(paths, 1)]


def _pictures(split: Split, number: int, compare: bool) -> Iterator[tuple[Picture, Fingerprint]]:
    from tfdet.data.stored import stored_images

    images = stored_images(split.manifest, split.index)
    with concurrent.futures.ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        while batch := list(itertools.islice(images, _AT_A_TIME)):
            prints = pool.map(fingerprint, [image.encoded for image in batch]) if compare else [None] * len(batch)
            for image, own in zip(batch, prints):
                yield _picture(image, split, number), own


def _picture(image: Any, split: Split, number: int) -> Picture:
    known = np.array([label in split.class_of for label in image.category_ids.tolist()], bool)
    truth = Objects(
        boxes=image.boxes[known],
        classes=np.array([split.class_of[label] for label in image.category_ids[known].tolist()], int),
        areas=image.areas[known],
        is_crowd=np.asarray(image.is_crowd, bool)[known],
    )
    picture = Picture(number, image.row, image.image_id, image.file_name, image.height, image.width, truth)
    if not known.all():
        others = sorted(set(image.category_ids[~known].tolist()))
        picture.problems.append((UNKNOWN_CATEGORY, f"category ids {others} are not in the manifest"))
    rows = zip(truth.boxes.tolist(), truth.classes.tolist(), truth.areas.tolist(), truth.is_crowd.tolist())
    objects = [ObjectAnnotation(*box, kind, area, crowd) for box, kind, area, crowd in rows]
    _, found = judge_objects(objects, image.height, image.width, image.file_name, image.image_id)
    # Of two alike in class and box the masks differ, or the second would not be in the set.
    picture.problems += [(problem.kind, problem.reason) for problem in found if problem.kind != TWICE]
    return picture


def _load(splits: list[Split], chosen: Sequence[Picture], side: int) -> Iterator[np.ndarray | None]:
    from tfdet.data.stored import stored_images

    for number, own in itertools.groupby(chosen, lambda picture: picture.split):
        pictures = list(own)
        split = splits[number]
        images = stored_images(split.manifest, split.index, [picture.place for picture in pictures])
        for picture, image in zip(pictures, images, strict=True):
            known = [label in split.class_of for label in image.category_ids.tolist()]
            picture.truth.segmentations = [
                _segmentation(text) for text, is_known in zip(image.segmentations, known) if is_known
            ]
            try:
                yield stored_rgb(image.encoded, side)
            except ImageError as error:
                picture.problems.append(("undecodable image", str(error)))
                yield None


def _segmentation(text: bytes) -> Any:
    try:
        return parse_json(text) if text else None
    except ValueError:
        return None


class _Told:
    """What the conversion of a data set found, by the report beside its manifest.

    Attributes:
        turned: ids of the images that were turned upright.
        left_out: what did not become part of the set, in words.
    """

    def __init__(self, split: Split):
        self.turned: set[int] = set()
        self.left_out: list[str] = []
        self._of_image: dict[int, list[tuple[str, str]]] = {}
        known = set(split.index.image_id.tolist())
        for kind, file, reason, action, image_id, is_note in _findings(split.manifest.folder / REPORT_FILE):
            if TURNED in reason:
                self.turned.add(image_id)
            if is_note:
                continue
            if image_id in known:
                self._of_image.setdefault(image_id, []).append((kind, f"{reason} -> {action}"))
            else:
                self.left_out.append(one_line(f"{kind}: {file}: {reason} -> {action}"))
        if len(self.left_out) > _MOST_LEFT_OUT:
            more = len(self.left_out) - _MOST_LEFT_OUT
            self.left_out = [*self.left_out[:_MOST_LEFT_OUT], f"and {more} more, see {REPORT_FILE}"]

    def of_image(self, image_id: int, known: set[str]) -> list[tuple[str, str]]:
        """Kind and reason of what was found on an image, without the kinds that are known."""
        return [(kind, reason) for kind, reason in self._of_image.get(image_id, []) if kind not in known]


def _findings(path: Path) -> list[tuple]:
    """The findings of a report; none where it is missing or no such file: it is no part of the data."""
    try:
        entries = parse_json(read_regular(path))["findings"]
        return [
            (*(str(entry[key]) for key in ("kind", "file", "reason", "action")), entry["image_id"], entry["is_note"])
            for entry in entries
            if entry["image_id"] is None or type(entry["image_id"]) is int
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return []
