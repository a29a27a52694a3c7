"""Makes a manifest and an index for records that another program wrote (TF Model Garden's create_coco_tf_record)."""

from __future__ import annotations

import dataclasses
import glob
import os
import pathlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfdet.arguments import MAX_PIXELS
from tfdet.data.annotations import DEGENERATE, AnnotationSet, Category, ObjectAnnotation
from tfdet.data.convert import StrictError, convert, progress_bar
from tfdet.data.formats.coco_entries import NAME_AS_ID, UNKNOWN_CATEGORY, UNKNOWN_FLAG, USED_TWICE
from tfdet.data.images import ImageError, image_size
from tfdet.data.index import FRAME_BYTES, INDEX_FILE
from tfdet.data.manifest import FROM_RECORDS, MANIFEST_FILE, REPORT_FILE, Manifest
from tfdet.data.mask_schema import Masks, mask_damage, parse_masks
from tfdet.data.objects import TWICE, judge_objects
from tfdet.data.problems import Problem, ProblemReport
from tfdet.data.record_masks import PNG_MASKS, RecordImages, have_png_masks
from tfdet.data.schema import Record, lengths_fault, parse_record, record_fault
from tfdet.data.tiny_boxes import TinyBoxes
from tfdet.data.values import flag, image_number, number_of_name, shown
from tfdet.data.writer import ManifestBuilder, first_line
from tfdet.errors import UserError
from tfdet.files import literal_beginning
from tfdet.strict_json import parse_json
from tfdet.text import name_of

_AS_IT_IS = "stays in the record, read by SimpleDet's rule"
_IN_RECORDS = {TWICE: "stays in the record: trained on twice, measured once"}


def manifest_from_records(
    pattern: str | Sequence[pathlib.Path],
    folder,
    name: str,
    report: ProblemReport,
    categories: list[Category] | None = None,
    strict: bool = False,
    overwrite: bool = False,
    console=None,
    max_pixels: int = MAX_PIXELS,
    num_shards: int | None = None,
    num_workers: int | None = None,
) -> Manifest:
    """Scans TFRecord files and writes manifest and index for them; the records stay where they are.

    Records that cannot be used are left out of the index, so nothing has to be rewritten. Only records whose masks are
    PNG images are written anew into the folder, with run lengths in their place.

    Args:
        pattern: glob of the files, or the files.
        folder: data set folder to make; may be the folder of the records. The manifest refers to the records by their
            path relative to it.
        name: name of the data set.
        report: receives the findings.
        categories: the classes in order; None takes those that occur in the records, by id.
        strict: write nothing when anything but notes was found.
        overwrite: replace a manifest that is there.
        console: for the progress bar, or None.
        max_pixels: most pixels of an image, height times width; larger ones are left out.
        num_shards, num_workers: of records that are written anew, see `convert.convert`.

    Returns:
        The manifest.

    Raises:
        StrictError: `strict`, and the report has problems.
        UserError: no file matches, no record is usable, or the folder cannot be written.
    """
    folder = pathlib.Path(folder).absolute()
    own = {MANIFEST_FILE, INDEX_FILE, REPORT_FILE}
    if not isinstance(pattern, str):
        named = [str(path) for path in pattern]
        pattern = named[0] if len(named) == 1 else f"{os.path.commonpath(named)} ({len(named)} files)"
    else:
        named = [pattern] if os.path.lexists(pattern) else glob.glob(literal_beginning(pattern))
    files = sorted(path for path in named if os.path.isfile(path) and os.path.basename(path) not in own)
    if not files:
        raise UserError(f"no file matches --from_records {pattern}")
    if os.path.exists(folder / MANIFEST_FILE) and not overwrite:
        raise UserError(f"{folder} holds a data set already; give --overwrite to replace its manifest")
    writes_anew = have_png_masks(files)
    if writes_anew and any(folder == pathlib.Path(path).absolute().parent for path in files):
        writes_anew = False
        reason = (
            f"the masks are PNG images ({PNG_MASKS}), which are written anew into another --output than this folder"
        )
        report.add("masks not read", folder, None, reason, "boxes alone are read", is_note=True)
    scan = _Scan(categories, report, max_pixels, writes_anew)
    with progress_bar(console, len(files), "scanning files") as advance:
        for shard, path in enumerate(files):
            for offset, length, record, masks in _read_file(path, report):
                scan.add(record, masks, path, shard, offset, length)
            advance()
    scan.tiny.tell(scan.first_tiny_file, report, "were they divided by the image size twice?")
    if not scan.rows:
        raise UserError(f"no record of {pattern} could be used; the findings above say why")
    if strict and report.has_problems:
        raise StrictError
    categories = categories or [Category(number, scan.names[number]) for number in sorted(scan.names)]
    if not categories:
        raise UserError(f"the records of {pattern} hold no object, so the classes are unknown; give --categories FILE")
    _check_names(categories, pattern)
    if writes_anew:
        usable = [(*row[:2], *row[3:6], objects) for row, objects in zip(scan.rows, scan.objects, strict=True)]
        images = RecordImages(files, usable)
        return convert(
            AnnotationSet(categories, images), folder, name, f"records written anew: {pattern}", report, num_shards,
            num_workers, strict, overwrite, console, max_pixels,
        )  # fmt: skip
    builder = ManifestBuilder(name, categories, FROM_RECORDS + pattern)
    for row in scan.rows:
        builder.add(*row)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        builder.finish(folder, [os.path.relpath(path, folder) for path in files], report)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {first_line(error)}") from None
    return Manifest.load(folder)


@tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
def _parse(serialized):
    return parse_record(serialized), parse_masks(serialized)


def _read_file(path: str, report: ProblemReport):
    """Yields (offset, length, record, masks) of every readable record of a file, as numpy."""
    offset = 0
    iterator = iter(tf.data.TFRecordDataset(os.fsencode(path)))
    while True:
        try:
            serialized = next(iterator)
        except StopIteration:
            return
        except tf.errors.OpError as error:
            reason = f"at byte {offset}: {first_line(error)}"
            report.add("corrupt record", path, None, reason, "it and the rest of the file left out")
            return
        length = len(serialized.numpy())
        try:
            parsed = tf.nest.map_structure(lambda tensor: tensor.numpy(), _parse(serialized))
        except (tf.errors.OpError, UnicodeDecodeError) as error:  # TensorFlow's message may hold the record's bytes
            fault = record_fault(serialized.numpy()) or first_line(error)
            reason = f"at byte {offset}: not of the detection schema: {fault}"
            report.add("unreadable record", path, None, reason, "left out")
        else:
            yield offset, length, *parsed
        offset += length + FRAME_BYTES


class _Scan:
    """Checks records one after the other and keeps what the index needs of those that can be used.

    Args:
        categories: the list of classes, or None.
        report: receives the findings.
        max_pixels: of an image, height times width.
        writes_anew: objects are kept, and judged when the records are written.

    Attributes:
        rows: the arguments of `ManifestBuilder.add` for each record.
        objects: of each record, where records are written anew.
        names: of the classes by category id: those of the list, or those that occurred.
        tiny: the boxes that are smaller than a pixel; `first_tiny_file` has the first one.
    """

    def __init__(self, categories: list[Category] | None, report: ProblemReport, max_pixels: int, writes_anew=False):
        self._listed = None if categories is None else {category.id: category.name for category in categories}
        self._report, self._max_pixels, self._writes_anew = report, max_pixels, writes_anew
        self.objects: list[list[ObjectAnnotation]] = []
        self._seen: dict[int, str] = {}
        self.rows: list[tuple] = []
        self.names: dict[int, str] = dict(self._listed or {})
        self.tiny, self.first_tiny_file = TinyBoxes(), ""

    def add(self, record: Record, masks: Masks, path: str, shard: int, offset: int, length: int) -> None:
        """Takes in a record of a file, of which it is the shard with this number."""
        report, place = self._report, f"{path} at byte {offset}"
        file = f"{name_of(record.filename) or 'record'} ({place})"
        image_id = self._image_id(record, os.path.basename(place), file)

        def left_out(kind, reason):
            report.add(kind, file, image_id, reason, "image left out")

        if image_id in self._seen:
            return left_out(USED_TWICE, f"already used by {self._seen[image_id]}")
        try:
            height, width = image_size(record.encoded, self._max_pixels)
        except ImageError as error:
            return left_out("undecodable image", str(error))
        if record.height > 0 and record.width > 0 and (record.height, record.width) != (height, width):
            reason = f"is {width}x{height} but the record says {record.width}x{record.height}"
            return left_out("image size differs", reason)
        if fault := lengths_fault(record):
            return left_out("unreadable record", fault)
        labels = set(record.labels.tolist())
        if self._listed is not None and (unknown := sorted(labels - self._listed.keys())):
            return left_out(UNKNOWN_CATEGORY, f"category id {unknown[0]} is not in the list")
        if labels and min(labels) < 0:
            return left_out(UNKNOWN_CATEGORY, f"category id {min(labels)} is negative")
        self._seen[image_id] = file
        count = len(record.labels)
        corners = np.stack([record.xmin, record.ymin, record.xmax, record.ymax])
        pixels = corners.astype(np.float64) * np.array([width, height, width, height])[:, None]
        extent = pixels[2:] - pixels[:2]
        area = record.area if len(record.area) == count else np.maximum(extent[0] * extent[1], 1.0).astype(np.float32)
        texts = masks.segmentations if len(masks.segmentations) == count else [b""] * count
        names = record.names if len(record.names) == count else [b""] * count
        objects = []
        for number, label in enumerate(record.labels.tolist()):
            self._compare_name(label, name_of(names[number]), file, image_id)
            try:
                flag(int(record.crowd_flags[number]))
            except ValueError as error:
                report.add(UNKNOWN_FLAG, file, image_id, f"object {number + 1} has is_crowd {error}", "read as 0")
            if self.tiny.add(bool(np.all(extent[:, number] < 1))):
                self.tiny.first, self.first_tiny_file = f"the first at byte {offset}", path
            objects.append(
                ObjectAnnotation(
                    pixels[0, number], pixels[1, number], extent[0, number], extent[1, number], label,
                    float(area[number]), bool(record.is_crowd[number]), _segmentation(texts[number]), number + 1,
                )
            )  # fmt: skip
        if self._writes_anew:
            self.objects.append(objects)
        else:
            self._judge(objects, height, width, file, image_id)
        has_mask = np.array([bool(text) for text in texts], bool)
        if damage := mask_damage(*masks, count):
            # Reading would fail on such a record as soon as training asks for masks.
            report.add("damaged masks", file, image_id, damage, "boxes alone can be read: keep TrainInput.masks False")
            has_mask[:] = False
        self.rows.append(
            (shard, offset, length, image_id, height, width, corners, record.labels, record.is_crowd, area, has_mask)
        )

    def _judge(self, objects: list[ObjectAnnotation], height: int, width: int, file: str, image_id: int) -> None:
        """Names what is wrong with the objects of a record that stays as it is."""
        for problem in judge_objects(objects, height, width, file, image_id)[1]:
            self._report.extend([dataclasses.replace(problem, action=_in_records(problem))])
        if not objects:
            action = "kept for evaluation, not trained on"
            self._report.add("image without annotation", file, image_id, "has no object", action, is_note=True)

    def _image_id(self, record: Record, place: str, file: str) -> int:
        """The number of a record's image: its id, or that of a name (`values.image_number`)."""
        source_id = name_of(record.source_id)
        try:
            image_id, is_name = image_number(source_id)
            reason = f"source id {shown(source_id)} is not an integer"
            is_right = True
        except ValueError as error:
            is_right, reason = not source_id.strip(), f"source id {error}"
            if is_right:  # without an id the file name serves
                source_id = name_of(record.filename) or place
                reason = f"no source id: {shown(source_id)} stands for it"
            image_id, is_name = number_of_name(source_id), True
        if not is_name:
            return image_id
        is_used = image_id in self._seen
        if is_used:
            reason = f"{reason}, and {self._seen[image_id]} has it too"
            image_id = number_of_name(f"{source_id} {place}")
        action, is_note = f"numbered {image_id}", is_right and not is_used
        self._report.add(NAME_AS_ID, file, image_id, reason, action, is_note)
        return image_id

    def _compare_name(self, label: int, text: str, file: str, image_id: int) -> None:
        """Compares what a record calls a class with the list of classes, or with the records before."""
        if not text:
            self.names.setdefault(label, f"class {label}")
        elif self.names.setdefault(label, text) != text:
            name, listed = self.names[label], self._listed
            where = "before" if listed is None else "in the list of classes"
            reason = f"category id {label} is '{text}' here but '{name}' {where}"
            # A list may call the classes of other records as it likes, but not one as another.
            is_note = listed is not None and text not in listed.values()
            self._report.add("category name differs", file, image_id, reason, f"named '{name}'", is_note)


def _segmentation(text: bytes):
    """The segmentation of an object in a record; None where there is none, or no json, which `mask_damage` names."""
    try:
        return parse_json(text) if text else None
    except ValueError:
        return None


def _in_records(problem: Problem) -> str:
    """What becomes of an object that conversion would treat otherwise."""
    if problem.kind == DEGENERATE and problem.action == "left out":
        return "stays in the record, takes no part"
    return _IN_RECORDS.get(problem.kind, _AS_IT_IS)


def _check_names(categories: list[Category], pattern: str) -> None:
    """Refuses two classes of one name, which nothing that compares by name could keep apart."""
    ids: dict[str, int] = {}
    for category in categories:
        if ids.setdefault(category.name, category.id) != category.id:
            raise UserError(
                f"the records of {pattern} give the class '{category.name}' the ids {ids[category.name]} and "
                f"{category.id}; give --categories FILE with a name for each"
            )
