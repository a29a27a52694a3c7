"""A folder of photos and annotations -> data sets: recognised, read, divided, written. For command and Python."""

from __future__ import annotations

import collections
import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tfdet.arguments import MAX_PIXELS
from tfdet.data.annotations import AnnotationSet
from tfdet.data.formats import reader, title
from tfdet.data.formats.coco import read_categories
from tfdet.data.formats.recognise import Recognised, recognise
from tfdet.data.outside import leave_out_outside
from tfdet.data.problems import ProblemReport
from tfdet.data.splitting import ALL, divide, own_splits
from tfdet.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from tfdet.data.manifest import Manifest
    from tfdet.data.parts import Part

NO_SPLIT = "image in no split"
_OWN_CLASSES = ("coco", "lvis", "cvat")
_SHOWN = 3
_CLASSES = 20  # that are named


@dataclasses.dataclass(frozen=True)
class Division:
    """How images are divided into splits; see `splitting.divide`.

    Attributes:
        val_fraction, test_fraction: of the images.
        group_by: a regular expression of their names; None: each image by itself.
        seed: of the drawing.
        split: of a source with splits of its own, the one to convert, or "all"; None: each.
    """

    val_fraction: float = 0.0
    test_fraction: float = 0.0
    group_by: str | None = None
    seed: int = 0
    split: str | None = None

    def __post_init__(self) -> None:
        if self.group_by is not None and not self.divides:
            raise UserError("group_by is for val_fraction and test_fraction: give one of them too")

    @property
    def divides(self) -> bool:
        """Whether fractions are asked for."""
        return bool(self.val_fraction or self.test_fraction)


def read_source(
    found: Recognised,
    report: ProblemReport,
    *,
    categories: str | os.PathLike | None = None,
    difficult: str = "ignore",
    coordinates: str = "auto",
    renumber: bool = False,
    unlabelled: str = "keep",
    allow_outside: bool = False,
) -> AnnotationSet:
    """Reads what was recognised.

    Args:
        found: the format and the files.
        report: receives the findings.
        categories: a file of the classes; None: those of the annotations.
        difficult, coordinates, renumber, unlabelled: see `formats.Source`.
        allow_outside: take images outside of the folders that were named.

    Raises:
        UserError: as the format's reader says.
    """
    classes = None
    if categories is not None:
        if found.format in _OWN_CLASSES:
            raise UserError(
                f"categories are for formats without a list of classes; {title(found.format)} brings its own"
            )
        classes = read_categories(categories)
    source = dataclasses.replace(
        found.source, categories=classes, difficult=difficult, coordinates=coordinates, renumber=renumber,
        unlabelled=unlabelled,
    )  # fmt: skip
    annotations = reader(found.format)(source, report)
    roots = [*found.source.finder.tree.roots, *found.source.tree.roots]
    return annotations if allow_outside else leave_out_outside(annotations, roots, report)


def splits_of(annotations: AnnotationSet, division: Division, report: ProblemReport) -> dict[str, AnnotationSet]:
    """The sets to write, by their names; a single one is called "all".

    Args:
        annotations: what was read.
        division: how to divide it.
        report: is told what is in no split.

    Raises:
        UserError: the source has splits of its own and fractions are asked for, or has no split of the name.
    """
    own = own_splits(annotations)
    named = division.split
    if own and named is None:
        counts = ", ".join(f"{name} {len(part.images)}" for name, part in own.items())
        if division.divides:
            raise UserError(
                f"the images have splits already ({counts}): leave the fractions out to take these, or say what to "
                "divide: --split=all, --split=train"
            )
        left = [image for image in annotations.images if image.split not in own]
        if left:
            shown = ", ".join(image.file_name for image in left[:_SHOWN])
            reason = f"{len(left)} images are in none of {counts}, such as {shown}"
            report.add(NO_SPLIT, left[0].path or left[0].file_name, None, reason, "left out; --split=all takes them")
        return own
    if named is not None and named != ALL:
        have = sorted({image.split for image in annotations.images if image.split})
        images = [image for image in annotations.images if image.split == named]
        if not images:
            raise UserError(f"no image is of the split {named!r}; there are: {', '.join(have) or 'no splits'}")
        annotations = dataclasses.replace(annotations, images=images)
    _check_ids(annotations)
    if not division.divides:
        return {ALL: annotations}
    if not annotations.images:
        raise UserError("the annotations list no image that could be used")
    return divide(
        annotations, division.val_fraction, division.test_fraction, division.seed, division.group_by
    )  # fmt: skip


