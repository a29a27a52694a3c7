"""Region proposals out of the RPN's maps: decode, sort, suppress, pad."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfdet.errors import UserError
from tfdet.ops.anchors import grid_anchors
from tfdet.ops.box_coding import decode
from tfdet.ops.boxes import CONTINUOUS, LEGACY, area, clip_to_image, sizes, to_float32
from tfdet.ops.nms import nms
from tfdet.structures import Proposals

VARIANTS = ("v1", "v2", "v3", "symbolic")
MAX_LOG_RATIO = math.log(1000.0 / 16.0)


def generate_proposals(
    scores,
    deltas,
    cell_anchors,
    stride: int,
    image_info,
    pre_nms_top_n: int,
    post_nms_top_n: int,
    iou_threshold: float = 0.7,
    min_size: float = 0.0,
    variant: str = "v1",
    area_range=None,
) -> Proposals:
    """The best boxes of one feature map after suppression. No gradient flows through it.

    The variants are SimpleDet's operators:

    | | v1 (C4 models) | v3 (FPN) | symbolic (FPN, later revision, strides 4 to 16) |
    |---|---|---|---|
    | cells beyond floor(image / stride) | score -1 | untouched | score -1 |
    | growth dw, dh | not bounded | at most ln(1000 / 16) | not bounded |
    | dropped at IoU | > threshold | >= threshold | > threshold, widths without + 1 |
    | boxes below `min_size` | score -1 before sorting | score -1 after sorting | kept |
    | missing proposals | zeros | zeros | -1, box and score; scores <= 0 go missing |

    "v2" (TridentNet) is v1 where boxes outside `area_range` score -1 before sorting.

    A box below the minimum size is also grown by min_size on each axis, as there. Sorting is stable; a box or score
    that is not a number is never proposed.

    Args:
        scores: float32 [B, H, W, A], probability of foreground.
        deltas: float32 [B, H, W, 4 * A], channel 4 * a + k.
        cell_anchors: float32 [A, 4] of `tfdet.ops.anchors.cell_anchors`.
        stride: network pixels per cell.
        image_info: float32 [B, 3], height and width of the image content, scale.
        pre_nms_top_n: candidates kept before suppression.
        post_nms_top_n: P, rows of the result.
        iou_threshold: in [0, 1].
        min_size: smallest side in pixels of the original image; 0 for none. Ignored by "symbolic".
        variant: `"v1"`, `"v2"`, `"v3"` or `"symbolic"`.
        area_range: float32 [B, 2], smallest and largest side of a clipped box, the root of its area, in pixels of the
            network input; both included. For "v2" only; None filters nothing.

    Returns:
        Proposals with P rows, best first.

    Raises:
        UserError: when `variant` is unknown, or another than "v2" is given an `area_range`.

    Source: SimpleDet operator_cxx/contrib/proposal.cu, proposal_v2.cu and proposal_v3.cu; mxnext tvm/proposal.py.
    """
    if variant not in VARIANTS:
        raise UserError(f"generate_proposals: variant must be one of {VARIANTS}. Received: {variant!r}")
    if area_range is not None and variant != "v2":
        raise UserError(f'generate_proposals: variant {variant!r} has no area_range, "v2" has one')
    scores, deltas, image_info = (tf.stop_gradient(t) for t in to_float32(scores, deltas, image_info))
    shape = tf.shape(scores)
    batch, height, width = shape[0], shape[1], shape[2]
    if variant != "v3":
        scores = _mask_padding(scores, image_info, stride)
    scores = tf.reshape(scores, [batch, -1])
    anchors = grid_anchors(cell_anchors, stride, height, width)
    boxes = decode(
        anchors, tf.reshape(deltas, [batch, -1, 4]), max_log_ratio=MAX_LOG_RATIO if variant == "v3" else None
    )
    boxes = clip_to_image(boxes, image_info)
    if variant in ("v1", "v2") and min_size > 0:
        smallest = min_size * image_info[:, 2, None]
        boxes, scores = _grow_small(boxes, scores, smallest, 1.0, min_size * image_info[:, 2, None, None])

    if area_range is not None:
        low, high = tf.unstack(tf.square(to_float32(area_range))[:, None], axis=-1)
        size = area(boxes)
        scores = tf.where((size < low) | (size > high), -1.0, scores)

    usable = tf.reduce_all(tf.math.is_finite(boxes), axis=-1) & ~tf.math.is_nan(scores)
    scores = tf.where(usable, scores, -np.inf)
    top_n = tf.minimum(pre_nms_top_n, tf.shape(scores)[1])
    scores, order = tf.math.top_k(scores, top_n)  # stable: the lower index first
    boxes = tf.gather(boxes, order, batch_dims=1)
    usable = scores > -np.inf
    if variant == "v3":
        smallest = max(min_size, 1.0)
        boxes, scores = _grow_small(boxes, scores, smallest, image_info[:, 2, None], smallest)
    elif variant == "symbolic":
        usable &= scores > 0

    # Suppression goes down the sorted rows, not the scores: a box that fell to -1 after sorting keeps its turn.
    turn = -tf.cast(tf.range(top_n), tf.float32)
    kept = nms(
        boxes,
        tf.where(usable, turn, -np.inf),
        iou_threshold,
        post_nms_top_n,
        inclusive=variant == "v3",
        convention=CONTINUOUS if variant == "symbolic" else LEGACY,
    )
    missing = -1.0 if variant == "symbolic" else 0.0
    return _take(boxes, scores, kept.indices, missing)


def merge_levels(levels: Sequence[Proposals], top_n: int) -> Proposals:
    """The best proposals of several feature maps, by score.

    Args:
        levels: Proposals of the same B.
        top_n: P, rows of the result.

    Returns:
        Proposals with P rows, best first; equal scores in the order of `levels`.

    Source: SimpleDet models/FPN/get_topk_proposal.py.
    """
    boxes = tf.concat([p.boxes for p in levels], axis=1)
    scores = tf.concat([p.scores for p in levels], axis=1)
    missing = tf.maximum(0, top_n - tf.shape(scores)[1])
    boxes = tf.pad(boxes, [[0, 0], [0, missing], [0, 0]])
    scores = tf.pad(scores, [[0, 0], [0, missing]])
    scores, order = tf.math.top_k(scores, top_n)
    return Proposals(tf.gather(boxes, order, batch_dims=1), scores)


def _mask_padding(scores: tf.Tensor, image_info: tf.Tensor, stride: int) -> tf.Tensor:
    """Scores [B, H, W, A] with -1 in the cells that lie, even in part, beyond the image content."""
    live = tf.cast(tf.floor(image_info[:, :2] / float(stride)), tf.int32)
    row = tf.range(tf.shape(scores)[1])[None, :] < live[:, 0, None]
    column = tf.range(tf.shape(scores)[2])[None, :] < live[:, 1, None]
    return tf.where(row[:, :, None, None] & column[:, None, :, None], scores, -1.0)


def _grow_small(boxes, scores, smallest, scale, growth):
    """SimpleDet's FilterBox: boxes whose side / scale is below `smallest` grow by `growth` and score -1."""
    width, height = sizes(boxes)
    width, height = (width - 1.0) / scale + 1.0, (height - 1.0) / scale + 1.0
    small = (width < smallest) | (height < smallest)
    half = growth / 2.0 * tf.constant([-1.0, -1.0, 1.0, 1.0])
    return tf.where(small[..., None], boxes + half, boxes), tf.where(small, -1.0, scores)


def _take(boxes, scores, indices, missing: float) -> Proposals:
    kept = indices >= 0
    # One more row, so that an index exists even when there was no candidate at all.
    boxes, scores = tf.pad(boxes, [[0, 0], [0, 1], [0, 0]]), tf.pad(scores, [[0, 0], [0, 1]])
    indices = tf.maximum(indices, 0)
    return Proposals(
        boxes=tf.where(kept[..., None], tf.gather(boxes, indices, batch_dims=1), missing),
        scores=tf.where(kept, tf.gather(scores, indices, batch_dims=1), missing),
    )
