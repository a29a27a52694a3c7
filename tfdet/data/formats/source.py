"""What a person names as his data: the files below it, the images among them, and how to read them."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from tfdet.data.annotations import Category
from tfdet.data.images import IMAGE_ENDINGS
from tfdet.data.listing import ending
from tfdet.data.values import shown

AMBIGUOUS = "file name of several images"
_SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
    "testing": "test",
}  # fmt: skip
_SPLIT_WORD = re.compile(r"([a-z]+)(?:19|20)?\d{0,2}")  # train2017
_SHOWN = 3


def is_hidden(name: str) -> bool:
    """Whether a file or folder is one that no person put there: `.git`, `._1.jpg`, `__MACOSX`."""
    return name.startswith(".") or name == "__MACOSX"


def split_of_word(word: str) -> str:
    """The split that a word names: "train" for `train`, `Training` and `train2017`; empty: none."""
    match = _SPLIT_WORD.fullmatch(word.lower())
    return _SPLITS.get(match[1], "") if match else ""


class Tree:
    """The files below some folders, in the order of their names.

    Links are followed. Hidden files and folders, and data sets of tfdet, are passed over.

    Args:
        roots: folders; those below one another are looked at once.

    Attributes:
        roots: the folders.
        images: the image files, by their endings in any case.
        others: the other files.
    """

    def __init__(self, roots: Iterable[str | os.PathLike]):
        self.roots = [Path(root) for root in roots]
        self.images: list[Path] = []
        self.others: list[Path] = []
        seen: set[str] = set()
        for root in self.roots:
            self._walk(root, seen)

    def _walk(self, root: Path, seen: set[str]) -> None:
        for folder, folders, files in os.walk(root, followlinks=True):
            real = os.path.realpath(folder)
            if real in seen or ("manifest.json" in files and "index.npz" in files):  # a data set made before
                folders.clear()
                continue
            seen.add(real)
            folders[:] = sorted(name for name in folders if not is_hidden(name))
            for name in sorted(files):
                if not is_hidden(name):
                    (self.images if ending(name) in IMAGE_ENDINGS else self.others).append(Path(folder, name))

    def relative(self, path: Path) -> PurePosixPath:
        """A file's path below the root that it is in; its name where it is in none."""
        for root in self.roots:
            try:
                return PurePosixPath(path.relative_to(root))
            except ValueError:
                continue
        return PurePosixPath(path.name)

    def split_of(self, path: Path) -> str:
        """The split whose name is that of a folder between the root and a file; empty: none."""
        for part in self.relative(path).parts[:-1]:
            if split := split_of_word(part):
                return split
        return ""


