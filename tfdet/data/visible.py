"""What of objects a crop leaves: the boxes of their masks inside of it."""

from __future__ import annotations

import tensorflow as tf

_BORDER = 1e-3  # pixels: what lies so near to the border lies on it


def visible_mask_boxes(
    edges: tf.Tensor, owners: tf.Tensor, num_objects: tf.Tensor, height: int, width: int
) -> tf.Tensor:
    """The smallest box around each object's mask inside the rectangle of `height` and `width` at the origin.

    The extreme points of what is seen lie on an edge that is cut to the rectangle, or are a corner of the rectangle
    inside of the mask. An edge along the border says nothing: the mask may lie beyond it, or be drawn forth and back
    there; where it lies within, other edges lead to that one's ends.

    Args:
        edges: float32 [E, 4], polygon edges `[x1, y1, x2, y2]` in pixels of the crop, see `structures.py`.
        owners: int32 [E, 2], the object of each and its part.
        num_objects: int32 [], G.
        height, width: of the crop, in pixels.

    Returns:
        float32 [G, 4], continuous boxes; zeros of an object of which nothing is seen.

    Source: what it replaces is Detectron2 structures/masks.py, PolygonMasks.get_bounding_boxes, of polygons that
    fvcore transforms/transform.py, CropTransform.apply_polygons, cut.
    """
    high = tf.constant([width, height], tf.float32)
    points, seen = _cut(edges, high)
    objects = tf.where(seen, owners[:, 0], num_objects)  # the last segment takes what is not seen
    count = num_objects + 1
    first = tf.math.unsorted_segment_min(tf.minimum(points[:, :2], points[:, 2:]), objects, count)[:num_objects]
    last = tf.math.unsorted_segment_max(tf.maximum(points[:, :2], points[:, 2:]), objects, count)[:num_objects]

    corners = tf.constant([[0, 0], [width, 0], [0, height], [width, height]], tf.float32)
    within = tf.clip_by_value(corners, _BORDER, high - _BORDER)
    inside = _points_inside(edges, owners, num_objects, within)[..., None]
    first = tf.minimum(first, tf.reduce_min(tf.where(inside, corners, corners.dtype.max), axis=1))
    last = tf.maximum(last, tf.reduce_max(tf.where(inside, corners, corners.dtype.min), axis=1))
    return tf.where(tf.reduce_all(first <= last, axis=1)[:, None], tf.concat([first, last], axis=1), 0.0)


def edges_of_kept(keep: tf.Tensor, edges: tf.Tensor, owners: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The edges of the objects that remain, and their owners numbered anew.

    Args:
        keep: bool [G], the objects that remain.
        edges: float32 [E, 4].
        owners: int32 [E, 2], the object of each edge and its part.
    """
    if edges.shape[0] == 0:
        return edges, owners
    kept = tf.gather(keep, owners[:, 0])
    numbers = tf.cumsum(tf.cast(keep, tf.int32), exclusive=True)
    owners = tf.stack([tf.gather(numbers, owners[:, 0]), owners[:, 1]], axis=1)
    return tf.boolean_mask(edges, kept), tf.boolean_mask(owners, kept)


def _cut(edges: tf.Tensor, high: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Liang and Barsky: the part of each edge between 0 and `high` [2], and whether there is one beside the border."""
    start, end = edges[:, :2], edges[:, 2:]
    step = end - start
    # Where an edge runs along an axis the other one's limits are met everywhere or nowhere.
    still = step == 0.0
    safe = tf.where(still, 1.0, step)
    one, other = -start / safe, (high - start) / safe
    enter = tf.where(still, 0.0, tf.minimum(one, other))
    leave = tf.where(still, 1.0, tf.maximum(one, other))
    enter = tf.maximum(tf.reduce_max(enter, axis=1, keepdims=True), 0.0)
    leave = tf.minimum(tf.reduce_min(leave, axis=1, keepdims=True), 1.0)
    within = tf.reduce_all(~still | ((start >= 0.0) & (start <= high)), axis=1)
    points = [tf.clip_by_value(start + at * step, 0.0, high) for at in (enter, leave)]
    # Ends that are not cut keep their digits.
    points = [tf.where(enter == 0.0, start, points[0]), tf.where(leave == 1.0, end, points[1])]
    along = [tf.maximum(*points) <= _BORDER, tf.minimum(*points) >= high - _BORDER]
    beside = tf.reduce_any(along[0] | along[1], axis=1)
    return tf.concat(points, axis=1), within & (enter <= leave)[:, 0] & ~beside


def _points_inside(edges: tf.Tensor, owners: tf.Tensor, num_objects: tf.Tensor, points: tf.Tensor) -> tf.Tensor:
    """Whether each point [4, 2] is in the mask of each object: bool [G, 4]; even-odd within a part, then the union."""
    x1, y1, x2, y2 = (column[:, None] for column in tf.unstack(edges, axis=1))
    x, y = points[None, :, 0], points[None, :, 1]
    crosses = (y1 <= y) != (y2 <= y)
    at = x1 + (y - y1) * (x2 - x1) / tf.where(y1 == y2, 1.0, y2 - y1)
    num_parts = tf.reduce_max(tf.concat([owners[:, 1], [0]], axis=0)) + 1
    part = owners[:, 0] * num_parts + owners[:, 1]
    crossings = tf.math.unsorted_segment_sum(tf.cast(crosses & (x < at), tf.int32), part, num_objects * num_parts)
    return tf.reduce_any(tf.reshape(crossings % 2 == 1, [num_objects, num_parts, 4]), axis=1)
