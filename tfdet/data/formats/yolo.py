"""YOLO: a text file an image, a line an object: `class x y width height`, or a polygon, as parts of the image.

Source: docs.ultralytics.com/datasets/detect and /segment; Darknet's README for obj.names.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tfdet.data.annotations import AnnotationSet, ImageAnnotation
from tfdet.data.formats.builder import SetBuilder, box_around, size_of, to_pixels
from tfdet.data.formats.coco_entries import NO_IMAGE, UNKNOWN_CATEGORY
from tfdet.data.formats.sniff import YOLO, kind_of
from tfdet.data.formats.source import Source
from tfdet.data.formats.yolo_yaml import DataYaml, find_yaml
from tfdet.data.problems import ProblemReport
from tfdet.data.suspicious import OFF_BY_ONE, off_by_one
from tfdet.data.values import real_number, shown, whole_id
from tfdet.files import read_regular
from tfdet.text import decode, read_lines

UNNAMED = "classes without names"
_NAME_FILES = (
    "classes.txt",
    "obj.names",
    "_darknet.labels",
    "class.names",
    "labels.names",
    "classes.names",
    "names.txt",
)
_FARTHEST = 0.5  # of a side beyond the image: what is farther is not a part of it


def read(source: Source, report: ProblemReport) -> AnnotationSet:
    """Reads YOLO labels.

    Those of `images/train` are in `labels/train`, of `train/images` in `train/labels`, or beside the images. data.yaml
    names the classes and the folders of the splits; without it classes are named by classes.txt or the like, and splits
    by their folders. An image without label file has no objects.

    Args:
        source: with the label files and data.yaml as annotations.
        report: receives the findings, each with its line.

    Raises:
        UserError: data.yaml cannot be read, or a list of images.
    """
    yaml = find_yaml(source.annotations)
    labels = _label_files(source)
    names = _class_names(source, yaml)
    builder = SetBuilder(source, report)
    by_path = {str(path): path for path in labels}
    by_stem: dict[str, list[Path]] = {}
    for path in labels:
        by_stem.setdefault(path.stem, []).append(path)
    used: set[Path] = set()
    unlabelled, numbers = [], set()
    for path, split in _images(source, yaml):
        label = _label_of(path, by_path, by_stem, source)
        if label is None:
            unlabelled.append((path, split))
            continue
        used.add(label)
        image = builder.add_image(path, *size_of(path), split)
        numbers |= _read_labels(label, image, builder, names, yaml)
    for label in labels:
        if label not in used:
            reason = source.finder.why_not(label.stem, label.parent, source.tree.split_of(label), any_ending=True)
            report.add(NO_IMAGE, label, None, reason, "left out")
    builder.add_unlabelled(unlabelled, "have no label file")
    if names is None:
        names = [f"class {number}" for number in range(max(numbers, default=-1) + 1)]
        reason = "there is neither data.yaml nor classes.txt; --categories=FILE names the classes, one a line"
        report.add(UNNAMED, source.tree.roots[0], None, reason, "called 'class 0' and so on", is_note=True)
    if reason := off_by_one(numbers, range(len(names))):
        report.add(OFF_BY_ONE, source.tree.roots[0], None, reason, "such objects left out")
    return builder.finish(names, str(source.tree.roots[0]))


def _label_files(source: Source) -> list[Path]:
    """The label files: those of an image's name, whatever is wrong with them, and others that look like it."""
    stems = {image.stem for image in source.finder.tree.images}
    files = dict.fromkeys([*source.annotations, *source.tree.others])
    texts = [path for path in files if path.suffix.lower() == ".txt"]
    return [path for path in texts if path.stem in stems or _looks_like_labels(path)]


def _looks_like_labels(path: Path) -> bool:
    """Of a file that no image is called like: lists of images, names of classes and readme.txt do not."""
    kind = kind_of(path)
    return kind is not None and kind.format == YOLO


def _class_names(source: Source, yaml: DataYaml | None) -> list[str] | None:
    if source.categories is not None:
        return [category.name for category in source.categories]
    if yaml is not None and yaml.names is not None:
        return yaml.names
    for name in _NAME_FILES:
        for path in source.tree.others:
            if path.name.lower() == name:
                return read_lines(path, "the class names")
    return None


