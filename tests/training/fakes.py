"""A detector and an input small enough to train in a test, with the interfaces of the real ones."""

import time
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import tensorflow as tf

from tfdet.errors import UserError
from tfdet.ops.boxes import LEGACY
from tfdet.structures import Batch
from tfdet.training.evaluation import Evaluation

SIZE = 6
PERIOD = 50  # elements after which the fake input comes round again


class FakeDetector(keras.Model):
    """Conv, normalisation, dropout drawn from the seed, and a dense layer; regresses the boxes' mean.

    Per-replica normaliser: each loss divides by the number of boxes on the replica.
    """

    convention = LEGACY

    def __init__(self, num_classes=3, normalization="frozen", poison=None, width=4, head="fc"):
        super().__init__(name="fake_detector")
        self.num_classes = num_classes
        self.poison = poison  # image id whose presence makes the features infinite
        self.conv = keras.layers.Conv2D(width, 3, name="conv")
        self.bn = keras.layers.BatchNormalization(name="bn", synchronized=normalization == "sync")
        self.normalization = normalization
        self.fc = keras.layers.Dense(num_classes, name=head)
        self.build((None, None, None, 3))

    def build(self, input_shape):
        with keras.name_scope("backbone"):
            self.conv.build((None, None, None, 3))
            self.bn.build((None, None, None, self.conv.filters))
        with keras.name_scope("head"):
            self.fc.build((None, self.conv.filters))
        self.built = True

    def losses(self, batch, seed):
        images = tf.cast(batch.images, tf.float32) / 255.0
        if self.poison is not None:
            bad = tf.reduce_any(batch.image_ids == self.poison)
            images = tf.where(bad, images * np.inf, images)
        x = self.bn(self.conv(images), training=self.normalization != "frozen")
        keep = tf.random.stateless_uniform(tf.shape(x), seed) > 0.5
        x = tf.reduce_mean(tf.where(keep, tf.nn.relu(x), 0), axis=[1, 2])
        logits = tf.cast(self.fc(x), tf.float32)
        valid = tf.cast(batch.classes >= 0, tf.float32)
        count = tf.maximum(tf.reduce_sum(valid), 1.0)
        labels = tf.maximum(batch.classes, 0)
        cross = tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=labels, logits=tf.repeat(logits[:, None], tf.shape(labels)[1], axis=1)
        )
        boxes = tf.reduce_mean(batch.boxes, axis=-1) / 10.0 - tf.cast(tf.reduce_mean(x, axis=-1)[:, None], tf.float32)
        return {
            "cls": tf.reduce_sum(valid * cross) / count,
            "box": tf.reduce_sum(valid * tf.square(boxes)) / count,
        }


class FakeInput:
    """The interface of `TrainInput`: batches are a function of (seed, index of the element)."""

    profile = "first_release"

    def __init__(self, images_per_replica=2, num_images=16, num_classes=3, stop_after=None, delay=0.0):
        self.images_per_replica = images_per_replica
        self.stop_after = stop_after
        self.delay = delay
        self.manifest = SimpleNamespace(
            name="fake",
            classes=[f"class {i}" for i in range(num_classes)],
            category_ids=list(range(1, num_classes + 1)),
            shards=[SimpleNamespace(sha256="00")],
            num_images=num_images,
            num_boxes=40,
            folder=Path(__file__).with_name("fake_data"),
        )

    def explain(self, error):
        return UserError(f"The training input failed: {error}")

    def warnings(self, num_replicas):
        return []

    def steps_per_epoch(self, num_replicas):
        return self.manifest.num_images // (self.images_per_replica * num_replicas)

    def dataset(self, num_replicas, start_step=0, seed=0, input_context=None, total_steps=None):
        b = self.images_per_replica
        spec = Batch(
            tf.TensorSpec([b, None, None, 3], tf.uint8),
            tf.TensorSpec([b, 3], tf.float32),
            tf.TensorSpec([b, 4, 4], tf.float32),
            tf.TensorSpec([b, 4], tf.int32),
            tf.TensorSpec([b], tf.int64),
            tf.TensorSpec([b, 0, 4], tf.float32),
            tf.TensorSpec([b, 0, 2], tf.int32),
        )

        # TensorFlow operations only: Python inside the pipeline stalls the end of its iterator.
        tables = [
            [tf.constant(np.stack(column)) for column in zip(*[make_batch(e, b, seed, wide) for e in range(PERIOD)])]
            for wide in (False, True)
        ]

        @tf.autograph.experimental.do_not_convert
        def element(index):
            fields = tf.cond(
                (index // num_replicas) % 2 == 0,
                lambda: [column[index % PERIOD] for column in tables[1]],
                lambda: [column[index % PERIOD] for column in tables[0]],
            )
            batch = Batch(*fields)._replace(image_ids=index * b + tf.range(b, dtype=tf.int64))
            if self.delay:
                batch = tf.py_function(
                    lambda *fields: time.sleep(self.delay) or fields, batch, [f.dtype for f in batch]
                )
            return Batch(*[tf.ensure_shape(field, s.shape) for field, s in zip(batch, spec, strict=True)])

        last = np.iinfo(np.int64).max if self.stop_after is None else self.stop_after * num_replicas
        options = tf.data.Options()
        options.autotune.enabled = False  # its thread keeps the end of an iterator waiting for seconds
        elements = tf.data.Dataset.range(start_step * num_replicas, last)
        if input_context is not None:  # workers of one replica each
            elements = elements.shard(input_context.num_input_pipelines, input_context.input_pipeline_id)
        return elements.map(element).with_options(options)


class FakeEvaluation(Evaluation):
    """Calls `measure(step)` for the figures; counts how often it was prepared."""

    metric_names = ("AP", "AP50")

    def __init__(self, measure):
        self.measure, self.prepared = measure, 0

    def prepare(self):
        self.prepared += 1

    def __call__(self, step):
        return self.measure(step)


def make_batch(element, images_per_replica=2, seed=0, wide=False):
    """One per-replica batch of numpy arrays; its image ids are `element * images_per_replica + 0, 1, ...`."""
    random = np.random.default_rng([seed, element])
    b = images_per_replica
    height, width = (SIZE, SIZE + 2) if wide else (SIZE, SIZE)
    classes = random.integers(-1, 3, [b, 4]).astype(np.int32)
    boxes = np.where(classes[..., None] >= 0, random.uniform(0, SIZE, [b, 4, 4]), -1).astype(np.float32)
    return Batch(
        random.integers(0, 255, [b, height, width, 3]).astype(np.uint8),
        np.tile(np.float32([height, width, 1.0]), [b, 1]),
        boxes,
        classes,
        np.arange(element * b, (element + 1) * b, dtype=np.int64),
        np.zeros([b, 0, 4], np.float32),
        np.zeros([b, 0, 2], np.int32),
    )


def per_replica(strategy, batches):
    """Batches, one for each replica, as a distributed value; no tf.data iterator."""
    return Batch(
        *[
            strategy.experimental_distribute_values_from_function(
                lambda context, field=field: tf.constant(batches[context.replica_id_in_sync_group][field])
            )
            for field in range(len(Batch._fields))
        ]
    )
