"""Region proposals out of the RPN's maps: decode, sort, suppress, take the best of all levels, pad."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import tensorflow as tf

from tfdet.errors import UserError
from tfdet.ops import native, proposals_portable
from tfdet.ops.boxes import to_float32
from tfdet.ops.nms import strict_threshold
from tfdet.structures import Proposals

ProposalVariant = Literal["v1", "v2", "v3", "symbolic"]
VARIANTS = get_args(ProposalVariant)

tf.no_gradient("TfdetGenerateProposals")


def generate_proposals(
    scores,
    deltas,
    cell_anchors,
    stride: int | Sequence[int],
    image_info,
    pre_nms_top_n: int,
    post_nms_top_n: int,
    iou_threshold: float = 0.7,
    min_size: float = 0.0,
    variant: str | Sequence[str] = "v1",
    area_range=None,
    from_logits: bool = False,
) -> Proposals:
    """The best boxes of one feature map, or of several, after suppression. No gradient flows through it.

    Of several feature maps (lists, one entry a level) each is suppressed on its own, and `merge_levels` takes the best
    of all. The variants are SimpleDet's operators:

    | | v1 (C4 models) | v3 (FPN) | symbolic (FPN, later revision, strides 4 to 16) |
    |---|---|---|---|
    | cells beyond floor(image / stride) | score -1 | untouched | score -1 |
    | growth dw, dh | not bounded | at most ln(1000 / 16) | not bounded |
    | dropped at IoU | > threshold | >= threshold | > threshold, widths without + 1 |
    | boxes below `min_size` | score -1 before sorting | score -1 after sorting | kept |
    | missing proposals | zeros | zeros | -1, box and score; scores <= 0 go missing |

    v2 (TridentNet) is v1, and boxes whose area after clipping is outside `area_range` score -1 before sorting. A box
    below the minimum size is also grown by min_size on each axis, as there. Sorting is stable; a box or score that is
    not a number is never proposed.

    Args:
        scores: float32 [B, H, W, A], probability of foreground; a list of them for several levels, and so below.
        deltas: float32 [B, H, W, 4 * A], channel 4 * a + k.
        cell_anchors: float32 [A, 4] of `tfdet.ops.anchors.cell_anchors`.
        stride: network pixels per cell.
        image_info: float32 [B, 3], height and width of the image content, scale; a scale of columns may follow.
        pre_nms_top_n: candidates kept before suppression, per level.
        post_nms_top_n: P, rows of the result, and at most so many of a level.
        iou_threshold: in [0, 1]; above 0 for "v3".
        min_size: smallest side in pixels of the original image; 0 for none. Ignored by "symbolic".
        variant: `"v1"`, `"v2"`, `"v3"` or `"symbolic"`; one name, or one a level.
        area_range: float32 [B, 2], for "v2" only: smallest and largest side, in network pixels, of a square with the
            smallest and largest area allowed (of boxes with + 1; both bounds included); None filters nothing.
        from_logits: `scores` are logits [B, H, W, 2 * A]: the backgrounds of all anchors of a cell, then their
            foregrounds, as `tfdet.heads.rpn.RpnHead` gives them.

    Returns:
        Proposals with P rows, best first.

    Raises:
        UserError: when `variant` is unknown, `iou_threshold` out of range, the lists differ in length, or
            `area_range` is given without "v2".

    Source: SimpleDet operator_cxx/contrib/proposal.cu, proposal_v2.cu and proposal_v3.cu; mxnext tvm/proposal.py;
    models/FPN/get_topk_proposal.py.
    """
    if not isinstance(scores, (list, tuple)):
        scores, deltas, cell_anchors, stride = [scores], [deltas], [cell_anchors], [stride]
    levels = len(scores)
    variants = [variant] * levels if isinstance(variant, str) else list(variant)
    lengths = {"deltas": deltas, "cell_anchors": cell_anchors, "stride": stride, "variant": variants}
    wrong = {name: len(entries) for name, entries in lengths.items() if len(entries) != levels}
    if not levels or wrong:
        raise UserError(f"generate_proposals: expected one entry a level, {levels} as in scores. Received: {wrong}")
    if not set(variants) <= set(VARIANTS):
        raise UserError(f"generate_proposals: variant must be one of {VARIANTS}. Received: {variant!r}")
    if area_range is not None and "v2" not in variants:
        raise UserError(f'generate_proposals: area_range is for variant "v2". Received: {variant!r}')
    if not 0.0 <= iou_threshold <= 1.0 or ("v3" in variants and iou_threshold == 0.0):
        raise UserError(
            f"generate_proposals: iou_threshold must be in [0, 1], above 0 for v3. Received: {iou_threshold}"
        )

    scores, deltas, cell_anchors = ([_constant(t) for t in entries] for entries in (scores, deltas, cell_anchors))
    image_info = _constant(image_info)[:, :3]
    area_range = None if area_range is None else _constant(area_range)
    if native.in_use():
        found = native.library().tfdet_generate_proposals(
            scores,
            deltas,
            cell_anchors,
            image_info,
            tf.zeros([0, 2]) if area_range is None else area_range,
            strides=list(stride),
            variants=variants,
            pre_nms_top_n=pre_nms_top_n,
            post_nms_top_n=post_nms_top_n,
            iou_threshold=iou_threshold,
            min_size=min_size,
            from_logits=from_logits,
        )
        return Proposals(found.boxes, found.box_scores)
    if from_logits:
        scores = [proposals_portable.foreground_probability(logits) for logits in scores]
    results = [
        proposals_portable.one_level(
            scores[i],
            deltas[i],
            cell_anchors[i],
            stride[i],
            image_info,
            pre_nms_top_n,
            post_nms_top_n,
            strict_threshold(iou_threshold, inclusive=variants[i] == "v3"),
            min_size,
            variants[i],
            area_range,
        )
        for i in range(levels)
    ]
    return results[0] if levels == 1 else merge_levels(results, post_nms_top_n)


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


def _constant(values) -> tf.Tensor:
    return tf.stop_gradient(to_float32(values))
