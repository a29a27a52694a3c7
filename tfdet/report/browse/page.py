"""The page: overview, filters and pictures in one file."""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tfdet.report.browse.collection import MEDIUM_AREA, SMALL_AREA, Collection, Objects, Picture
from tfdet.report.browse.findings import problem_counts
from tfdet.report.browse.shapes import outline
from tfdet.report.drawing import class_color
from tfdet.report.page import picture_uri, render
from tfdet.text import printable

_SIDES = (0, 4, 8, 16, 32, 64, 96, 128, 192, 256, 512, math.inf)  # pixels, of the square that is as large
_COUNTS = (0, 1, 2, 3, 6, 11, 21, 51, 101, math.inf)
_QUALITY = 80
_MOST_PROBLEMS = 8  # of a picture, written out


@dataclasses.dataclass(frozen=True)
class Bar:
    """One line of a chart: its name, its count, its share of the longest, and the filter that it sets."""

    name: str
    count: int
    share: float
    filter: str = ""


def make_page(
    collection: Collection, shown: Sequence[int], side: int, score_threshold: float, advance: Callable[[], None]
) -> str:
    """The page of a collection.

    Args:
        collection: with the problems of its pictures.
        shown: numbers of the pictures to show.
        side: the most pixels of a side of a picture.
        score_threshold: detections from here on are counted, and shown at first.
        advance: called after each picture.

    Returns:
        HTML that needs no other file.
    """
    chosen = [collection.pictures[number] for number in shown]
    images = []
    for picture, pixels in zip(chosen, collection.load(chosen, side), strict=True):
        images.append(_entry(picture, pixels))
        advance()
    kinds = problem_counts(collection.pictures)
    places = {number: place for place, number in enumerate(shown)}
    groups = [
        {
            "exact": group.exact,
            "across": len({collection.pictures[number].split for number in group.members}) > 1,
            "total": len(group.members),
            "images": [places[number] for number in group.members if number in places],
        }
        for group in collection.duplicates
    ]
    groups.sort(key=lambda group: (not group["across"], -group["total"]))
    data = {
        "classes": [{"name": printable(name), "color": _color(place)} for place, name in enumerate(collection.classes)],
        "splits": [printable(name) for name in collection.splits],
        "kinds": [printable(kind) for kind in kinds],
        "areas": [SMALL_AREA, MEDIUM_AREA],
        "score": score_threshold,
        "images": images,
        "groups": [group for group in groups if len(group["images"]) > 1],
    }
    across = [group for group in groups if group["across"]]
    counted = _counted(collection, score_threshold)
    return render(
        "browse.html",
        title=collection.title,
        collection=collection,
        data=data,
        num_shown=len(shown),
        num_pictures=len(collection.pictures),
        num_problems=sum(bool(picture.problems) for picture in collection.pictures),
        num_objects=sum(len(objects) for objects, _ in counted),
        kinds=kinds,
        classes=_class_rows(collection, score_threshold),
        columns=[*(collection.splits if collection.has_truth else []), *(["found"] if collection.has_found else [])],
        sizes=_size_bars(counted),
        counts=_count_bars(counted),
        groups=groups,
        across=across,
        score_threshold=score_threshold,
        side=side,
        has_masks=any(entry[5] for image in images for entry in image["t"] + image["d"]),
    )


def _color(place: int) -> str:
    return "#{:02x}{:02x}{:02x}".format(*class_color(place))


def _entry(picture: Picture, pixels: np.ndarray | None) -> dict[str, Any]:
    """A picture as the script of the page reads it."""
    scale = 1.0 if pixels is None else max(pixels.shape[:2]) / max(picture.height, picture.width, 1)
    problems = list(dict.fromkeys(picture.problems))
    shown = [[printable(kind), printable(reason)] for kind, reason in problems[:_MOST_PROBLEMS]]
    if len(problems) > _MOST_PROBLEMS:
        shown.append(
            [printable(problems[_MOST_PROBLEMS][0]), f"and {len(problems) - _MOST_PROBLEMS - 1} more findings"]
        )
    return {
        "s": picture.split,
        "i": picture.image_id,
        "f": printable(picture.file_name),
        "w": picture.width,
        "h": picture.height,
        "k": round(scale, 6),
        "u": "" if pixels is None else picture_uri(pixels, quality=_QUALITY),
        "p": shown,
        "t": list(_rows(picture.truth, picture, scale)),
        "d": list(_rows(picture.found, picture, scale)),
    }


