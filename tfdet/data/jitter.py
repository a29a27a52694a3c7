"""Large-scale jitter: an image at a drawn scale, of which a window of one size is seen.

Sources: Ghiasi et al., Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation, CVPR 2021;
Detectron2 data/transforms/augmentation_impl.py, ResizeScale and FixedSizeCrop, and data/dataset_mapper.py; torchvision
references/detection/transforms.py, ScaleJitter and FixedSizeCrop.
"""

from __future__ import annotations

from typing import Annotated

import tensorflow as tf

from tfdet.config import configurable
from tfdet.config.ranges import PositiveFloat, Range, Side
from tfdet.data.canvas import Canvas
from tfdet.data.pillow_resize import Window, resize_as_pillow
from tfdet.data.resize import Rule
from tfdet.data.visible import edges_of_kept, visible_mask_boxes
from tfdet.errors import UserError
from tfdet.structures import Batch, Example

_Level = Annotated[float, Range(least=0, most=255)]
_SMALLEST = 1e-5  # pixels of a side: Detectron2 data/detection_utils.py, filter_empty_instances


@configurable
class LargeScaleJitter:
    """Resizes, cuts to one size, pads to it, mirrors: in this order.

    The image is resized to fit in a draw from [min_scale, max_scale] times the window, by Pillow's bilinear resize. A
    larger image is cut: one number, drawn from [0, 1), says where between both ends of what is too much, of rows and of
    columns alike. A smaller one is padded at the right and at the bottom with a colour; the padding is a part of the
    image to the network, which sees the whole window.

    Boxes are cut to the window, and objects of which nothing is left are left out. The edges of masks lead on beyond
    the window: what learns from them looks inside of it alone.

    Args:
        height, width: of the window, in pixels.
        min_scale, max_scale: of the draw.
        padding: RGB, 0..255. Detectron2: 128; torchvision: 123, 117, 104.
        refit: boxes are those of what is seen of the masks, and an object whose mask is not seen is left out
            (Detectron2's `recompute_boxes`); needs `TrainInput.masks`. Without, and for objects without a mask, the
            boxes themselves are cut (torchvision).

    Raises:
        UserError: the smallest scale is larger than the largest.
    """

    def __init__(
        self,
        height: Side = 1024,
        width: Side = 1024,
        min_scale: PositiveFloat = 0.1,
        max_scale: PositiveFloat = 2.0,
        padding: tuple[_Level, _Level, _Level] = (128.0, 128.0, 128.0),
        refit: bool = False,
    ):
        if min_scale > max_scale:
            raise UserError(
                f"LargeScaleJitter.min_scale must be at most its max_scale. Received: {min_scale}, {max_scale}"
            )
        self.height, self.width = height, width
        self.min_scale, self.max_scale = min_scale, max_scale
        self.padding, self.refit = tuple(padding), refit

    def __call__(
        self,
        example: Example,
        draws: tf.Tensor,
        flip: tf.Tensor | None,
        rule: Rule = "detectron2",
        legacy: bool = False,
    ) -> Batch:
        """One image.

        Args:
            example: a decoded image.
            draws: float64 [2] in [0, 1): of the scale and of the window's place.
            flip: bool [], mirror the window left to right; None: not.
            rule: whose sizes: "torchvision" rounds sides and places down, the others to the nearest, half to even.
            legacy: boxes are of whole pixels, x2 and y2 the last one; else they are edges.

        Returns:
            A `Batch` without the batch axis. `image_info` is [4]: the window, and the scales of rows and columns.
        """
        round_ = tf.floor if rule == "torchvision" else tf.round
        sides, window = tf.shape(example.image)[:2], tf.constant([self.height, self.width], tf.float64)
        scale = self.min_scale + draws[0] * (self.max_scale - self.min_scale)
        stored = tf.cast(sides, tf.float64)
        size = tf.maximum(round_(stored * tf.reduce_min(window * scale / stored)), 1.0)
        place = round_(tf.maximum(size - window, 0.0) * draws[1])

        size_px, place_px = tf.cast(size, tf.int32), tf.cast(place, tf.int32)
        seen = tf.minimum(size_px, [self.height, self.width])
        image = self._draw(example.image, size_px, Window(*tf.unstack(place_px), *tf.unstack(seen)), flip)

        ratio = tf.cast(size / stored, tf.float32)
        by_axis, offset = tf.gather(ratio, [1, 0, 1, 0]), tf.cast(tf.gather(place, [1, 0, 1, 0]), tf.float32)
        # Inclusive corners name pixels: the right and lower edges lie one pixel of the stored image further.
        boxes = (example.boxes + tf.constant([0.0, 0.0, 1.0, 1.0])) * by_axis - offset
        edges = example.edges * by_axis - offset
        boxes, keep = self._see(boxes, edges, example.edge_owners)
        boxes = tf.boolean_mask(boxes, keep)
        edges, owners = edges_of_kept(keep, edges, example.edge_owners)

        if flip is not None:
            boxes = tf.cond(flip, lambda: self._mirror(boxes, [2, 1, 0, 3]), lambda: boxes)
            edges = tf.cond(flip, lambda: self._mirror(edges, [0, 1, 2, 3]), lambda: edges)
        if legacy:
            boxes -= tf.constant([0.0, 0.0, 1.0, 1.0])
        info = tf.concat([[float(self.height), float(self.width)], ratio], axis=0)
        return Batch(image, info, boxes, tf.boolean_mask(example.classes, keep), example.image_id, edges, owners)

    def _draw(self, image: tf.Tensor, size: tf.Tensor, seen: Window, flip: tf.Tensor | None) -> tf.Tensor:
        """uint8 [height, width, 3]: what of the resized image is seen, padded; mirrored, padding and all."""
        left = 0 if flip is None else tf.where(flip, self.width - seen.width, 0)
        colour = tuple(round(value) for value in self.padding)
        canvas = Canvas(self.height, self.width, 0, left, colour)
        image = resize_as_pillow(image, size[0], size[1], seen, flip, canvas)
        return tf.ensure_shape(image, [self.height, self.width, 3])

    def _see(self, boxes: tf.Tensor, edges: tf.Tensor, owners: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Boxes [G, 4] cut to the window, and which of them remain: bool [G]."""
        limit = tf.constant([self.width, self.height] * 2, tf.float32)
        boxes = tf.clip_by_value(boxes, 0.0, limit)
        keep = tf.reduce_all(boxes[:, 2:] - boxes[:, :2] > _SMALLEST, axis=1)
        if not self.refit:
            return boxes, keep
        count = tf.shape(boxes)[0]
        has_mask = tf.math.unsorted_segment_max(tf.ones_like(owners[:, 0]), owners[:, 0], count) > 0
        of_masks = visible_mask_boxes(edges, owners, count, self.height, self.width)
        boxes = tf.where(has_mask[:, None], of_masks, boxes)
        return boxes, tf.reduce_all(boxes[:, 2:] - boxes[:, :2] > _SMALLEST, axis=1)

    def _mirror(self, boxes: tf.Tensor, order: list[int]) -> tf.Tensor:
        """x' = width - x of `[x1, y1, x2, y2]`, the columns in a new order."""
        sign, shift = tf.constant([-1.0, 1.0, -1.0, 1.0]), tf.constant([self.width, 0, self.width, 0], tf.float32)
        return tf.gather(shift + sign * boxes, order, axis=1)
