"""The data set doctor: says which record of which shard is broken, where TensorFlow's errors do not."""

from __future__ import annotations

import concurrent.futures
import os
import pathlib
import re

import numpy as np
import tensorflow as tf

from tfdet.data.convert import progress_bar
from tfdet.data.example import UNKNOWN_CATEGORY, WRONG_SIZE
from tfdet.data.formats.coco_entries import UNKNOWN_FLAG
from tfdet.data.index import FRAME_BYTES, RecordIndex
from tfdet.data.manifest import FROM_RECORDS, Manifest, file_sha256
from tfdet.data.mask_schema import mask_damage, parse_masks
from tfdet.data.problems import Problem
from tfdet.data.records import read_serialized, record_table
from tfdet.data.schema import decode_rgb, lengths_fault, parse_record, record_fault
from tfdet.data.values import whole_id
from tfdet.data.writer import first_line
from tfdet.errors import UserError
from tfdet.text import name_bytes, name_of

_RESTORE = "restore the shard or convert the data set again"


def diagnose(data_dir, checksums: bool = False, console=None) -> list[Problem]:
    """Reads a whole data set as training would: shards, checksums, schema, ids, image decoding, categories, masks.

    Args:
        data_dir: the data set folder.
        checksums: also compare the SHA-256 of every shard with the manifest.
        console: a `rich.console.Console` for a progress bar, or None.

    Returns:
        What is wrong, in the order of the data; empty when the data set is whole.

    Raises:
        UserError: the manifest or index cannot be read at all.
    """
    manifest = Manifest.load(data_dir, check_shards=False)
    index = manifest.load_index()
    problems = _check_files(manifest, checksums)
    missing = {number for number, path in enumerate(manifest.shard_paths()) if not os.path.isfile(path)}
    check = _RecordCheck(manifest, index)
    rows = [row for row in range(len(index.shard)) if int(index.shard[row]) not in missing]
    with progress_bar(console, len(rows), "checking records") as advance:
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            for problem in pool.map(check, rows):
                advance()
                if problem is not None:
                    problems.append(problem)
    return problems


def explain_pipeline_error(error: Exception, *data_dirs: str | os.PathLike) -> UserError:
    """Turns an error that a pipeline raised into one that names the shard, the record and the image.

    Args:
        error: tf.errors.OpError from iterating over a dataset of `inputs.py`.
        data_dirs: the data set folders of that pipeline.

    Returns:
        The error to raise. Finding the record reads the data sets once.
    """
    message = getattr(error, "message", str(error))
    if said := re.search(r"UserError: ([^\n]+)", message):  # of `staging`, in Python
        return UserError(said[1])
    data_dir = " + ".join(map(str, data_dirs))
    # Of several sets the ids may be others than in the records.
    for known in (UNKNOWN_CATEGORY, WRONG_SIZE) if len(data_dirs) == 1 else ():
        match = re.search(r"image id -?\d+ " + re.escape(known) + r": [^'\"\n]*", message)
        if match:
            return UserError(f"data set {data_dir}: {match.group(0).strip()}; convert the data set again")
    try:
        problems = next((found for folder in data_dirs if (found := diagnose(folder))), [])
    except UserError as broken:
        return broken
    if not problems:
        return UserError(
            f"reading data set {data_dir} failed ({first_line(error)}), but every record of it reads well now: "
            "was the disk or network away, or is the memory full?"
        )
    more = f" (and {len(problems) - 1} more, see tfdet convert_data --check {data_dir})" if problems[1:] else ""
    return UserError(f"broken data: {problems[0]}{more}")


def _check_files(manifest: Manifest, checksums: bool) -> list[Problem]:
    problems = []
    is_remote = manifest.remote_shards() is not None
    for shard in manifest.shards:
        path = manifest.folder / shard.file
        if not os.path.isfile(path):
            if is_remote:
                continue  # it was not needed yet
            problems.append(Problem("missing shard", str(path), None, "does not exist", _RESTORE))
        elif path.stat().st_size != shard.bytes:
            reason = f"has {path.stat().st_size} bytes, the manifest says {shard.bytes}"
            problems.append(Problem("changed shard", str(path), None, reason, _RESTORE))
        elif checksums and file_sha256(path) != shard.sha256:
            problems.append(Problem("changed shard", str(path), None, "its SHA-256 is not the manifest's", _RESTORE))
    return problems


