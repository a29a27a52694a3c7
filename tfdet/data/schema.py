"""The record schema, for the writer and the reader: TF Model Garden's detection schema.

Source: tf-models-official, official/vision/data/create_coco_tf_record.py and dataloaders/tf_example_decoder.py. Boxes
are stored as annotated, divided by the image size; SimpleDet's rule for them is applied on reading. The label is the
original category id, the source id the original image id in decimal. Masks have features of their own, see
`mask_schema.py`.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import tensorflow as tf
from google.protobuf.message import DecodeError

from tfdet.data.mask_schema import RING_LENGTH, RING_OBJECT, RING_PART, SEGMENTATION, VERTICES, mask_features
from tfdet.text import name_bytes

ENCODED = "image/encoded"
FORMAT = "image/format"
FILENAME = "image/filename"
HEIGHT = "image/height"
WIDTH = "image/width"
SOURCE_ID = "image/source_id"
SHA256 = "image/key/sha256"
XMIN, XMAX = "image/object/bbox/xmin", "image/object/bbox/xmax"
YMIN, YMAX = "image/object/bbox/ymin", "image/object/bbox/ymax"
CLASS_TEXT, CLASS_LABEL = "image/object/class/text", "image/object/class/label"
IS_CROWD, AREA = "image/object/is_crowd", "image/object/area"


class Record(NamedTuple):
    """One parsed record, pixels still encoded. G objects, crowds among them."""

    encoded: tf.Tensor  # string []
    filename: tf.Tensor  # string []
    source_id: tf.Tensor  # string []
    height: tf.Tensor  # int64 [], -1 where the record does not say
    width: tf.Tensor  # int64 []
    xmin: tf.Tensor  # float32 [G], corners divided by the image size
    ymin: tf.Tensor  # float32 [G]
    xmax: tf.Tensor  # float32 [G]
    ymax: tf.Tensor  # float32 [G]
    labels: tf.Tensor  # int64 [G], original category ids
    names: tf.Tensor  # string [G] or [0]
    is_crowd: tf.Tensor  # bool [G]; a flag that is neither 0 nor 1 is read as 0
    crowd_flags: tf.Tensor  # int64 [G], as the record has them
    area: tf.Tensor  # float32 [G], pixels of the original image; empty where the record has none


def serialize_example(
    encoded, image_format, height, width, file_name, image_id, objects, class_names, masks=()
) -> bytes:
    """Builds one record.

    Args:
        encoded: image bytes that `decode_rgb` decodes.
        image_format: "jpeg" or "png".
        height, width: image size in pixels.
        file_name: original file name.
        image_id: integer id.
        objects: sequence of `ObjectAnnotation` in pixels of this image.
        class_names: dict from category id to class name.
        masks: for every object its `masks.ObjectMask` or None; empty: no object has one.

    Returns:
        A serialized tf.train.Example.
    """
    text = [name_bytes(class_names[item.category_id]) for item in objects]
    feature = {
        ENCODED: _bytes([encoded]),
        FORMAT: _bytes([image_format.encode()]),
        FILENAME: _bytes([name_bytes(file_name)]),
        HEIGHT: _ints([height]),
        WIDTH: _ints([width]),
        SOURCE_ID: _bytes([str(image_id).encode()]),
        SHA256: _bytes([hashlib.sha256(encoded).hexdigest().encode()]),
        XMIN: _floats([item.x / width for item in objects]),
        XMAX: _floats([(item.x + item.width) / width for item in objects]),
        YMIN: _floats([item.y / height for item in objects]),
        YMAX: _floats([(item.y + item.height) / height for item in objects]),
        CLASS_TEXT: _bytes(text),
        CLASS_LABEL: _ints([item.category_id for item in objects]),
        IS_CROWD: _ints([int(item.is_crowd) for item in objects]),
        AREA: _floats([item.area for item in objects]),
        **mask_features(masks),
    }
    # Features are a map, whose order differs from process to process unless it is sorted.
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString(deterministic=True)


def parse_record(serialized: tf.Tensor) -> Record:
    """Parses one record, of this writer or of TF Model Garden's, in graph ops.

    Args:
        serialized: string [], a tf.train.Example.

    Returns:
        The record. Objects without `is_crowd` count as not crowd.
    """
    text, whole = tf.string, tf.int64
    features = {
        ENCODED: tf.io.FixedLenFeature((), text),
        FILENAME: tf.io.FixedLenFeature((), text, ""),
        SOURCE_ID: tf.io.FixedLenFeature((), text, ""),
        HEIGHT: tf.io.FixedLenFeature((), whole, -1),
        WIDTH: tf.io.FixedLenFeature((), whole, -1),
        CLASS_TEXT: tf.io.RaggedFeature(text),
        CLASS_LABEL: tf.io.RaggedFeature(whole),
        IS_CROWD: tf.io.RaggedFeature(whole),
        AREA: tf.io.RaggedFeature(tf.float32),
    }
    for key in (XMIN, XMAX, YMIN, YMAX):
        features[key] = tf.io.RaggedFeature(tf.float32)
    parsed = tf.io.parse_single_example(serialized, features)
    labels, crowd = parsed[CLASS_LABEL], parsed[IS_CROWD]
    crowd = tf.cond(tf.size(crowd) == tf.size(labels), lambda: crowd, lambda: tf.zeros_like(labels))
    return Record(
        encoded=parsed[ENCODED], filename=parsed[FILENAME], source_id=parsed[SOURCE_ID],
        height=parsed[HEIGHT], width=parsed[WIDTH],
        xmin=parsed[XMIN], ymin=parsed[YMIN], xmax=parsed[XMAX], ymax=parsed[YMAX],
        labels=labels, names=parsed[CLASS_TEXT], is_crowd=crowd == 1, crowd_flags=crowd, area=parsed[AREA],
    )  # fmt: skip


_KINDS = {
    **dict.fromkeys((ENCODED, FILENAME, SOURCE_ID, CLASS_TEXT, SEGMENTATION), "bytes_list"),
    **dict.fromkeys((HEIGHT, WIDTH, CLASS_LABEL, IS_CROWD, RING_LENGTH, RING_OBJECT, RING_PART), "int64_list"),
    **dict.fromkeys((XMIN, XMAX, YMIN, YMAX, AREA, VERTICES), "float_list"),
}
_KIND_NAMES = {"bytes_list": "text", "int64_list": "whole numbers", "float_list": "floats"}
_SINGLE = (ENCODED, FILENAME, SOURCE_ID, HEIGHT, WIDTH)


def record_fault(serialized: bytes) -> str | None:
    """Why a record does not parse: the feature and what it holds; TensorFlow's own message may begin with neither.

    Args:
        serialized: what should be a tf.train.Example.

    Returns:
        The reason in words; None where this finds nothing wrong.
    """
    try:
        features = tf.train.Example.FromString(serialized).features.feature
    except DecodeError:
        return "it is no tf.train.Example"
    for name, kind in _KINDS.items():
        own = features[name].WhichOneof("kind") if name in features else None
        if own is None:
            if name == ENCODED:
                return f"it has no {ENCODED}"
            continue
        if own != kind:
            return f"{name} holds {_KIND_NAMES[own]}, not {_KIND_NAMES[kind]}"
        count = len(getattr(features[name], kind).value)
        if name in _SINGLE and count != 1:
            return f"{name} holds {count} values, not one"
    return None


def lengths_fault(record: Record) -> str | None:
    """What is wrong with the lists of a record that was parsed, in words; None when nothing is."""
    if any(len(column) != len(record.labels) for column in (record.xmin, record.ymin, record.xmax, record.ymax)):
        return "its lists of corners and labels differ in length"
    return None


def training_boxes(record: Record, height: tf.Tensor, width: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The boxes and labels to train on: no crowds, SimpleDet's rule; graph twin of `annotations.inclusive_boxes`.

    Args:
        record: a parsed record.
        height, width: int32 or int64 [], size of the decoded image in pixels.

    Returns:
        boxes float32 [G', 4] `[x1, y1, x2, y2]`, pixels, inclusive corners; labels int64 [G'], original category ids;
        keep bool [G], which objects of the record these are.
    """

    def side(low, high, size):
        size = tf.cast(size, tf.float32)
        first = tf.maximum(0.0, low * size)
        extent = (high - low) * size
        return first, tf.minimum(size - 1.0, first + tf.maximum(0.0, extent - 1.0))

    x1, x2 = side(record.xmin, record.xmax, width)
    y1, y2 = side(record.ymin, record.ymax, height)
    # Without a stored area every box has one.
    has_area = tf.cond(
        tf.size(record.area) == tf.size(record.labels),
        lambda: (record.area > 0) & tf.math.is_finite(record.area),
        lambda: tf.ones_like(record.is_crowd),
    )
    corners = tf.stack([record.xmin, record.ymin, record.xmax, record.ymax])
    is_box = tf.reduce_all(tf.math.is_finite(corners), axis=0)  # a side of infinity would be clipped to fit
    is_box &= (record.xmax >= record.xmin) & (record.ymax >= record.ymin)
    keep = is_box & ~record.is_crowd & has_area & (x2 >= x1) & (y2 >= y1)
    boxes = tf.stack([x1, y1, x2, y2], axis=-1)
    return tf.boolean_mask(boxes, keep), tf.boolean_mask(record.labels, keep), keep


def decode_rgb(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes JPEG, PNG or GIF (of one frame) bytes in the graph; what else there is, conversion does not let in.

    The accurate DCT gives the pixels of cv2.imread and PIL exactly; TensorFlow's default (the fast one) is off by up to
    18 grey levels and no faster here.

    Args:
        encoded: string [].

    Returns:
        uint8 [H, W, 3], RGB.
    """
    image = tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")
    image.set_shape([None, None, 3])
    return image


def _bytes(values) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))


def _ints(values) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def _floats(values) -> tf.train.Feature:
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))