def _check_ids(annotations: AnnotationSet) -> None:
    """Splits of one source may number their images alike; one set of them must not."""
    counts = collections.Counter(image.image_id for image in annotations.images)
    image_id, times = counts.most_common(1)[0] if counts else (0, 1)
    if times > 1:
        names = [image.file_name for image in annotations.images if image.image_id == image_id][:2]
        raise UserError(
            f"{' and '.join(names)} have one image id, {image_id}, in the files of two splits: give --renumber to "
            "number all images anew"
        )


def write_sets(
    sets: Mapping[str, AnnotationSet],
    output: str | os.PathLike,
    source: str,
    report: ProblemReport,
    *,
    name: str | None = None,
    num_shards: int | None = None,
    num_workers: int | None = None,
    strict: bool = False,
    overwrite: bool = False,
    max_pixels: int = MAX_PIXELS,
    console: Console | None = None,
    part: Part | None = None,
) -> dict[str, Manifest] | dict[str, Path]:
    """Writes sets as data set folders: all of them, or none. Or one part of each.

    Args:
        sets: by name; one called "all" becomes `output` itself, others folders in it.
        output: the folder.
        source: where the data come from, in words.
        report: receives the findings.
        name: of the data set; None: that of its folder.
        num_shards, num_workers, strict, overwrite, max_pixels, console: see `convert.convert`.
        part: which one, see `parts.convert_part`; None: all.

    Returns:
        The manifests by the names of the sets; of a part its folders.

    Raises:
        StrictError, UserError: as `convert.convert`.
    """
    from tfdet.data.convert import Target, convert_all
    from tfdet.data.parts import convert_part

    folder = Path(output)
    targets = {}
    for key, whole in sets.items():
        place = folder if key == ALL else folder / key
        own = place.absolute().name if name is None else name if key == ALL else f"{name}_{key}"
        words = source if key == ALL else f"{source}, {key}"
        targets[key] = Target(whole, place, own, words)
    options = (report, num_shards, num_workers, strict, overwrite, console, max_pixels)
    if part is not None:
        return convert_part(targets, output, part, *options)
    return dict(zip(sets, convert_all(list(targets.values()), *options), strict=True))


def split_lines(manifests: Mapping[str, Manifest]) -> list[str]:
    """One line for each split: its images, and the objects to train on of each class, the most frequent first.

    Args:
        manifests: by the names of the splits; they have the same classes.
    """
    width = max(map(len, manifests))
    totals = [sum(counts) for counts in zip(*(manifest.boxes_per_class for manifest in manifests.values()))]
    order = sorted(range(len(totals)), key=lambda kind: -totals[kind])
    more = f", and {len(order) - _CLASSES} more classes" if len(order) > _CLASSES else ""
    lines = []
    for name, one in manifests.items():
        counts = ", ".join(f"{one.classes[kind]} {one.boxes_per_class[kind]}" for kind in order[:_CLASSES])
        lines.append(f"{name:{width}}  {one.num_images} images, {one.num_boxes} objects: {counts}{more}")
    return lines


