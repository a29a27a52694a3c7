"""`tfdet.browse`: from data sets and predictions to one page to look through."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from tfdet.errors import UserError
from tfdet.report.browse.choice import choose
from tfdet.report.browse.data_set import read_data_sets
from tfdet.report.browse.findings import find_problems, problem_counts
from tfdet.report.browse.page import make_page
from tfdet.report.browse.predictions import add_predictions, read_predictions
from tfdet.report.page import write_page

DEFAULT_LIMIT = 300
"""Pictures on a page."""
DEFAULT_OUTPUT = "browse.html"
_LARGEST_SIDE, _SMALLEST_SIDE = 640, 160  # pixels


@dataclasses.dataclass(frozen=True)
class Browsed:
    """What a page was made of.

    Attributes:
        path: the page.
        num_pictures: of the data.
        num_shown: on the page.
        problems: pictures by kind of problem, most frequent first.
        suspicions: what many boxes have in common and should not, in words.
        num_near_across: groups of pictures of several splits that are the same or nearly so.
        num_others: detections that belong to none of the pictures.
    """

    path: str
    num_pictures: int
    num_shown: int
    problems: dict[str, int]
    suspicions: list[str]
    num_near_across: int
    num_others: int = 0


def browse(
    data: str | os.PathLike | Sequence[str | os.PathLike] = (),
    predictions: str | os.PathLike | None = None,
    output: str | os.PathLike = DEFAULT_OUTPUT,
    *,
    limit: int = DEFAULT_LIMIT,
    score_threshold: float = 0.3,
    images: str | os.PathLike | None = None,
    picture_size: int | None = None,
    compare: bool = True,
    console: Any = None,
) -> Browsed:
    """Writes one HTML page of data sets, of predictions, or of both, that needs no other file and no network.

    Args:
        data: folder of a data set, or several, which are looked at as splits of one; none: the predictions alone.
        predictions: the `detections.json` of `tfdet predict`, or with data COCO result records.
        output: the page to write.
        limit: the most pictures on the page: those with problems first, some of every class, the rest evenly.
        score_threshold: detections below it are not counted or compared, and at first not shown; 0..1.
        images: folder of the pictures of predictions, where they are no longer where the file says.
        picture_size: the most pixels of a side of a picture; None: 640, and less where more than 300 are shown, so that
            a page stays below some 60 MB.
        compare: look for pictures that are nearly the same.
        console: a `rich.console.Console` for a progress bar; None: none.

    Returns:
        What was found.

    Raises:
        UserError: data or predictions cannot be read, or the page not written.

    Example:
        >>> import tfdet
        >>> page = tfdet.browse(["data/train", "data/val"], output="shapes.html")
        >>> page.num_shown <= page.num_pictures
        True
    """
    folders = [data] if isinstance(data, (str, os.PathLike)) else list(data)
    if not folders and predictions is None:
        raise UserError("nothing to look at: give a data set folder, or predictions")
    if limit < 1:
        raise UserError(f"limit {limit} must be at least 1")
    if picture_size is not None and not 16 <= picture_size <= 8192:
        raise UserError(f"picture_size {picture_size} must lie between 16 and 8192 pixels")
    if not 0 <= score_threshold <= 1:
        raise UserError(f"score_threshold {score_threshold} must be from 0 to 1")
    others = 0
    if folders:
        collection, splits = _read(folders, compare, console)
        if predictions is not None:
            others = add_predictions(collection, splits, predictions)
    else:
        collection = read_predictions(predictions, images)
    if not collection.pictures:
        raise UserError(f"{predictions} lists no picture")
    find_problems(collection, score_threshold)
    shown = choose(collection, limit)
    side = picture_size or _side(len(shown))
    with _progress(console, len(shown), "writing pictures") as advance:
        page = make_page(collection, shown, side, score_threshold, advance)
    write_page(output, page)
    groups = collection.duplicates
    return Browsed(
        path=os.fspath(output),
        num_pictures=len(collection.pictures),
        num_shown=len(shown),
        problems=problem_counts(collection.pictures),
        suspicions=[suspicion.reason for suspicion in collection.suspicions],
        num_near_across=sum(len({collection.pictures[n].split for n in group.members}) > 1 for group in groups),
        num_others=others,
    )


def _read(folders: Sequence[str | os.PathLike], compare: bool, console: Any):
    from tfdet.data.manifest import Manifest

    total = sum(Manifest.load(folder).num_images for folder in folders)
    with _progress(console, total, "reading images") as advance:
        return read_data_sets(folders, compare, advance)


def _progress(console: Any, total: int, label: str):
    from tfdet.data.convert import progress_bar

    return progress_bar(console, total, label)


def _side(count: int) -> int:
    """Pixels of a side, of which so many pictures stay within one size of page."""
    return max(_SMALLEST_SIDE, min(_LARGEST_SIDE, round(_LARGEST_SIDE * (DEFAULT_LIMIT / count) ** 0.5)))
