"""The masks in a record: features beside those of `schema.py`, for the writer and the reader.

    image/object/segmentation         bytes [G]   json text of the COCO segmentation, empty for an object without mask
    image/object/polygon/vertices     float [2V]  x and y of the corners of all rings, in pixels of the image
    image/object/polygon/ring_length  int64 [N]   corners of each ring
    image/object/polygon/ring_object  int64 [N]   the object that each ring belongs to, ascending
    image/object/polygon/ring_part    int64 [N]   the part of that object, 0..

The text is exact, for evaluation; float32 corners in pixels are what training needs and quicker to read. A record
without masks has none of the features.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfdet.strict_json import parse_json

SEGMENTATION = "image/object/segmentation"
VERTICES = "image/object/polygon/vertices"
RING_LENGTH = "image/object/polygon/ring_length"
RING_OBJECT = "image/object/polygon/ring_object"
RING_PART = "image/object/polygon/ring_part"


class Rings(NamedTuple):
    """The polygon rings of one record: N rings with V corners in all."""

    vertices: tf.Tensor  # float32 [V, 2], x and y in pixels of the stored image
    lengths: tf.Tensor  # int64 [N], corners of each ring
    objects: tf.Tensor  # int64 [N], object of each ring, 0..G-1, ascending
    parts: tf.Tensor  # int64 [N], part of the object, 0..


class Masks(NamedTuple):
    """What a record says about masks."""

    segmentations: tf.Tensor  # string [G], see `parse_segmentations`
    rings: Rings


def mask_features(masks) -> dict[str, tf.train.Feature]:
    """The features of a record's masks.

    Args:
        masks: for every object of the record its `masks.ObjectMask` or None.

    Returns:
        Feature by key; empty when no object has a mask.
    """
    if not any(masks):
        return {}
    present = [(number, mask) for number, mask in enumerate(masks) if mask is not None]
    vertices = np.concatenate([mask.vertices.ravel() for _, mask in present])
    texts = [b"" if mask is None else mask.segmentation.encode() for mask in masks]

    def ints(values):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    return {
        SEGMENTATION: tf.train.Feature(bytes_list=tf.train.BytesList(value=texts)),
        VERTICES: tf.train.Feature(float_list=tf.train.FloatList(value=vertices)),
        RING_LENGTH: ints([length for _, mask in present for length in mask.ring_lengths]),
        RING_OBJECT: ints([number for number, mask in present for _ in mask.ring_lengths]),
        RING_PART: ints([part for _, mask in present for part in mask.ring_parts]),
    }


def parse_segmentations(serialized: tf.Tensor) -> tf.Tensor:
    """The json texts of a record's segmentations.

    Args:
        serialized: string [], a tf.train.Example.

    Returns:
        string [G], empty for an object without mask; [0] for a record without masks.
    """
    return tf.io.parse_single_example(serialized, {SEGMENTATION: tf.io.RaggedFeature(tf.string)})[SEGMENTATION]


def parse_rings(serialized: tf.Tensor) -> Rings:
    """The polygon rings of a record, none for a record without masks.

    Args:
        serialized: string [], a tf.train.Example.
    """
    kinds = {VERTICES: tf.float32, RING_LENGTH: tf.int64, RING_OBJECT: tf.int64, RING_PART: tf.int64}
    features = {key: tf.io.RaggedFeature(kind) for key, kind in kinds.items()}
    parsed = tf.io.parse_single_example(serialized, features)
    vertices = tf.reshape(parsed[VERTICES], [-1, 2])
    return Rings(vertices, parsed[RING_LENGTH], parsed[RING_OBJECT], parsed[RING_PART])


def parse_masks(serialized: tf.Tensor) -> Masks:
    """`parse_segmentations` and `parse_rings`."""
    return Masks(parse_segmentations(serialized), parse_rings(serialized))


def ring_edges(rings: Rings, keep: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The edges of the objects that training keeps, closing edges included.

    Args:
        rings: the rings of a record.
        keep: bool [G], which objects to keep.

    Returns:
        edges float32 [E, 4] `[x1, y1, x2, y2]` in pixels of the stored image; owners int32 [E, 2], the object of each
        among the G' that are kept, ascending, and the part of that object.
    """
    begins = tf.cumsum(rings.lengths, exclusive=True)
    ring = tf.repeat(tf.range(tf.size(rings.lengths)), rings.lengths)
    position = tf.range(tf.size(ring, out_type=tf.int64))
    is_last = position == tf.gather(begins + rings.lengths - 1, ring)
    following = tf.where(is_last, tf.gather(begins, ring), position + 1)
    edges = tf.concat([rings.vertices, tf.gather(rings.vertices, following)], axis=-1)
    numbers = tf.cumsum(tf.cast(keep, tf.int64), exclusive=True)
    owners = tf.stack([tf.gather(numbers, rings.objects), rings.parts], axis=-1)
    kept = tf.gather(tf.gather(keep, rings.objects), ring)
    return tf.boolean_mask(edges, kept), tf.boolean_mask(tf.cast(tf.gather(owners, ring), tf.int32), kept)


def mask_damage(segmentations: np.ndarray, rings: Rings, num_objects: int) -> str | None:
    """What is wrong with the masks of a record, in words; None when nothing is.

    Args:
        segmentations: what `parse_segmentations` gave, as numpy.
        rings: what `parse_rings` gave, as numpy.
        num_objects: objects of the record, G.
    """
    if len(segmentations) not in (0, num_objects):
        return f"it has {len(segmentations)} segmentations for {num_objects} objects"
    for number, text in enumerate(segmentations):
        try:
            if text and not isinstance(parse_json(text), (list, dict)):
                return f"the segmentation of object {number} is none"
        except ValueError:
            return f"the segmentation of object {number} is not json"
    lengths, objects, parts = rings.lengths, rings.objects, rings.parts
    if not len(lengths) == len(objects) == len(parts) or lengths.sum() != len(rings.vertices) or (lengths < 1).any():
        return "its lists of polygon rings and vertices do not fit together"
    if len(objects) and (objects.min() < 0 or objects.max() >= num_objects or (np.diff(objects) < 0).any()):
        return "its polygon rings do not belong to its objects"
    if (parts < 0).any() or not np.isfinite(rings.vertices).all():
        return "its polygons have a negative part or a vertex that is not finite"
    return None
