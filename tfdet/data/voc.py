"""Reads Pascal VOC folders: Annotations/*.xml, JPEGImages/, ImageSets/Main/<split>.txt."""

from __future__ import annotations

import pathlib
import xml.etree.ElementTree as ElementTree

from tfdet.data.annotations import AnnotationSet, Category, ImageAnnotation, ObjectAnnotation
from tfdet.data.problems import ProblemReport
from tfdet.data.values import flag
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
    folders = [pathlib.Path(folder) for folder, _ in sources]
    for folder in folders:
        if not (folder / "Annotations").is_dir():
            raise UserError(f"{folder} is not a Pascal VOC folder: it has no folder 'Annotations'")
    if categories is None:
        categories = _scan_categories(folders)
    ids = {category.name: category.id for category in categories}
    images: list[ImageAnnotation] = []
    seen: set[pathlib.Path] = set()
    for folder, (_, split) in zip(folders, sources, strict=True):
        for stem in _split_names(folder, split):
            path = folder / "Annotations" / f"{stem}.xml"
            image_id = len(images) + 1
            if path in seen:
                report.add("duplicate image id", path.name, None, f"the list names {stem} twice", "left out")
                continue
            seen.add(path)
            image = _read_image(path, folder, stem, image_id, ids, difficult, report)
            if image is not None:
                images.append(image)
    return AnnotationSet(categories, images)


def _split_names(folder: pathlib.Path, split) -> list[str]:
    if split is None:
        names = sorted(path.stem for path in (folder / "Annotations").glob("*.xml"))
        if not names:
            raise UserError(f"{folder / 'Annotations'} holds no .xml file")
        return names
    main = folder / "ImageSets" / "Main"
    candidates = [pathlib.Path(split), main / str(split), main / f"{split}.txt"]
    for candidate in candidates:
        if candidate.is_file():
            lines = candidate.read_text(encoding="utf-8").split("\n")
            # A class-specific list has a second column; the first is the name in both kinds.
            names = [line.split()[0] for line in lines if line.strip()]
            if not names:
                raise UserError(f"{candidate} names no image")
            return names
    available = ", ".join(sorted(path.stem for path in main.glob("*.txt"))) or "none"
    raise UserError(f"no list '{split}' in {main}; there are: {available}")


def _scan_categories(folders) -> list[Category]:
    names = set()
    for folder in folders:
        for path in (folder / "Annotations").glob("*.xml"):
            try:
                names.update((item.findtext("name") or "").strip() for item in _parse(path).iter("object"))
            except (ElementTree.ParseError, OSError):
                continue  # reported by name when the image itself is read
    names.discard("")
    if not names:
        raise UserError(f"no object with a name in the annotations of {', '.join(map(str, folders))}")
    return [Category(index + 1, name) for index, name in enumerate(sorted(names))]


def _parse(path: pathlib.Path):
    return ElementTree.parse(path).getroot()


def _image_path(folder: pathlib.Path, stem: str, file_name: str) -> pathlib.Path:
    """The image of an annotation. The list's name wins: `filename` inside the xml is often stale."""
    images = folder / "JPEGImages"
    for suffix in (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG", ".bmp", ".webp"):
        if (images / f"{stem}{suffix}").is_file():
            return images / f"{stem}{suffix}"
    return images / (file_name or f"{stem}.jpg")


def _read_image(path, folder, stem, image_id, ids, difficult, report) -> ImageAnnotation | None:
    try:
        root = _parse(path)
    except FileNotFoundError:
        report.add("missing file", path, None, "the list names it but it does not exist", "left out")
        return None
    except (ElementTree.ParseError, OSError) as error:
        report.add("unreadable annotation", path, None, f"not valid xml: {error}", "left out")
        return None
    file = _image_path(folder, stem, (root.findtext("filename") or "").strip())
    sizes = []
    for key in ("size/height", "size/width"):
        text = (root.findtext(key) or "0").strip()
        sizes.append(int(float(text)) if text.replace(".", "", 1).isdigit() else 0)
    image = ImageAnnotation(image_id, file.name, file, sizes[0], sizes[1])
    for item in root.iter("object"):
        name = (item.findtext("name") or "").strip()
        if name not in ids:
            report.add("unknown category", path, image_id, f"object of class '{name}' is not in the list", "left out")
            continue
        try:
            corners = [float(item.findtext(f"bndbox/{key}")) for key in ("xmin", "ymin", "xmax", "ymax")]
        except (TypeError, ValueError):
            report.add("degenerate box", path, image_id, f"{name} without four numbers in bndbox", "left out")
            continue
        xmin, ymin, xmax, ymax = corners
        # One pixel by the letter of the format, but in practice a slip of the annotator: both corners in one place.
        if not (xmax > xmin and ymax > ymin):
            shown = f"{name} xmin={xmin:g} ymin={ymin:g} xmax={xmax:g} ymax={ymax:g} has no extent"
            report.add("degenerate box", path, image_id, shown, "left out")
            continue
        width, height = xmax - xmin + 1, ymax - ymin + 1
        try:
            is_difficult = flag(item.findtext("difficult"))
        except ValueError as error:
            is_difficult = False
            report.add("unknown flag", path, image_id, f"{name} has difficult {error}", "read as 0")
        crowd = difficult == "ignore" and is_difficult
        annotation = ObjectAnnotation(xmin - 1, ymin - 1, width, height, ids[name], width * height, crowd)
        image.objects.append(annotation)
    return image
