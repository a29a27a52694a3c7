"""How many times an epoch holds each image: repeat factors of rare classes, and weights of data sets."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfdet.data.doctor import explain_pipeline_error
from tfdet.data.index import RecordIndex
from tfdet.data.manifest import Manifest
from tfdet.data.records import read_in_order, read_serialized, record_table
from tfdet.data.schema import parse_record, training_boxes
from tfdet.errors import UserError
from tfdet.fetch import cache_folder
from tfdet.files import replacing


def sampling_factors(
    manifest: Manifest, index: RecordIndex, weights: Sequence[float] | None, threshold: float | None
) -> np.ndarray | None:
    """How many times an epoch holds each image, on average.

    Args:
        manifest, index: of the data, perhaps of several sets (`mixing.MixedManifest`).
        weights: of the sets, in their order: the share of an epoch's images that each has, whatever its size. The
            length of an epoch stays what it is without. None: a set has as much of an epoch as it has images.
        threshold: share of images below which a class is repeated, see `repeat_factors`; None: none is.

    Returns:
        float64 [N]; None: each image once.

    Raises:
        UserError: there are not as many weights as sets, or a record cannot be read.
    """
    if weights is None and threshold is None:
        return None
    parts = manifest.parts or (manifest,)
    if weights is not None and len(weights) != len(parts):
        raise UserError(f"TrainInput.data_weights has {len(weights)} weights for {len(parts)} data set(s)")
    usable = index.is_trainable
    factors = np.where(usable, 1.0, 0.0) if threshold is None else repeat_factors(manifest, index, threshold)
    if weights is not None:
        owner = np.repeat(np.arange(len(parts)), [part.num_images for part in parts])
        sums = np.bincount(owner, factors, len(parts))
        for part, own in zip(parts, sums):
            if not own:
                raise UserError(f"data set {part.folder} has no image with a box to train on: leave it out")
        share = np.array(weights, np.float64) / sum(weights)
        factors = factors * (share * sums.sum() / sums)[owner]
    return factors


def repeat_factors(manifest: Manifest, index: RecordIndex, threshold: float) -> np.ndarray:
    """Repeat factors of images: of the rarest class in each, max(1, sqrt(threshold / share of images with the class)).

    Source: Gupta, Dollar, Girshick, "LVIS", CVPR 2019, section "repeat factor sampling", with threshold 0.001; shares
    are of the images that have a box to train on, as Detectron2 counts.

    Args:
        manifest, index: of the data.
        threshold: above 0, at most 1.

    Returns:
        float64 [N], at least 1, and 0 for images without a box to train on.
    """
    rows, classes = classes_of_images(manifest, index)
    usable = index.is_trainable
    share = np.bincount(classes, minlength=manifest.num_classes) / max(int(usable.sum()), 1)
    of_class = np.maximum(1.0, np.sqrt(threshold / np.maximum(share, 1e-12)))
    factors = np.where(usable, 1.0, 0.0)
    np.maximum.at(factors, rows, of_class[classes])
    return factors


def classes_of_images(manifest: Manifest, index: RecordIndex) -> tuple[np.ndarray, np.ndarray]:
    """Which classes the images have to train on.

    Every record is read, once for a data set: what was found is kept in the cache folder.

    Returns:
        rows of the index int32 [M] and classes int32 [M]: one entry for each class of each image.
    """
    if not manifest.parts:
        return _kept(manifest, index)
    found, first = [], 0
    for part in manifest.parts:
        rows, classes = _kept(part, part.load_index())
        found.append((rows + first, classes))
        first += part.num_images
    rows, classes = (np.concatenate(columns) for columns in zip(*found))
    return rows, classes


def _kept(manifest: Manifest, index: RecordIndex) -> tuple[np.ndarray, np.ndarray]:
    """`classes_of_images` of one set, from the cache or from its records."""
    key = json.dumps([manifest.category_ids, [shard.sha256 for shard in manifest.shards], manifest.index_sha256])
    path = cache_folder() / "data" / f"classes-{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz"
    # What is damaged is made anew.
    with contextlib.suppress(Exception), np.load(path, allow_pickle=False) as kept:
        rows, classes = kept["rows"], kept["classes"]
        fits = rows.shape == classes.shape and rows.dtype == classes.dtype == np.int32 and len(rows)
        if (
            fits
            and 0 <= rows.min() <= rows.max() < len(index)
            and 0 <= classes.min() <= classes.max() < (manifest.num_classes)
        ):
            return rows, classes
    try:
        rows, classes = _read(manifest, index)
    except tf.errors.OpError as error:
        raise explain_pipeline_error(error, manifest.folder) from error
    with contextlib.suppress(UserError):  # a folder that cannot be written
        _keep(path, rows, classes)
    return rows, classes


def _keep(path: Path, rows: np.ndarray, classes: np.ndarray) -> None:
    with replacing(path) as temporary:
        np.savez(temporary, rows=rows, classes=classes)


def _read(manifest: Manifest, index: RecordIndex) -> tuple[np.ndarray, np.ndarray]:
    table = record_table(manifest, index)
    read_in_order(table)
    ids = tf.constant(manifest.category_ids, tf.int64)

    @tf.autograph.experimental.do_not_convert
    def classes(row: tf.Tensor) -> tf.Tensor:
        record = parse_record(read_serialized(table, row))
        _, labels, _ = training_boxes(record, tf.gather(index.height, row), tf.gather(index.width, row))
        return tf.cast(tf.where(tf.reduce_any(labels[:, None] == ids, axis=0))[:, 0], tf.int32)

    wanted = np.flatnonzero(index.is_trainable)
    dataset = tf.data.Dataset.from_tensor_slices(wanted)
    dataset = dataset.map(classes, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(256)
    found = list(dataset.as_numpy_iterator())
    rows = np.repeat(wanted.astype(np.int32), [len(own) for own in found])
    return rows, np.concatenate([*found, np.zeros(0, np.int32)])
