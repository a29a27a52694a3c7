"""Masks as runs of pixels along the rows of an image: drawn from polygon edges, cut by each other, made edges again.

All objects of an image at once, and no array of image size: a mask is as large here as its border.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf


class Spans(NamedTuple):
    """S runs of pixels, disjoint within an object and as long as can be; by object, row and column in this order."""

    objects: tf.Tensor  # int64 [S]
    rows: tf.Tensor  # int64 [S]
    starts: tf.Tensor  # int64 [S], first column
    ends: tf.Tensor  # int64 [S], column behind the last

    def areas(self, num_objects: tf.Tensor) -> tf.Tensor:
        """Pixels of each object: int64 [G]."""
        return tf.math.unsorted_segment_sum(self.ends - self.starts, self.objects, num_objects)

    def boxes(self, num_objects: tf.Tensor) -> tf.Tensor:
        """The smallest boxes around the pixels: float32 [G, 4], continuous corners; of no use where there are none."""
        first = tf.stack([self.starts, self.rows], axis=1)
        last = tf.stack([self.ends, self.rows + 1], axis=1)
        first = tf.math.unsorted_segment_min(first, self.objects, num_objects)
        last = tf.math.unsorted_segment_max(last, self.objects, num_objects)
        return tf.cast(tf.concat([first, last], axis=1), tf.float32)

    def raster(self, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
        """The pixels of all objects together: bool [height, width]."""
        height, width = tf.cast(height, tf.int64), tf.cast(width, tf.int64)
        cells = height * (width + 1)
        begin, end = (
            tf.math.unsorted_segment_sum(tf.ones_like(at, tf.int32), self.rows * (width + 1) + at, cells)
            for at in (self.starts, self.ends)
        )
        depth = tf.cumsum(tf.reshape(begin - end, tf.stack([height, width + 1])), axis=1)
        return depth[:, :-1] > 0


def spans_of_edges(edges: tf.Tensor, owners: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> Spans:
    """The pixels of an image whose centres lie in the masks: even-odd within a part, then the union of the parts.

    Args:
        edges: float32 [E, 4], closed rings `[x1, y1, x2, y2]` in pixels of the image.
        owners: int32 [E, 2], the object of each edge and its part.
        height, width: int [], of the image.
    """
    height, width = tf.cast(height, tf.int64), tf.cast(width, tf.int64)
    x1, y1, x2, y2 = tf.unstack(edges, axis=1)
    first, behind = (_centres_before(end(y1, y2), height) for end in (tf.minimum, tf.maximum))
    edge, row = _each_of(first, behind - first)
    x1, y1, x2, y2 = (tf.gather(column, edge) for column in (x1, y1, x2, y2))
    at = x1 + (tf.cast(row, tf.float32) + 0.5 - y1) * (x2 - x1) / (y2 - y1)
    column = _centres_before(at, width)

    owners = tf.cast(owners, tf.int64)
    num_parts = tf.reduce_max(tf.concat([owners[:, 1], [0]], axis=0)) + 1
    part = tf.gather(owners[:, 0] * num_parts + owners[:, 1], edge)
    # A ring crosses a row an even number of times: in order, crossings are by turns where its inside begins and ends.
    crossing = tf.sort((part * height + row) * (width + 1) + column)
    ends = tf.reshape(crossing, [-1, 2])
    column, line = ends % (width + 1), ends // (width + 1)
    line = line // (num_parts * height) * height + line % height
    # Parts of an object are united: what begins at a place comes before what ends there.
    event = tf.sort(tf.reshape((line * (width + 1) + column) * 2 + [0, 1], [-1]))
    depth = tf.cumsum(1 - 2 * (event % 2))
    is_start = (event % 2 == 0) & (depth == 1)
    is_end = (event % 2 == 1) & (depth == 0)
    start, end = tf.boolean_mask(event // 2, is_start), tf.boolean_mask(event // 2, is_end)
    return _spans(start, end, height, width)


def without(spans: Spans, other: Spans, height: tf.Tensor, width: tf.Tensor) -> Spans:
    """What of each object is not in any of the other pixels.

    Args:
        spans: of the objects, see `spans_of_edges`.
        other: of one object, which is number 0.
        height, width: int [], of the image.
    """
    height, width = tf.cast(height, tf.int64), tf.cast(width, tf.int64)
    count = tf.reduce_max(tf.concat([spans.objects, [-1]], axis=0)) + 1
    # Each object has the others' runs for itself, those near its own.
    boxes = spans.boxes(count)
    left, top, right, bottom = (column[:, None] for column in tf.unstack(tf.cast(boxes, tf.int64), axis=1))
    near = (other.rows >= top) & (other.rows < bottom) & (other.starts < right) & (other.ends > left)
    pairs = tf.where(near)
    line = pairs[:, 0] * height + tf.gather(other.rows, pairs[:, 1])
    theirs = [line * (width + 1) + tf.gather(column, pairs[:, 1]) for column in (other.starts, other.ends)]
    line = spans.objects * height + spans.rows
    own = [line * (width + 1) + column for column in (spans.starts, spans.ends)]

    place = tf.concat([*own, *theirs], axis=0)
    sizes = [tf.shape(part)[0] for part in (*own, *theirs)]
    steps = [tf.repeat(tf.constant(values), sizes) for values in ([1, -1, 0, 0], [0, 0, 1, -1])]
    order = tf.argsort(place)
    place = tf.gather(place, order)
    inside, covered = (tf.cumsum(tf.gather(step, order)) for step in steps)
    seen = (inside > 0) & (covered == 0)
    start, end = tf.boolean_mask(place[:-1], seen[:-1]), tf.boolean_mask(place[1:], seen[:-1])
    return _spans(start, end, height, width)


def edges_of_spans(spans: Spans, height: tf.Tensor, width: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The border of each object along the pixel borders; exact under the even-odd rule.

    A corner of the border is a corner of an odd number of runs. Along every line of the grid the corners, in order,
    are the two ends of one piece of the border after the other. (Where two pixels touch at a corner alone, the pieces
    cross there.)

    Returns:
        edges float32 [E, 4] and owners int32 [E, 2], all of part 0, by object.
    """
    height, width = tf.cast(height, tf.int64), tf.cast(width, tf.int64)
    objects, x = tf.tile(spans.objects, [4]), tf.tile(tf.concat([spans.starts, spans.ends], axis=0), [2])
    y = tf.concat([spans.rows, spans.rows, spans.rows + 1, spans.rows + 1], axis=0)
    point, _, count = tf.unique_with_counts((objects * (height + 1) + y) * (width + 1) + x)
    point = tf.sort(tf.boolean_mask(point, count % 2 == 1))
    x, y, objects = point % (width + 1), point // (width + 1) % (height + 1), point // ((width + 1) * (height + 1))
    by_column = tf.gather(tf.range(tf.size(point)), tf.argsort((objects * (width + 1) + x) * (height + 1) + y))
    found, owners = [], []
    for order in (tf.range(tf.size(point)), by_column):
        corners = tf.gather(tf.stack([x, y], axis=1), order)
        found.append(tf.reshape(corners, [-1, 4]))
        owners.append(tf.gather(objects, order)[::2])
    owner = tf.concat(owners, axis=0)
    order = tf.argsort(owner, stable=True)
    owner = tf.cast(tf.gather(owner, order), tf.int32)
    edges = tf.cast(tf.gather(tf.concat(found, axis=0), order), tf.float32)
    return edges, tf.stack([owner, tf.zeros_like(owner)], axis=1)


def _centres_before(place: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """How many pixels of a side have their centres before a place: int64, from 0 to `size`."""
    place = tf.clip_by_value(place, 0.0, tf.cast(size, place.dtype))
    return tf.minimum(tf.cast(tf.math.ceil(place - 0.5), tf.int64), size)


def _each_of(first: tf.Tensor, count: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Rows [T] and items [T] of rows with `count` items from `first` on."""
    row = tf.repeat(tf.range(tf.size(count)), count)
    begins = tf.cumsum(count, exclusive=True)
    return row, tf.range(tf.size(row, tf.int64)) + tf.gather(first - begins, row)


def _spans(start: tf.Tensor, end: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> Spans:
    is_some = start < end
    start, end = tf.boolean_mask(start, is_some), tf.boolean_mask(end, is_some)
    line = start // (width + 1)
    return Spans(line // height, line % height, start % (width + 1), end % (width + 1))
