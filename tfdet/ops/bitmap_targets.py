"""Mask targets as torchvision makes them: RoIAlign of each object's bitmap, drawn here from its polygons."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from tfdet.ops.mask_targets import FINE, fill_starts, fine_points, pairs_of
from tfdet.ops.roi_align import roi_align

_MARGIN = 1.0  # pixels around an object, more than rounding to the fine grid moves its border
_NUDGE = 1e-4  # pixels: more than a rounding of float32, less than two corners of annotations are apart


class Bitmaps(NamedTuple):
    """Bitmaps of K objects, each of the part of its image that the object covers."""

    pixels: tf.Tensor  # float32 [K, W, H], 1 inside; as wide and high as the largest needs
    corner: tf.Tensor  # int64 [K, 2], the column and row of the image that the first pixel is


class _Pieces(NamedTuple):
    """Windows around the N parts of all objects: their bitmaps, column after column, follow each other in a list."""

    corner: tf.Tensor  # int64 [N, 2], column and row of the image
    size: tf.Tensor  # int64 [N, 2], columns and rows, 0 where there is no such part
    first: tf.Tensor  # int64 [N], where its bitmap begins


def bitmap_targets(boxes, matched, edges, edge_owners, image_info, size: int = 28) -> tf.Tensor:
    """The share of the matched object in each bin of each RoI, by RoIAlign of the object's bitmap.

    The bitmap is that of the object's polygons in the image that the network sees, filled as cocoapi fills them.
    torchvision fills them in the stored image and resizes the bitmap. RoIAlign takes as many samples a bin as the bin
    has pixels, rounded up, without the half-pixel shift.

    Args:
        boxes: float32 [B, R, 4] in pixels of the network input, within the image.
        matched: int32 [B, R], the object of each RoI; -1: none, and a target of zeros.
        edges, edge_owners: of `Batch`.
        image_info: float32 [B, 3], height and width of the image content first: there bitmaps end.
        size: bins a side of the target.

    Returns:
        float32 [B, R, size, size], 0 to 1. No gradient flows back.

    Source: torchvision models/detection/roi_heads.py, project_masks_on_boxes; references/detection/coco_utils.py,
    convert_coco_poly_to_mask; cocoapi common/maskApi.c (rleFrPoly).
    """
    boxes, edges, image_info = (tf.stop_gradient(tf.cast(t, tf.float32)) for t in (boxes, edges, image_info))
    matched, owners = tf.cast(matched, tf.int64), tf.cast(edge_owners, tf.int64)
    objects = tf.maximum(_largest(owners[..., 0]), _largest(matched)) + 1  # some may have no edges
    bitmaps = draw_bitmaps(edges, owners, tf.cast(image_info[:, 1::-1], tf.int64), objects)

    # Each bitmap is an image of its own, and has the RoIs of its object.
    present = matched >= 0
    chosen = tf.one_hot(matched, tf.cast(objects, tf.int32), dtype=tf.int64)
    turn = tf.reduce_sum(tf.cumsum(chosen, axis=1) * chosen, axis=2) - 1
    image = tf.range(tf.shape(boxes, tf.int64)[0])[:, None]
    place = tf.stack([image * objects + matched, turn], axis=-1)
    own_place = tf.boolean_mask(place, present)
    corner = tf.cast(tf.gather(bitmaps.corner, own_place[:, 0]), tf.float32)
    own_boxes = tf.boolean_mask(boxes, present) - tf.tile(corner, [1, 2])
    shape = tf.stack([tf.shape(bitmaps.corner, tf.int64)[0], _largest(turn) + 1, 4])
    by_bitmap = tf.scatter_nd(own_place, tf.gather(own_boxes, [1, 0, 3, 2], axis=1), shape)  # for columns are rows
    levels = tf.zeros(tf.shape(by_bitmap)[:2], tf.int32)
    maps = [bitmaps.pixels[..., None]]
    pooled = roi_align(maps, by_bitmap, levels, [1], size, mode="average", sampling_ratio=0, aligned=False)[..., 0]
    own = tf.gather_nd(pooled, tf.maximum(place, 0))
    targets = tf.where(present[..., None, None], tf.transpose(own, [0, 1, 3, 2]), 0.0)
    return tf.ensure_shape(tf.stop_gradient(targets), [*boxes.shape[:2], size, size])


def draw_bitmaps(edges: tf.Tensor, owners: tf.Tensor, limits: tf.Tensor, objects: tf.Tensor) -> Bitmaps:
    """Draws the objects of a batch.

    Args:
        edges: float32 [B, E, 4], as in `Batch`.
        owners: int64 [B, E, 2], as in `Batch`.
        limits: int64 [B, 2], width and height of the images.
        objects: int64 scalar, how many an image has at most; K is B times as many.
    """
    image = tf.range(tf.shape(owners, tf.int64)[0])[:, None]
    used = owners[..., 0] >= 0
    parts = _largest(owners[..., 1]) + 1
    edges, piece = (
        tf.boolean_mask(t, used) for t in (edges, (image * objects + owners[..., 0]) * parts + owners[..., 1])
    )
    limits = tf.repeat(limits, objects, axis=0)  # of every object
    limits_of_pieces = tf.repeat(limits, parts, axis=0)
    pieces = _windows(edges, piece, limits_of_pieces)
    drawn = _fill(edges, piece, pieces, limits_of_pieces)

    # One bitmap an object, which its parts share. Where the image ends the last pixels are repeated: RoIAlign reads
    # those of the border for samples beyond their centres.
    by_object = tf.stack([tf.shape(limits, tf.int64)[0], parts, 2])
    end = pieces.corner + pieces.size
    exists = tf.reduce_all(pieces.size > 0, axis=1, keepdims=True)
    grown = pieces.size + tf.cast(exists & (end == limits_of_pieces), tf.int64)
    far = tf.where(exists, pieces.corner, tf.int64.max)
    corner = tf.reduce_min(tf.reshape(far, by_object), axis=1)
    corner = tf.where(corner == tf.int64.max, tf.zeros_like(corner), corner)
    shift = pieces.corner - tf.repeat(corner, parts, axis=0)
    extent = tf.maximum(tf.reduce_max(tf.where(exists, shift + grown, 0), axis=0), 1)
    number = tf.where(exists[:, 0], grown[:, 0] * grown[:, 1], 0)
    owner, pixel = pairs_of(tf.zeros_like(number), number)
    height = tf.gather(grown[:, 1], owner)
    column, row = pixel // height, pixel % height
    size, first, shift = (tf.gather(t, owner) for t in (pieces.size, pieces.first, shift))
    source = first + tf.minimum(column, size[:, 0] - 1) * size[:, 1] + tf.minimum(row, size[:, 1] - 1)
    target = (owner // parts * extent[0] + shift[:, 0] + column) * extent[1] + shift[:, 1] + row
    total = by_object[0] * extent[0] * extent[1]
    united = tf.minimum(tf.math.unsorted_segment_sum(tf.gather(drawn, source), target, total), 1.0)
    return Bitmaps(tf.reshape(united, tf.concat([by_object[:1], extent], axis=0)), corner)


def _largest(numbers: tf.Tensor) -> tf.Tensor:
    """The largest of some numbers and 0."""
    return tf.maximum(tf.reduce_max(tf.concat([tf.reshape(numbers, [-1]), [0]], axis=0)), 0)


def _windows(edges: tf.Tensor, piece: tf.Tensor, limits: tf.Tensor) -> _Pieces:
    """The windows around edges [E, 4] of pieces int64 [E], within images of `limits` [N, 2], (width, height)."""
    count = tf.shape(limits)[0]
    corners = tf.reshape(edges, [-1, 2, 2])
    least = tf.math.unsorted_segment_min(tf.reduce_min(corners, axis=1), piece, count)  # the largest number where none
    most = tf.math.unsorted_segment_max(tf.reduce_max(corners, axis=1), piece, count)
    bounds = tf.cast(limits, tf.float32)
    least = tf.cast(tf.clip_by_value(tf.floor(least - _MARGIN), 0.0, bounds), tf.int64)
    most = tf.cast(tf.clip_by_value(tf.math.ceil(most + _MARGIN), 0.0, bounds), tf.int64)
    size = tf.maximum(most - least, 0)
    return _Pieces(least, size, tf.cumsum(size[:, 0] * size[:, 1], exclusive=True))


def _fill(edges: tf.Tensor, piece: tf.Tensor, pieces: _Pieces, limits: tf.Tensor) -> tf.Tensor:
    """The bitmaps of all pieces in one list, float32, 1 inside."""
    # In an image that was not resized many corners lie where they round up, and float32 may have them just below.
    points = fine_points(edges + _NUDGE)
    low, high = tf.minimum(points[:, 0], points[:, 2]), tf.maximum(points[:, 0], points[:, 2])
    corner, size = tf.gather(pieces.corner, piece), tf.gather(pieces.size, piece)
    # Every pair of an edge and a column of the window that it crosses: few of all.
    begin, end = (tf.cast(tf.math.ceil((u - FINE // 2) / FINE), tf.int64) for u in (low, high))
    begin, end = tf.maximum(begin, corner[:, 0]), tf.minimum(end, corner[:, 0] + size[:, 0])
    edge, column = pairs_of(begin, tf.maximum(end - begin, 0))
    start_u, start_v, end_u, end_v = tf.unstack(tf.gather(points, edge), 4, axis=-1)
    piece, corner, size = (tf.gather(t, edge) for t in (piece, corner, size))
    height = tf.cast(tf.gather(limits[:, 1], piece), tf.float64)
    crosses, row = fill_starts(start_v, start_u, end_v, end_u, tf.cast(column, tf.float64), height)
    # What crosses below the window goes to the next column. Each column is crossed an even number of times.
    row = tf.clip_by_value(row - corner[:, 1], 0, size[:, 1])
    place = tf.gather(pieces.first, piece) + (column - corner[:, 0]) * size[:, 1] + row
    place = tf.boolean_mask(place, crosses)
    total = tf.reduce_sum(pieces.size[:, 0] * pieces.size[:, 1]) + 1
    starts = tf.math.unsorted_segment_sum(tf.ones_like(place, tf.float32), place, total)
    return tf.math.floormod(tf.cumsum(starts), 2.0)
