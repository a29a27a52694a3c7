"""Detections in json: of `tfdet predict`, or COCO result records; alone, or beside the data set that they are of."""

from __future__ import annotations

import collections
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfdet.data.images import read_image
from tfdet.data.suspicious import off_by_one
from tfdet.errors import UserError
from tfdet.report.browse.collection import Collection, Objects, Picture, class_numbers
from tfdet.report.browse.data_set import Split
from tfdet.strict_json import read_json

_ADVICE = "give the detections.json of tfdet predict, or COCO result records"


def read_predictions(path: str | os.PathLike, images: str | os.PathLike | None = None) -> Collection:
    """The pictures that `tfdet predict` detected on, with what it found.

    Args:
        path: its `detections.json`.
        images: folder of the pictures, where they are no longer at the paths that the file names.

    Raises:
        UserError: the file is none, or COCO result records, which need their data set.
    """
    content = _content(path)
    if isinstance(content, list):
        raise UserError(f"{path} holds COCO result records, which do not name their pictures: give the data set too")
    classes: list[str] = []
    entries = _entries(path, content)
    names = _category_names(path, content)
    class_numbers(names.values(), classes)
    pictures, files = [], []
    for image in _images(path, content):
        own = entries.get(image["id"], [])
        numbers = class_numbers([_name(entry, names, path) for entry in own], classes)
        picture = Picture(0, len(files), image["id"], image["file_name"], image["height"], image["width"])
        picture.found = _objects(path, own, numbers)
        pictures.append(picture)
        files.append(image["file_name"])
    folders = [Path(os.curdir), Path(path).parent]
    return Collection(
        title=os.path.basename(os.path.dirname(os.path.abspath(path))) or "predictions",
        splits=["predictions"],
        classes=classes,
        pictures=pictures,
        load=lambda chosen, side: _load(files, folders, images, chosen, side),
    )


def add_predictions(collection: Collection, splits: Sequence[Split], path: str | os.PathLike) -> int:
    """Gives the pictures of data sets what was found on them.

    Args:
        collection: of `read_data_sets`; its pictures are changed.
        splits: of it.
        path: COCO result records, whose ids are those of the data; or the `detections.json` of `tfdet predict`, whose
            pictures are found by their names, and classes by theirs. Pictures that it does not list were not looked at;
            those without a record were, and nothing was found.

    Returns:
        The number of detections that belong to none of the pictures.

    Raises:
        UserError: the file cannot be read, or none of its images or classes is one of the data.
    """
    content = _content(path)
    if isinstance(content, list):
        picture_of, class_of = _by_id(collection.pictures), _classes_by_id(splits)
        entries = collections.defaultdict(list)
        for entry in content:
            entries[_whole(path, entry, "image_id")].append(entry)
        _check_categories(path, content, class_of)
    else:
        picture_of = _by_name(path, collection.pictures, _images(path, content))
        names, entries = _category_names(path, content), _entries(path, content)
        class_of = None
    others = 0
    for picture in picture_of.values():
        picture.found = _objects(path, [], [])
    if entries and not set(entries) & set(picture_of):
        raise UserError(f"no picture of {path} is one of {collection.title}: {_ADVICE} of this data set")
    for image_id, own in entries.items():
        if image_id not in picture_of:
            others += len(own)
            continue
        if class_of is None:
            numbers = class_numbers([_name(entry, names, path) for entry in own], collection.classes)
        else:
            numbers = [class_of[entry["category_id"]] for entry in own]
        picture_of[image_id].found = _objects(path, own, numbers)
    return others


def _content(path: str | os.PathLike) -> Any:
    try:
        content = read_json(path, "detections", _ADVICE)
    except FileNotFoundError:
        raise UserError(f"predictions {path} do not exist") from None
    if isinstance(content, list) or (isinstance(content, dict) and isinstance(content.get("annotations"), list)):
        return content
    raise UserError(f"{path} holds no detections: {_ADVICE}")


def _images(path: str | os.PathLike, content: dict) -> list[dict]:
    images = content.get("images")
    if not isinstance(images, list):
        raise UserError(f"{path} has no list 'images': {_ADVICE}")
    for image in images:
        sizes = [_whole(path, image, side) for side in ("height", "width")]
        if not isinstance(image.get("file_name"), str) or min(sizes) <= 0:
            raise UserError(f"{path}: an entry of 'images' has no file_name, or a size of 0")
        _whole(path, image, "id")
    return images


def _entries(path: str | os.PathLike, content: dict) -> dict[int, list[dict]]:
    entries = collections.defaultdict(list)
    for entry in content["annotations"]:
        entries[_whole(path, entry, "image_id")].append(entry)
    return entries


