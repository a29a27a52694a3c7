"""RoI feature extraction (SimpleDet symbol/builder.py: RoiAlign; models/FPN/builder.py: FPNRoiAlign)."""

from __future__ import annotations

from typing import Annotated

import tensorflow as tf

from tfdet.config import configurable
from tfdet.config.ranges import PoolSize, PositiveInt, Range
from tfdet.errors import ParameterError
from tfdet.ops.roi_align import LevelRule, RoiAlignMode, assign_levels, roi_align
from tfdet.ops.roi_sampling import MAX_SAMPLING_RATIO


@configurable
class RoiExtractor:
    """RoIAlign on the level that fits each RoI.

    Args:
        strides: of the levels used, finest first. (16,) for C4; (4, 8, 16, 32) for FPN, whose P6 is left to the RPN.
        output_size: P, cells a side.
        mode: "max" is SimpleDet's ROIAlign_v2, the maximum of four samples; "average" that of Detectron.
        level_rule: "thresholds" (SimpleDet's first release: sides of 112, 224, 448), "log2" (its later revision:
            floor(4 + log2(side / 224))), "detectron2" or "torchvision"; see `assign_levels`.
        sampling_ratio, aligned: of "average"; Detectron2 has 0 (adaptive) and True, torchvision 2 and False.

    Call: (features finest first, boxes [B, R, 4]) -> [B * R, P, P, C] in the features' dtype. No gradient reaches the
    boxes.
    """

    def __init__(
        self,
        strides: tuple[PositiveInt, ...] = (16,),
        output_size: PoolSize = 7,
        mode: RoiAlignMode = "max",
        level_rule: LevelRule = "thresholds",
        sampling_ratio: Annotated[int, Range(least=0, most=MAX_SAMPLING_RATIO)] = 2,
        aligned: bool = False,
    ):
        self.strides, self.output_size, self.mode, self.level_rule = tuple(strides), output_size, mode, level_rule
        self.sampling_ratio, self.aligned = sampling_ratio, aligned

    def select(self, features: list[tf.Tensor], feature_strides: list[int]) -> list[tf.Tensor]:
        """The maps of `features` whose strides this extractor pools from."""
        by_stride = dict(zip(feature_strides, features, strict=True))
        missing = [s for s in self.strides if s not in by_stride]
        if missing:
            raise ParameterError(f"Expected RoiExtractor.strides within {sorted(by_stride)}. Received: {self.strides}")
        return [by_stride[s] for s in self.strides]

    def __call__(self, features: list[tf.Tensor], boxes: tf.Tensor) -> tf.Tensor:
        boxes = tf.stop_gradient(boxes)
        if len(self.strides) == 1:
            levels = tf.zeros(tf.shape(boxes)[:2], tf.int32)
        else:
            levels = assign_levels(boxes, self.strides, rule=self.level_rule)
        pooled = roi_align(
            features,
            boxes,
            levels,
            self.strides,
            self.output_size,
            mode=self.mode,
            sampling_ratio=self.sampling_ratio,
            aligned=self.aligned,
        )
        size = self.output_size
        return tf.reshape(pooled, [-1, size, size, features[0].shape[-1]])
