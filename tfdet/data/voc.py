"""Reads Pascal VOC folders: Annotations/*.xml, JPEGImages/, ImageSets/Main/<split>.txt."""

from __future__ import annotations

import pathlib

from tfdet.data.annotations import AnnotationSet, Category, ImageAnnotation, ObjectAnnotation
from tfdet.data.coco_entries import UNKNOWN_CATEGORY, UNKNOWN_FLAG, UNREADABLE_BOX, USED_TWICE
from tfdet.data.listing import report_files_named_twice
from tfdet.data.problems import ProblemReport
from tfdet.data.tiny_boxes import TinyBoxes
from tfdet.data.values import flag, image_side, real_number
from tfdet.data.voc_files import VocFolder, XmlError, read_xml
from tfdet.errors import UserError


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
        categories = _scan_categories(folders)
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
        question = "are they normalised, 0 to 1? Boxes are in pixels"
        tiny.tell(folder.path / "Annotations", report, question)
    report_files_named_twice(images, report)
    return AnnotationSet(categories, images)


def _scan_categories(folders: list[VocFolder]) -> list[Category]:
    names = set()
    for folder in folders:
        for path in folder.annotations.values():
            try:
                names.update((item.findtext("name") or "").strip() for item in read_xml(path).iter("object"))
            except (XmlError, OSError):
                continue  # reported by name when the image itself is read
    names.discard("")
    if not names:
        raise UserError(f"no object with a name in the annotations of {', '.join(str(one.path) for one in folders)}")
    return [Category(index + 1, name) for index, name in enumerate(sorted(names))]


def _read_image(path, folder, stem, image_id, ids, difficult, tiny, report) -> ImageAnnotation | None:
    try:
        root = read_xml(path)
    except FileNotFoundError:
        report.add("missing file", path, None, "the list names it but it does not exist", "left out")
        return None
    except (XmlError, OSError) as error:
        report.add("unreadable annotation", path, None, getattr(error, "strerror", None) or str(error), "left out")
        return None
    file = folder.image(stem, (root.findtext("filename") or "").strip())
    height, width = (_side(root.findtext(f"size/{key}")) for key in ("height", "width"))
    image = ImageAnnotation(image_id, file.name, file, height, width)
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
    return image


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
