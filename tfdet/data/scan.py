"""Makes a manifest and an index for records that another program wrote (TF Model Garden's create_coco_tf_record)."""

from __future__ import annotations

import os
import pathlib
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfdet.data.annotations import Category, ObjectAnnotation, judge_box
from tfdet.data.convert import StrictError, progress_bar
from tfdet.data.images import ImageError, image_size
from tfdet.data.manifest import INDEX_FILE, MANIFEST_FILE, REPORT_FILE, Manifest
from tfdet.data.mask_schema import Rings, mask_damage, parse_rings, parse_segmentations
from tfdet.data.problems import ProblemReport
from tfdet.data.records import FRAME_BYTES
from tfdet.data.schema import parse_record
from tfdet.data.writer import ManifestBuilder, first_line
from tfdet.errors import UserError
from tfdet.files import matching

_PNG_MASKS = "image/object/mask"  # TF Model Garden's: one PNG of the size of the image for every object


def manifest_from_records(
    pattern: str,
    folder,
    name: str,
    report: ProblemReport,
    categories: list[Category] | None = None,
    strict: bool = False,
    overwrite: bool = False,
    console=None,
) -> Manifest:
    """Scans TFRecord files and writes manifest and index for them; the records stay where they are.

    Records that cannot be used are left out of the index, so nothing has to be rewritten.

    Args:
        pattern: glob of the files.
        folder: data set folder to make; may be the folder of the records. The manifest refers to the records by their
            path relative to it.
        name: name of the data set.
        report: receives the findings.
        categories: the classes in order; None takes those that occur in the records, by id.
        strict: write nothing when anything but notes was found.
        overwrite: replace a manifest that is there.
        console: for the progress bar, or None.

    Returns:
        The manifest.

    Raises:
        StrictError: `strict`, and the report has problems.
        UserError: no file matches, no record is usable, or the folder cannot be written.
    """
    folder = pathlib.Path(folder).absolute()
    own = {MANIFEST_FILE, INDEX_FILE, REPORT_FILE}
    files = sorted(path for path in matching(pattern) if os.path.isfile(path) and os.path.basename(path) not in own)
    if not files:
        raise UserError(f"no file matches --from_records {pattern}")
    if (folder / MANIFEST_FILE).exists() and not overwrite:
        raise UserError(f"{folder} holds a data set already; give --overwrite to replace its manifest")
    rows: list[tuple] = []
    files_with_png_masks = []
    found: dict[int, str] = {}
    known = {category.id for category in categories} if categories else None
    seen: dict[int, str] = {}
    with progress_bar(console, len(files), "scanning files") as advance:
        for shard, path in enumerate(files):
            has_png_masks = False
            for offset, length, record, masks in _read_file(path, report):
                place = f"{path} at byte {offset}"
                row = _check_record(record, place, len(rows) + 1, seen, known, found, report)
                if row is not None:
                    rows.append((shard, offset, length, *row, _check_masks(masks, record, place, row[0], report)))
                has_png_masks |= masks.num_png > 0
            if has_png_masks:
                files_with_png_masks.append(path)
            advance()
    for path in files_with_png_masks:
        reason = f"its masks are PNG images ({_PNG_MASKS}); to have masks, convert the COCO annotations (--coco)"
        report.add("masks not read", path, None, reason, "boxes alone are read", is_note=True)
    if not rows:
        raise UserError(f"no record of {pattern} could be used; the findings above say why")
    if strict and report.has_problems:
        raise StrictError
    categories = categories or [Category(number, found[number]) for number in sorted(found)]
    if not categories:
        raise UserError(f"the records of {pattern} hold no object, so the classes are unknown; give --categories FILE")
    builder = ManifestBuilder(name, categories, f"records: {pattern}")
    for row in rows:
        builder.add(*row)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        manifest, index = builder.finish(folder, [os.path.relpath(path, folder) for path in files])
        index.save(folder / INDEX_FILE)
        report.write(folder / REPORT_FILE)
        manifest.write()
    except OSError as error:
        raise UserError(f"cannot write {folder}: {first_line(error)}") from None
    return Manifest.load(folder)


class _Masks(NamedTuple):
    """What a record says about masks."""

    segmentations: np.ndarray  # bytes [G] or [0]
    rings: Rings
    num_png: int  # masks that are PNG images


