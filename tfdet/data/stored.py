"""Reads the images of a data set with everything that their records say, for people to look at."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from tfdet.data.doctor import explain_pipeline_error
from tfdet.data.index import RecordIndex
from tfdet.data.manifest import Manifest
from tfdet.data.mask_schema import parse_segmentations
from tfdet.data.records import read_serialized, record_table
from tfdet.data.schema import Record, parse_record
from tfdet.text import name_of


@dataclasses.dataclass(frozen=True)
class StoredImage:
    """One record of a data set, its picture still encoded. G objects, crowds among them.

    Attributes:
        row: of the index.
        image_id: the image's id.
        file_name: the original name.
        encoded: JPEG, PNG or GIF, see `images.stored_rgb`.
        height, width: pixels of the stored image.
        boxes: float64 [G, 4], `[x, y, width, height]` in pixels of the stored image, as annotated.
        category_ids: int64 [G].
        is_crowd: bool [G].
        areas: float64 [G], pixels: of the mask where the annotation says so, else of the box.
        segmentations: G json texts of COCO's segmentation, empty for an object without mask.
    """

    row: int
    image_id: int
    file_name: str
    encoded: bytes
    height: int
    width: int
    boxes: np.ndarray
    category_ids: np.ndarray
    is_crowd: np.ndarray
    areas: np.ndarray
    segmentations: list[bytes]


def stored_images(manifest: Manifest, index: RecordIndex, rows: Sequence[int] | None = None) -> Iterator[StoredImage]:
    """Yields images of a data set in the order of `rows`; a few are read ahead.

    Args:
        manifest, index: the data set.
        rows: of the index; None: all.

    Raises:
        UserError: a record is damaged; shard, record and image are named.
    """
    table = record_table(manifest, index)

    @tf.autograph.experimental.do_not_convert
    def load(row: tf.Tensor) -> tuple[tf.Tensor, Record, tf.Tensor]:
        serialized = read_serialized(table, row)
        return row, parse_record(serialized), parse_segmentations(serialized)

    chosen = np.arange(len(index)) if rows is None else np.asarray(rows, np.int64)
    dataset = tf.data.Dataset.from_tensor_slices(chosen)
    dataset = dataset.map(load, num_parallel_calls=min(4, os.cpu_count() or 1), deterministic=True)
    try:
        for row, record, texts in dataset.prefetch(8).as_numpy_iterator():
            yield _image(int(row), record, texts.tolist(), index)
    except tf.errors.OpError as error:
        raise explain_pipeline_error(error, manifest.folder) from None


def _image(row: int, record: Record, texts: list[bytes], index: RecordIndex) -> StoredImage:
    height, width = int(index.height[row]), int(index.width[row])
    sides = np.array([width, height, width, height], np.float64)
    corners = np.stack([record.xmin, record.ymin, record.xmax, record.ymax], axis=-1).astype(np.float64) * sides
    # As in `ground_truth`: three decimals undo the rounding of the record's float32.
    boxes = np.round(np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1), 3)
    count = len(boxes)
    areas = record.area.astype(np.float64) if len(record.area) == count else boxes[:, 2] * boxes[:, 3]
    return StoredImage(
        row=row,
        image_id=int(index.image_id[row]),
        file_name=name_of(record.filename),
        encoded=record.encoded,
        height=height,
        width=width,
        boxes=boxes,
        category_ids=record.labels,
        is_crowd=record.is_crowd,
        areas=areas,
        segmentations=texts if len(texts) == count else [b""] * count,
    )
