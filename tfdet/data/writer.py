"""Writes a data set folder: shards, index and manifest appear all at once or not at all."""

from __future__ import annotations

import array
import contextlib
import dataclasses
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfdet.data.annotations import Category, inclusive_boxes
from tfdet.data.index import FRAME_BYTES, INDEX_FILE, RecordIndex
from tfdet.data.manifest import MANIFEST_FILE, REPORT_FILE, Manifest, Shard, file_sha256
from tfdet.data.problems import ProblemReport
from tfdet.data.schema import serialize_example
from tfdet.errors import UserError
from tfdet.files import check_local
from tfdet.interrupts import whole

_COUNTS = ("num_crowd", "num_masks", "num_crowd_masks")


class ManifestBuilder:
    """Counts records into a `Manifest` and a `RecordIndex`."""

    def __init__(self, name: str, categories: list[Category], source: str):
        self.name = name
        self.categories = categories
        self.source = source
        self._class_of = {category.id: index for index, category in enumerate(categories)}
        self._columns = [array.array("q") for _ in dataclasses.fields(RecordIndex)]
        self._counts = dict.fromkeys(_COUNTS, 0)
        self._boxes_per_class = np.zeros(len(categories), np.int64)

    def add(self, shard, offset, length, image_id, height, width, corners, labels, is_crowd, area, has_mask) -> int:
        """Adds one record.

        Args:
            shard: number of the shard.
            offset, length: where the record begins, and the bytes of its serialized example.
            image_id: the image's id.
            height, width: image size in pixels.
            corners: float32 [4, G], normalised xmin, ymin, xmax, ymax as the record stores them.
            labels: int [G], category ids.
            is_crowd: bool [G].
            area: float32 [G], pixels.
            has_mask: bool [G].

        Returns:
            The offset of the next record.
        """
        _, valid = inclusive_boxes(*corners, height, width, area)
        is_crowd, has_mask = np.asarray(is_crowd, bool), np.asarray(has_mask, bool)
        valid &= ~is_crowd
        self._counts["num_crowd"] += int(np.sum(is_crowd))
        self._counts["num_masks"] += int(np.sum(valid & has_mask))
        self._counts["num_crowd_masks"] += int(np.sum(is_crowd & has_mask))
        for label in np.asarray(labels)[valid]:
            self._boxes_per_class[self._class_of[int(label)]] += 1
        row = (shard, offset, length, image_id, height, width, int(valid.sum()))
        for column, value in zip(self._columns, row, strict=True):
            column.append(value)
        return offset + length + FRAME_BYTES

    def __len__(self) -> int:
        return len(self._columns[0])

    def index(self) -> RecordIndex:
        """The records so far."""
        return RecordIndex.from_columns(self._columns)

    def counted(self) -> dict[str, Any]:
        """What was counted so far, for `extend`."""
        return {**self._counts, "boxes_per_class": self._boxes_per_class.tolist()}

    def extend(self, index: RecordIndex, counted: Mapping[str, Any], first_shard: int) -> None:
        """Adds all records of another builder, whose shards follow: its `index` and what it `counted`."""
        for column, field in zip(self._columns, dataclasses.fields(RecordIndex), strict=True):
            values = getattr(index, field.name).astype(np.int64)
            column.frombytes((values + first_shard if field.name == "shard" else values).tobytes())
        for name in _COUNTS:
            self._counts[name] += counted[name]
        self._boxes_per_class += np.array(counted["boxes_per_class"], np.int64)

    def finish(self, folder: pathlib.Path, shard_files: list[str], report: ProblemReport) -> None:
        """Writes index, report and manifest; reads every shard once for its checksum.

        Args:
            folder: where they are written, and the folder that `shard_files` are relative to.
            shard_files: the shards in order.
            report: what was found.
        """
        index = self.index()
        frequencies = [category.frequency for category in self.categories]
        trainable, portrait = index.is_trainable, index.is_portrait
        shards = [
            Shard(file, int(np.sum(index.shard == number)), (folder / file).stat().st_size, file_sha256(folder / file))
            for number, file in enumerate(shard_files)
        ]
        manifest = Manifest(
            folder=folder,
            name=self.name,
            classes=[category.name for category in self.categories],
            category_ids=[category.id for category in self.categories],
            boxes_per_class=self._boxes_per_class.tolist(),
            num_images=len(self),
            num_boxes=int(index.num_boxes.sum()),
            num_images_without_boxes=int(np.sum(~trainable)),
            num_trainable_landscape=int(np.sum(trainable & ~portrait)),
            num_trainable_portrait=int(np.sum(trainable & portrait)),
            shards=shards,
            source=self.source,
            **self._counts,
            index_sha256=index.sha256(),
            frequencies=frequencies if any(frequencies) else [],
        )
        index.save(folder / INDEX_FILE)
        report.write(folder / REPORT_FILE)
        manifest.write()