def _images(source: Source, yaml: DataYaml | None) -> list[tuple[Path, str]]:
    """The images with the split of each, by data.yaml, else by their folders."""
    tree = source.finder.tree
    if yaml is not None and (named := yaml.images(tree)):
        return named
    return [(path, tree.split_of(path)) for path in tree.images]


def _label_of(image: Path, by_path, by_stem, source: Source) -> Path | None:
    """The label file of an image: in the folder `labels` for `images`, beside it, or the only one of its name."""
    parts = list(image.parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place].lower() == "images":
            swapped = [*parts[:place], "labels", *parts[place + 1 :]]
            if (found := by_path.get(str(Path(*swapped).with_suffix(".txt")))) is not None:
                return found
            break
    if (found := by_path.get(str(image.with_suffix(".txt")))) is not None:
        return found
    # One label file must not serve two images of one name in two folders.
    alike, images = by_stem.get(image.stem, []), source.finder.of_stem(image.stem)
    if len(alike) > 1 or len(images) > 1:
        split = source.finder.tree.split_of(image)
        alike = [path for path in alike if split and source.tree.split_of(path) == split]
        images = [path for path in images if source.finder.tree.split_of(path) == split]
    return alike[0] if len(alike) == len(images) == 1 else None


def _read_labels(
    file: Path, image: ImageAnnotation, builder: SetBuilder, names: list[str] | None, yaml: DataYaml | None
) -> set[int]:
    """Reads one label file into an image; returns the numbers of its classes, those that have no name too."""
    try:
        text = decode(read_regular(file), errors="replace")
    except OSError as error:
        builder.report.add("unreadable annotation", file, image.image_id, str(error.strerror), "left out")
        return set()
    numbers = set()
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words:
            continue
        label = f"line {number}"
        try:
            class_number, values = whole_id(words[0]), [real_number(word) for word in words[1:]]
        except ValueError as error:
            builder.bad_object(image, file, f"{label}: {error}")
            continue
        numbers.add(class_number)
        if names is not None and class_number >= len(names):
            reason = f"{label}: class {class_number}, of {len(names)} (0 to {len(names) - 1})"
            builder.report.add(UNKNOWN_CATEGORY, file, image.image_id, reason, "left out")
            continue
        if fault := _fault(values, yaml):
            builder.bad_object(image, file, f"{label}: {fault}")
            continue
        name = f"class {class_number}" if names is None else names[class_number]
        if not image.width:
            continue  # its conversion names it
        if len(values) == 4 or (yaml is not None and yaml.has_keypoints):
            x, y, width, height = values[:4]
            left, right = to_pixels((x - width / 2, x + width / 2), image.width)
            top, bottom = to_pixels((y - height / 2, y + height / 2), image.height)
            if not (right > left and bottom > top):
                builder.bad_object(image, file, f"{label}: width {width:g} and height {height:g} have no extent")
                continue
            box = (left, top, right - left, bottom - top)
            builder.add_object(image, name, box, file, label, may_be_fractions=False)
        else:
            polygon = np.array([to_pixels(values[0::2], image.width), to_pixels(values[1::2], image.height)]).T
            box = box_around([polygon])
            builder.add_object(image, name, box, file, label, polygons=[polygon], may_be_fractions=False)
    return numbers


def _fault(values: list[float], yaml: DataYaml | None) -> str | None:
    """What is wrong with the numbers behind the class, in words; None: nothing."""
    count = len(values)
    if yaml is not None and yaml.has_keypoints:
        values, count = values[:4], min(count, 4)
    if count == 5:
        return "6 numbers; is the last one the score of a detection? A label has 5: class, x, y, width, height"
    if count < 4 or count % 2:
        return f"{count + 1} numbers; a box has 5, a polygon the class and two for each of at least 3 points"
    worst = max(values, key=lambda value: abs(value - 0.5))
    if not -_FARTHEST <= worst <= 1 + _FARTHEST:
        return f"{shown(worst)} is not within 0 to 1: YOLO's numbers are parts of the image's width and height"
    return None
