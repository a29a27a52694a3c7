"""The mask branch of a detector of two stages (Mask R-CNN)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Literal

import keras
import tensorflow as tf

from tfdet.config import configurable
from tfdet.config.ranges import NumClasses, PoolSize
from tfdet.errors import ParameterError
from tfdet.heads.roi_extractor import RoiExtractor
from tfdet.layers import on_existing
from tfdet.losses.mask import mask_loss
from tfdet.ops.bitmap_targets import bitmap_targets
from tfdet.ops.mask_targets import PolygonRule, edges_of_objects, mask_targets
from tfdet.ops.paste_masks import PasteRule
from tfdet.structures import RoiSamples

_ROW_BLOCK = 8  # rows come in multiples of it: each shape that is new to a GPU costs a search for its fastest kernels

MaskTargetRule = Literal["simpledet", "detectron2", "torchvision"]


def _polygon_targets(boxes, matched, edges, edge_owners, image_info, size: int, rule: PolygonRule) -> tf.Tensor:
    del image_info  # polygons are filled beyond the image too
    return mask_targets(boxes, matched, edges, edge_owners, size, rule=rule)


def target_rule(rule: MaskTargetRule) -> Callable[..., tf.Tensor]:
    """What draws mask targets by a program's rule; its arguments are those of `bitmap_targets`."""
    return bitmap_targets if rule == "torchvision" else functools.partial(_polygon_targets, rule=rule)