class DatasetWriter:
    """Context manager that writes a data set into a temporary folder beside the target and renames it at the end.

    Leaving the context without `commit` (an error, `--strict`, Ctrl-C, SIGTERM) removes everything that was written.

    Args:
        folder: the data set folder to make.
        name: name of the data set; the shards begin with it.
        categories: the classes, in order.
        source: where the data comes from, in words.
        overwrite: replace a data set that is there already.
        marker: the file by which it is known that a folder may be replaced.

    Raises:
        UserError: the folder exists, or cannot be written.
    """

    def __init__(
        self, folder, name: str, categories: list[Category], source: str, overwrite=False, marker: str = MANIFEST_FILE
    ):
        check_local(folder, "--output")
        self.folder = pathlib.Path(folder).absolute()
        self.overwrite, self._marker = overwrite, marker
        self._builder = ManifestBuilder(name, categories, source)
        self._class_names = {category.id: category.name for category in categories}
        self._writer = None
        self._shard_files: list[str] = []
        self._offset = 0
        check_target(self.folder, overwrite, marker)

    def __enter__(self) -> DatasetWriter:
        made = None
        try:
            with whole():
                self.folder.parent.mkdir(parents=True, exist_ok=True)
                made = tempfile.mkdtemp(prefix=f".{self.folder.name}.", dir=self.folder.parent)
                self._temporary = pathlib.Path(made)
                os.chmod(made, 0o755)
        except BaseException as error:
            if made is not None:
                shutil.rmtree(made, ignore_errors=True)
            if not isinstance(error, OSError):
                raise
            raise UserError(f"cannot write into {self.folder.parent}: {error.strerror}") from None
        return self

    def __exit__(self, kind, error, traceback) -> None:
        with whole():
            try:
                self._close_shard()
            except tf.errors.OpError:
                pass  # a full disk was reported by the write already
            shutil.rmtree(self._temporary, ignore_errors=True)

    def __len__(self) -> int:
        return len(self._builder)

    def start_shard(self) -> None:
        """Ends the current shard; the next record opens another."""
        self._close_shard()

    def add(self, record) -> None:
        """Writes one `prepare.PreparedRecord` that has an image."""
        image, objects = record.image, record.objects
        serialized = serialize_example(
            image.encoded, image.format, image.height, image.width, record.file_name, record.image_id,
            objects, self._class_names, record.masks,
        )  # fmt: skip
        try:
            if self._writer is None:
                name = f"{self._builder.name}-{len(self._shard_files):05d}.tfrecord"
                self._shard_files.append(name)
                self._writer = tf.io.TFRecordWriter(os.fsencode(self._temporary / name))
                self._offset = 0
            self._writer.write(serialized)
        except (tf.errors.OpError, OSError) as error:
            raise UserError(f"cannot write into {self._temporary}: {first_line(error)}") from None
        size = np.array([image.width, image.height, image.width, image.height], np.float64)[:, None]
        pixels = [(item.x, item.y, item.x + item.width, item.y + item.height) for item in objects]
        corners = (np.array(pixels, np.float64).reshape(-1, 4).T / size).astype(np.float32)
        self._offset = self._builder.add(
            len(self._shard_files) - 1, self._offset, len(serialized), record.image_id, image.height, image.width,
            corners, [item.category_id for item in objects], [item.is_crowd for item in objects],
            np.array([item.area for item in objects], np.float32), [mask is not None for mask in record.masks],
        )  # fmt: skip

    def commit(self, report: ProblemReport) -> Manifest:
        """Finishes the shards, writes index, manifest and report, and moves the folder to its place.

        Returns:
            The manifest of the finished data set.

        Raises:
            UserError: nothing was written, or the folder cannot be written.
        """
        if not len(self):
            raise UserError("no image could be used, so no data set was written; the findings above say why")
        with self._finishing():
            count = len(self._shard_files)
            final = [f"{self._builder.name}-{number:05d}-of-{count:05d}.tfrecord" for number in range(count)]
            for old, new in zip(self._shard_files, final, strict=True):
                os.replace(self._temporary / old, self._temporary / new)
            self._builder.finish(self._temporary, final, report)
        return Manifest.load(self.folder)

    def commit_part(self, write: Callable[[pathlib.Path, ManifestBuilder, list[str]], None]) -> None:
        """Finishes the shards and moves the folder to its place: a part of a data set, without index and manifest.

        Args:
            write: writes what else a part has; is given the folder, the records and the names of the shards.
        """
        with self._finishing():
            write(self._temporary, self._builder, self._shard_files)

    def take_part(self, folder: pathlib.Path, files: Sequence[str], index: RecordIndex, counted: Mapping) -> None:
        """Adds the shards of a part, which stay where they are: linked where the disk can, else copied.

        Args:
            folder, files: the shards.
            index, counted: see `ManifestBuilder.extend`.
        """
        self._builder.extend(index, counted, len(self._shard_files))
        try:
            for file in files:
                name = f"{self._builder.name}-{len(self._shard_files):05d}.tfrecord"
                self._shard_files.append(name)
                try:
                    os.link(folder / file, self._temporary / name)
                except OSError:
                    shutil.copyfile(folder / file, self._temporary / name)
        except OSError as error:
            raise UserError(f"cannot write into {self._temporary}: {first_line(error)}") from None

    @contextlib.contextmanager
    def _finishing(self) -> Iterator[None]:
        try:
            self._close_shard()
            yield
            move_into_place(self._temporary, self.folder, self.overwrite, self._marker)
        except (tf.errors.OpError, OSError) as error:
            raise UserError(f"cannot write {self.folder}: {first_line(error)}") from None

    def _close_shard(self) -> None:
        if self._writer is not None:
            writer, self._writer = self._writer, None
            writer.close()