class _RecordCheck:
    """Checks single records; called from several threads."""

    def __init__(self, manifest: Manifest, index: RecordIndex):
        self._manifest, self._index = manifest, index
        table = record_table(manifest, index)
        self._read = tf.function(
            lambda row: read_serialized(table, row), input_signature=[tf.TensorSpec([], tf.int64)], autograph=False
        )
        self._parse = tf.function(parse_record, [tf.TensorSpec([], tf.string)], autograph=False)
        self._parse_masks = tf.function(parse_masks, [tf.TensorSpec([], tf.string)], autograph=False)
        names = [name_of(name_bytes(name)) for name in manifest.classes]  # as records hold them
        self._names = dict(zip(manifest.category_ids, names, strict=True))
        # Whoever gives names for records made elsewhere may call a class as they like, but not as another one.
        self._may_rename = manifest.source.startswith(FROM_RECORDS)
        paths = manifest.shard_paths()
        self._sizes = [os.path.getsize(path) if os.path.isfile(path) else 0 for path in paths]
        self._paths = [pathlib.Path(path) for path in paths]

    def __call__(self, row: int) -> Problem | None:
        index = self._index
        number = int(index.shard[row])
        place = f"{self._paths[number]} record at byte {int(index.offset[row])}"
        image_id = int(index.image_id[row])

        def problem(kind, reason):
            return Problem(kind, place, image_id, reason, _RESTORE)

        # TensorFlow would take memory for a record of any length.
        if int(index.offset[row]) + int(index.length[row]) + FRAME_BYTES > self._sizes[number]:
            return problem("corrupt record", "goes beyond the end of the shard")
        try:
            serialized = self._read(tf.constant(row, tf.int64))
        except tf.errors.OpError as error:
            return problem("corrupt record", first_line(error))
        try:
            record = self._parse(serialized)
            masks = self._parse_masks(serialized)
        except (tf.errors.OpError, UnicodeDecodeError) as error:  # its message may hold the record's bytes
            return problem("unreadable record", record_fault(serialized.numpy()) or first_line(error))
        name = name_of(record.filename.numpy())
        try:
            shape = tuple(decode_rgb(record.encoded).shape)
        except (tf.errors.OpError, ValueError) as error:  # ValueError: WebP, which has an axis more
            return problem("undecodable image", f"{name}: {first_line(error)}")
        expected = (int(index.height[row]), int(index.width[row]), 3)
        if shape != expected:
            return problem("image size differs", f"{name} is {shape[1]}x{shape[0]}, not {expected[1]}x{expected[0]}")
        labels = record.labels.numpy().tolist()
        unknown = sorted(set(labels) - set(self._names))
        if unknown:
            return problem("unknown category", f"{name} has category id {unknown[0]}, not in the manifest")
        if fault := lengths_fault(record):
            return problem("unreadable record", f"{name}: {fault}")
        numbers = np.concatenate([record.xmin, record.ymin, record.xmax, record.ymax, record.area])
        if not np.isfinite(numbers).all():
            return problem("box not finite", f"{name} has a box or an area that is not a finite number")
        if np.any((record.xmax < record.xmin) | (record.ymax < record.ymin)):
            return problem("degenerate box", f"{name} has a box with a negative side")
        if odd := [flag for flag in record.crowd_flags.numpy().tolist() if flag not in (0, 1)]:
            return problem(UNKNOWN_FLAG, f"{name} has is_crowd {odd[0]}, neither 0 nor 1, read as 0")
        if other := self._other_name(labels, record.names.numpy()):
            return problem("class name differs", f"{name}: {other}")
        stated = _stated_id(record.source_id.numpy())
        if stated not in (None, image_id):
            return problem("image id differs", f"{name} has the source id {stated} in its record")
        masks = tf.nest.map_structure(lambda tensor: tensor.numpy(), masks)
        if damage := mask_damage(*masks, len(record.labels)):
            return problem("damaged masks", f"{name}: {damage}")
        return None

    def _other_name(self, labels: list[int], names) -> str | None:
        """What a record calls its classes, where the manifest calls them otherwise."""
        if len(names) != len(labels):
            return None  # the record names no classes
        for label, text in sorted(set(zip(labels, names.tolist(), strict=True))):
            own, stated = name_of(text), self._names[label]
            if own and own != stated and not (self._may_rename and own not in self._names.values()):
                return f"category id {label} is '{own}' in its record and '{stated}' in the manifest"
        return None


def _stated_id(source_id: bytes) -> int | None:
    """The id that a record states; None for a name, which older versions numbered in the order of the records."""
    try:
        return whole_id(name_of(source_id))
    except ValueError:
        return None