def convert_data(
    source: str | os.PathLike | None = None,
    output: str | os.PathLike | None = None,
    *,
    format: str | None = None,
    images: str | os.PathLike | None = None,
    annotations: str | os.PathLike | None = None,
    categories: str | os.PathLike | None = None,
    val_fraction: float = 0.0,
    test_fraction: float = 0.0,
    group_by: str | None = None,
    seed: int = 0,
    split: str | None = None,
    unlabelled: str = "keep",
    coordinates: str = "auto",
    difficult: str = "ignore",
    renumber: bool = False,
    allow_outside: bool = False,
    strict: bool = False,
    overwrite: bool = False,
    name: str | None = None,
    num_shards: int | None = None,
    num_workers: int | None = None,
    max_pixels: int = MAX_PIXELS,
    part: str | None = None,
    merge: bool = False,
    console: Console | None = None,
    quiet: bool = False,
) -> dict[str, Path]:
    """Turns photos and their annotations into data sets to train on; the format is recognised.

    Args:
        source: folder of the photos and annotations, or the annotation file; None where `annotations` is given.
        output: data set folder to make; with splits, the folder in which train, val and test are made.
        format: its name, where it is not to be recognised: "coco", "yolo", ... of docs/data.md.
        images: folder of the images, where they are not below `source`.
        annotations: folder or file of the annotations, where they are not below `source`.
        categories: a text file with one class a line, for formats that bring no list.
        val_fraction, test_fraction: of the images, for sets `val` and `test` beside `train`, stratified by class.
        group_by: regular expression of image names; images for which it finds the same text stay in one split.
        seed: of the division.
        split: of a source with splits of its own, the one to take, or "all" for all in one; None: each.
        unlabelled: "keep" or "leave_out" images that no annotation names.
        coordinates: of CSV: "auto", "pixels" or "fractions".
        difficult: of VOC: "ignore" or "keep" objects marked difficult.
        renumber: of COCO: number the images anew.
        allow_outside: take images outside of the folders that are named.
        strict: write nothing, and raise, where anything is wrong with the data.
        overwrite: replace data sets that are there.
        name: of the data set; None: that of its folder.
        num_shards: record files of each set; None: one for every 512 images.
        num_workers: processes; None: the CPUs, 0: none.
        max_pixels: most pixels of an image.
        part: "2/4" converts the second of four parts, each perhaps on another machine, below `output` + ".parts".
        merge: makes the data sets of the parts in there; of the others `strict`, `overwrite`, `console` and `quiet`
            count.
        console: where to show what is done; None: standard output.
        quiet: shows nothing.

    Returns:
        The folders by split: "train", "val", "test", or "all" for one that is not divided; of a part its own.

    Raises:
        UserError: nothing is recognised, or the data cannot be used; the message is one line.

    Example:
        >>> import tfdet
        >>> folders = tfdet.convert_data("photos", "data/cells", val_fraction=0.2, quiet=True)
        >>> sorted(folders)
        ['train', 'val']
    """
    from tfdet.data import parts
    from tfdet.data.convert import StrictError
    from tfdet.terminal import Console as OurConsole

    if output is None:
        raise UserError("output is missing: the data set folder to make")
    for given, allowed, what in (
        (unlabelled, ("keep", "leave_out"), "unlabelled"),
        (coordinates, ("auto", "pixels", "fractions"), "coordinates"),
        (difficult, ("ignore", "keep"), "difficult"),
    ):
        if given not in allowed:
            raise UserError(f"{what} is {given!r}, and must be one of {', '.join(allowed)}")
    shown = None if quiet else console or OurConsole()
    report = ProblemReport()
    if merge:
        if source is not None or annotations is not None or part is not None:
            raise UserError("merge makes data sets of parts: leave source, annotations and part out")
        try:
            return _finished(parts.merge(output, report, strict, overwrite, shown), report, shown)
        except StrictError:
            raise UserError(f"strict: nothing was written. {'; '.join(report.lines())}") from None
    division = Division(val_fraction, test_fraction, group_by, seed, split)
    own_part = None if part is None else parts.Part.parse(part)
    found = recognise(source, format, images, annotations)
    if found.format == "records":
        raise UserError(f"{source} holds TFRecords: convert them with tfdet convert_data --from_records")
    if shown is not None:
        shown.print(found.words, highlight=False)
    read = read_source(
        found, report, categories=categories, difficult=difficult, coordinates=coordinates, renumber=renumber,
        unlabelled=unlabelled, allow_outside=allow_outside,
    )  # fmt: skip
    sets = splits_of(read, division, report)
    try:
        written = write_sets(
            sets, output, source_words(found), report, name=name, num_shards=num_shards, num_workers=num_workers,
            strict=strict, overwrite=overwrite, max_pixels=max_pixels, console=shown, part=own_part,
        )  # fmt: skip
    except StrictError:
        raise UserError(f"strict: nothing was written. {'; '.join(report.lines())}") from None
    return _finished(written, report, shown)


def _finished(written: Mapping[str, Manifest | Path], report: ProblemReport, shown: Console | None) -> dict[str, Path]:
    """The folders of what was written, after it was said."""
    manifests = {key: one for key, one in written.items() if not isinstance(one, Path)}
    if shown is not None:
        report.print_summary(shown, shown_per_kind=2)
        for line in split_lines(manifests) if manifests else ():
            shown.print(line, highlight=False)
    return {key: one if isinstance(one, Path) else one.folder for key, one in written.items()}


def source_words(found: Recognised) -> str:
    """Where data come from, for their manifest."""
    files: Sequence[Path] = found.source.annotations
    named = files[0].name if len(files) == 1 else found.source.tree.roots[0].absolute().name
    return f"{title(found.format)}: {named}"
