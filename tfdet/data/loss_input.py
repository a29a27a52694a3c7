"""The evaluation set as training sees data, for its losses; images of the training set as evaluation sees them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from tfdet.data.example import batch_items, fit_example
from tfdet.data.index import RecordIndex
from tfdet.data.inputs import EvalInput, TrainInput
from tfdet.data.records import read_example, record_table
from tfdet.structures import Batch


class LossInput:
    """Batches of the evaluation set with the boxes, masks and batch size of training, in the sizes of evaluation.

    Each image that has a box comes once, plain. As in training, landscape and portrait images share no batch; the last
    batch of each is filled with images that were there before. The order and the fill are always the same.

    Args:
        eval_input: whose images and sizes they are.
        train_input: whose batch size, box profile and masks they have.
        max_images: most images, spread evenly over the set; None: all.

    Attributes:
        num_images: of the set that have a box, at most `max_images`.
        has_masks: whether the batches have the edges of masks.
    """

    def __init__(self, eval_input: EvalInput, train_input: TrainInput, max_images: int | None = None):
        self._input, self._profile = eval_input, train_input.profile
        self._manifest, self._index = eval_input.manifest, eval_input.manifest.load_index()
        self._batch = train_input.images_per_replica
        self.has_masks = train_input.masks and self._manifest.has_masks
        rows = spread(self._index.is_trainable.nonzero()[0], max_images)
        self.num_images = len(rows)
        is_portrait = self._index.is_portrait[rows]
        self._batches = [
            batch for group in (rows[~is_portrait], rows[is_portrait]) for batch in _filled(group, self._batch)
        ]

    def __iter__(self) -> Iterator[tuple[Batch, int]]:
        """The batches, each with its number of images that were not there before; errors name the record."""
        try:
            for batch, (_, count) in zip(self.dataset(), self._batches, strict=True):
                yield batch, count
        except tf.errors.OpError as error:
            raise self._input.explain(error) from error

    def dataset(self) -> tf.data.Dataset:
        """The batches: images uint8 [B, H, W, 3], padded to the largest of the batch."""
        table, rows = record_table(self._manifest, self._index), [row for rows, _ in self._batches for row in rows]

        @tf.autograph.experimental.do_not_convert
        def load(row: tf.Tensor) -> Batch:
            example = read_example(self._manifest, table, row, self.has_masks)
            return fit_example(example, self._input.resize, None, self._profile)

        dataset = tf.data.Dataset.from_tensor_slices(np.array(rows, np.int64))
        dataset = dataset.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        return batch_items(dataset, self._batch, drop_remainder=True).prefetch(2)


class SampledInput(EvalInput):
    """Some images of another data set, in the sizes of an `EvalInput`: the same ones for the same seed.

    Args:
        like: how images are resized and batched.
        other: the input whose data set they are of, such as a `TrainInput`.
        count: how many, of those that have a box; fewer where there are not so many.
        seed: decides which.
    """

    def __init__(self, like: EvalInput, other: TrainInput, count: int, seed: int):
        index = other.manifest.load_index()
        rows = index.is_trainable.nonzero()[0]
        chosen = np.random.default_rng([seed, len(rows)]).choice(rows, min(count, len(rows)), replace=False)
        self._index = _rows_of(index, np.sort(chosen))
        self.manifest = dataclasses.replace(other.manifest, num_images=len(chosen))
        self.resize, self.images_per_batch = like.resize, like.images_per_batch
        self.num_parallel_calls, self.prefetch = like.num_parallel_calls, like.prefetch


def spread(rows: np.ndarray, count: int | None) -> np.ndarray:
    """At most `count` of the rows [N], evenly spread over them; None: all."""
    if count is None or count >= len(rows):
        return rows
    return rows[np.linspace(0, len(rows) - 1, count).astype(int)]


def _filled(rows: np.ndarray, size: int) -> list[tuple[list[int], int]]:
    """The rows [N] in batches of `size`, each with its number of new ones."""
    starts = range(0, len(rows), size)
    return [(np.resize(np.roll(rows, -start), size).tolist(), min(size, len(rows) - start)) for start in starts]


def _rows_of(index: RecordIndex, rows: np.ndarray) -> RecordIndex:
    columns = {field.name: getattr(index, field.name)[rows] for field in dataclasses.fields(index)}
    return RecordIndex(**columns)
