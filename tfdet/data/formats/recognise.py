"""Which format a folder or file is in, and where its annotations and images are."""

from __future__ import annotations

import collections
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from tfdet.data.formats import FORMATS, sniff, title
from tfdet.data.formats.source import ImageFinder, Source, Tree
from tfdet.data.listing import count_endings, ending
from tfdet.errors import UserError
from tfdet.files import at_home, check_local

_SAMPLE = 3  # files of a folder and ending that are looked into where all are alike
_FEW = 20
_SHOWN = 3
_FOR_ANNOTATIONS = (
    "annotations",
    "annotation",
    "labels",
    "label",
    "ann",
    "json",
    "xml",
    "csv",
)  # folders beside images


@dataclasses.dataclass(frozen=True)
class Recognised:
    """What a person's data are.

    Attributes:
        format: a name of `formats.FORMATS`.
        source: what its reader is asked to read.
        words: one line that says so.
    """

    format: str
    source: Source
    words: str


def recognise(
    path: str | os.PathLike | None,
    format: str | None = None,
    images: str | os.PathLike | None = None,
    annotations: str | os.PathLike | None = None,
) -> Recognised:
    """Finds out what is in a folder.

    Args:
        path: a folder, or an annotation file; None where `annotations` is given.
        format: its name, where it is known.
        images: the folder of the images; None: they are below `path`, or near the annotation file.
        annotations: the folder or file of the annotations; None: they are below `path`.

    Raises:
        UserError: something is not there, no format is recognised, or several are.
    """
    root = _existing(path, "") if path is not None else None
    notes = _existing(annotations, "--annotations ") if annotations is not None else root
    if notes is None:
        raise UserError("give the folder of your images and annotations, or --annotations and --images")
    if format is not None and format not in FORMATS:
        raise UserError(f"--format {format} is not known; there are: {', '.join(FORMATS)}")
    tree = Tree([notes]) if os.path.isdir(notes) else Tree([])
    candidates = tree.others
    if not tree.roots:
        tree.roots, candidates = [notes.parent], [notes]
    found, unknown = _kinds(candidates)
    image_tree = _image_tree(root, notes, images, tree)
    chosen = _choose(found, unknown, format, notes, tree, image_tree)
    files = found.get(chosen, []) if format is None else (found.get(chosen) or _of_format(candidates, chosen))
    if not files:
        raise UserError(f"{notes} holds no file that could be {title(chosen)}: {_holds(tree)}")
    if chosen == sniff.YOLO and not tree.others:  # classes.txt and the like beside a single file
        tree.others = sorted(entry for entry in notes.parent.iterdir() if entry.is_file())
    if chosen == sniff.OPEN_IMAGES and not tree.others:
        tree.others = sorted(notes.parent.glob("*.csv"))
    source = Source(files, tree, ImageFinder(image_tree))
    return Recognised(chosen, source, _words(chosen, files, image_tree))


def _existing(path: str | os.PathLike, name: str) -> Path:
    check_local(path, name.strip())
    path = at_home(path)
    if not os.path.exists(path):
        raise UserError(f"{name}{path} does not exist")
    if os.path.isfile(path / "manifest.json") and os.path.isfile(path / "index.npz"):
        raise UserError(f"{path} is a data set of tfdet already: train on it, or check it with convert_data --check")
    return path


def _kinds(files: Sequence[Path]) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """The files by their formats, and those that no format reads by what they look like.

    Of many files of one folder and ending a few are looked into, and all where those are not alike.
    """
    groups: dict[tuple[Path, str], list[Path]] = collections.defaultdict(list)
    for file in files:
        groups[file.parent, ending(file.name)].append(file)
    found: dict[str, list[Path]] = collections.defaultdict(list)
    unknown: dict[str, list[Path]] = collections.defaultdict(list)
    for group in groups.values():
        first = [(file, kind) for file in group[:_SAMPLE] if (kind := sniff.kind_of(file)) is not None]
        formats = {kind.format for _, kind in first}
        alike = len(group) > _FEW and len(first) == _SAMPLE and len(formats) == 1 and formats <= set(FORMATS)
        if alike:
            found[first[0][1].format] += group
            continue
        rest = [(file, kind) for file in group[_SAMPLE:] if (kind := sniff.kind_of(file)) is not None]
        for file, kind in [*first, *rest]:
            if kind.format in FORMATS:
                found[kind.format].append(file)
            elif kind.format == sniff.HELPER and file.suffix.lower() == ".txt":
                found[sniff.HELPER].append(file)  # an empty label file, where others are labels
            elif not kind.format:
                unknown[kind.words].append(file)
    empty = found.pop(sniff.HELPER, [])
    if sniff.YOLO in found:
        found[sniff.YOLO] = sorted([*found[sniff.YOLO], *empty])
    return found, unknown