class ImageFinder:
    """Finds the image that an annotation means, wherever below the image folders it lies.

    Args:
        tree: of the image folders.
    """

    def __init__(self, tree: Tree):
        self.tree = tree
        self._by_name: dict[str, list[Path]] | None = None
        self._by_stem: dict[str, list[Path]] = collections.defaultdict(list)
        self._root: Path | None = None

    def find(self, name: str, beside: Path | None = None, split: str = "", any_ending: bool = False) -> Path | None:
        """The file of a name.

        Looked for where the name leads from the folder of the annotation and from the image folders; else in all
        folders below those, where one file alone has the name: with its folders, without them, in another case. Of
        several that which is nearest to the annotation file is meant.

        Args:
            name: as the annotation has it, perhaps with folders of another computer; one without an ending of images
                stands for files of any.
            beside: the folder of the annotation file.
            split: that the image is of; of several files, that below a folder of its name is meant.
            any_ending: `name` has no ending, whatever it looks like.

        Returns:
            The file; None where there is none, or several may be meant, which `why_not` tells apart.
        """
        found = self._candidates(name, beside, split, any_ending)
        return found[0] if len(found) == 1 else None

    def why_not(self, name: str, beside: Path | None = None, split: str = "", any_ending: bool = False) -> str:
        """Why `find` gave None, in words."""
        found = self._candidates(name, beside, split, any_ending)
        if not found:
            where = ", ".join(map(str, self.tree.roots))
            return f"no image {shown(name)}{' of any ending' if any_ending else ''} in {where}"
        names = ", ".join(str(self.tree.relative(path)) for path in found[:_SHOWN])
        return f"{len(found)} images may be {shown(name)}: {names}; name the folder with --images"

    def of_stem(self, stem: str) -> list[Path]:
        """The images of a name without its ending, in all folders."""
        return self._index()[1].get(stem, [])

    def shown_name(self, path: Path) -> str:
        """What a set calls an image: its path below the innermost folder that holds all images."""
        if self._root is None:
            folders = {os.path.dirname(image) for image in self.tree.images}
            self._root = Path(os.path.commonpath(folders)) if folders else Path()
        try:
            return PurePosixPath(path.relative_to(self._root)).as_posix()
        except ValueError:
            return path.name

    def _candidates(self, name: str, beside: Path | None, split: str, any_ending: bool) -> list[Path]:
        name = name.replace("\\", "/").strip()
        base = PurePosixPath(name).name
        if not base or "\0" in name:
            return []
        if any_ending or ending(base) not in IMAGE_ENDINGS:
            return self._of_stem(base, beside, split)
        for folder in (*([beside] if beside is not None else []), *self.tree.roots):
            if os.path.isfile(path := folder / name):
                return [Path(os.path.normpath(path))]
        alike = self._index()[0].get(base.lower(), [])
        same = [path for path in alike if path.name == base]
        if len(same) > 1:
            most = max(_num_alike(path, name) for path in same)
            same = [path for path in same if _num_alike(path, name) == most]
        return self._nearest(same or alike, beside, split)

    def _of_stem(self, stem: str, beside: Path | None, split: str) -> list[Path]:
        found = self._nearest(self.of_stem(stem), beside, split)
        if len({path.parent for path in found}) == 1:  # of files that differ in the ending the first by its kind
            found = sorted(found, key=lambda path: IMAGE_ENDINGS.index(ending(path.name)))[:1]
        return found

    def _nearest(self, found: list[Path], beside: Path | None, split: str) -> list[Path]:
        if len(found) > 1 and split:
            found = [path for path in found if self.tree.split_of(path) == split] or found
        if len(found) > 1 and beside is not None:
            nearest = max(_num_shared(path, beside) for path in found)
            found = [path for path in found if _num_shared(path, beside) == nearest]
        return found

    def _index(self) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
        """The images by their names in lower case, and by their names without endings."""
        if self._by_name is None:
            self._by_name = collections.defaultdict(list)
            for path in self.tree.images:
                self._by_name[path.name.lower()].append(path)
                self._by_stem[path.stem].append(path)
        return self._by_name, self._by_stem


def _num_shared(path: Path, folder: Path) -> int:
    """How many folders from the root on two paths share."""
    return len(os.path.commonprefix([path.parent.parts, folder.parts]))


def _num_alike(path: Path, name: str) -> int:
    """How many parts at the end of a path are those of a name: of `val/a.jpg` and `C:/photos/val/a.jpg` two."""
    pairs = zip(reversed(path.parts), reversed(PurePosixPath(name).parts))
    return len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)))


@dataclasses.dataclass(frozen=True)
class Source:
    """What a format is asked to read.

    Attributes:
        annotations: the annotation files.
        tree: of the folders that they are in.
        finder: of the images.
        categories: the classes in order; None: what the format finds.
        difficult: "ignore" reads objects that VOC marks difficult as crowds, "keep" as ordinary ones.
        coordinates: of a CSV file: "pixels", "fractions" of the image, or "auto".
        renumber: of COCO files: number the images anew.
        unlabelled: "keep" takes images without annotation as ones without objects, "leave_out" leaves them out.
    """

    annotations: Sequence[Path]
    tree: Tree
    finder: ImageFinder
    categories: list[Category] | None = None
    difficult: str = "ignore"
    coordinates: str = "auto"
    renumber: bool = False
    unlabelled: str = "keep"
