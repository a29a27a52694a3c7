"""Reads single records of a data set by their place in the index, in graph ops."""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfdet.data.example import decode_example
from tfdet.data.index import FRAME_BYTES, RecordIndex
from tfdet.data.manifest import Manifest
from tfdet.data.staging import Staging
from tfdet.structures import Example


class RecordTable(NamedTuple):
    """The record index as tensors, row by row as `RecordIndex`."""

    paths: tf.Tensor  # string [S], the shards
    shard: tf.Tensor  # int32 [N]
    offset: tf.Tensor  # int64 [N], or int32 where all are below 2^31; so is length
    length: tf.Tensor  # int64 [N]
    image_id: tf.Tensor  # int64 [N]
    staging: Staging | None = None  # where there are remote shards


def record_table(manifest: Manifest, index: RecordIndex) -> RecordTable:
    """Makes the table; on the CPU, wherever the caller's default device is."""
    remote, paths = manifest.remote_shards(), manifest.shard_paths()
    with tf.device("/cpu:0"):
        return RecordTable(
            paths=tf.constant([os.fsencode(path) for path in paths]),  # a name may be no UTF-8
            shard=tf.constant(index.shard),
            offset=tf.constant(_narrow(index.offset)),
            length=tf.constant(_narrow(index.length)),
            image_id=tf.constant(index.image_id),
            staging=None if remote is None else Staging(remote, paths),
        )


def _narrow(column: np.ndarray) -> np.ndarray:
    """Half as large where it can be: of millions of images these are what an input holds."""
    fits = not len(column) or (column.min() >= 0 and column.max() < 2**31)
    return column.astype(np.int32) if fits else column


def read_in_order(table: RecordTable) -> None:
    """Says that records will be read in the order of the index: remote shards are fetched ahead."""
    if table.staging is not None:
        table.staging.begin(range(len(table.paths)))


def read_serialized(table: RecordTable, row: tf.Tensor) -> tf.Tensor:
    """Reads one record; TFRecordDataset checks its two checksums.

    Args:
        table: the record index.
        row: int [], row of the index.

    Returns:
        string [], the serialized example. Corruption is a tf.errors.DataLossError when the op runs.
    """
    number = tf.gather(table.shard, row)
    if table.staging is None:
        return _read(table, row, tf.gather(table.paths, number))
    path, token = tf.numpy_function(table.staging.acquire, [number], [tf.string, tf.int64])
    serialized = _read(table, row, tf.ensure_shape(path, []))
    with tf.control_dependencies([serialized]):
        released = tf.numpy_function(table.staging.release, [token], tf.int64)
    with tf.control_dependencies([released]):
        return tf.identity(serialized)


def _read(table: RecordTable, row: tf.Tensor, path: tf.Tensor) -> tf.Tensor:
    offset, length = (tf.cast(tf.gather(column, row), tf.int64) for column in (table.offset, table.length))
    # The raw op is TFRecordDataset with the byte to begin at, which the class does not offer.
    variant = tf.raw_ops.TFRecordDatasetV2(
        filenames=path[None],
        compression_type="",
        buffer_size=length + FRAME_BYTES,
        byte_offsets=offset[None],
    )
    dataset = tf.data.experimental.from_variant(variant, tf.TensorSpec([], tf.string))
    return dataset.take(1).get_single_element()


def read_example(manifest: Manifest, table: RecordTable, row: tf.Tensor, masks: bool = False) -> Example:
    """Reads and decodes one record.

    Args:
        manifest: of the data set, or of several: a record's category ids are those of its own.
        table: made of this manifest.
        row: int [], row of the index.
        masks: read the masks too.

    Raises:
        tf.errors.OpError: as `read_serialized` and `decode_example`, when the op runs.
    """
    serialized, image_id = read_serialized(table, row), tf.gather(table.image_id, row)
    if not manifest.parts:
        return decode_example(serialized, image_id, manifest.category_ids, masks, manifest.left_out)
    lengths = [len(part.shards) for part in manifest.parts]
    owner = tf.constant([number for number, length in enumerate(lengths) for _ in range(length)])
    own = tf.gather(owner, tf.gather(table.shard, row))
    ids = tf.constant([part.category_ids for part in manifest.parts], tf.int64)
    left_out = tf.ragged.constant([part.left_out for part in manifest.parts], tf.int64, ragged_rank=1)
    return decode_example(serialized, image_id, tf.gather(ids, own), masks, left_out[own])
