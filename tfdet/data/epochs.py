"""The order of an epoch: which images it has, and when, computed from (seed, epoch) alone."""

from __future__ import annotations

import collections
import functools
import itertools
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from tfdet.data.index import RecordIndex

# Independent streams of random numbers of an epoch; those of `TrainInput._draw` lie between.
_LANDSCAPE, _PORTRAIT, _STEPS = 0, 1, 2
_SAMPLING, _OFFSET = (6, 7), (8, 9)
_SHARDS = 10
_CHUNK = 1024


def num_batches(entries: int, global_batch: int) -> int:
    """Batches an epoch of one orientation with so many entries."""
    return max(entries // global_batch, min(entries, 1))


def epoch_seed(seed: int, epoch: tf.Tensor, stream: int) -> tf.Tensor:
    """The seed int64 [2] of one of several independent streams of an epoch."""
    key = tf.stack([tf.constant(seed, tf.int64), tf.constant(stream, tf.int64)])
    return tf.random.experimental.stateless_fold_in(key, epoch)


class EpochOrder:
    """The epochs of a data set: batches of landscape images and batches of portrait ones.

    Args:
        index: of the data set; images without a box take no part.
        flip: an epoch holds a mirrored copy of every image.
        mixed: batches of both orientations in random order; else all landscape ones come first.
        factors: float64 [N], at least 0: how many times an epoch holds each image, on average; None: once. Of a factor
            of 2.3 an epoch has 2 or 3 copies. How many images an epoch has in all does not change.
        shards_at_once: an epoch goes through the shards in random order, so many at a time, and mixes the images of
            those alone; None: all.
    """

    def __init__(
        self,
        index: RecordIndex,
        flip: bool,
        mixed: bool,
        factors: np.ndarray | None = None,
        shards_at_once: int | None = None,
    ):
        self.flip, self.mixed, self.shards_at_once = flip, mixed, shards_at_once
        usable, portrait = index.is_trainable, index.is_portrait
        if factors is not None:
            usable = usable & (factors > 0)
        kind = np.int32 if len(index) < 2**30 else np.int64  # of an entry, which is up to twice the row
        self.rows = tuple((usable & which).nonzero()[0].astype(kind) for which in (~portrait, portrait))
        self._factors = None if factors is None else tuple(factors[rows] for rows in self.rows)
        self._shard = index.shard

    @functools.cached_property
    def images(self) -> tuple[int, int]:
        """Landscape and portrait images of an epoch, mirrored copies not counted."""
        if self._factors is None:
            return len(self.rows[0]), len(self.rows[1])
        # A hair more: factors of 1/3 that add up to 2.9999 are 3 images.
        landscape, portrait = (max(int(own.sum() + 1e-6), min(len(own), 1)) for own in self._factors)
        return landscape, portrait

    @property
    def sizes(self) -> tuple[int, int]:
        """Entries of an epoch: landscape and portrait images with their mirrored copies."""
        landscape, portrait = self.images
        return (2 * landscape, 2 * portrait) if self.flip else (landscape, portrait)

    def steps(self, global_batch: int) -> int:
        """Batches of an epoch."""
        return sum(num_batches(entries, global_batch) for entries in self.sizes)

    def warnings(self, global_batch: int) -> list[str]:
        """What a person should know before training: an orientation that does not fill a batch. One line each."""
        lines = []
        for name, images, entries in zip(("landscape", "portrait"), self.images, self.sizes):
            if 0 < entries < global_batch:
                copies = f" ({entries} with their mirrored copies)" if self.flip else ""
                lines.append(
                    f"{images} {name} image{'s' * (images > 1)}{copies} make no batch of {global_batch}, and "
                    "orientations do not share one: they are repeated to fill one batch an epoch"
                )
        return lines

    def batches(self, epoch: tf.Tensor, seed: int, global_batch: int) -> tuple[tf.Tensor, tf.Tensor]:
        """The global batches of one epoch, in graph ops.

        Args:
            epoch: int64 [].
            seed: of the run.
            global_batch: images of a batch, over all replicas.

        Returns:
            entries [steps, global_batch], int32 or for a billion images int64; is_portrait bool [steps]. An entry is a
            row of the index, or with flipping 2 * row + (1 for the mirrored copy).
        """
        groups = []
        for orientation, stream in enumerate((_LANDSCAPE, _PORTRAIT)):
            entries = self._drawn(orientation, epoch, seed)
            if self.flip:
                entries = tf.concat([2 * entries, 2 * entries + 1], axis=0)
            entries = tf.random.experimental.stateless_shuffle(entries, epoch_seed(seed, epoch, stream))
            entries = self._by_shards(entries, entries, epoch, seed)
            whole = num_batches(entries.shape[0], global_batch)
            if 0 < entries.shape[0] < global_batch:
                entries = tf.gather(entries, tf.range(global_batch) % entries.shape[0])
            groups.append(tf.reshape(entries[: whole * global_batch], [whole, global_batch]))
        entries = tf.concat(groups, axis=0)
        portrait = tf.range(entries.shape[0]) >= groups[0].shape[0]
        if self.mixed:
            order = tf.range(entries.shape[0])
            order = tf.random.experimental.stateless_shuffle(order, epoch_seed(seed, epoch, _STEPS))
            entries, portrait = tf.gather(entries, order), tf.gather(portrait, order)
            order = self._by_shards(tf.range(entries.shape[0]), entries[:, -1], epoch, seed)
            if self.shards_at_once is not None:
                entries, portrait = tf.gather(entries, order), tf.gather(portrait, order)
        return entries, portrait

    def shards(self, start_step: int, seed: int, global_batch: int, own: np.ndarray, endless: bool) -> Iterator[int]:
        """The shards in the order in which training needs them, each again where others came between.

        Args:
            start_step: of the run, where it begins.
            seed: of the run.
            global_batch: images of a batch, over all replicas.
            own: those of a batch that are read here.
            endless: of all epochs; else of the first, each shard once.
        """
        steps, recent = self.steps(global_batch), collections.OrderedDict[int, None]()
        most = 2 * self.shards_at_once if endless and self.shards_at_once else len(self._shard)
        for epoch in itertools.count(start_step // steps):
            with tf.device("/cpu:0"):
                entries = self.batches(tf.constant(epoch, tf.int64), seed, global_batch)[0].numpy()
            first = start_step % steps if epoch == start_step // steps else 0
            shards = self._shard[entries[first:, own].ravel() // (2 if self.flip else 1)]
            for begin in range(0, len(shards), _CHUNK):  # NumPy finds those of a chunk, a loop their order
                found, places = np.unique(shards[begin : begin + _CHUNK], return_index=True)
                for number in found[np.argsort(places)].tolist():
                    if number not in recent:
                        yield number
                    recent[number] = None
                    recent.move_to_end(number)
                    if len(recent) > most:
                        recent.popitem(last=False)
            if not endless:
                return

    def _drawn(self, orientation: int, epoch: tf.Tensor, seed: int) -> tf.Tensor:
        """The rows of an orientation that an epoch has, int64 [images], each as often as it has it."""
        rows, count = self._tensors[orientation], self.images[orientation]
        if self._factors is None or not count:
            return rows[:count]
        # Systematic sampling: in random order the factors are laid end to end, and a comb with teeth one apart, drawn
        # by one number, takes the images that it meets: each the whole number below or above its factor.
        own = epoch_seed(seed, epoch, _SAMPLING[orientation])
        order = tf.random.experimental.stateless_shuffle(tf.range(rows.shape[0]), own)
        ends = tf.cumsum(tf.gather(self._factor_tensors[orientation], order))
        shift = tf.random.stateless_uniform([], epoch_seed(seed, epoch, _OFFSET[orientation]), dtype=tf.float64)
        teeth = tf.cast(tf.floor(ends * (count / ends[-1]) + shift), tf.int64)
        teeth = tf.concat([[tf.constant(0, tf.int64)], teeth[:-1], [tf.constant(count, tf.int64)]], axis=0)
        return tf.ensure_shape(tf.repeat(tf.gather(rows, order), teeth[1:] - teeth[:-1]), [count])

    def _by_shards(self, values: tf.Tensor, entries: tf.Tensor, epoch: tf.Tensor, seed: int) -> tf.Tensor:
        """Values [N] in the order of the turns of their entries' shards, else as they are."""
        if self.shards_at_once is None or not values.shape[0]:
            return values
        shards = int(self._shard.max()) + 1
        place = tf.random.experimental.stateless_shuffle(tf.range(shards), epoch_seed(seed, epoch, _SHARDS))
        rows = entries // 2 if self.flip else entries
        turn = tf.gather(place // self.shards_at_once, tf.gather(self._shard_tensor, rows))
        return tf.gather(values, tf.argsort(turn, stable=True))

    # Eager tensors: a graph holds a reference to them, where it would hold several copies of a constant.

    @functools.cached_property
    def _tensors(self) -> list[tf.Tensor]:
        return [_eager(rows) for rows in self.rows]

    @functools.cached_property
    def _factor_tensors(self) -> list[tf.Tensor]:
        assert self._factors is not None
        return [_eager(factors) for factors in self._factors]

    @functools.cached_property
    def _shard_tensor(self) -> tf.Tensor:
        return _eager(self._shard)


def _eager(values: np.ndarray) -> tf.Tensor:
    with tf.init_scope(), tf.device("/cpu:0"):  # wherever the caller's graph and default device are
        return tf.constant(values)
