"""Mask targets: polygons drawn inside RoIs, bit for bit as cocoapi draws them, without a mask of image size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import tensorflow as tf

PolygonRule = Literal["simpledet", "detectron2"]
"""How polygons are filled inside a RoI."""

FINE = 5  # rleFrPoly's `scale`
_FAR = 1e8  # pixels; beyond it a coordinate would not fit an int32
_LEAST_SIDE = 0.1  # pixels of a RoI, Detectron2's
_BOUNDS = (tf.raw_ops.LowerBound, tf.raw_ops.UpperBound)


def mask_targets(
    boxes, matched, edges, edge_owners, size: int = 28, max_elements: int = 1 << 21, rule: PolygonRule = "simpledet"
) -> tf.Tensor:
    """The mask of the matched object inside each RoI.

    The RoI is stretched to `size` x `size` pixels: x' = (x - x1) size / max(1, x2 - x1), without +1; by Detectron2's
    rule a side is .1 pixel at least. The object's edges are drawn in it as cocoapi's rleFrPoly does; by SimpleDet's
    rule with x and y swapped, which gives other pixels at the border of most objects. rleFrPoly walks each edge on a
    grid five times as fine, notes where the walk changes from one column of pixels to the next, and
    fills from there to the end of the column, and on. That is a sum modulo 2 in which every edge has its own part: here
    the places are computed for each edge and column at once, the walk is left out.

    Args:
        boxes: float32 [B, R, 4] in pixels of the network input.
        matched: int32 [B, R], the object of each RoI; -1: none, and a target of zeros.
        edges: float32 [B, E, 4], x1, y1, x2, y2 of each polygon edge of the image, closing edges included, same pixels.
        edge_owners: int32 [B, E, 2], the object of each edge, ascending, and the part of that object; padding -1.
            Within a part the even-odd rule holds; the parts are united.
        size: pixels a side of the target.
        max_elements: RoIs are drawn in portions that hold about so many pairs of an edge and a column.
        rule: "simpledet" or "detectron2".

    Returns:
        float32 [B, R, size, size], 0 or 1. No gradient flows back.

    Source: SimpleDet operator_cxx/proposal_mask_target.cc (convertPoly2Mask); Detectron2 structures/masks.py
    (rasterize_polygons_within_box); cocoapi common/maskApi.c (rleFrPoly).
    """
    boxes, edges = (tf.stop_gradient(tf.cast(t, tf.float32)) for t in (boxes, edges))
    edge_owners, matched = tf.cast(edge_owners, tf.int32), tf.cast(matched, tf.int32)
    shape, flat_boxes = tf.shape(boxes)[:2], tf.reshape(boxes, [-1, 4])
    first, number = (tf.reshape(t, [-1]) for t in edges_of_objects(matched, edge_owners))
    flat_edges = tf.reshape(edges, [-1, 4])
    parts = tf.cast(tf.reshape(edge_owners[..., 1], [-1]), tf.int64)

    num_parts = tf.reduce_max(tf.concat([parts, [0]], axis=0)) + 1

    def draw(own: slice) -> tf.Tensor:
        roi, edge = pairs_of(first[own], number[own])
        return _draw(
            tf.gather(flat_boxes[own], roi),
            tf.gather(flat_edges, edge),
            roi * num_parts + tf.gather(parts, edge),
            tf.stack([own.stop - own.start, tf.cast(num_parts, tf.int32)]),
            size,
            rule,
        )

    cost = tf.maximum(number * size, num_parts * (size * size + 1))
    drawn = in_portions(draw, cost, max_elements, tf.bool, [size, size])
    targets = tf.reshape(tf.cast(drawn, tf.float32), [shape[0], shape[1], size, size])
    return tf.ensure_shape(targets, [*boxes.shape[:2], size, size])


def in_portions(
    draw: Callable[[slice], tf.Tensor], cost: tf.Tensor, max_elements: int, dtype: tf.DType, shape: list[int]
) -> tf.Tensor:
    """The rows that `draw` makes, [n, *shape], of one run of rows after the other.

    Args:
        draw: from a run of rows to their tensor [rows, *shape].
        cost: int64 [n], of each row.
        max_elements: a run costs about so much; a row that costs more is drawn all the same.
        dtype, shape: of a row.
    """
    cost = tf.cumsum(tf.minimum(cost, max_elements))  # up to each row and with it
    portions = tf.reduce_max(tf.concat([cost, [0]], axis=0)) // max_elements + 1
    begins = (tf.range(portions) * max_elements)[None]
    bounds = tf.raw_ops.LowerBound(sorted_inputs=cost[None], values=begins, out_type=tf.int32)[0]
    bounds = tf.concat([bounds, tf.shape(cost)], axis=0)

    def next_portion(portion, drawn):
        rows = draw(slice(bounds[portion], bounds[portion + 1]))
        return portion + 1, drawn.write(portion, rows)  # portions wait here for each other

    portions = tf.cast(portions, tf.int32)
    drawn = tf.TensorArray(dtype, portions, infer_shape=False, element_shape=[None, *shape])
    _, drawn = tf.while_loop(lambda portion, _: portion < portions, next_portion, (0, drawn), parallel_iterations=1)
    return drawn.concat()


def edges_of_objects(objects, edge_owners) -> tuple[tf.Tensor, tf.Tensor]:
    """Where the edges of objects are in the list of their image.

    Args:
        objects: int32 [B, R]; -1: none.
        edge_owners: int32 [B, E, 2], of `Batch`.

    Returns:
        The first one, counted through the lists of all images, and their number: int64 [B, R] both.
    """
    owners = edge_owners[..., 0]
    owners = tf.where(owners >= 0, owners, owners.dtype.max)  # padding is last: ascending to the end
    # The raw ops: `tf.searchsorted` cannot take an empty list.
    first, end = (op(sorted_inputs=owners, values=objects, out_type=tf.int64) for op in _BOUNDS)
    lists = tf.range(tf.shape(owners, tf.int64)[0])[:, None] * tf.shape(owners, tf.int64)[1]
    return lists + first, end - first


def pairs_of(first: tf.Tensor, number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Every pair of a row and one of its items, int64 [T] both, of rows with `number` [n] items from `first` [n] on."""
    ends = tf.cumsum(number)
    pair = tf.range(tf.reduce_sum(number))
    roi = tf.raw_ops.UpperBound(sorted_inputs=ends[None], values=pair[None], out_type=tf.int64)[0]
    return roi, tf.gather(first + number - ends, roi) + pair


