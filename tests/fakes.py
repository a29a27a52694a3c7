"""A small detector whose answers are known, and an evaluation input of pictures in memory, for tests."""

from __future__ import annotations

from types import SimpleNamespace

import keras
import numpy as np
import tensorflow as tf

from tfdet.data.resize import Resize, resize_image
from tfdet.ops.boxes import box_scale
from tfdet.structures import Batch, Detections

CLASSES = ["red", "green", "blue"]
CATEGORY_IDS = [90, 7, 13]


class ColorDetector(keras.Model):
    """Finds, for each class, the extent of the pixels whose channel is bright: red 0, green 1, blue 2.

    The box follows the pixels, the score the mean brightness, and both pass through a convolution's weights: a wrong
    resize, a shifted coordinate, a canvas taken for content, or weights that were not restored all change the answer.
    """

    num_classes = 3
    mask_paste = "simpledet"

    def __init__(self):
        super().__init__()
        self.mix = keras.layers.Conv2D(3, 1, kernel_initializer="zeros", name="mix")
        self.mix.build([None, None, None, 3])
        self.mix.kernel.assign(np.eye(3, dtype=np.float32)[None, None] / 255.0)

    def call(self, images):
        return self.mix(tf.cast(images, tf.float32))

    def detect(self, images, image_info):
        bright = self(images)  # [B, H, W, 3]
        rows = tf.range(tf.shape(images)[1], dtype=tf.float32)
        columns = tf.range(tf.shape(images)[2], dtype=tf.float32)
        inside = (rows[None, :, None] < image_info[:, 0, None, None]) & (
            columns[None, None] < image_info[:, 1, None, None]
        )
        mask = (bright > 0.5) & inside[..., None]
        in_rows, in_columns = tf.reduce_any(mask, 2), tf.reduce_any(mask, 1)  # [B, H or W, 3]
        far = 1e6

        def first(hit, places):
            return tf.reduce_min(tf.where(hit, places[None, :, None], far), 1)

        def last(hit, places):
            return tf.reduce_max(tf.where(hit, places[None, :, None], -1.0), 1)

        boxes = tf.stack(
            [first(in_columns, columns), first(in_rows, rows), last(in_columns, columns), last(in_rows, rows)], -1
        )
        found = tf.reduce_any(in_rows, 1)  # [B, 3]
        weight = tf.cast(mask, tf.float32)
        score = tf.reduce_sum(bright * weight, [1, 2]) / tf.maximum(tf.reduce_sum(weight, [1, 2]), 1.0)
        score = tf.where(found, score, 0.0)
        order = tf.argsort(score, direction="DESCENDING", stable=True)
        found, score = tf.gather(found, order, batch_dims=1), tf.gather(score, order, batch_dims=1)
        boxes = tf.gather(boxes, order, batch_dims=1) / box_scale(image_info)[:, None]
        return Detections(
            tf.where(found[..., None], boxes, 0.0),
            score,
            tf.where(found, order, -1),
            tf.reduce_sum(tf.cast(found, tf.int32), 1),
        )


class MaskedColorDetector(ColorDetector):
    """Also predicts masks: the left half of every box."""

    def detect(self, images, image_info):
        found = super().detect(images, image_info)
        half = tf.repeat(tf.constant([1.0, 0.0]), 14)
        real = tf.cast(found.classes >= 0, tf.float32)
        return found._replace(masks=real[..., None, None] * tf.ones([28, 1]) * half)


def picture(height, width, boxes, noise_seed=None):
    """A dark picture with one filled box a class: `boxes` is {class: (x1, y1, x2, y2) inclusive}."""
    image = np.zeros([height, width, 3], np.uint8)
    if noise_seed is not None:
        image += np.random.default_rng(noise_seed).integers(0, 90, image.shape).astype(np.uint8)
    for kind, (x1, y1, x2, y2) in boxes.items():
        image[y1 : y2 + 1, x1 : x2 + 1, kind] = 255 - 20 * kind
    return image


class PictureInput:
    """What `EvalInput` is to `evaluate`, over pictures in memory. One picture a batch, or padded to one canvas."""

    def __init__(self, pictures, short_side=64, long_side=128, images_per_batch=1, rule="simpledet"):
        self._pictures = pictures  # list of (height, width, boxes)
        self.resize = Resize(short_side, long_side, rule)
        self._images_per_batch = images_per_batch
        self.manifest = SimpleNamespace(
            name="pictures", classes=CLASSES, category_ids=CATEGORY_IDS, num_images=len(pictures)
        )

    def image_id(self, index):
        return 1000 + 7 * index

    def dataset(self, resize=None):
        batches = []
        for start in range(0, len(self._pictures), self._images_per_batch):
            part = range(start, min(start + self._images_per_batch, len(self._pictures)))
            batches.append(self._batch(part, resize or self.resize))
        return batches

    def _batch(self, part, resize):
        resized = [resize_image(tf.constant(picture(*self._pictures[index])), *resize) for index in part]
        canvas = np.max([image.shape for image, _ in resized], axis=0)
        images = np.zeros([len(resized), *canvas], resized[0][0].dtype.as_numpy_dtype)
        boxes = np.full([len(resized), 4, 4], -1, np.float32)
        classes = np.full([len(resized), 4], -1, np.int32)
        for place, (index, (image, info)) in enumerate(zip(part, resized)):
            images[place, : image.shape[0], : image.shape[1]] = image
            for slot, (kind, box) in enumerate(self._pictures[index][2].items()):
                boxes[place, slot], classes[place, slot] = np.array(box) * box_scale(info[None])[0], kind
        return Batch(
            tf.constant(images),
            tf.stack([info for _, info in resized]),
            tf.constant(boxes),
            tf.constant(classes),
            tf.constant([self.image_id(index) for index in part], tf.int64),
            tf.zeros([len(resized), 0, 4]),
            tf.zeros([len(resized), 0, 2], tf.int32),
        )

    def image_sizes(self):
        return {self.image_id(index): (height, width) for index, (height, width, _) in enumerate(self._pictures)}

    def ground_truth(self):
        annotations = []
        for index, (_, _, boxes) in enumerate(self._pictures):
            for kind, (x1, y1, x2, y2) in boxes.items():
                annotations.append(
                    {
                        "image_id": self.image_id(index),
                        "category_id": CATEGORY_IDS[kind],
                        "bbox": [x1, y1, x2 - x1 + 1, y2 - y1 + 1],
                    }
                )
        return {
            "images": [
                {"id": self.image_id(index), "height": height, "width": width}
                for index, (height, width, _) in enumerate(self._pictures)
            ],
            "annotations": annotations,
            "categories": [{"id": number, "name": name} for number, name in zip(CATEGORY_IDS, CLASSES)],
        }
