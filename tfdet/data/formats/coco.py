"""COCO and LVIS annotation files. Several files make one set (train2014 + valminusminival2014)."""

from __future__ import annotations

import json
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from tfdet.collector import without_collector
from tfdet.data.annotations import AnnotationSet, Category, ImageAnnotation
from tfdet.data.formats.coco_entries import AnnotationReader, is_text, read_images
from tfdet.data.formats.source import AMBIGUOUS, ImageFinder, Source, Tree, split_of_word
from tfdet.data.listing import report_files_named_twice
from tfdet.data.problems import ProblemReport
from tfdet.data.values import shown, whole_id
from tfdet.errors import UserError
from tfdet.files import read_regular
from tfdet.text import read_lines

BACKSLASHES = "backslashes in a file name"
IN_TWO_FILES = "image in two annotation files"
RENUMBERED = "image ids renumbered"
_FREQUENCIES = ("r", "c", "f")  # of LVIS: classes of few, some and many images


def read_coco(sources, report: ProblemReport, renumber: bool = False) -> AnnotationSet:
    """Reads one or more COCO annotation files into one set.

    Classes are in the order of the annotation files, which is the class order of SimpleDet (utils/generate_roidb.py).
    Annotations belong to the images of their own file.

    Args:
        sources: sequence of (annotation file, image folder).
        report: receives what is wrong: duplicate image ids, unknown categories, annotations without image or box.
        renumber: give the images the ids 1, 2, ... in their order: for files that number their images alike.

    Returns:
        The set, images in file order.

    Raises:
        UserError: a path is wrong, a file is not COCO json, two files give one category id different names or number
            different images alike.
    """
    categories: dict[int, Category] = {}
    parts: list[tuple[pathlib.Path, dict[int, ImageAnnotation]]] = []
    for annotation_file, image_dir in sources:
        annotation_file, image_dir = pathlib.Path(annotation_file), pathlib.Path(image_dir)
        if os.path.isfile(annotation_file) and not os.path.isdir(image_dir):
            raise UserError(f"image folder {image_dir} of {annotation_file} does not exist; give --coco FILE FOLDER")
        finder = _LateFinder(image_dir)
        parts.append((annotation_file, _read_file(annotation_file, [image_dir], finder, categories, report)))
    _check_any(categories, [file for file, _ in parts])
    return AnnotationSet(list(categories.values()), _one_set(parts, report, renumber))


def read(source: Source, report: ProblemReport) -> AnnotationSet:
    """Reads COCO and LVIS files, whose images lie anywhere below the image folders.

    Files whose names, or the folders that they are in, say train, val and test are the splits of one set, each with
    its own image ids.

    Args:
        source: with the json files as annotations.
        report: receives the findings.

    Raises:
        UserError: as for `read_coco`; or some files are of splits and some are not.
    """
    files = _main_files(source.annotations)
    splits = {file: _split_of(file, source.tree) for file in files}
    if len(set(splits.values())) > 1 and "" in splits.values():
        names = ", ".join(str(source.tree.relative(file)) for file in files)
        raise UserError(f"{names}: are these parts of each other? Name one with --annotations")
    categories: dict[int, Category] = {}
    images: list[ImageAnnotation] = []
    for split in sorted(set(splits.values())):
        own = [file for file in files if splits[file] == split]
        finder = _LateFinder(None, source.finder, split)
        parts = [
            (file, _read_file(file, [*source.finder.tree.roots, file.parent], finder, categories, report))
            for file in own
        ]
        read_here = _one_set(parts, report, source.renumber)
        for image in read_here:
            image.split = split
        images += read_here
    _check_any(categories, files)
    if source.renumber:
        for number, image in enumerate(images, 1):
            image.image_id = number
    return AnnotationSet(list(categories.values()), images)


def _main_files(files: Sequence[pathlib.Path]) -> list[pathlib.Path]:
    """Without those that say of the same images other things than their boxes, as COCO's own folder has them."""
    with_boxes = {file.parent for file in files if file.name.startswith("instances")}
    return [file for file in files if file.parent not in with_boxes or file.name.startswith("instances")]


def _split_of(file: pathlib.Path, tree: Tree) -> str:
    words = re.split(r"[^a-z0-9]+", file.stem.lower())
    return next(filter(None, map(split_of_word, words)), "") or tree.split_of(file)


def _check_any(categories: dict[int, Category], files: Sequence[pathlib.Path]) -> None:
    if not categories:
        names = ", ".join(map(str, files))
        raise UserError(f"{names} names no category: 'categories' is empty, so there is nothing to detect")


def _read_file(
    file: pathlib.Path, folders: list[pathlib.Path], finder: _LateFinder, categories: dict[int, Category], report
) -> dict[int, ImageAnnotation]:
    """The images of one file with their objects, by number; its categories are added to those of the files before."""
    with without_collector():
        content = load_coco(file)
        merge_categories(categories, content["categories"], file)
        images = read_images(content["images"], file.name, report)
        for image in images.values():
            image.path = _image_path(image, folders, finder, report)
        AnnotationReader(images, categories, file.name, report).read(content.get("annotations", []))
    return images


class _LateFinder:
    """Finds images that are not where their names lead; the folders are listed when the first is looked for."""

    def __init__(self, folder: pathlib.Path | None, finder: ImageFinder | None = None, split: str = ""):
        self._folder, self._finder, self._split = folder, finder, split

    def find(self, name: str) -> tuple[pathlib.Path | None, str]:
        """The file, or None and why there is none."""
        if self._finder is None:
            self._finder = ImageFinder(Tree([self._folder] if self._folder is not None else []))
        found = self._finder.find(name, split=self._split)
        return found, "" if found is not None else self._finder.why_not(name, split=self._split)