def _draw(boxes, edges, row, shape, size: int, rule: PolygonRule) -> tf.Tensor:
    """Masks bool [n, size, size] of pairs of a box [T, 4] and an edge [T, 4].

    `row` int64 [T] is the part of a RoI that a pair belongs to, of all in `shape`, [n, parts of a RoI].
    """
    stretch = _stretch if rule == "simpledet" else _stretch_exactly
    points = fine_points(stretch(boxes, edges, size))
    # Swapped, rleFrPoly's columns are our rows and a column-major mask of it is a row-major one of ours.
    start_v, start_u, end_v, end_u = tf.unstack(points, 4, axis=-1)
    if rule == "detectron2":
        start_v, start_u, end_v, end_u = start_u, start_v, end_u, end_v
    column = tf.range(size, dtype=tf.int64)
    ends = (value[..., None] for value in (start_v, start_u, end_v, end_u))
    crosses, place = fill_starts(*ends, tf.cast(column, tf.float64), float(size))
    position = tf.where(crosses, column * size + place, -1)  # [T, size]
    pixels = size * size + 1
    # A segment below 0 is left out: the edges that do not cross a column are most of all.
    segment = tf.reshape(tf.where(position >= 0, row[:, None] * pixels + position, -1), [-1])
    starts = tf.math.unsorted_segment_sum(
        tf.ones_like(segment, tf.float32), segment, shape[0] * shape[1] * pixels
    )  # floats: exact, and there is a GPU kernel
    starts = tf.reshape(starts, [shape[0], shape[1], pixels])[:, :, :-1]
    inside = tf.math.floormod(tf.cumsum(starts, axis=2), 2.0) > 0.5
    masks = tf.reshape(tf.reduce_any(inside, axis=1), [shape[0], size, size])
    return masks if rule == "simpledet" else tf.transpose(masks, [0, 2, 1])


def _stretch(boxes, edges, size: int) -> tf.Tensor:
    """Edges in pixels of the target, float32 [T, 4]; in float32 as SimpleDet's, so that they round alike."""
    x1, y1, x2, y2 = tf.unstack(boxes, 4, axis=-1)
    width, height = tf.maximum(x2 - x1, 1.0), tf.maximum(y2 - y1, 1.0)
    origin = tf.stack([x1, y1, x1, y1], axis=-1)
    return (edges - origin) * float(size) / tf.stack([width, height, width, height], axis=-1)


def _stretch_exactly(boxes, edges, size: int) -> tf.Tensor:
    """The same as Detectron2 computes it, float64 [T, 4]: sides and ratios of the box are float32, the rest is not."""
    x1, y1, x2, y2 = tf.unstack(boxes, 4, axis=-1)
    ratio_x, ratio_y = (float(size) / tf.maximum(side, _LEAST_SIDE) for side in (x2 - x1, y2 - y1))
    origin, ratio = (tf.cast(tf.stack(pair * 2, axis=-1), tf.float64) for pair in ([x1, y1], [ratio_x, ratio_y]))
    return (tf.cast(edges, tf.float64) - origin) * ratio


def fine_points(edges) -> tf.Tensor:
    """Edges [..., 4] on rleFrPoly's grid, five times as fine: float64 of whole numbers."""
    points = tf.cast(edges, tf.float64) * FINE + 0.5
    # C's cast to int, which rounds towards zero.
    return tf.cast(tf.cast(tf.clip_by_value(points, -_FAR, _FAR), tf.int32), tf.float64)


def fill_starts(v0, u0, v1, u1, column, size) -> tuple[tf.Tensor, tf.Tensor]:
    """Where an edge makes rleFrPoly's filling of a column begin or end.

    All is float64, as there; integers are exact in it. The arguments are broadcast against each other.

    Args:
        v0, u0, v1, u1: the edge's ends on the fine grid, `fine_points`: along a column and across the columns.
        column: its number.
        size: pixels of a column.

    Returns:
        Whether the edge crosses the column, bool, and at which of its pixels, 0 to `size`, int64.
    """
    length_u, length_v = tf.abs(u1 - u0), tf.abs(v1 - v0)
    along_u = length_u >= length_v
    swap = tf.where(along_u, u0 > u1, v0 > v1)
    u0, u1 = tf.where(swap, u1, u0), tf.where(swap, u0, u1)
    v0, v1 = tf.where(swap, v1, v0), tf.where(swap, v0, v1)

    # Column c's centre lies between the fine columns 5 c + 2 and 5 c + 3.
    last = column * FINE + FINE // 2
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
    row = tf.minimum(tf.maximum(tf.math.floordiv(lower + FINE // 2, float(FINE)), 0.0), size)
    return crossing_u | crossing_v, tf.cast(row, tf.int64)


def _rounded(values: tf.Tensor) -> tf.Tensor:
    """C's `(int)(x + .5)` of float64 values, as float64."""
    values = values + 0.5
    return tf.where(values < 0.0, tf.math.ceil(values), tf.floor(values))
