"""Polygons cut to a rectangle: the edges of what lies within."""

from __future__ import annotations

import tensorflow as tf

_NEAR = 1e-3  # pixels: what lies so near to a side lies on it


def clip_edges(edges: tf.Tensor, owners: tf.Tensor, low: tf.Tensor, high: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Cuts masks to a rectangle; exact under the even-odd rule of the parts.

    Edges are divided where they cross the lines of the four sides, and what is outside is drawn onto the nearest side.
    There pieces lie over each other; those that lie there an even number of times are no border.

    Args:
        edges: float32 [E, 4], closed rings `[x1, y1, x2, y2]`.
        owners: int32 [E, 2], the object of each edge, ascending, and its part.
        low, high: float32 [2], x and y of the corners of the rectangle.

    Returns:
        Edges and owners of what is left, ascending; an object of which nothing is left has none.
    """
    if edges.shape[0] == 0:
        return edges, owners
    start, step = edges[:, :2], edges[:, 2:] - edges[:, :2]
    safe = tf.where(step == 0.0, 1.0, step)
    cuts = [tf.where(step == 0.0, 0.0, tf.clip_by_value((side - start) / safe, 0.0, 1.0)) for side in (low, high)]
    cuts = tf.sort(tf.concat(cuts, axis=1), axis=1)[..., None]
    between = start[:, None] + cuts * step[:, None]
    between = tf.where(cuts == 0.0, start[:, None], tf.where(cuts == 1.0, edges[:, None, 2:], between))
    points = tf.concat([start[:, None], between, edges[:, None, 2:]], axis=1)
    for side in (low, high):  # a crossing is on the side, whatever the last digit
        points = tf.where(tf.abs(points - side) < _NEAR, side, points)
    points = tf.clip_by_value(points, low, high)
    pieces = tf.reshape(tf.concat([points[:, :-1], points[:, 1:]], axis=2), [-1, 4])
    owner = tf.repeat(owners, 5, axis=0)

    first, last = pieces[:, :2], pieces[:, 2:]
    on = tf.concat([(first == side) & (last == side) for side in (low, high)], axis=1)  # left, top, right, bottom
    on_side = tf.reduce_any(on, axis=1)
    side = tf.argmax(on, axis=1, output_type=tf.int32)
    is_point = tf.reduce_all(first == last, axis=1)
    along, along_owner = _along_sides(
        *(tf.boolean_mask(value, on_side & ~is_point) for value in (pieces, owner, side)), low, high
    )
    inside = ~on_side & ~is_point
    pieces = tf.concat([tf.boolean_mask(pieces, inside), along], axis=0)
    owner = tf.concat([tf.boolean_mask(owner, inside), along_owner], axis=0)
    order = tf.argsort(owner[:, 0], stable=True)
    return tf.gather(pieces, order), tf.gather(owner, order)


def _along_sides(pieces: tf.Tensor, owner: tf.Tensor, side: tf.Tensor, low, high) -> tuple[tf.Tensor, tf.Tensor]:
    """Of pieces [N, 4] along sides (0..3: left, top, right, bottom) those parts that are there an odd number of times.

    The ends of the pieces of one part along one side, in order, are by turns where that begins and ends.
    """
    upright = side % 2 == 0
    ends = tf.where(upright[:, None], tf.gather(pieces, [1, 3], axis=1), tf.gather(pieces, [0, 2], axis=1))
    num_parts = tf.reduce_max(tf.concat([owner[:, 1], [0]], axis=0)) + 1
    line = tf.repeat((owner[:, 0] * num_parts + owner[:, 1]) * 4 + side, 2)
    ends = tf.reshape(ends, [-1])
    order = tf.argsort(ends)
    order = tf.gather(order, tf.argsort(tf.gather(line, order), stable=True))
    pairs, line = tf.reshape(tf.gather(ends, order), [-1, 2]), tf.gather(line, order)[::2]
    is_some = pairs[:, 0] < pairs[:, 1]
    pairs, line = tf.boolean_mask(pairs, is_some), tf.boolean_mask(line, is_some)
    part, side = line // 4, line % 4
    place = tf.gather(tf.concat([low, high], axis=0), side)
    one, other = tf.unstack(pairs, axis=1)
    upright = (side % 2 == 0)[:, None]
    found = tf.where(
        upright, tf.stack([place, one, place, other], axis=1), tf.stack([one, place, other, place], axis=1)
    )
    return found, tf.stack([part // num_parts, part % num_parts], axis=1)
