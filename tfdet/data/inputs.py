"""The input pipelines: shards, index and manifest -> tf.data.Dataset of `Batch`.

An epoch of training is a permutation of record numbers, computed from (seed, epoch) alone. Records are then read where
the index says, decoded and resized in parallel, in order. So the batch of any step is a pure function of (seed, step):
no shuffle buffer, and a run resumes at any step at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import tensorflow as tf

from tfdet.config import configurable
from tfdet.config.ranges import NonNegativeInt, PositiveFloat, PositiveFraction, PositiveInt, Side
from tfdet.data.augmentation.augmentation import Augmentation
from tfdet.data.doctor import explain_pipeline_error
from tfdet.data.draws import epoch_draws, filled
from tfdet.data.epochs import EpochOrder
from tfdet.data.example import Profile, batch_items, canvas_of, fit_example
from tfdet.data.ground_truth import coco_ground_truth, image_files
from tfdet.data.jitter import LargeScaleJitter
from tfdet.data.manifest import Manifest
from tfdet.data.mixing import DataDirs, open_data
from tfdet.data.records import RecordTable, read_example, read_in_order, record_table
from tfdet.data.resize import Resize, Rule
from tfdet.data.sampling import sampling_factors
from tfdet.data.selection import select_classes
from tfdet.data.shares import own_batches, own_images
from tfdet.errors import UserError
from tfdet.structures import Batch, Example

_LAST_STEP = 2**62


@configurable
class TrainInput:
    """Batches for training: each image that has a box, and its mirrored copy, once an epoch.

    Source: SimpleDet core/detection_input.py (Loader, AnchorLoader, SequentialLoader). Landscape and portrait images
    (height >= width) never share a batch: each orientation is shuffled, cut into global batches of
    replicas * images_per_replica images, and the remainder dropped, in each epoch anew. An orientation with fewer
    images than one such batch, where the other has enough, makes one batch an epoch all the same: the batch repeats its
    images until it is full. SimpleDet drops them, so that they are never trained on.

    Args:
        data_dir: data set folder with a manifest, or several, whose classes have the same names.
        short_side, long_side: as in `resize.resized_size`; also the two canvases, short x long and long x short. Of
            several short sides each image of each step draws one; the canvases are those of the largest.
        images_per_replica: images in the batch of one replica, > 0.
        flip: the epoch holds a mirrored copy of every image.
        order: "landscape_first": all landscape batches of an epoch, then all portrait ones, as SimpleDet; "mixed": in
            random order.
        profile: how boxes are clipped after resizing: as SimpleDet's "first_release" does, to which the zoo's figures
            belong, or its "later_revision"; "continuous" for detectors of continuous boxes: see `example.fit_example`.
        num_parallel_calls: images worked on at once; None lets tf.data choose.
        prefetch: batches kept ready for each replica.
        masks: read the masks of the objects; without, the batches hold no edges.
        resize: whose resize it is: see `resize.Resize`.
        jitter: large-scale jitter in place of the resize to the sides: every image has the jitter's size then, and each
            image of each step its own draw of the scale.
        augmentation: what images go through before they are resized, each image of each step by its own draws.
        classes: the classes to train on, in this order; objects of others count as background. None: all.
        data_weights: of several data sets, the share of an epoch's images that each has, whatever its size: (2, 1). An
            epoch has as many images as without. None: every image of each set once.
        repeat_threshold: classes that fewer than this share of the images have are seen more often, by LVIS's repeat
            factors (which takes 0.001); see `sampling.repeat_factors`. None: every image once.
        shards_at_once: an epoch goes through the record files in random order, so many at a time, and mixes the images
            of those alone; for data sets larger than the disk. None: all.

    Raises:
        UserError: the data set is missing, changed, has no image with a box or, with `masks` or an augmentation that
            needs them, no mask; an argument is out of range.
    """

    def __init__(
        self,
        data_dir: DataDirs,
        short_side: Side | tuple[Side, ...] = 800,
        long_side: Side = 1200,
        images_per_replica: PositiveInt = 2,
        flip: bool = True,
        order: Literal["landscape_first", "mixed"] = "landscape_first",
        profile: Profile = "first_release",
        num_parallel_calls: PositiveInt | None = None,
        prefetch: NonNegativeInt = 2,
        masks: bool = False,
        resize: Rule = "simpledet",
        jitter: LargeScaleJitter | None = None,
        augmentation: Augmentation | None = None,
        classes: tuple[str, ...] | None = None,
        data_weights: tuple[PositiveFloat, ...] | None = None,
        repeat_threshold: PositiveFraction | None = None,
        shards_at_once: PositiveInt | None = None,
    ):
        self.short_sides = tuple(short_side) if isinstance(short_side, (tuple, list)) else (short_side,)
        if not self.short_sides:
            raise UserError("TrainInput.short_side must name one side at least. Received: ()")
        for side in self.short_sides:
            Resize(side, long_side, resize).check("TrainInput")
        self.manifest = open_data(data_dir, classes, "TrainInput.data_dir")
        self.selects_classes = classes is not None or bool(self.manifest.parts)
        if masks and not self.manifest.has_masks:
            raise UserError(
                f"TrainInput.masks is True, but data set {self.manifest.place} has no masks: convert it anew from COCO "
                "annotations with segmentations (tfdet convert_data --coco), or train a detector without masks"
            )
        if jitter is not None and jitter.refit and not masks:
            raise UserError(
                "LargeScaleJitter.refit takes boxes from masks, but TrainInput.masks is False: set it to True, or "
                "LargeScaleJitter.refit = False"
            )
        reads_masks = masks or augmentation is not None and augmentation.needs_masks
        if reads_masks and not self.manifest.has_masks:
            raise UserError(
                f"Augmentation.copy_paste cuts objects out along their masks, but data set {self.manifest.place} has "
                "no masks: convert it anew from annotations with segmentations, or leave it out"
            )
        self.masks, self.jitter, self.augmentation, self._reads_masks = masks, jitter, augmentation, reads_masks
        self.short_side, self.long_side, self.resize = max(self.short_sides), long_side, resize
        self.images_per_replica = images_per_replica
        self.flip, self.order, self.profile = flip, order, profile
        self.num_parallel_calls = num_parallel_calls or tf.data.AUTOTUNE
        self.prefetch = prefetch
        self._index = self.manifest.load_index()
        factors = sampling_factors(self.manifest, self._index, data_weights, repeat_threshold)
        self._order = EpochOrder(self._index, flip, order == "mixed", factors, shards_at_once)
        if not any(self._order.images):
            raise UserError(f"data set {self.manifest.place} has no image with a box to train on")

    def steps_per_epoch(self, num_replicas: int) -> int:
        """Steps in one epoch: whole global batches of each orientation, and one of an orientation that fills none.

        Args:
            num_replicas: replicas in sync, over all workers.

        Raises:
            UserError: neither orientation fills a global batch.
        """
        global_batch = num_replicas * self.images_per_replica
        landscape, portrait = self._order.sizes
        if max(landscape, portrait) < global_batch:
            raise UserError(
                f"data set {self.manifest.place} gives {landscape} landscape and {portrait} portrait images an epoch"
                f"{' with their mirrored copies' if self.flip else ''}, fewer than one global batch of {global_batch} "
                f"({num_replicas} replicas x {self.images_per_replica} images); use fewer replicas, a smaller "
                "TrainInput.images_per_replica or more images"
            )
        return self._order.steps(global_batch)

    def warnings(self, num_replicas: int) -> list[str]:
        """What a person should know of these data before training: an orientation that does not fill a batch.

        Args:
            num_replicas: replicas in sync, over all workers.

        Returns:
            One line each.
        """
        return self._order.warnings(num_replicas * self.images_per_replica)

    def dataset(
        self,
        num_replicas: int = 1,
        start_step: int = 0,
        seed: int = 0,
        input_context=None,
        total_steps: int | None = None,
    ) -> tf.data.Dataset:
        """The endless stream of batches.

        Args:
            num_replicas: replicas in sync, over all workers. Element k * R + r is the batch of replica r at step
                start_step + k, where R is the number of replicas of this worker; all have the same canvas.
            start_step: step to begin at; the stream goes on exactly as if all steps before had been taken.
            seed: decides the order of every epoch, and the short side, the jitter and the augmentation of every image.
            input_context: tf.distribute.InputContext; with several input pipelines each worker gets its own replicas'
                part of the same global batches. Where `num_replicas` is a multiple of its replicas in sync, each of
                these has so many micro-batches.
            total_steps: steps of the whole run, at whose end images are not mixed any more (`Mosaic.off_for_last`);
                None: it has no end.

        Returns:
            A dataset of `Batch`; images uint8 [B, H, W, 3] where (H, W) is one of the two canvases, or the jitter's
            size.
        """
        pipelines, pipeline = 1, 0
        if input_context is not None:
            pipelines, pipeline = input_context.num_input_pipelines, input_context.input_pipeline_id
        if num_replicas % pipelines:
            raise UserError(f"{num_replicas} replicas cannot be shared out evenly over {pipelines} workers")
        steps, start_step = self.steps_per_epoch(num_replicas), int(start_step)
        global_batch = num_replicas * self.images_per_replica
        share = global_batch // pipelines
        in_sync = num_replicas if pipelines == 1 else input_context.num_replicas_in_sync
        own = own_images(num_replicas, in_sync, pipelines, pipeline, self.images_per_replica)
        table = record_table(self.manifest, self._index)
        if table.staging is not None:
            at_once, mixes = self._order.shards_at_once, self.augmentation is not None and self.augmentation.mixes
            table.staging.check_room(at_once, mixes)
            plan = self._order.shards(start_step, seed, global_batch, own, endless=not table.staging.fits())
            table.staging.begin(plan, at_once or 1)
        load = self._loader(table)

        @tf.autograph.experimental.do_not_convert
        def epoch(number: tf.Tensor) -> tf.data.Dataset:
            entries, portrait = self._order.batches(number, seed, global_batch)
            first = tf.where(number == start_step // steps, tf.constant(start_step % steps, tf.int64), 0)
            parts = {"entry": entries, **self._draws(number, seed, tf.shape(entries))}
            parts = {name: tf.gather(part[first:], own, axis=1) for name, part in parts.items()}
            counted = tf.data.Dataset.range(number * steps + first, (number + 1) * steps)
            return tf.data.Dataset.zip(
                counted, tf.data.Dataset.from_tensor_slices(parts | {"portrait": portrait[first:]})
            )

        @tf.autograph.experimental.do_not_convert
        def images(step: tf.Tensor, parts: dict[str, tf.Tensor]) -> tf.data.Dataset:
            done = tf.cast(step, tf.float64) / (total_steps or float("inf"))
            alike = (tf.repeat(part, share) for part in (parts["portrait"], done))
            entries = tf.cast(parts["entry"], tf.int64)
            return tf.data.Dataset.from_tensor_slices((entries, *filled(parts, share), *alike))

        @tf.autograph.experimental.do_not_convert
        def item(*drawn: tf.Tensor) -> Batch:
            return load(*drawn)[0]

        epochs = tf.data.Dataset.range(start_step // steps, _LAST_STEP)
        dataset = epochs.flat_map(epoch).flat_map(images)
        dataset = dataset.map(item, num_parallel_calls=self.num_parallel_calls, deterministic=True)
        dataset = batch_items(dataset, self.images_per_replica, drop_remainder=True)
        return dataset.prefetch(self.prefetch * (num_replicas // pipelines)).with_options(_options())

    def views(self, image_ids: Sequence[int], count: int, seed: int = 0) -> Iterator[tuple[Batch, str]]:
        """What training may see of some images: each of them several times, in the order of epochs.

        Args:
            image_ids: of images that have a box.
            count: times that each image is drawn.
            seed: of the draws.

        Yields:
            `count` times for each image: a `Batch` of NumPy arrays without the batch axis, and what was done to it.
        """
        rows = {int(number): row for row, number in enumerate(self._index.image_id)}
        rows = np.repeat([rows[number] for number in image_ids], count)
        portrait = self._index.is_portrait[rows]
        entries = 2 * rows + np.arange(len(rows)) % 2 if self.flip else rows
        with tf.device("/cpu:0"):
            drawn = self._draws(tf.constant(0, tf.int64), seed, tf.constant([len(image_ids), count]))
            drawn = {name: tf.reshape(part, [-1, *part.shape[2:]]) for name, part in drawn.items()}
            parts = (entries, *filled(drawn, len(rows)), portrait, np.zeros(len(rows)))
            load = tf.autograph.experimental.do_not_convert(self._loader(record_table(self.manifest, self._index)))
            dataset = tf.data.Dataset.from_tensor_slices(parts).map(load, num_parallel_calls=self.num_parallel_calls)
        for item, words in dataset.with_options(_options()).as_numpy_iterator():
            yield item, words.decode()

    def _loader(self, table: RecordTable) -> Callable:
        """From an entry of an epoch, its draws, its orientation and the part of the run that is done, to the item."""
        if self.augmentation is not None:
            with tf.device("/cpu:0"):  # wherever the caller's default device is
                usable = tf.constant(np.flatnonzero(self._index.is_trainable))

        def read(row: tf.Tensor) -> Example:
            return read_example(self.manifest, table, row, self._reads_masks)

        @tf.function(autograph=False)  # traced once for all images of a mosaic
        def read_any(number: tf.Tensor) -> Example:
            return read(tf.gather(usable, tf.cast(number * len(usable), tf.int32)))

        def load(entry, draw, own_seed, portrait, done) -> tuple[Batch, tf.Tensor]:
            row, flip = (entry // 2, entry % 2 == 1) if self.flip else (entry, None)
            example, words = read(row), tf.constant("")
            if self.augmentation is not None:
                example, words = self.augmentation(example, own_seed, done, read_any)
                if not self.masks:
                    example = example._replace(edges=tf.zeros([0, 4]), edge_owners=tf.zeros([0, 2], tf.int32))
            if self.jitter is not None:
                return self.jitter(example, draw, flip, self.resize, legacy=self.profile != "continuous"), words
            short_side = (
                tf.gather(tf.constant(self.short_sides), draw) if len(self.short_sides) > 1 else self.short_side
            )
            resize = Resize(short_side, self.long_side, self.resize)
            if self.augmentation is not None:
                resize = resize.within(example.image, portrait)
            canvas = canvas_of(portrait, self.short_side, self.long_side)
            return fit_example(example, resize, flip, self.profile, canvas), words

        return load

    def explain(self, error: Exception) -> UserError:
        """Names the record behind an error of the pipeline; see `doctor.explain_pipeline_error`."""
        return explain_pipeline_error(error, *self.manifest.folders)

    def _draws(self, epoch: tf.Tensor, seed: int, shape: tf.Tensor) -> dict[str, tf.Tensor]:
        """The draws of an epoch; see `draws.epoch_draws`."""
        augmented = self.augmentation is not None
        return epoch_draws(epoch, seed, shape, len(self.short_sides), self.jitter is not None, augmented)


@configurable
class EvalInput:
    """Batches for evaluation: every image once, in the order of the annotations, those without objects included.

    With one image in a batch the canvas is the resized image itself, as SimpleDet tests; larger batches are padded to
    the largest image of the batch, and detected on without the padding (`Detector.detect`).

    Args:
        data_dir: data set folder with a manifest.
        short_side, long_side: as in `resize.resized_size`; SimpleDet tests C4 models at 800/2000, FPN at 800/1333.
        images_per_batch: images in a batch, > 0.
        resize: whose resize it is: see `resize.Resize`.
        num_parallel_calls: images worked on at once; None lets tf.data choose.
        prefetch: batches kept ready.
        classes: the classes to measure, in this order, as in `TrainInput`.

    Raises:
        UserError: the data set is missing or changed; an argument is out of range.
    """

    def __init__(
        self,
        data_dir: str | Path,
        short_side: Side = 800,
        long_side: Side = 2000,
        images_per_batch: PositiveInt = 1,
        resize: Rule = "simpledet",
        num_parallel_calls: PositiveInt | None = None,
        prefetch: NonNegativeInt = 2,
        classes: tuple[str, ...] | None = None,
    ):
        self.resize = Resize(short_side, long_side, resize).check("EvalInput")
        self.manifest = select_classes(Manifest.load(data_dir), classes, "EvalInput.classes")
        self.images_per_batch = images_per_batch
        self.num_parallel_calls = num_parallel_calls or tf.data.AUTOTUNE
        self.prefetch = prefetch
        self._index = self.manifest.load_index()

    def dataset(self, resize: Resize | None = None, part: tuple[int, int] = (0, 1)) -> tf.data.Dataset:
        """The finite stream of batches; the last one may be smaller.

        Args:
            resize: in place of the input's own.
            part: (k, n) for the batches k, n + k, ... of all.

        Returns:
            A dataset of `Batch`; boxes and classes are the ones training would use (no crowds).
        """
        table = record_table(self.manifest, self._index)
        read_in_order(table)
        resize = resize or self.resize

        @tf.autograph.experimental.do_not_convert
        def load(row: tf.Tensor) -> Batch:
            return fit_example(read_example(self.manifest, table, row), resize, None)

        rows = tf.data.Dataset.range(self.manifest.num_images)
        if part != (0, 1):
            own = own_batches(self.manifest.num_images, self.images_per_batch, *part)
            rows = tf.data.Dataset.from_tensor_slices(own)
        dataset = rows.map(load, num_parallel_calls=self.num_parallel_calls, deterministic=True)
        dataset = batch_items(dataset, self.images_per_batch, drop_remainder=False)
        return dataset.prefetch(self.prefetch).with_options(_options())

    def ground_truth(self) -> dict:
        """The annotations as a COCO dictionary, in pixels of the original images; see `ground_truth.py`."""
        return coco_ground_truth(self.manifest, self._index)

    def explain(self, error: Exception) -> UserError:
        """Names the record behind an error of the pipeline; see `doctor.explain_pipeline_error`."""
        return explain_pipeline_error(error, *self.manifest.folders)

    def image_sizes(self) -> dict[int, tuple[int, int]]:
        """Height and width in pixels of every image, as it is stored, by id."""
        return self._index.image_sizes()

    def image_files(self) -> dict[int, str]:
        """Original file name of every image id."""
        return image_files(self.manifest, self._index)


def _options() -> tf.data.Options:
    options = tf.data.Options()
    options.deterministic = True
    # Batches are shared out here, by global batch; tf.data must not do it again.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return options
