"""Some classes of a data set, in an order of one's own: what `TrainInput.classes` and `EvalInput.classes` choose."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfdet.config.files import did_you_mean
from tfdet.data.index import RecordIndex
from tfdet.data.manifest import Manifest
from tfdet.data.mask_schema import parse_segmentations
from tfdet.data.records import read_in_order, read_serialized, record_table
from tfdet.data.schema import parse_record, training_boxes
from tfdet.errors import UserError


@dataclasses.dataclass(frozen=True)
class _Selected(Manifest):
    """A manifest of some classes of its data set: objects of the others are not there, their images are."""

    left_out: tuple[int, ...] = ()
    index: RecordIndex | None = None

    def load_index(self) -> RecordIndex:
        """The index of the data set, whose counts of boxes are those of the classes."""
        assert self.index is not None
        return self.index


def select_classes(manifest: Manifest, classes: Sequence[str] | None, parameter: str) -> Manifest:
    """The manifest of a data set as if it had these classes alone, in this order.

    Where classes are left out, every record is read once, to count what is left.

    Args:
        manifest: of the data set.
        classes: names of classes that it has; None: all of them.
        parameter: that names them, for messages.

    Raises:
        UserError: the data set does not have one of them, one is named twice, or none is named.
    """
    if classes is None:
        return manifest
    place = {name: number for number, name in enumerate(manifest.classes)}
    for name in classes:
        if name not in place:
            has = ", ".join(manifest.classes[:20]) + (", ..." if len(place) > 20 else "")
            raise UserError(
                f"{parameter} names {name!r}, which the data set {manifest.name!r} does not have."
                f"{did_you_mean(name, place)} It has {has}"
            )
    if not classes or len(set(classes)) != len(classes):
        raise UserError(f"{parameter} must name each class once, and one at least. Received: {list(classes)}")
    rows = [place[name] for name in classes]
    ids, boxes = ([column[row] for row in rows] for column in (manifest.category_ids, manifest.boxes_per_class))
    frequencies = [manifest.frequencies[row] for row in rows] if manifest.frequencies else []
    columns = {
        "classes": list(classes),
        "category_ids": ids,
        "boxes_per_class": boxes,
        "frequencies": frequencies,
    }
    if len(rows) == len(place):
        return dataclasses.replace(manifest, **columns)
    index = manifest.load_index()
    counts = _counts(manifest, index, ids)
    index = dataclasses.replace(index, num_boxes=counts[:, 0])
    trainable, portrait = index.is_trainable, index.is_portrait
    num_boxes, num_masks, num_crowd, num_crowd_masks = (int(total) for total in counts.sum(axis=0, dtype=np.int64))
    kept = {field.name: getattr(manifest, field.name) for field in dataclasses.fields(Manifest)}
    counted = {
        "num_boxes": num_boxes,
        "num_crowd": num_crowd,
        "num_masks": num_masks,
        "num_crowd_masks": num_crowd_masks,
        "num_images_without_boxes": int((~trainable).sum()),
        "num_trainable_landscape": int((trainable & ~portrait).sum()),
        "num_trainable_portrait": int((trainable & portrait).sum()),
    }
    left_out = tuple(number for number in manifest.category_ids if number not in ids)
    return _Selected(**kept | columns | counted, left_out=left_out, index=index)


def _counts(manifest: Manifest, index: RecordIndex, ids: Sequence[int]) -> np.ndarray:
    """Of every record, int32 [N, 4]: boxes to train on, those of them with a mask, crowds, crowds with a mask."""
    table = record_table(manifest, index)
    read_in_order(table)
    wanted = tf.constant(ids, tf.int64)

    @tf.autograph.experimental.do_not_convert
    def count(row: tf.Tensor) -> tf.Tensor:
        serialized = read_serialized(table, row)
        record = parse_record(serialized)
        _, _, keep = training_boxes(record, tf.gather(index.height, row), tf.gather(index.width, row))
        of_class = tf.reduce_any(record.labels[:, None] == wanted, axis=1)
        texts = parse_segmentations(serialized)
        has_mask = tf.cond(tf.size(texts) == tf.size(of_class), lambda: texts != "", lambda: tf.zeros_like(of_class))
        boxes, crowds = keep & of_class, record.is_crowd & of_class
        parts = (boxes, boxes & has_mask, crowds, crowds & has_mask)
        return tf.stack([tf.math.count_nonzero(part, dtype=tf.int32) for part in parts])

    dataset = tf.data.Dataset.range(len(index)).map(count, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return np.stack(list(dataset.prefetch(256).as_numpy_iterator()))
