"""Records whose masks are PNG images, as TF Model Garden and the Object Detection API write them, for writing anew."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence

import tensorflow as tf
from google.protobuf.message import DecodeError

from tfdet.data.annotations import ImageAnnotation, ObjectAnnotation
from tfdet.data.index import FRAME_BYTES
from tfdet.data.schema import CLASS_LABEL, ENCODED, FILENAME
from tfdet.text import name_of

PNG_MASKS = "image/object/mask"
"""One PNG of the size of the image for every object; pixels of the object are not 0."""


def have_png_masks(files: Sequence[str]) -> bool:
    """Whether the first object of one of the files has a mask that is a PNG.

    Args:
        files: of TFRecords. One that is damaged before its first object has none.
    """
    for path in files:
        try:
            for serialized in tf.data.TFRecordDataset(os.fsencode(path)).as_numpy_iterator():
                feature = tf.train.Example.FromString(serialized).features.feature
                if PNG_MASKS in feature and feature[PNG_MASKS].bytes_list.value:
                    return True
                if CLASS_LABEL in feature and feature[CLASS_LABEL].int64_list.value:
                    break
        except (tf.errors.OpError, DecodeError):
            continue
    return False


class RecordImages(Sequence):
    """The images of records, each read when its turn comes, with PNG masks as the masks of their objects.

    Args:
        files: of the records.
        usable: for each record to take its file's number, the byte at which it begins, its image id, height and width
            in pixels, and its objects without masks.
    """

    def __init__(self, files: Sequence[str], usable: Sequence[tuple[int, int, int, int, int, list[ObjectAnnotation]]]):
        self._files, self._usable = files, {(shard, offset): rest for shard, offset, *rest in usable}

    def __len__(self) -> int:
        return len(self._usable)

    def __getitem__(self, index):
        raise TypeError("records are read one after the other")

    def __iter__(self) -> Iterator[ImageAnnotation]:
        for shard, path in enumerate(self._files):
            offset = 0
            records = iter(tf.data.TFRecordDataset(os.fsencode(path)))
            while True:
                try:
                    serialized = next(records).numpy()
                except (StopIteration, tf.errors.OpError):  # what is damaged was named by the scan
                    break
                if (rest := self._usable.get((shard, offset))) is not None:
                    yield _image(serialized, *rest)
                offset += len(serialized) + FRAME_BYTES


def _image(serialized: bytes, image_id: int, height: int, width: int, objects) -> ImageAnnotation:
    feature = tf.train.Example.FromString(serialized).features.feature

    def values(key: str) -> list[bytes]:
        return list(feature[key].bytes_list.value) if key in feature else []

    masks = values(PNG_MASKS)
    if len(masks) == len(objects):
        objects = [
            dataclasses.replace(item, segmentation=mask or None) for item, mask in zip(objects, masks, strict=True)
        ]
    name = name_of((values(FILENAME) or [b""])[0])
    return ImageAnnotation(image_id, name, None, height, width, objects, values(ENCODED)[0])
