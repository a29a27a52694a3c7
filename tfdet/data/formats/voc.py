"""Pascal VOC: an xml an image, in the folders of VOC (Annotations, JPEGImages, ImageSets/Main) or in any others."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Iterable

from tfdet.data.annotations import AnnotationSet, Category, ImageAnnotation, ObjectAnnotation
from tfdet.data.formats.builder import SetBuilder
from tfdet.data.formats.coco_entries import NO_IMAGE, UNKNOWN_CATEGORY, UNKNOWN_FLAG, UNREADABLE_BOX, USED_TWICE
from tfdet.data.formats.source import ImageFinder, Source, Tree
from tfdet.data.formats.voc_files import VocFolder, read_xml
from tfdet.data.formats.xml_files import XmlError
from tfdet.data.listing import report_files_named_twice
from tfdet.data.problems import ProblemReport
from tfdet.data.tiny_boxes import TinyBoxes
from tfdet.data.values import flag, image_side, real_number
from tfdet.errors import UserError

_NORMALISED = "are they normalised, 0 to 1? Boxes are in pixels"
_SPLITS = ("train", "val", "test")  # lists of ImageSets/Main that are taken without being named


def read(source: Source, report: ProblemReport) -> AnnotationSet:
    """Reads VOC's xml files, wherever they and their images lie.

    An xml belongs to the image of its own name, as in labelImg's one folder, else to that of its `filename`. Splits
    are the lists train, val and test of ImageSets/Main, else the folders of these names. Boxes and classes are read as
    in `read_voc`.

    Args:
        source: with the xml files as annotations.
        report: receives the findings.

    Raises:
        UserError: no object has a name.
    """
    root = source.tree.roots[0]
    if source.finder.tree.roots == source.tree.roots and os.path.isdir(root / "JPEGImages"):
        # Beside them are pictures of the same names whose colours are classes.
        source = dataclasses.replace(source, finder=ImageFinder(Tree([root / "JPEGImages"])))
    categories = source.categories or _scan_categories(source.annotations, str(root))
    source = dataclasses.replace(source, categories=categories)
    ids = {category.name: category.id for category in categories}
    listed = _listed_splits(root)
    builder, tiny, splits = SetBuilder(source, report), TinyBoxes(), source.tree
    for path in source.annotations:
        element = _read_root(path, report)
        if element is None:
            continue
        split = splits.split_of(path) if listed is None else listed.get(path, "")
        stem, named = path.stem, (element.findtext("filename") or "").strip()
        # The name of the file wins: `filename` inside is often stale.
        file = source.finder.find(stem, path.parent, split, any_ending=True)
        if file is None and named:
            file = source.finder.find(named, path.parent, split)
        if file is None:
            reason = source.finder.why_not(stem, path.parent, split, any_ending=True)
            report.add(NO_IMAGE, path, None, reason, "left out")
            continue
        image = builder.add_image(file, *_sides(element), split)
        _read_objects(element, path, image, ids, source.difficult, tiny, report)
    tiny.tell(root, report, _NORMALISED)
    builder.add_unlabelled(why="have no .xml of their name")
    annotations = builder.finish()
    report_files_named_twice(annotations.images, report)
    return annotations


def _listed_splits(root: pathlib.Path) -> dict[pathlib.Path, str] | None:
    """The split of each annotation that a list of ImageSets/Main names; None where there are no lists."""
    if not os.path.isdir(root / "Annotations"):
        return None
    names = [name for name in _SPLITS if os.path.isfile(root / "ImageSets" / "Main" / f"{name}.txt")]
    folder = VocFolder(root)
    pairs = [(folder.annotation(stem), name) for name in reversed(names) for stem in folder.stems(name)]
    return dict(pairs) if names else None


def read_voc(sources, report: ProblemReport, categories: list[Category] | None = None, difficult: str = "ignore"):
    """Reads one or more VOC folders into one set.

    VOC boxes are 1-based with inclusive corners, so the box in COCO's terms is x = xmin - 1, width = xmax - xmin + 1.
    Image ids are ordinals from 1 in the order of the lists; `image/filename` keeps the name.

    Args:
        sources: sequence of (folder, split); the split is a name in ImageSets/Main ("train", "train.txt"), a path of a
            list, or None for every annotation of the folder.
        report: receives what is wrong.
        categories: the classes; None takes the sorted names of *all* annotations of the folders, so that the splits of
            one folder agree about the classes.
        difficult: "ignore" writes objects marked difficult as crowd (not trained on, ignored by evaluation, as in the
            VOC protocol), "keep" writes them as ordinary objects.

    Returns:
        The `AnnotationSet`.

    Raises:
        UserError: a folder, list or class cannot be found.
    """
    folders = [VocFolder(pathlib.Path(folder)) for folder, _ in sources]
    if categories is None:
        paths = [path for folder in folders for path in folder.annotations.values()]
        categories = _scan_categories(paths, ", ".join(str(folder.path) for folder in folders))
    ids = {category.name: category.id for category in categories}
    images: list[ImageAnnotation] = []
    seen: set[pathlib.Path] = set()
    for folder, (_, split) in zip(folders, sources, strict=True):
        folder.note_passed_over(report, whole=split is None)
        tiny = TinyBoxes()
        for stem in folder.stems(split):
            path = folder.annotation(stem)
            image_id = len(images) + 1
            if path in seen:
                report.add(USED_TWICE, path.name, None, f"the list names {stem} twice", "left out")
                continue
            seen.add(path)
            image = _read_image(path, folder, stem, image_id, ids, difficult, tiny, report)
            if image is not None:
                images.append(image)
        tiny.tell(folder.path / "Annotations", report, _NORMALISED)
    report_files_named_twice(images, report)
    return AnnotationSet(categories, images)


def _scan_categories(paths: Iterable[pathlib.Path], where: str) -> list[Category]:
    names = set()
    for path in paths:
        try:
            names.update((item.findtext("name") or "").strip() for item in read_xml(path).iter("object"))
        except (XmlError, OSError):
            continue  # reported by name when the image itself is read
    names.discard("")
    if not names:
        raise UserError(f"no object with a name in the annotations of {where}")
    return [Category(index + 1, name) for index, name in enumerate(sorted(names))]


def _read_root(path: pathlib.Path, report: ProblemReport):
    """The root of an annotation; None, and a finding, where it cannot be read."""
    try:
        return read_xml(path)
    except FileNotFoundError:
        report.add("missing file", path, None, "the list names it but it does not exist", "left out")
    except (XmlError, OSError) as error:
        report.add("unreadable annotation", path, None, getattr(error, "strerror", None) or str(error), "left out")
    return None


def _sides(root) -> tuple[int, int]:
    height, width = (_side(root.findtext(f"size/{key}")) for key in ("height", "width"))
    return height, width


def _read_image(path, folder, stem, image_id, ids, difficult, tiny, report) -> ImageAnnotation | None:
    root = _read_root(path, report)
    if root is None:
        return None
    file = folder.image(stem, (root.findtext("filename") or "").strip())
    image = ImageAnnotation(image_id, file.name, file, *_sides(root))
    _read_objects(root, path, image, ids, difficult, tiny, report)
    return image


def _read_objects(root, path, image: ImageAnnotation, ids, difficult, tiny, report: ProblemReport) -> None:
    """Reads the objects of an annotation into its image."""
    image_id = image.image_id
    for item in root.iter("object"):
        name = (item.findtext("name") or "").strip()
        if name not in ids:
            report.add(UNKNOWN_CATEGORY, path, image_id, f"object of class '{name}' is not in the list", "left out")
            continue
        try:
            corners = [real_number(item.findtext(f"bndbox/{key}")) for key in ("xmin", "ymin", "xmax", "ymax")]
        except ValueError:
            report.add(UNREADABLE_BOX, path, image_id, f"{name} without four numbers in bndbox", "left out")
            continue
        xmin, ymin, xmax, ymax = corners
        # One pixel by the letter of the format, but in practice a slip of the annotator: both corners in one place.
        if not (xmax > xmin and ymax > ymin):
            shown = f"{name} xmin={xmin:g} ymin={ymin:g} xmax={xmax:g} ymax={ymax:g} has no extent"
            report.add(UNREADABLE_BOX, path, image_id, shown, "left out")
            continue
        if tiny.add(max(corners) <= 1):  # one pixel more, below, hides how small it is
            tiny.first = "{}: xmin={:g} ymin={:g} xmax={:g} ymax={:g}".format(path.name, *corners)
        width, height = xmax - xmin + 1, ymax - ymin + 1
        crowd = difficult == "ignore" and _is_difficult(item, path, image_id, report)
        annotation = ObjectAnnotation(xmin - 1, ymin - 1, width, height, ids[name], width * height, crowd)
        image.objects.append(annotation)


def _side(text: str | None) -> int:
    """A side of the image in pixels; 0 where the annotation does not say."""
    try:
        return image_side(text)
    except ValueError:
        return 0


def _is_difficult(item, path, image_id, report: ProblemReport) -> bool:
    try:
        return flag(item.findtext("difficult"))
    except ValueError as error:
        report.add(UNKNOWN_FLAG, path, image_id, f"difficult is {error}", "read as 0")
        return False
