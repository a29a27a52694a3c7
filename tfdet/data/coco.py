"""Reads COCO annotation files. Several files make one set (train2014 + valminusminival2014)."""

from __future__ import annotations

import json
import pathlib

from tfdet.data.annotations import AnnotationSet, Category, ImageAnnotation, ObjectAnnotation
from tfdet.data.problems import ProblemReport
from tfdet.errors import UserError
from tfdet.text import read_lines


def read_coco(sources, report: ProblemReport) -> AnnotationSet:
    """Reads one or more COCO annotation files into one set.

    Classes are in the order of the annotation files, which is the class order of SimpleDet (utils/generate_roidb.py).
    Annotations belong to the images of their own file.

    Args:
        sources: sequence of (annotation file, image folder).
        report: receives what is wrong: duplicate image ids, unknown categories, annotations without image or box.

    Returns:
        The set, images in file order.

    Raises:
        UserError: a path is wrong, a file is not COCO json, or two files give one category id different names.
    """
    categories: dict[int, Category] = {}
    images: list[ImageAnnotation] = []
    seen: dict[int, str] = {}
    for annotation_file, image_dir in sources:
        annotation_file, image_dir = pathlib.Path(annotation_file), pathlib.Path(image_dir)
        content = _load(annotation_file)
        if not image_dir.is_dir():
            raise UserError(f"image folder {image_dir} of {annotation_file} does not exist; give --coco FILE FOLDER")
        _merge_categories(categories, content, annotation_file)
        own: dict[int, ImageAnnotation] = {}
        for entry in content["images"]:
            image = _image(entry, image_dir, annotation_file)
            if image.image_id in seen:
                report.add(
                    "duplicate image id", image.file_name, image.image_id,
                    f"{annotation_file.name} lists an image id already used by {seen[image.image_id]}", "left out",
                )  # fmt: skip
                continue
            seen[image.image_id] = image.file_name
            own[image.image_id] = image
            images.append(image)
        _attach(own, content, categories, annotation_file, report)
    return AnnotationSet(list(categories.values()), images)


def read_categories(path) -> list[Category]:
    """Reads the categories of a COCO json file, or a text file with one class name a line (ids 1, 2, ...)."""
    path = pathlib.Path(path)
    if path.suffix.lower() == ".json":
        categories: dict[int, Category] = {}
        _merge_categories(categories, _load(path, keys=("categories",)), path)
        return list(categories.values())
    names = read_lines(path, "the class names")
    if not names or len(set(names)) != len(names):
        raise UserError(f"{path} must hold one class name a line, each once; it has {len(names)} lines")
    return [Category(index + 1, name) for index, name in enumerate(names)]


def _load(path: pathlib.Path, keys=("images", "categories")) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read annotation file {path}: {error.strerror}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid json: {error}") from None
    for key in keys:
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise UserError(f"{path} is not a COCO annotation file: it has no list '{key}'")
    return content


def _merge_categories(categories: dict[int, Category], content: dict, path) -> None:
    names = {category.name: category.id for category in categories.values()}
    for entry in content["categories"]:
        try:
            category = Category(int(entry["id"]), str(entry["name"]))
        except (KeyError, TypeError, ValueError):
            raise UserError(f"{path}: category {entry!r} needs an integer 'id' and a 'name'") from None
        known = categories.get(category.id)
        if known is not None and known.name != category.name:
            raise UserError(f"{path}: category id {category.id} is '{category.name}' here but '{known.name}' before")
        if names.get(category.name, category.id) != category.id:
            raise UserError(f"{path}: category '{category.name}' has the ids {names[category.name]} and {category.id}")
        categories[category.id] = category
        names[category.name] = category.id


def _image(entry, image_dir: pathlib.Path, path) -> ImageAnnotation:
    try:
        image_id, file_name = int(entry["id"]), str(entry["file_name"])
        height, width = int(entry.get("height") or 0), int(entry.get("width") or 0)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UserError(f"{path}: image {str(entry)[:120]} needs an integer 'id' and a 'file_name'") from None
    return ImageAnnotation(image_id, file_name, image_dir / file_name, height, width)


def _attach(images, content, categories, annotation_file, report: ProblemReport) -> None:
    """Adds the annotations of one file to its images."""
    for entry in content.get("annotations", []):
        label = f"annotation {entry.get('id', '?')}"
        image_id = entry.get("image_id")
        image = images.get(image_id if isinstance(image_id, int) else None)
        if image is None:
            report.add(
                "annotation without image", annotation_file.name, None,
                f"{label} belongs to image id {image_id!r}, which this file does not list or lists twice", "left out",
            )  # fmt: skip
            continue
        category_id = entry.get("category_id")
        if not isinstance(category_id, int) or category_id not in categories:
            report.add(
                "unknown category", image.file_name, image.image_id,
                f"{label} has category id {category_id!r}, which {annotation_file.name} does not define", "left out",
            )  # fmt: skip
            continue
        try:
            x, y, width, height = (float(value) for value in entry["bbox"])
            area = float(entry["area"]) if entry.get("area") is not None else width * height
        except (KeyError, TypeError, ValueError):
            report.add(
                "degenerate box", image.file_name, image.image_id,
                f"{label} has bbox {entry.get('bbox')!r} and area {entry.get('area')!r}; "
                "expected four numbers and a number", "left out",
            )  # fmt: skip
            continue
        item = ObjectAnnotation(
            x, y, width, height, category_id, area, bool(entry.get("iscrowd", 0)), entry.get("segmentation"),
            entry.get("id"),
        )  # fmt: skip
        image.objects.append(item)