def _choose(found, unknown, format: str | None, notes: Path, tree: Tree, images: Tree) -> str:
    if format is not None:
        return format
    if len(found) > 1 and sniff.RECORDS in found and images.images:
        del found[sniff.RECORDS]  # made of these very images, as Roboflow adds them
    if len(found) == 1:
        return next(iter(found))
    if found:
        shown = ", ".join(f"{title(name)} ({len(files)}: {files[0].name})" for name, files in found.items())
        raise UserError(f"{notes} holds annotations of several formats: {shown}; say which with --format={min(found)}")
    if unknown:
        words, files = max(unknown.items(), key=lambda item: len(item[1]))
        where = tree.relative(files[0])
        more = f" and {len(files) - 1} more" if len(files) > 1 else ""
        raise UserError(
            f"{notes}: {where}{more} is {words}, which is not read. {_holds(tree)}. Formats: {', '.join(FORMATS)}; "
            "--format=NAME says which it is, --annotations=PATH where they are"
        )
    if images.images:
        folders = {images.relative(image).parts[0] for image in images.images if len(images.relative(image).parts) > 1}
        per_class = len(folders) > 1 and all(len(images.relative(image).parts) == 2 for image in images.images)
        looks = f", in folders of classes ({', '.join(sorted(folders)[:_SHOWN])})" if per_class else ""
        raise UserError(
            f"{notes} holds {len(images.images)} images{looks} and no annotations that are known: {_holds(tree)}. "
            f"Boxes are read from {', '.join(FORMATS)}; --annotations=PATH says where they are"
        )
    raise UserError(f"{notes} holds neither annotations nor images: {_holds(tree)}")


def _holds(tree: Tree) -> str:
    counts = collections.Counter(ending(path.name) for path in [*tree.images, *tree.others])
    return count_endings(counts) or "nothing"


def _of_format(files: Sequence[Path], format: str) -> list[Path]:
    """Files that may be of a format that a person named, by their endings: its reader says what is wrong with them."""
    endings = {"voc": (".xml",), "cvat": (".xml",), "csv": (".csv", ".tsv", ".txt"), "open_images": (".csv",),
               "yolo": (".txt", ".yaml", ".yml")}.get(format, (".json",))  # fmt: skip
    return [file for file in files if ending(file.name) in endings]


def _image_tree(root: Path | None, notes: Path, images: str | os.PathLike | None, tree: Tree) -> Tree:
    """The images: below --images, or the folder that was named, or that of an annotation file, or the one above."""
    if images is not None:
        folder = _existing(images, "--images ")
        if not os.path.isdir(folder):
            raise UserError(f"--images {folder} is a file, and must be the folder of the images")
        return Tree([folder])
    if root is not None and os.path.isdir(root):
        return tree if root == notes else Tree([root])
    folder = notes if os.path.isdir(notes) else notes.parent
    near = Tree([folder])
    above = Path(os.path.abspath(folder)).parent
    if not near.images and os.path.basename(os.path.abspath(folder)).lower() in _FOR_ANNOTATIONS:
        near = Tree([above])
    if not near.images:
        raise UserError(f"there are no images near {notes}: --images=FOLDER says where they are")
    return near


def _words(format: str, files: Sequence[Path], images: Tree) -> str:
    what = f"{len(files)} files" if len(files) > 1 else str(files[0])
    where = ", ".join(map(str, images.roots))
    return f"{title(format)} ({what}), {len(images.images)} images in {where}"