def read_categories(path) -> list[Category]:
    """Reads the categories of a COCO json file, or a text file with one class name a line (ids 1, 2, ...)."""
    path = pathlib.Path(path)
    if path.suffix.lower() == ".json":
        categories: dict[int, Category] = {}
        merge_categories(categories, load_coco(path, needed=("categories",))["categories"], path)
        if not categories:
            raise UserError(f"{path} names no category: its 'categories' is empty")
        return list(categories.values())
    names = read_lines(path, "the class names")
    if not names or len(set(names)) != len(names):
        raise UserError(f"{path} must hold one class name a line, each once; it has {len(names)} lines")
    return [Category(index + 1, name) for index, name in enumerate(names)]


def load_coco(path: str | os.PathLike, needed: Sequence[str] = ("images", "categories")) -> dict[str, Any]:
    """Reads a COCO annotation file.

    Args:
        path: a json file in UTF-8, -16 or -32, with or without a byte order mark.
        needed: the lists that it must have.

    Returns:
        The content; `images`, `annotations` and `categories` are lists where they are there.

    Raises:
        UserError: the file cannot be read, is no json, or lacks one of the lists.
    """
    try:
        # json finds out the encoding of bytes by itself.
        content = json.loads(read_regular(path))
    except OSError as error:
        raise UserError(f"cannot read annotation file {path}: {error.strerror}") from None
    except RecursionError:
        raise UserError(f"annotation file {path} is not valid json: it is nested too deeply") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"annotation file {path} is not valid json: {error}") from None
    except ValueError:  # Python's limit, of 4,300 digits
        raise UserError(f"annotation file {path} has a number of thousands of digits; no value of COCO has") from None
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or (key in needed and key not in content):
            raise UserError(f"{path} is not a COCO annotation file: it has no list '{key}'")
        if key in content and not isinstance(content[key], list):
            raise UserError(
                f"{path} is not a COCO annotation file: its '{key}' is {shown(content[key])}, and must be a list"
            )
    return content


def merge_categories(categories: dict[int, Category], entries: list, path, need_name: bool = True) -> None:
    """Reads categories into those of the files before.

    Args:
        categories: by id; is added to.
        entries: the list `categories` of a file.
        path: the file, for errors.
        need_name: refuse a category without name; otherwise its name is empty.

    Raises:
        UserError: an entry is no category, or names and ids do not agree.
    """
    names = {category.name: category.id for category in categories.values() if category.name}
    for entry in entries:
        try:
            name = entry.get("name", "")
            frequency = entry.get("frequency")
            category = Category(
                whole_id(entry["id"]), name if isinstance(name, str) else str(whole_id(name)),
                frequency if frequency in _FREQUENCIES else "",
            )  # fmt: skip
            if not is_text(category.name) or (need_name and not category.name.strip()):
                raise ValueError
        except (AttributeError, KeyError, TypeError, ValueError):
            raise UserError(
                f"{path}: category {shown(entry)} needs an integer 'id' from 0 to 2^63 - 1 and a 'name'"
            ) from None
        known = categories.get(category.id)
        if known is not None and known.name != category.name:
            raise UserError(f"{path}: category id {category.id} is '{category.name}' here but '{known.name}' before")
        if names.get(category.name, category.id) != category.id:
            raise UserError(f"{path}: category '{category.name}' has the ids {names[category.name]} and {category.id}")
        categories[category.id] = category
        if category.name:
            names[category.name] = category.id


def _image_path(
    image: ImageAnnotation, folders: list[pathlib.Path], finder: _LateFinder, report: ProblemReport
) -> pathlib.Path:
    """The file of an image: where its name leads, else the only one of its name in the folders below.

    A name with the backslashes of Windows is read with slashes where it names no file.
    """
    name = image.file_name
    for folder in folders:
        if os.path.exists(folder / name):
            return folder / name
    found, reason = finder.find(name)
    if found is None:
        if reason.startswith("no image"):
            return folders[0] / name.replace("\\", "/")
        report.add(AMBIGUOUS, name, image.image_id, reason, "left out")
    elif "\\" in name:
        reason = f"{name} names no file, {found} is there"
        report.add(BACKSLASHES, name, image.image_id, reason, "that one read", is_note=True)
    return found or folders[0] / name


def _one_set(parts, report: ProblemReport, renumber: bool) -> list[ImageAnnotation]:
    """The images of all files in one list; what two files say of one image is put together."""
    images: list[ImageAnnotation] = []
    known: dict[int, tuple[ImageAnnotation, pathlib.Path]] = {}
    for annotation_file, own in parts:
        clashes = []
        for image_id, image in own.items():
            first, first_file = known.setdefault(image_id, (image, annotation_file))
            if first is image:
                images.append(image)
            elif first.path == image.path:
                first.objects.extend(image.objects)
                reason = f"{first_file.name} and {annotation_file.name} list it"
                report.add(IN_TWO_FILES, image.file_name, image_id, reason, "used once, with the boxes of both")
            else:
                images.append(image)
                clashes.append((image, first, first_file))
        if clashes and not renumber:
            image, first, first_file = clashes[0]
            raise UserError(
                f"{first_file} and {annotation_file} give {len(clashes)} ids to different images (id {image.image_id}: "
                f"{first.file_name} and {image.file_name}): give --renumber to number all images anew"
            )
    report_files_named_twice(images, report)
    if renumber:
        for number, image in enumerate(images, 1):
            image.image_id = number
        reason = f"--renumber: {len(images)} images of {len(parts)} files"
        report.add(RENUMBERED, parts[0][0].name, None, reason, f"numbered 1 to {len(images)}", is_note=True)
    return images