def check_target(folder: pathlib.Path, overwrite: bool, marker: str = MANIFEST_FILE) -> None:
    """Raises UserError unless `folder` is free, empty, or holds the file `marker` of a data set and may be replaced."""
    if not os.path.exists(folder) or (os.path.isdir(folder) and not any(folder.iterdir())):
        return
    if not os.path.isdir(folder) or not os.path.isfile(folder / marker):
        raise UserError(f"{folder} exists and is not a data set; choose another --output")
    if not overwrite:
        what = "a data set" if marker == MANIFEST_FILE else "this part"
        raise UserError(f"{folder} holds {what} already; give --overwrite to replace it, or another --output")


def move_into_place(
    temporary: pathlib.Path, folder: pathlib.Path, overwrite: bool, marker: str = MANIFEST_FILE
) -> None:
    """Renames the finished folder to its place; a data set that was there is removed after the rename."""
    check_target(folder, overwrite, marker)
    old = None
    with whole():
        if os.path.exists(folder):
            old = pathlib.Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
            os.replace(folder, old)
        try:
            os.replace(temporary, folder)
        except OSError:
            if old is not None:
                os.replace(old, folder)
            raise
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its type when it has none."""
    text = getattr(error, "message", None) or getattr(error, "strerror", None) or str(error)
    return (text.strip() or type(error).__name__).splitlines()[0]
