"""Test-time augmentation: one image seen at several scales and mirrored, its candidates suppressed together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfdet.config import configurable
from tfdet.config.ranges import Side
from tfdet.data.resize import Resize, Rule, view_signature
from tfdet.detectors.one_size import View, detect_by_size
from tfdet.errors import UserError
from tfdet.ops.boxes import box_scale, extra_pixel
from tfdet.structures import Candidates, Detections


@configurable
class TestTimeAugmentation:
    """The views of an image that evaluation and prediction detect on.

    Every scale is resized from the stored image. All views' boxes and scores, as they are before the per-class
    suppression, are joined in pixels of the original image and suppressed once, and voted on where the post-processing
    says so. Masks are predicted on every view for the final boxes, and are their mean.

    Args:
        scales: short sides in pixels; () is the one of `EvalInput`.
        flip: detect on the mirror image of every scale too.
        long_side: the most that the longer side of a scale may have; None is the one of `EvalInput`.

    Raises:
        UserError: a side is out of range.
    """

    __test__ = False  # the name begins as pytest's test classes do

    def __init__(self, scales: tuple[Side, ...] = (), flip: bool = False, long_side: Side | None = None):
        if len(set(scales)) != len(scales):
            raise UserError(f"TestTimeAugmentation.scales must be different sides. Received: {tuple(scales)}")
        if long_side is not None and long_side < max(scales, default=1):
            raise UserError(
                f"TestTimeAugmentation.long_side must be at least the largest of scales. Received: {long_side}"
            )
        self.scales, self.flip, self.long_side = tuple(scales), flip, long_side

    @property
    def is_on(self) -> bool:
        """Whether it does anything."""
        return bool(self.scales) or self.flip or self.long_side is not None

    def resizes(self, one: Resize) -> list[Resize]:
        """The resize of every scale.

        Args:
            one: of `EvalInput`.

        Raises:
            UserError: a scale is larger than the long side.
        """
        long = self.long_side or one.long_side
        scales = self.scales or (one.short_side,)
        if any(scale > long for scale in scales):
            raise UserError(
                f"TestTimeAugmentation.scales {self.scales}: the longer side may have {long} pixels; "
                "set TestTimeAugmentation.long_side"
            )
        return [Resize(scale, long, one.rule) for scale in scales]

    def describe(self) -> str:
        """In words, for a person."""
        scales = f"short sides {', '.join(map(str, self.scales))}" if self.scales else "one scale"
        return f"test-time augmentation: {scales}{', each mirrored too' if self.flip else ''}"


class AugmentedDetector:
    """Detects on several views at once.

    Args:
        detector: a `tfdet.detectors.Detector`.
        flip: as in `TestTimeAugmentation`.
        rule: by which the views are resized.

    Raises:
        UserError: the detector does not give its candidates.
    """

    def __init__(self, detector: Any, flip: bool, rule: Rule = "simpledet"):
        if not hasattr(detector, "candidates"):
            raise UserError(f"TestTimeAugmentation: a {type(detector).__name__} cannot join the boxes of several views")
        self._detector, self._flip = detector, flip
        # Test images keep their own sizes: with static shapes nearly every image would trace anew.
        signature = [*view_signature(rule), tf.TensorSpec([], tf.bool)]
        self._candidates = tf.function(self._view_candidates, input_signature=signature, autograph=False)
        self._suppress = tf.function(detector.suppress, autograph=False, reduce_retracing=True)
        self._masks = tf.function(self._view_masks, autograph=False, reduce_retracing=True)

    def __call__(self, views: Sequence[View]) -> Detections:
        """Detections in pixels of the original images.

        Args:
            views: the same B images at one or more scales.
        """
        return detect_by_size(self._detect_whole, views)

    def _detect_whole(self, views: Sequence[View]) -> Detections:
        """Of images without padding."""
        reference = views[0][1]
        mirrored = [tf.constant(value) for value in ((False, True) if self._flip else (False,))]
        every = [(*view, value) for view in views for value in mirrored]
        fields = zip(*(self._in_pixels_of(reference, *view) for view in every), strict=True)
        joined = Candidates(*(None if parts[0] is None else tf.concat(parts, axis=1) for parts in fields))
        found = self._suppress(joined, reference)
        if getattr(self._detector, "masks", None) is not None:
            masks = [self._masks(*view, found) for view in every]
            found = found._replace(masks=tf.add_n(masks) / len(masks))
        return self._detector.finish(found)

    def _in_pixels_of(
        self, reference: tf.Tensor, images: tf.Tensor, image_info: tf.Tensor, mirrored: tf.Tensor
    ) -> Candidates:
        found = self._candidates(images, image_info, mirrored)
        pixels = self._detector.suppression_pixels
        factor = pixels(reference) / pixels(image_info)  # 1, unless boxes are suppressed in the resized image
        return found._replace(boxes=found.boxes * _each_box(factor, found.boxes))

    def _view_candidates(self, images: tf.Tensor, image_info: tf.Tensor, mirrored: tf.Tensor) -> Candidates:
        images = _mirror_if(mirrored, images, image_info)
        found = self._detector.candidates(images, image_info)
        pixels = self._detector.suppression_pixels(image_info)
        return found._replace(boxes=self._mirror_boxes_if(mirrored, found.boxes, image_info, pixels))

    def _view_masks(
        self, images: tf.Tensor, image_info: tf.Tensor, mirrored: tf.Tensor, found: Detections
    ) -> tf.Tensor:
        images = _mirror_if(mirrored, images, image_info)
        boxes = self._mirror_boxes_if(mirrored, found.boxes, image_info, tf.ones_like(box_scale(image_info)))
        masks = self._detector.predict_masks(images, image_info, found._replace(boxes=boxes))
        return tf.where(mirrored, tf.reverse(masks, axis=[-1]), masks)

    def _mirror_boxes_if(
        self, mirrored: tf.Tensor, boxes: tf.Tensor, image_info: tf.Tensor, pixels: tf.Tensor
    ) -> tf.Tensor:
        """x' = w' - x, less the pixel of inclusive corners, of boxes [B, ..., 4] with `pixels` an original."""
        # Of boxes and their scales alike, x comes first.
        columns = (values[:, :1] for values in (image_info[:, 1:], pixels, box_scale(image_info)))
        width, pixels, scale = (_each_box(values, boxes)[..., 0] for values in columns)
        origin = (width - extra_pixel(self._detector.convention)) * pixels / scale
        x1, y1, x2, y2 = tf.unstack(boxes, axis=-1)
        return tf.where(mirrored, tf.stack([origin - x2, y1, origin - x1, y2], axis=-1), boxes)


def _each_box(values: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
    """Values [B, K] of images, for every box of boxes [B, ..., 4]: [B, 1, ..., K]."""
    return tf.reshape(values, [-1, *[1] * (boxes.shape.rank - 2), values.shape[-1]])


def _mirror_if(mirrored: tf.Tensor, images: tf.Tensor, image_info: tf.Tensor) -> tf.Tensor:
    """Images whose content, not the padding on its right, is mirrored where `mirrored`."""
    columns = tf.range(tf.shape(images)[2])[None]
    width = tf.cast(image_info[:, 1:2], tf.int32)
    source = tf.where(mirrored & (columns < width), width - 1 - columns, columns)
    return tf.gather(images, source, axis=2, batch_dims=1)
