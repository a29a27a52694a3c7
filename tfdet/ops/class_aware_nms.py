"""Suppression of a list of boxes that have one class each, such as a dense head's pairs of a box and a class.

Nothing of the size of boxes times many classes is made: sorted by class, every class is a run of the list, and those
runs are what is suppressed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfdet.ops import native, nms_exchange, nms_portable
from tfdet.ops.boxes import LEGACY, to_float32
from tfdet.ops.nms import check_nms, multiclass_nms, strict_threshold
from tfdet.structures import Detections

# Up to so many classes the custom op is quicker with a score of each for every box.
_FEW_CLASSES = 128
# Runs share a call of the custom op, padded to one of these lengths, or to that of the list. So there are three calls
# whatever the classes, and the padding is a small multiple of the list.
_RUN_LENGTHS = (64, 1024)


class _Sorted(NamedTuple):
    """The list by image, then class, then as it came; what takes no part is last in its image."""

    boxes: tf.Tensor  # float32 [B, N, 4]
    scores: tf.Tensor  # float32 [B, N], 0 for what takes no part
    classes: tf.Tensor  # float32 [B, N], infinite for what takes no part


class _Runs(NamedTuple):
    """Where the classes of a `_Sorted` are, in its rows of all images one after the other."""

    begins: tf.Tensor  # int64 [P]
    lengths: tf.Tensor  # int64 [P], 0 for what takes no part


def class_aware_nms(
    boxes,
    scores,
    classes,
    num_classes: int,
    iou_threshold: float,
    max_detections: int,
    convention: str = LEGACY,
    method: str = "hard",
    sigma: float = 0.5,
) -> Detections:
    """Suppression inside every class, then the best detections over all classes. No gradient flows through it.

    The same as `multiclass_nms` with a score threshold of 0 gives, to the last bit, for boxes whose scores of other
    classes are 0.

    Args:
        boxes: float32 [B, N, 4].
        scores: float32 [B, N]; only those above 0 take part.
        classes: int32 [B, N], 0..C-1; negative ones take no part.
        num_classes: C.
        iou_threshold, max_detections, convention, method, sigma: as in `multiclass_nms`.

    Returns:
        Detections padded to D, as `multiclass_nms` returns them.

    Raises:
        UserError: when `iou_threshold` or `sigma` is out of range, or `convention` or `method` unknown.
    """
    check_nms(iou_threshold, convention=convention, method=method, sigma=sigma)
    boxes, scores = (tf.stop_gradient(t) for t in to_float32(boxes, scores))
    classes = tf.cast(classes, tf.int32)
    if native.in_use():
        options = {"iou_threshold": iou_threshold, "convention": convention, "method": method, "sigma": sigma}
        if num_classes <= _FEW_CLASSES:
            of_every_class = tf.one_hot(classes, num_classes) * scores[..., None]
            return multiclass_nms(
                boxes[:, :, None], of_every_class, score_threshold=0.0, max_detections=max_detections, **options
            )
        listed = _sort(boxes, scores, classes, convention)
        return _best(listed, _native(listed, max_detections, options), max_detections)
    threshold = strict_threshold(iou_threshold, inclusive=False)
    if native.exchanged():
        listed = _sort(boxes, scores, classes, convention)
        usable = tf.where(listed.scores > 0.0, listed.classes, -1.0)  # an infinite class is no int32
        weigh = nms_exchange.weights(method, threshold, sigma)
        list_of_one = listed.boxes, listed.scores, tf.cast(usable, tf.int32)
        return nms_exchange.suppress(*list_of_one, max_detections, convention, weigh)
    with tf.device("CPU:0"):  # as `nms_portable.multiclass_nms`, and for its reason
        listed = _sort(boxes, scores, classes, convention)
        edges = nms_portable.as_edges(listed.boxes, convention)
        if method == "hard":
            kept = _hard(listed, edges, max_detections, threshold)
        else:
            kept = _soft(listed, edges, max_detections, nms_portable.decay(method, threshold, sigma))
        return _best(listed, kept, max_detections)


def _sort(boxes, scores, classes, convention: str) -> _Sorted:
    usable = (classes >= 0) & (scores > 0.0) & nms_portable.is_number(boxes, convention)
    # Floats, which hold class numbers exactly: TensorFlow does arithmetic of int32 on the host.
    keys = tf.where(usable, tf.cast(classes, tf.float32), np.inf)
    order = tf.argsort(keys, axis=1, stable=True)
    table = tf.concat([boxes, tf.where(usable, scores, 0.0)[..., None], keys[..., None]], axis=-1)
    table = tf.gather(table, order, batch_dims=1)
    return _Sorted(table[..., :4], table[..., 4], table[..., 5])


def _runs(listed: _Sorted) -> _Runs:
    keys = listed.classes
    is_first = tf.concat([tf.ones_like(keys[:, :1], tf.bool), keys[:, 1:] != keys[:, :-1]], axis=1)
    begins = tf.where(tf.reshape(is_first, [-1]))[:, 0]
    lengths = tf.concat([begins[1:], [tf.size(keys, tf.int64)]], axis=0) - begins
    used = tf.gather(tf.reshape(listed.scores, [-1]), begins) > 0.0
    return _Runs(begins, tf.where(used, lengths, 0))


def _native(listed: _Sorted, max_detections: int, options: dict) -> tf.Tensor:
    """The scores of what is kept where it stands in the list, minus infinity elsewhere: float32 [B, N]."""
    table = tf.concat([listed.boxes, listed.scores[..., None]], axis=-1)
    table = tf.pad(tf.reshape(table, [-1, 5]), [[0, 1], [0, 0]])  # a row for the padding of runs
    none = tf.shape(table, tf.int64)[0] - 1
    found = []
    for length, (begins, lengths) in zip((*_RUN_LENGTHS, None), _by_length(_runs(listed)), strict=True):
        offsets = tf.range(tf.shape(listed.scores, tf.int64)[1] if length is None else length, dtype=tf.int64)
        rows = tf.gather(table, tf.where(offsets < lengths[:, None], begins[:, None] + offsets, none))
        result = native.library().tfdet_batched_nms(
            rows[:, :, None, :4],
            rows[:, :, 4:],
            max_detections=min(max_detections, length or max_detections),
            score_threshold=0.0,
            **options,
        )
        positions = tf.where(result.indices >= 0, begins[:, None] + tf.cast(result.indices, tf.int64), none)
        found.append((tf.reshape(positions, [-1]), tf.reshape(result.detected_scores, [-1])))
    return _at(*(tf.concat(parts, axis=0) for parts in zip(*found, strict=True)), listed)


def _by_length(runs: _Runs) -> list[_Runs]:
    """The runs that are padded to each of `_RUN_LENGTHS`, and the longer ones."""
    bounds = tf.constant([0, *_RUN_LENGTHS], tf.int64)
    group = tf.reduce_sum(tf.cast(runs.lengths[:, None] > bounds, tf.int32), axis=1)  # 0: empty
    parts = tf.dynamic_partition(tf.stack(runs, axis=1), group, len(_RUN_LENGTHS) + 2)
    return [_Runs(part[:, 0], part[:, 1]) for part in parts[1:]]


def _hard(listed: _Sorted, edges: tf.Tensor, max_detections: int, threshold: float) -> tf.Tensor:
    """As `_native`, with TensorFlow's kernel."""
    edges, scores, runs = tf.reshape(edges, [-1, 4]), tf.reshape(listed.scores, [-1]), _runs(listed)
    count = tf.size(runs.begins)

    def suppress(number, found):
        begin, end = runs.begins[number], runs.begins[number] + runs.lengths[number]
        indices, _ = nms_portable.kernel(edges[begin:end], scores[begin:end], max_detections, threshold, 0.0, pad=False)
        return number + 1, found.write(number, begin + tf.cast(indices, tf.int64))

    found = tf.TensorArray(tf.int64, count + 1, infer_shape=False, element_shape=[None])
    found = found.write(count, tf.zeros([0], tf.int64))  # there is something to join when there is no run
    _, found = tf.while_loop(lambda number, _: number < count, suppress, (0, found))
    positions = found.concat()
    return _at(positions, tf.gather(scores, positions), listed)


