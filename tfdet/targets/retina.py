"""What every anchor of RetinaNet should say: a class, and where its box is."""

from __future__ import annotations

from typing import Literal, NamedTuple

import tensorflow as tf

from tfdet.config import configurable
from tfdet.config.ranges import Fraction
from tfdet.errors import UserError
from tfdet.ops.box_coding import encode
from tfdet.ops.boxes import LEGACY, to_float32
from tfdet.ops.matching import match_boxes
from tfdet.targets.extent import Extent, centred_within

BACKGROUND, IGNORED = -1, -2


class RetinaTargets(NamedTuple):
    """Classes and offsets of every anchor."""

    labels: tf.Tensor  # int32 [B, N]: class 0..C-1, -1 background, -2 ignored
    box_targets: tf.Tensor  # float32 [B, N, 4], offsets from the anchor; zeros where there is no class


def retina_targets(
    anchors,
    boxes,
    classes,
    positive_iou: float = 0.5,
    negative_iou: float = 0.4,
    low_quality_class: str = "nearest",
    convention: str = LEGACY,
    inside=None,
) -> RetinaTargets:
    """Gives every anchor a class by its IoU with the ground truth; none is drawn, none left out.

    An anchor is background below `negative_iou`. From `positive_iou` on it has the class of the box of its best IoU.
    An anchor that no other surpasses for some ground-truth box has that box's class, whatever the IoU (of several such
    boxes the last one's). Between the two, it is ignored. The offsets always lead to the box of the anchor's best IoU,
    so a low-quality anchor can learn the class of one box and the place of another: SimpleDet trained its zoo so.
    Anchors in the padding and beyond the border take part, unless `inside` says otherwise. An image without boxes is
    all background.

    Args:
        anchors: float32 [N, 4] of all levels, in pixels of the network input.
        boxes: float32 [B, G, 4].
        classes: int32 [B, G], -1 in padded slots.
        positive_iou: least IoU that suffices for a class.
        negative_iou: least IoU that is not background.
        low_quality_class: the class of an anchor that no other surpasses for some box: `"nearest"`, that box's, or
            `"best"`, that of the anchor's best IoU, to which its offsets lead (Detectron2, torchvision).
        convention: of boxes, `"legacy_plus_one"` (default) or `"continuous"`.
        inside: bool [B, N], False for anchors that are ignored and hide no other one; None: all take part.

    Returns:
        RetinaTargets.

    Source: SimpleDet models/retinanet/input.py, PyramidAnchorTarget2DBase._assign_label_to_anchor; Detectron2
    modeling/matcher.py, Matcher.
    """
    anchors, boxes = (tf.stop_gradient(t) for t in to_float32(anchors, boxes))
    classes = tf.cast(classes, tf.int32)

    if low_quality_class not in ("nearest", "best"):
        raise UserError(
            f'retina_targets: low_quality_class must be "nearest" or "best". Received: {low_quality_class!r}'
        )
    matches = match_boxes(anchors[None], boxes, classes >= 0, box_valid=inside, convention=convention)
    # Slot 0 stands for "no ground truth": index -1.
    classes = tf.pad(classes, [[0, 0], [1, 0]], constant_values=BACKGROUND)
    labels = tf.where(matches.iou < negative_iou, BACKGROUND, IGNORED)
    best_class = tf.gather(classes, matches.index + 1, batch_dims=1)
    low_quality = best_class
    if low_quality_class == "nearest":
        low_quality = tf.gather(classes, matches.nearest_index + 1, batch_dims=1)
    labels = tf.where(matches.nearest, low_quality, labels)
    labels = tf.where(matches.iou >= positive_iou, best_class, labels)
    if inside is not None:
        labels = tf.where(inside, labels, IGNORED)

    foreground = (labels >= 0)[..., None]
    best_box = tf.gather(tf.pad(boxes, [[0, 0], [1, 0], [0, 0]]), matches.index + 1, batch_dims=1)
    best_box = tf.where(foreground, best_box, anchors)  # padding has no size to take a logarithm of
    return RetinaTargets(labels, tf.where(foreground, encode(anchors, best_box, convention=convention), 0.0))


@configurable
class RetinaTargetAssigner:
    """`retina_targets` with the numbers of a zoo row.

    Args:
        positive_iou: least IoU that suffices for a class.
        negative_iou: least IoU that is not background.
        low_quality_class: "nearest" or "best".
        extent: where the centre of an anchor must lie for it to take part: as in `RpnTargetAssigner`.
    """

    def __init__(
        self,
        positive_iou: Fraction = 0.5,
        negative_iou: Fraction = 0.4,
        low_quality_class: Literal["nearest", "best"] = "nearest",
        extent: Extent = "canvas",
    ):
        self.positive_iou, self.negative_iou = positive_iou, negative_iou
        self.low_quality_class, self.extent = low_quality_class, extent
        self.convention, self.size_divisor = LEGACY, 1  # a detector sets its own

    def __call__(
        self, anchors: tf.Tensor, boxes: tf.Tensor, classes: tf.Tensor, image_info: tf.Tensor | None = None
    ) -> RetinaTargets:
        """See `retina_targets`; `image_info`, float32 [B, 3], is read where `extent` is not "canvas"."""
        return retina_targets(
            anchors,
            boxes,
            classes,
            self.positive_iou,
            self.negative_iou,
            self.low_quality_class,
            self.convention,
            centred_within(anchors, image_info, self.extent, self.size_divisor),
        )
