"""Mask targets: polygons drawn inside RoIs, bit for bit as cocoapi draws them, without a mask of image size."""

from __future__ import annotations

import tensorflow as tf

_SUPERSAMPLING = 5  # rleFrPoly's `scale`
_FAR = 1e8  # pixels; beyond it a coordinate would not fit an int32


def mask_targets(boxes, matched, edges, edge_parts, size: int = 28, max_elements: int = 1 << 21) -> tf.Tensor:
    """The mask of the matched object inside each RoI.

    The RoI is stretched to `size` x `size` pixels: x' = (x - x1) size / max(1, x2 - x1), without +1. The object's
    edges are drawn in it as cocoapi's rleFrPoly does, with x and y swapped as SimpleDet swaps them. rleFrPoly walks
    each edge on a grid five times as fine, notes where the walk changes from one column of pixels to the next, and
    fills from there to the end of the column, and on. That is a sum modulo 2 in which every edge has its own part: here
    the places are computed for each edge and column at once, the walk is left out.

    Args:
        boxes: float32 [B, R, 4] in pixels of the network input.
        matched: int32 [B, R], the object of each RoI; -1: none, and a target of zeros.
        edges: float32 [B, G, E, 4], x1, y1, x2, y2 of each polygon edge, closing edges included, same pixels.
        edge_parts: int32 [B, G, E], the part of the object that an edge belongs to, padding -1. Within a part the
            even-odd rule holds; the parts are united.
        size: pixels a side of the target.
        max_elements: RoIs are drawn in portions that hold about so many pairs of an edge and a column.

    Returns:
        float32 [B, R, size, size], 0 or 1. No gradient flows back.

    Source: SimpleDet operator_cxx/proposal_mask_target.cc (convertPoly2Mask); cocoapi common/maskApi.c (rleFrPoly).
    """
    boxes, edges = (tf.stop_gradient(tf.cast(t, tf.float32)) for t in (boxes, edges))
    edge_parts, matched = tf.cast(edge_parts, tf.int32), tf.cast(matched, tf.int32)
    images, objects, length = (tf.shape(edges)[i] for i in range(3))
    shape = tf.shape(boxes)[:2]
    count = shape[0] * shape[1]
    # One object without edges behind all others, for RoIs without a match.
    table = tf.pad(tf.reshape(edges, [images * objects, length, 4]), [[0, 1], [0, 0], [0, 0]])
    parts = tf.pad(tf.reshape(edge_parts, [images * objects, length]), [[0, 1], [0, 0]], constant_values=-1)
    rows = tf.range(images)[:, None] * objects + matched
    rows = tf.reshape(tf.where(matched >= 0, rows, images * objects), [count])

    num_parts = _number_of(parts)
    cost = tf.maximum(length * size, num_parts * (size * size + 1))
    portion = tf.clip_by_value(max_elements // tf.maximum(cost, 1), 1, tf.maximum(count, 1))
    portions = tf.maximum(-(-count // portion), 1)
    missing = portions * portion - count
    rows = tf.pad(rows, [[0, missing]], constant_values=images * objects)
    flat_boxes = tf.pad(tf.reshape(boxes, [count, 4]), [[0, missing], [0, 0]])

    def draw(first):
        own = rows[first : first + portion]
        drawn = _draw(
            flat_boxes[first : first + portion], tf.gather(table, own), tf.gather(parts, own), num_parts, size
        )
        return tf.cast(drawn, tf.uint8)  # portions wait here for each other

    drawn = tf.map_fn(
        draw,
        tf.range(portions) * portion,
        fn_output_signature=tf.TensorSpec([None, size, size], tf.uint8),
        parallel_iterations=1,
    )
    drawn = tf.reshape(drawn, [portions * portion, size, size])[:count]
    targets = tf.reshape(tf.cast(drawn, tf.float32), [shape[0], shape[1], size, size])
    return tf.ensure_shape(targets, [*boxes.shape[:2], size, size])


def _number_of(parts: tf.Tensor) -> tf.Tensor:
    """The largest part plus one, at least 1."""
    return tf.reduce_max(tf.concat([tf.reshape(parts, [-1]), [0]], axis=0)) + 1


def _draw(boxes, edges, parts, num_parts, size: int) -> tf.Tensor:
    """Masks bool [n, size, size] of boxes [n, 4] from edges [n, E, 4] with parts [n, E]."""
    position = _fill_starts(_stretch(boxes, edges, size), size)  # [n, E, size]
    count = tf.shape(boxes)[0]
    row = tf.range(count)[:, None] * num_parts + parts
    row = tf.where(parts >= 0, row, 0)
    pixels = size * size + 1
    # A segment below 0 is left out: the edges that do not cross a column are most of all.
    segment = tf.where((position >= 0) & (parts >= 0)[..., None], row[..., None] * pixels + position, -1)
    segment = tf.reshape(segment, [-1])
    starts = tf.math.unsorted_segment_sum(
        tf.ones_like(segment, tf.float32), segment, count * num_parts * pixels
    )  # floats: exact, and there is a GPU kernel
    starts = tf.reshape(starts, [count, num_parts, pixels])[:, :, :-1]
    inside = tf.math.floormod(tf.cumsum(starts, axis=2), 2.0) > 0.5
    return tf.reshape(tf.reduce_any(inside, axis=1), [count, size, size])


def _stretch(boxes, edges, size: int) -> tf.Tensor:
    """Edges in pixels of the target, float32 [n, E, 4]; in float32 as SimpleDet's, so that they round alike."""
    x1, y1, x2, y2 = tf.unstack(boxes[:, None], 4, axis=-1)
    width, height = tf.maximum(x2 - x1, 1.0), tf.maximum(y2 - y1, 1.0)
    origin = tf.stack([x1, y1, x1, y1], axis=-1)
    return (edges - origin) * float(size) / tf.stack([width, height, width, height], axis=-1)


def _fill_starts(edges, size: int) -> tf.Tensor:
    """Where each edge makes rleFrPoly's filling begin or end: pixel int32 [n, E, size], -1 where it does not.

    Swapped: rleFrPoly's columns u are our rows y, and along a column v our x, so a column-major mask of it is a
    row-major one of ours. All is float64, as there; integers are exact in it.
    """
    points = tf.cast(edges, tf.float64) * _SUPERSAMPLING + 0.5
    # C's cast to int, which rounds towards zero.
    points = tf.cast(tf.cast(tf.clip_by_value(points, -_FAR, _FAR), tf.int32), tf.float64)
    v0, u0, v1, u1 = (point[..., None] for point in tf.unstack(points, 4, axis=-1))
    length_u, length_v = tf.abs(u1 - u0), tf.abs(v1 - v0)
    along_u = length_u >= length_v
    swap = tf.where(along_u, u0 > u1, v0 > v1)
    u0, u1 = tf.where(swap, u1, u0), tf.where(swap, u0, u1)
    v0, v1 = tf.where(swap, v1, v0), tf.where(swap, v0, v1)

    # Column c's centre lies between the fine columns 5 c + 2 and 5 c + 3.
    last = tf.cast(tf.range(size) * _SUPERSAMPLING + _SUPERSAMPLING // 2, tf.float64)
    # The walk goes along u: step t is at u0 + t, and v is rounded. The lower v of the two steps counts.
    slope = (v1 - v0) / tf.maximum(length_u, 1.0)
    step = last - u0
    lower = tf.minimum(_rounded(v0 + slope * step), _rounded(v0 + slope * (step + 1.0)))
    crossing_u = along_u & (step >= 0.0) & (step < length_u)

    # The walk goes along v: step t is at v0 + t, and u is rounded. The first step beyond the centre counts: it is one
    # of three around the quotient, which itself is rounded.
    slope = (u1 - u0) / tf.maximum(length_v, 1.0)
    rising = u1 > u0
    guess = tf.floor((last + 0.5 - u0) / tf.where(u1 == u0, tf.ones_like(slope), slope))

    def beyond(step):
        return tf.equal(_rounded(u0 + slope * step) > last, rising)

    first = tf.where(beyond(guess), guess, tf.where(beyond(guess + 1.0), guess + 1.0, guess + 2.0))
    crossing_v = ~along_u & (tf.minimum(u0, u1) <= last) & (tf.maximum(u0, u1) > last)

    lower = tf.where(along_u, lower, v0 + first - 1.0)
    # ceil((v + .5) / 5 - .5) in integers.
    row = tf.clip_by_value(tf.math.floordiv(lower + _SUPERSAMPLING // 2, float(_SUPERSAMPLING)), 0.0, float(size))
    position = tf.range(size) * size + tf.cast(row, tf.int32)
    return tf.where(crossing_u | crossing_v, position, -1)


def _rounded(values: tf.Tensor) -> tf.Tensor:
    """C's `(int)(x + .5)` of float64 values, as float64."""
    values = values + 0.5
    return tf.where(values < 0.0, tf.math.ceil(values), tf.floor(values))