def _rows(objects: Objects | None, picture: Picture, scale: float) -> Iterator[list]:
    """Of every object: class, box, area, score (-1: annotated; -2: a crowd), remark, outline."""
    for number in range(0 if objects is None else len(objects)):
        score = -2.0 if objects.is_crowd[number] else -1.0
        if objects.scores is not None:
            score = round(float(objects.scores[number]), 4)
        mask = objects.segmentations[number] if objects.segmentations else None
        box = [round(value, 1) for value in objects.boxes[number].tolist()]
        path = outline(mask, picture.height, picture.width, scale)
        remark = printable(objects.remarks[number]) if objects.remarks else ""
        yield [int(objects.classes[number]), box, round(float(objects.areas[number]), 1), score, remark, path]


def _counted(collection: Collection, threshold: float) -> list[tuple[Objects, np.ndarray]]:
    """The objects of every picture that the charts count: annotated ones where there are any, else those found."""
    counted = []
    for picture in collection.pictures:
        objects = picture.truth if collection.has_truth else picture.found
        if objects is not None:
            keep = ~objects.is_crowd if objects.scores is None else objects.scores >= threshold
            counted.append((_chosen(objects, keep), objects.areas[keep]))
    return counted


def _chosen(objects: Objects, keep: np.ndarray) -> Objects:
    return Objects(objects.boxes[keep], objects.classes[keep], objects.areas[keep], objects.is_crowd[keep])


def _class_rows(collection: Collection, threshold: float) -> list[dict[str, Any]]:
    """Objects by class and split, and those found; most frequent first."""
    columns: dict[int, collections.Counter] = collections.defaultdict(collections.Counter)
    pictures: collections.Counter = collections.Counter()
    found_column = len(collection.splits) if collection.has_truth else 0
    for picture in collection.pictures:
        seen: set[int] = set()
        if picture.truth is not None:
            kinds = picture.truth.classes[~picture.truth.is_crowd].tolist()
            columns[picture.split].update(kinds)
            seen.update(kinds)
        if picture.found is not None:
            kinds = picture.found.classes[picture.found.scores >= threshold].tolist()
            columns[found_column].update(kinds)
            seen.update(kinds if not collection.has_truth else ())
        pictures.update(seen)
    width = (len(collection.splits) if collection.has_truth else 0) + collection.has_found
    rows = []
    for place, name in enumerate(collection.classes):
        counts = [columns[column][place] for column in range(width)]
        total = sum(counts[: len(collection.splits)]) if collection.has_truth else counts[0]
        row = {"place": place, "name": name, "color": _color(place), "counts": counts, "total": total}
        rows.append({**row, "images": pictures[place]})
    longest = max((row["total"] for row in rows), default=0)
    for row in rows:
        row["share"] = row["total"] / longest if longest else 0
    return sorted(rows, key=lambda row: -row["total"])


def _bars(values: np.ndarray, edges: Sequence[float], names: Sequence[str], filters: Sequence[str]) -> list[Bar]:
    counts, _ = np.histogram(values, np.array(edges))
    longest = max(1, counts.max(initial=0))
    return [Bar(*row) for row in zip(names, counts.tolist(), (counts / longest).tolist(), filters)]


def _size_bars(counted: list[tuple[Objects, np.ndarray]]) -> list[Bar]:
    areas = np.concatenate([areas for _, areas in counted]) if counted else np.zeros(0)
    sides = np.sqrt(np.clip(areas, 0, None))
    names = [f"{low} to {high}" if high < math.inf else f"{low} and more" for low, high in zip(_SIDES, _SIDES[1:])]
    filters = ["small" if low**2 < SMALL_AREA else "medium" if low**2 < MEDIUM_AREA else "large" for low in _SIDES[:-1]]
    return _bars(sides, _SIDES, names, filters)


def _count_bars(counted: list[tuple[Objects, np.ndarray]]) -> list[Bar]:
    counts = np.array([len(objects) for objects, _ in counted])
    names = []
    for low, high in zip(_COUNTS, _COUNTS[1:]):
        names.append(f"{low} and more" if high == math.inf else str(low) if high - low == 1 else f"{low} to {high - 1}")
    return _bars(counts, _COUNTS, names, [""] * len(names))