def rows_in_use(classes: tf.Tensor) -> tf.Tensor:
    """How many of the first rows hold every object of every image: int32 scalar, a multiple of 8, or R, or 1.

    The head of the masks need not see the others: they add nothing to the loss, and are most of the rows of an image
    of few objects.

    Args:
        classes: int32 [B, R], negative where there is no object; objects come first.
    """
    most = tf.reduce_max(tf.reduce_sum(tf.cast(classes >= 0, tf.int32), axis=1))
    return tf.clip_by_value(-(-most // _ROW_BLOCK) * _ROW_BLOCK, 1, tf.shape(classes)[1])


@configurable
class MaskBranch:
    """RoI features, a mask head, its targets and its loss.

    Training: on the foreground among the RoIs that the (first) box head learns from. Testing: on the final boxes.

    Args:
        num_classes: C, without background.
        roi_extractor: the box heads' one, whose levels and rule the masks' RoIs share.
        bbox_head: the (first) box head.
        head: called with `num_classes`, returns the mask head.
        pool_size: cells a side of the masks' own RoI features. None: the head reads what the box head makes of its own
            RoI features, stage 4 of a C4 detector, without another pass in training.
        targets: whose masks inside RoIs are learnt: polygons filled as "simpledet" does, with x and y swapped, or as
            "detectron2" does, or RoIAlign of the object's bitmap, shares between 0 and 1, as "torchvision" does.
        paste: how evaluation and prediction stretch masks over their boxes: as "simpledet" (default), "detectron2" or
            "torchvision", see `ops.paste_masks`.

    He et al., Mask R-CNN, ICCV 2017; SimpleDet models/maskrcnn/builder.py.
    """

    def __init__(
        self,
        num_classes: NumClasses,
        roi_extractor: RoiExtractor,
        bbox_head: keras.layers.Layer,
        head: Callable[..., keras.layers.Layer],
        pool_size: PoolSize | None = 14,
        paste: PasteRule = "simpledet",
        targets: MaskTargetRule = "simpledet",
    ):
        self.paste = paste
        self.head = head(num_classes=num_classes)
        # Stored bitmaps can stand in for polygons.
        self.draw_targets = target_rule(targets)
        self.shares_box_features = pool_size is None
        if self.shares_box_features and not getattr(bbox_head, "has_map", False):
            raise ParameterError(
                "Expected a box head on stage 4 (C5BboxHead, C5V2BboxHead) where MaskBranch.pool_size is None. "
                f"Received: {type(bbox_head).__name__}, whose features have no pixels; set MaskBranch.pool_size = 14"
            )
        self._bbox_head, self._box_extractor = bbox_head, roi_extractor
        if not self.shares_box_features:
            self.roi_extractor = RoiExtractor(
                roi_extractor.strides,
                pool_size,
                roi_extractor.mode,
                roi_extractor.level_rule,
                roi_extractor.sampling_ratio,
                roi_extractor.aligned,
            )

    def loss(
        self,
        roi_maps: Sequence[tf.Tensor],
        samples: RoiSamples,
        max_foreground: int,
        edges: tf.Tensor,
        edge_owners: tf.Tensor,
        image_info: tf.Tensor,
        box_map: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """The loss of one replica's batch, float32 scalar.

        Args:
            roi_maps: feature maps [B, H, W, C] that RoIs are pooled from, finest first.
            samples: the box head's RoIs; their foreground is among the first `max_foreground` rows.
            edges, edge_owners, image_info: of `Batch`. A RoI whose object has no edges does not count.
            box_map: [B * R, P, P, C], what the box head made of its RoIs; read where `shares_box_features`.
        """
        rows = rows_in_use(samples.classes[:, :max_foreground])
        boxes, classes, matched = (t[:, :rows] for t in (samples.boxes, samples.classes, samples.matched))
        if self.shares_box_features:
            every = tf.reshape(box_map, [-1, tf.shape(samples.boxes)[1], *box_map.shape[1:]])
            features = tf.reshape(every[:, :rows], [-1, *box_map.shape[1:]])
        else:
            with tf.name_scope("roi_align"):
                features = self.roi_extractor(roi_maps, boxes)
        logits = self._by_roi(self._train_head(features, tf.reshape(classes, [-1])), boxes)
        with tf.name_scope("mask_targets"):
            foreground = tf.where(classes >= 0, matched, -1)
            _, edge_counts = edges_of_objects(foreground, edge_owners)
            targets = self.draw_targets(boxes, foreground, edges, edge_owners, image_info, size=logits.shape[2])
        with tf.name_scope("mask_losses"):
            return mask_loss(logits, targets, edge_counts > 0)

    def predict(self, roi_maps: Sequence[tf.Tensor], rois: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
        """Probabilities float32 [B, D, M, M] inside final boxes, each of its class; zeros where padded.

        Args:
            roi_maps: as in `loss`.
            rois: float32 [B, D, 4], pixels of the network input.
            classes: int32 [B, D], -1 where padded.
        """
        features = self._test_features(roi_maps, rois)
        logits = self.head(features, classes=tf.reshape(classes, [-1]), training=False)
        return tf.where(classes[..., None, None] >= 0, tf.sigmoid(self._by_roi(logits, rois)), 0.0)

    def _train_head(self, features: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
        """Logits [N, M, M] of RoI features [N, P, P, C]; those of a class -1 count nowhere."""

        def head(x, planes):
            return [self.head(x, classes=planes, training=True)]

        if getattr(self.head, "takes_batch_statistics", False):
            return on_existing(head, classes >= 0, features, classes)[0]
        return head(features, classes)[0]

    def run_layers(self, roi_maps: Sequence[tf.Tensor], rois: tf.Tensor) -> None:
        """Calls the head once on RoIs [B, R, 4], so that its variables exist; the box head's must exist already."""
        self.head(self._test_features(roi_maps, rois))

    def _test_features(self, roi_maps: Sequence[tf.Tensor], rois: tf.Tensor) -> tf.Tensor:
        """What the head reads of RoIs [B, R, 4] in testing: [B * R, P, P, C]."""
        if not self.shares_box_features:
            return self.roi_extractor(roi_maps, rois)
        *_, features = self._bbox_head(self._box_extractor(roi_maps, rois), training=False, return_map=True)
        return features

    @staticmethod
    def _by_roi(planes: tf.Tensor, rois: tf.Tensor) -> tf.Tensor:
        """[B * R, M, M] -> [B, R, M, M]."""
        shape = tf.shape(rois)
        return tf.reshape(planes, [shape[0], shape[1], *planes.shape[1:]])