def _category_names(path: str | os.PathLike, content: dict) -> dict[int, str]:
    categories = content.get("categories", [])
    if not isinstance(categories, list):
        raise UserError(f"{path}: 'categories' is no list; {_ADVICE}")
    return {_whole(path, entry, "id"): str(entry.get("name", entry["id"])) for entry in categories}


def _name(entry: dict, names: dict[int, str], path: str | os.PathLike) -> str:
    number = _whole(path, entry, "category_id")
    return names.get(number, f"class {number}")


def _whole(path: str | os.PathLike, entry: Any, key: str) -> int:
    value = entry.get(key) if isinstance(entry, dict) else None
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int:
        raise UserError(f"{path}: an entry has {key} {value!r:.40}, not a whole number; {_ADVICE}")
    return value


def _objects(path: str | os.PathLike, entries: list[dict], numbers: list[int]) -> Objects:
    boxes = [_numbers(path, entry.get("bbox"), "bbox", 4) for entry in entries]
    scores = [_numbers(path, [entry.get("score")], "score", 1)[0] for entry in entries]
    order = np.argsort(-np.array(scores), kind="stable")
    values = np.array(boxes, np.float64).reshape(-1, 4)[order]
    return Objects(
        boxes=values,
        classes=np.array(numbers, int)[order],
        areas=values[:, 2] * values[:, 3],
        is_crowd=np.zeros(len(order), bool),
        scores=np.array(scores, np.float64)[order],
        segmentations=[entries[place].get("segmentation") for place in order.tolist()],
    )


def _numbers(path: str | os.PathLike, values: Any, key: str, count: int) -> list[float]:
    are_numbers = isinstance(values, list) and len(values) == count and all(type(v) in (int, float) for v in values)
    if not are_numbers or not all(math.isfinite(value) for value in values):
        raise UserError(f"{path}: a detection has the {key} {values!r:.60}; {_ADVICE}")
    return [float(value) for value in values]


def _by_id(pictures: Sequence[Picture]) -> dict[int, Picture]:
    known = {picture.image_id: picture for picture in pictures}
    if len(known) != len(pictures):
        raise UserError(
            "COCO result records name pictures by their ids, and two of these data sets share ids: give one"
        )
    return known


def _classes_by_id(splits: Sequence[Split]) -> dict[int, int]:
    known: dict[int, int] = {}
    for split in splits:
        for number, own in split.class_of.items():
            if known.setdefault(number, own) != own:
                raise UserError(f"category id {number} is another class in {split.name} than before: give one data set")
    return known


def _check_categories(path: str | os.PathLike, entries: list[dict], class_of: dict[int, int]) -> None:
    used = {_whole(path, entry, "category_id") for entry in entries}
    if unknown := sorted(used - set(class_of)):
        why = off_by_one(used, class_of) or f"the data set has {min(class_of)} to {max(class_of)}"
        raise UserError(f"{path}: category id {unknown[0]} is none of the data set's: {why}")


def _by_name(path: str | os.PathLike, pictures: Sequence[Picture], images: Sequence[dict]) -> dict[int, Picture]:
    """The picture of every image of the predictions that has one: of its whole name, else of the last part of it."""
    whole = {picture.file_name: picture for picture in pictures}
    last: dict[str, list[Picture]] = collections.defaultdict(list)
    for picture in pictures:
        last[_last(picture.file_name)].append(picture)
    found = {}
    for image in images:
        name = image["file_name"]
        candidates = [whole[name]] if name in whole else last.get(_last(name), [])
        if len(candidates) > 1:
            raise UserError(
                f"{path}: {len(candidates)} pictures of the data are called {_last(name)}: give one data set"
            )
        if candidates:
            found[image["id"]] = candidates[0]
    return found


def _last(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2]


def _load(
    files: list[str], folders: list[Path], images: Any, chosen: Sequence[Picture], side: int
) -> Iterator[np.ndarray | None]:
    from PIL import Image

    if images is not None:
        folders = [Path(images), *folders]
    for picture in chosen:
        name = files[picture.place]
        paths = [folder / name for folder in folders] + [folder / _last(name) for folder in folders]
        path = next((path for path in paths if os.path.isfile(path)), None)
        try:
            if path is None:
                raise UserError(f"{name} is not there any more: --images=FOLDER says where the pictures are now")
            pixels = Image.fromarray(read_image(path))
        except UserError as error:
            picture.problems.append(("unreadable picture", str(error)))
            yield None
            continue
        if (pixels.height, pixels.width) != (picture.height, picture.width):
            reason = f"{path} is {pixels.width}x{pixels.height}, the predictions say {picture.width}x{picture.height}"
            picture.problems.append(("image size differs", reason))
            yield None
            continue
        scale = min(1.0, side / max(pixels.size))
        size = [max(1, round(length * scale)) for length in pixels.size]
        yield np.asarray(pixels.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0) if scale < 1 else pixels)
