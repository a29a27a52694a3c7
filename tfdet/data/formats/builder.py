"""Collects what formats without numbers say: objects by the names of their classes, images by their files."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfdet.data.annotations import AnnotationSet, Category, ImageAnnotation, ObjectAnnotation
from tfdet.data.formats.coco_entries import NO_IMAGE, UNKNOWN_CATEGORY, UNREADABLE_BOX
from tfdet.data.formats.source import Source
from tfdet.data.images import upright_size
from tfdet.data.problems import ProblemReport
from tfdet.data.tiny_boxes import TinyBoxes
from tfdet.errors import UserError

UNLABELLED = "image without annotation file"
_DECIMALS = 3  # of a pixel: what is left of a fraction of the image that was written with 6 digits
_SHOWN = 3


class SetBuilder:
    """Builds an `AnnotationSet` image by image; images are numbered 1, 2, ... in the order in which they come.

    Args:
        source: what is read.
        report: receives the findings.
    """

    def __init__(self, source: Source, report: ProblemReport):
        self.source, self.report = source, report
        self._images: list[ImageAnnotation] = []
        self._objects: list[tuple[ImageAnnotation, str, ObjectAnnotation, Path]] = []
        self._used: set[Path] = set()
        self._tiny = TinyBoxes()

    def find_image(self, name: str, file: Path, split: str = "") -> Path | None:
        """The image that a file names; None, and a finding, where there is none.

        Args:
            name: as the annotation has it.
            file: the annotation file.
            split: that it is of.
        """
        finder = self.source.finder
        found = finder.find(name, file.parent, split)
        if found is None:
            self.report.add(NO_IMAGE, file, None, finder.why_not(name, file.parent, split), "left out")
        return found

    def add_image(
        self, path: Path | None, height: int = 0, width: int = 0, split: str = "", name: str = "",
        encoded: bytes | Callable[[], bytes] | None = None,
    ) -> ImageAnnotation:  # fmt: skip
        """Adds an image.

        Args:
            path: the file; None where `encoded` gives its bytes.
            height, width: size in pixels that boxes refer to; 0 where it is not known.
            split: that it is of; empty: none.
            name: what to call it; empty: its path below the image folder.
            encoded: its bytes, or what reads them.
        """
        name = name or (self.source.finder.shown_name(path) if path is not None else "")
        image = ImageAnnotation(len(self._images) + 1, name, path, height, width, [], encoded, split)
        self._images.append(image)
        if path is not None:
            self._used.add(path)
        return image

    def add_object(
        self, image: ImageAnnotation, class_name: str, box: Sequence[float], file: Path, label: str, *,
        polygons: Sequence[np.ndarray] = (), mask: Any = None, area: float | None = None, is_crowd: bool = False,
        may_be_fractions: bool = True,
    ) -> None:  # fmt: skip
        """Adds an object.

        Args:
            image: that it is in.
            class_name: its class.
            box: x, y, width, height in pixels, continuous.
            file: the annotation file, for findings.
            label: of the object in the file, for findings.
            polygons: float [n, 2] each, its mask in pixels.
            mask: its mask as COCO writes an RLE, or as a PNG.
            area: pixels; None: of the polygons, else of the box.
            is_crowd: a region of many objects.
            may_be_fractions: the box was written in pixels, so that a file of boxes below one is suspicious.
        """
        if not class_name:
            self.report.add(UNKNOWN_CATEGORY, file, image.image_id, f"{label} has no class", "left out")
            return
        x, y, width, height = map(float, box)
        if may_be_fractions and self._tiny.add(width < 1 and height < 1):
            self._tiny.first = f"{file.name}: {label}"
        if area is None:
            area = sum(map(polygon_area, polygons)) if len(polygons) else width * height
        # A polygon of no area is named where it is looked at; its object has the area of its box.
        segmentation = [polygon.ravel().tolist() for polygon in polygons] if len(polygons) else mask
        item = ObjectAnnotation(
            x, y, width, height, 0, float(area) or width * height, is_crowd, segmentation, label
        )  # fmt: skip
        self._objects.append((image, class_name, item, file))

    def bad_object(self, image: ImageAnnotation | None, file: Path, reason: str) -> None:
        """A finding: an object that cannot be read."""
        self.report.add(UNREADABLE_BOX, file, None if image is None else image.image_id, reason, "left out")

    def add_unlabelled(
        self, images: Iterable[tuple[Path, str]] | None = None, why: str = "have no annotation"
    ) -> None:  # fmt: skip
        """Adds the images that no annotation named, or says that they are left out.

        Args:
            images: that may be, each with its split; None: all below the image folders, with the splits of these where
                other images have some.
            why: for the finding.
        """
        tree = self.source.finder.tree
        if images is None:
            has_splits = any(image.split for image in self._images)
            images = [(path, tree.split_of(path) if has_splits else "") for path in tree.images]
        left = [(path, split) for path, split in images if path not in self._used]
        if not left:
            return
        keep = self.source.unlabelled == "keep"
        for path, split in left if keep else ():
            self.add_image(path, split=split)
        alone = [path for path, _ in left]
        shown = ", ".join(str(tree.relative(path)) for path in alone[:_SHOWN])
        more = f" and {len(alone) - _SHOWN} more" if len(alone) > _SHOWN else ""
        action = "kept as images without objects; --unlabelled=leave_out leaves them out" if keep else "left out"
        reason = f"{len(alone)} images {why}: {shown}{more}"
        self.report.add(UNLABELLED, tree.roots[0], None, reason, action, is_note=True)

    def finish(self, names: Sequence[str] | None = None, what: str = "") -> AnnotationSet:
        """The set.

        Args:
            names: of the classes, in order; None: those that objects have, sorted.
            what: the annotation files, for the error.

        Raises:
            UserError: there is no class.
        """
        if self.source.categories is not None:
            categories = self.source.categories
        else:
            names = sorted({name for _, name, _, _ in self._objects}) if names is None else names
            categories = [Category(number, name) for number, name in enumerate(names, 1)]
        if not categories:
            raise UserError(f"{what or self.source.tree.roots[0]} names no class: there is no object to learn from")
        ids = {category.name: category.id for category in categories}
        for image, name, item, file in self._objects:
            if name in ids:
                image.objects.append(dataclasses.replace(item, category_id=ids[name]))
            else:
                reason = f"{item.annotation_id} is of class {name!r}, which is not in the list of classes"
                self.report.add(UNKNOWN_CATEGORY, file, image.image_id, reason, "left out")
        self._tiny.tell(
            self.source.tree.roots[0], self.report, "are they parts of the image, 0 to 1? Boxes are in pixels"
        )
        return AnnotationSet(categories, self._images)


def polygon_area(polygon: np.ndarray) -> float:
    """The area of a polygon [n, 2], in its units squared (Gauss's shoelace formula)."""
    x, y = np.asarray(polygon, np.float64).T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def box_around(polygons: Sequence[np.ndarray]) -> tuple[float, float, float, float]:
    """x, y, width, height of the box around some polygons [n, 2]."""
    points = np.concatenate([np.asarray(polygon, np.float64) for polygon in polygons])
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    return float(left), float(top), float(right - left), float(bottom - top)


def size_of(path: Path) -> tuple[int, int]:
    """Height and width of an upright image in pixels; 0, 0 where it cannot be read, which its conversion names."""
    try:
        return upright_size(path)
    except OSError:
        return 0, 0


def to_pixels(values: Iterable[float], size: float) -> list[float]:
    """Fractions of a side of the image as pixels, to a thousandth: files hold six digits of them."""
    return [round(value * size, _DECIMALS) for value in values]
