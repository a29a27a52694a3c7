"""The files of a Pascal VOC folder, and what lists call them."""

from __future__ import annotations

import os
import pathlib
import re
import unicodedata
import xml.etree.ElementTree as ElementTree

from tfdet.data.formats.xml_files import XmlError, parse_xml
from tfdet.data.images import IMAGE_ENDINGS
from tfdet.data.listing import PASSED_OVER, count_endings, files_by_stem
from tfdet.data.problems import ProblemReport
from tfdet.errors import UserError
from tfdet.text import read_lines

NO_ANNOTATION = "image without annotation file"
_ENDINGS = (".xml", *IMAGE_ENDINGS)
_FLAGGED = re.compile(r"(.*\S)\s+(?:[+-]?1|0)")  # of a list for one class: the image has it, has not, or is difficult
_PAIR = re.compile(r".+\.\w+[\s,;]+(\S.*\.xml)", re.IGNORECASE)  # image and annotation in one line
_SHOWN = 3  # file names in a note


def read_xml(path: pathlib.Path) -> ElementTree.Element:
    """The root of a VOC annotation, see `xml_files.parse_xml`.

    Raises:
        OSError: the file cannot be read.
        XmlError: it is not xml, not of its encoding, or no annotation.
    """
    root = parse_xml(path)
    if root.tag.lower() != "annotation" and root.find("object") is None:
        raise XmlError(f"no annotation: its root is <{root.tag}>")
    return root


class VocFolder:
    """The annotations and images of one folder, by their names without ending.

    Args:
        path: the folder.

    Raises:
        UserError: it has no folder `Annotations`.
    """

    def __init__(self, path: pathlib.Path):
        self.path = path
        if not os.path.isdir(path / "Annotations"):
            raise UserError(f"{path} is not a Pascal VOC folder: it has no folder 'Annotations'")
        self.annotations, self._other_annotations = files_by_stem(path / "Annotations", (".xml",))
        self._images, self._other_images = files_by_stem(path / "JPEGImages", IMAGE_ENDINGS)
        # One name may be written with composed letters in the list and with combining ones on the disk.
        self._composed = {_composed(stem): stem for stem in self.annotations}

    def stems(self, split) -> list[str]:
        """The names of a list, or of all annotations.

        An entry is a name; or one with an ending, a folder before it, or a flag behind it where all lines have one.
        What names no annotation is handed out too, for reading to say so.

        Args:
            split: name of a list in ImageSets/Main, or a path of one; None: every annotation.

        Raises:
            UserError: there is no such list, or it is empty or cannot be read.
        """
        if split is None:
            if not self.annotations:
                raise UserError(f"{self.path / 'Annotations'} holds no .xml file")
            return sorted(self.annotations)
        main = self.path / "ImageSets" / "Main"
        for candidate in (pathlib.Path(split), main / str(split), main / f"{split}.txt"):
            if os.path.isfile(candidate):
                # A list may name files as they are, in no encoding.
                lines = read_lines(candidate, "the list of images", errors="surrogateescape")
                if not lines:
                    raise UserError(f"{candidate} names no image")
                flagged = all(_FLAGGED.fullmatch(line) for line in lines)
                return [self._stem(line, flagged) for line in lines]
        available = ", ".join(files_by_stem(main, (".txt",))[0]) or "none"
        raise UserError(f"no list '{split}' in {main}; there are: {available}")

    def _stem(self, line: str, flagged: bool) -> str:
        match = _FLAGGED.fullmatch(line) if flagged else None
        texts = [line, *([match[1]] if match else []), *([pair[1]] if (pair := _PAIR.fullmatch(line)) else [])]
        candidates = [name for text in texts for name in _names(text)]
        for candidate in candidates:
            stem = candidate if candidate in self.annotations else self._composed.get(_composed(candidate))
            if stem is not None:
                return stem
        # A name below a folder of `Annotations`, or of no annotation: then without what surely is no part of it.
        return next((name for name in candidates if os.path.isfile(self._below(name))), _names(texts[-1])[-1])

    def _below(self, stem: str) -> pathlib.Path:
        return self.path / "Annotations" / f"{stem}.xml"

    def annotation(self, stem: str) -> pathlib.Path:
        """The annotation of a name, which may not be there."""
        return self.annotations.get(stem, self._below(stem))

    def image(self, stem: str, file_name: str) -> pathlib.Path:
        """The image of an annotation. The list's name wins: `filename` inside the xml is often stale.

        Args:
            stem: the name of the annotation.
            file_name: what the annotation calls the image, perhaps with a path of another computer; or empty.
        """
        if stem in self._images:
            return self._images[stem]
        folder, file_name = self.path / "JPEGImages", file_name.replace("\\", "/")
        if not file_name:
            return folder / f"{stem}.jpg"
        if os.path.isfile(folder / file_name):
            return folder / file_name
        base = pathlib.PurePosixPath(file_name)
        return self._images.get(base.stem, folder / base.name)

    def note_passed_over(self, report: ProblemReport, whole: bool) -> None:
        """Notes files that are neither annotation nor image, and images without annotation.

        Args:
            report: receives the notes.
            whole: all annotations are read: then an image without one is left out for good.
        """
        for name, others in (("Annotations", self._other_annotations), ("JPEGImages", self._other_images)):
            if others:
                report.add(PASSED_OVER, self.path / name, None, count_endings(others), "not read", is_note=True)
        alone = [path.name for stem, path in self._images.items() if stem not in self.annotations] if whole else []
        if alone:
            more = f" and {len(alone) - _SHOWN} more" if len(alone) > _SHOWN else ""
            reason = f"{len(alone)} images have no .xml of their name: {', '.join(alone[:_SHOWN])}{more}"
            report.add(NO_ANNOTATION, self.path / "JPEGImages", None, reason, "left out", is_note=True)


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _names(text: str) -> list[str]:
    """What an entry may mean: itself, without its ending, without folders before it, without both."""
    base = re.split(r"[/\\]", text)[-1]
    names = []
    for name in (text, base):
        stem, dot, own = name.rpartition(".")
        names += [name, *([stem] if dot and f".{own.lower()}" in _ENDINGS else [])]
    return names
