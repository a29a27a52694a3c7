"""Serialized record -> decoded `Example` -> resized, flipped, padded: the work done on each image, in graph ops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import tensorflow as tf

from tfdet.data.canvas import Canvas
from tfdet.data.mask_schema import parse_rings, ring_edges
from tfdet.data.resize import Resize, resize_image, resized_size
from tfdet.data.schema import decode_rgb, parse_record, training_boxes
from tfdet.ops.boxes import box_scale
from tfdet.structures import Batch, Example

Profile = Literal["first_release", "later_revision", "continuous"]

UNKNOWN_CATEGORY = "has a category id that the manifest does not list"
WRONG_SIZE = "decodes to a size that does not fit its canvas"


def decode_example(
    serialized: tf.Tensor,
    image_id: tf.Tensor,
    category_ids: Sequence[int] | tf.Tensor,
    masks: bool = False,
    left_out: Sequence[int] | tf.Tensor = (),
) -> Example:
    """Decodes one record.

    Args:
        serialized: string [], a tf.train.Example of the detection schema.
        image_id: int64 [], from the record index.
        category_ids: original category ids, int64 [C]; class k of the result is category_ids[k].
        masks: read the masks too; without, E = 0.
        left_out: category ids of objects that are passed over.

    Returns:
        The image with the boxes that training uses, and their masks.

    Raises:
        tf.errors.InvalidArgumentError: the image does not decode, or a category id is unknown (the message names the
            image id), when the op runs.
    """
    record = parse_record(serialized)
    image = decode_rgb(record.encoded)
    shape = tf.shape(image)
    if isinstance(left_out, tf.Tensor) or left_out:
        others = tf.reduce_any(record.labels[:, None] == tf.convert_to_tensor(left_out, tf.int64), axis=1)
        record = record._replace(is_crowd=record.is_crowd | others)  # neither is trained on
    boxes, labels, keep = training_boxes(record, shape[0], shape[1])
    same = labels[:, None] == tf.convert_to_tensor(category_ids, tf.int64)[None, :]
    known = tf.reduce_any(same, axis=1)
    message = tf.strings.format(
        "image id {} " + UNKNOWN_CATEGORY + ": {}", (image_id, tf.boolean_mask(labels, ~known)), summarize=5
    )
    check = tf.debugging.Assert(tf.reduce_all(known), [message])
    with tf.control_dependencies([check] if check is not None else []):
        classes = tf.argmax(same, axis=1, output_type=tf.int32)
    if masks:
        edges, owners = ring_edges(parse_rings(serialized), keep)
    else:
        edges, owners = tf.zeros([0, 4]), tf.zeros([0, 2], tf.int32)
    return Example(image, image_id, boxes, classes, edges, owners)


def fit_example(
    example: Example,
    resize: Resize,
    flip: tf.Tensor | None,
    profile: Profile = "first_release",
    canvas: Canvas | None = None,
) -> Batch:
    """Resizes an example, mirrors it when asked and lays it on a canvas.

    Boxes follow SimpleDet: times scale (see `resize_image`), clipped, then mirrored in the resized image:
    x1' = (w' - 1) - x2. Edges of masks are scaled and mirrored alike, not clipped.

    Args:
        example: a decoded image.
        resize: the sides and the rule.
        flip: bool [], mirror left to right; None: not.
        profile: where boxes are clipped after scaling: "first_release" of SimpleDet, which the zoo is of, to the
            canvas, [0, long] x [0, short] by orientation; "later_revision" to the image, [0, w' - 1] x [0, h' - 1].
            "continuous" is for detectors of continuous boxes: x2 and y2 are edges, one pixel of the stored image
            further, clipped to [0, w'] x [0, h'], and mirrored x' = w' - x, polygons too.
        canvas: what the image is padded to; None: it has its own size.

    Returns:
        A `Batch` without the batch axis.

    Raises:
        tf.errors.InvalidArgumentError: the image is larger than the canvas (its record lies about its size), when the
            op runs.
    """
    with tf.control_dependencies([] if canvas is None else _fits(example, resize, canvas)):
        image, info = resize_image(example.image, *resize, flip, canvas)
    height, width, scale = info[0], info[1], box_scale(info[None])
    if profile == "continuous":
        # Inclusive corners name pixels: the right and lower edges lie one pixel of the stored image further.
        boxes = (example.boxes + tf.constant([0.0, 0.0, 1.0, 1.0])) * scale
        limit_y, limit_x, mirrored_from = height, width, width
    else:
        boxes, mirrored_from = example.boxes * scale, width - 1.0
    if profile == "first_release":
        shape = tf.shape(example.image)
        limits = canvas_of(shape[0] >= shape[1], resize.short_side, resize.long_side)
        limit_y, limit_x = tf.cast(limits.height, tf.float32), tf.cast(limits.width, tf.float32)
    elif profile == "later_revision":
        limit_y, limit_x = height - 1.0, width - 1.0
    x1, y1, x2, y2 = tf.unstack(tf.maximum(0.0, boxes), axis=-1)
    x1, x2 = tf.minimum(x1, limit_x), tf.minimum(x2, limit_x)
    y1, y2 = tf.minimum(y1, limit_y), tf.minimum(y2, limit_y)
    edges = example.edges * scale
    if flip is not None:
        x1, x2 = tf.cond(flip, lambda: (mirrored_from - x2, mirrored_from - x1), lambda: (x1, x2))
        edges = tf.cond(flip, lambda: _mirror_edges(edges, mirrored_from), lambda: edges)
    boxes = tf.stack([x1, y1, x2, y2], axis=-1)
    return Batch(image, info, boxes, example.classes, example.image_id, edges, example.edge_owners)


def _fits(example: Example, resize: Resize, canvas: Canvas) -> list[tf.Operation]:
    """What stops an image that is larger than its canvas; nothing of an eager one that is not."""
    shape = tf.shape(example.image)
    size = tf.stack(resized_size(shape[0], shape[1], *resize)[:2])
    message = tf.strings.format("image id {} " + WRONG_SIZE + ": {}", (example.image_id, size))
    check = tf.debugging.Assert(tf.reduce_all(size <= tf.stack([canvas.height, canvas.width])), [message])
    return [check] if check is not None else []


def _mirror_edges(edges: tf.Tensor, mirrored_from: tf.Tensor) -> tf.Tensor:
    """Edges float32 [E, 4] of the resized image, mirrored: x' = mirrored_from - x.

    Source: SimpleDet models/maskrcnn/input.py: times scale, not clipped; mirrored x' = w' - x - 1 (a pixel further left
    than continuous coordinates have it, kept for its rows as it is what the zoo was trained with).
    """
    mirror = tf.constant([-1.0, 1.0, -1.0, 1.0])
    shift = mirrored_from * tf.constant([1.0, 0.0, 1.0, 0.0])
    return shift + edges * mirror


def canvas_of(portrait: tf.Tensor, short_side: int | tf.Tensor, long_side: int | tf.Tensor) -> Canvas:
    """The canvas of an orientation, bool []: height and width are int32 []."""
    high, low = tf.convert_to_tensor(long_side, tf.int32), tf.convert_to_tensor(short_side, tf.int32)
    return Canvas(tf.where(portrait, high, low), tf.where(portrait, low, high))


def batch_items(dataset: tf.data.Dataset, batch_size: int, drop_remainder: bool) -> tf.data.Dataset:
    """Batches items, boxes and edges (and images of unequal size) padded to those of the image that has most.

    An image without boxes gets one padded slot, so that the axis of boxes is never empty.

    Args:
        dataset: of `Batch` without batch axis.
        batch_size: images in a batch.
        drop_remainder: leave out an incomplete last batch.

    Returns:
        A dataset of `Batch`.
    """

    @tf.autograph.experimental.do_not_convert
    def one_slot_at_least(item: Batch) -> Batch:
        missing = tf.maximum(0, 1 - tf.shape(item.boxes)[0])
        boxes = tf.pad(item.boxes, [[0, missing], [0, 0]], constant_values=-1.0)
        return item._replace(boxes=boxes, classes=tf.pad(item.classes, [[0, missing]], constant_values=-1))

    dataset = dataset.map(one_slot_at_least)
    item = dataset.element_spec
    num_edges = item.edges.shape[0]  # the static 0 where masks are not read stays static
    shapes = Batch([None, None, 3], item.image_info.shape, [None, 4], [None], [], [num_edges, 4], [num_edges, 2])
    padding = Batch(
        tf.constant(0, item.images.dtype), tf.constant(0.0), tf.constant(-1.0), tf.constant(-1),
        tf.constant(-1, tf.int64), tf.constant(0.0), tf.constant(-1),
    )  # fmt: skip
    return dataset.padded_batch(batch_size, shapes, padding, drop_remainder=drop_remainder)