@tf.function(input_signature=[tf.TensorSpec([], tf.string)])
def _parse(serialized):
    png = tf.io.parse_single_example(serialized, {_PNG_MASKS: tf.io.RaggedFeature(tf.string)})[_PNG_MASKS]
    masks = _Masks(parse_segmentations(serialized), parse_rings(serialized), tf.size(png))
    return parse_record(serialized), masks


def _read_file(path: str, report: ProblemReport):
    """Yields (offset, length, record, masks), the last two as numpy, of every readable record of a file."""
    offset = 0
    iterator = iter(tf.data.TFRecordDataset(path))
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
            record, masks = tf.nest.map_structure(lambda tensor: tensor.numpy(), _parse(serialized))
        except tf.errors.OpError as error:
            reason = f"at byte {offset}: not of the detection schema: {first_line(error)}"
            report.add("unreadable record", path, None, reason, "left out")
        else:
            yield offset, length, record, masks
        offset += length + FRAME_BYTES


def _check_masks(masks: _Masks, record, place, image_id: int, report: ProblemReport) -> np.ndarray:
    """Which objects of a record have a mask: bool [G]."""
    count = len(record.labels)
    if damage := mask_damage(masks.segmentations, masks.rings, count):
        # Reading would fail on such a record as soon as training asks for masks.
        file = f"{record.filename.decode(errors='replace') or 'record'} ({place})"
        report.add("damaged masks", file, image_id, damage, "boxes alone can be read: keep TrainInput.masks False")
        return np.zeros(count, bool)
    return np.array([bool(text) for text in masks.segmentations] or [False] * count, bool)


def _check_record(record, place, ordinal, seen, known, found, report: ProblemReport):
    """What the index needs of a record (the arguments of `ManifestBuilder.add` from image_id to area), or None: left
    out."""
    file = f"{record.filename.decode(errors='replace') or 'record'} ({place})"
    try:
        image_id = int(record.source_id)
    except ValueError:
        image_id = ordinal
        reason = f"source id {record.source_id!r} is not an integer"
        report.add("image id replaced", file, image_id, reason, f"numbered {image_id}", is_note=True)

    def left_out(kind, reason):
        report.add(kind, file, image_id, reason, "image left out")

    if image_id in seen:
        return left_out("duplicate image id", f"already used by {seen[image_id]}")
    try:
        height, width = image_size(record.encoded)
    except ImageError as error:
        return left_out("undecodable image", str(error))
    if record.height > 0 and record.width > 0 and (record.height, record.width) != (height, width):
        reason = f"is {width}x{height} but the record says {record.width}x{record.height}"
        return left_out("image size differs", reason)
    count = len(record.labels)
    if any(len(column) != count for column in (record.xmin, record.ymin, record.xmax, record.ymax)):
        return left_out("unreadable record", "its lists of corners and labels differ in length")
    names = record.names if len(record.names) == count else [b""] * count
    if known is not None and (unknown := sorted({int(label) for label in record.labels} - known)):
        return left_out("unknown category", f"category id {unknown[0]} is not in the list")
    corners = np.stack([record.xmin, record.ymin, record.xmax, record.ymax])
    pixels = corners.astype(np.float64) * np.array([width, height, width, height])[:, None]
    extent = pixels[2:] - pixels[:2]
    area = record.area if len(record.area) == count else np.maximum(extent[0] * extent[1], 1.0).astype(np.float32)
    for number in range(count):
        label = int(record.labels[number])
        text = names[number].decode(errors="replace") or f"class {label}"
        if found.setdefault(label, text) != text:
            reason = f"category id {label} is '{text}' here but '{found[label]}' before"
            report.add("category name differs", file, image_id, reason, f"named '{found[label]}'")
        item = ObjectAnnotation(
            pixels[0, number], pixels[1, number], extent[0, number], extent[1, number], label, float(area[number]),
            bool(record.is_crowd[number]),
        )  # fmt: skip
        verdict = judge_box(item, height, width)
        if verdict.problem:
            report.add(verdict.problem, file, image_id, verdict.reason, "stays in the record, read by SimpleDet's rule")
    if not count:
        action = "kept for evaluation, not trained on"
        report.add("image without annotation", file, image_id, "has no object", action, is_note=True)
    seen[image_id] = file
    return image_id, height, width, corners, record.labels, record.is_crowd, area