def _at(positions: tf.Tensor, scores: tf.Tensor, listed: _Sorted) -> tf.Tensor:
    """Scores [K] at positions int64 [K] of the list, B N for none; minus infinity elsewhere: float32 [B, N]."""
    flat = tf.fill([tf.size(listed.scores) + 1], -np.inf)
    flat = tf.tensor_scatter_nd_update(flat, positions[:, None], scores)
    return tf.reshape(flat[:-1], tf.shape(listed.scores))


def _soft(listed: _Sorted, edges: tf.Tensor, max_detections: int, decay) -> tf.Tensor:
    """As `_hard`, but every kept box multiplies the scores of the rest of its class by `decay(IoU)`.

    The best of all classes is taken each time: weights are at most 1, so what a class gives does not rise, and the
    first `max_detections` are the best ones of the result.
    """
    # A box to take when there is none.
    corners = nms_portable.corners(tf.pad(edges, [[0, 0], [0, 1], [0, 0]]))
    scores = tf.pad(listed.scores, [[0, 0], [0, 1]])
    classes = tf.pad(listed.classes, [[0, 0], [0, 1]], constant_values=np.inf)
    places = tf.range(tf.shape(scores)[1])

    def step(row, scores, kept):
        best = tf.argmax(scores, axis=1, output_type=tf.int32)[:, None]  # of equals the first: class, then place
        best_score = tf.gather(scores, best, batch_dims=1)
        is_best = places == best
        kept = tf.where(is_best & (best_score > 0.0), best_score, kept)
        same = classes == tf.gather(classes, best, batch_dims=1)
        taken = [tf.gather(values, best, batch_dims=1) for values in corners]
        weights = tf.where(same, decay(nms_portable.overlap(taken, corners)), 1.0)
        lowered = scores * weights
        return row + 1, tf.where(is_best | tf.math.is_nan(lowered), 0.0, lowered), kept

    state = (0, scores, tf.fill(tf.shape(scores), -np.inf))
    *_, kept = tf.while_loop(lambda row, *_: row < max_detections, step, state)
    return kept[:, :-1]


def _best(listed: _Sorted, kept_scores: tf.Tensor, max_detections: int) -> Detections:
    """The best of what is kept; equal scores in the order of the list, so by class, then by box."""
    # Rows behind the list, for when it is shorter than the result.
    padded = tf.pad(kept_scores, [[0, 0], [0, max_detections]], constant_values=-np.inf)
    scores, rows = tf.math.top_k(padded, max_detections)
    valid = scores > -np.inf
    rows = tf.where(valid, rows, tf.shape(kept_scores)[1])
    boxes = tf.gather(tf.pad(listed.boxes, [[0, 0], [0, 1], [0, 0]]), rows, batch_dims=1)
    classes = tf.gather(tf.pad(listed.classes, [[0, 0], [0, 1]], constant_values=-1.0), rows, batch_dims=1)
    return Detections(
        boxes=boxes,
        scores=tf.where(valid, scores, 0.0),
        classes=tf.cast(classes, tf.int32),
        num_valid=tf.reduce_sum(tf.cast(valid, tf.int32), axis=1),
    )
