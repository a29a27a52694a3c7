"""Small detectors and batches that the tests of this folder share."""

import numpy as np
import tensorflow as tf

from tfdet.backbones import ResNetV1
from tfdet.detectors import DensePostProcess, Detector, PostProcess, RetinaDetector, TwoStageDetector
from tfdet.heads import C5BboxHead, MlpBboxHead, RetinaHead, RoiExtractor, RpnHead
from tfdet.heads.proposals import AnchorGenerator, ProposalGenerator
from tfdet.necks import FPN, RetinaNeck
from tfdet.structures import Batch
from tfdet.targets.assigners import RoiTargetSampler, RpnTargetAssigner
from tfdet.targets.retina import RetinaTargetAssigner

WIDTH = 1 / 16


def small_retina(num_classes: int = 3, norm: str = "local", depth: int = 18, init_std: float = 0.1) -> RetinaDetector:
    """A RetinaNet of a few thousand parameters."""
    detector = RetinaDetector(
        num_classes,
        ResNetV1(depth, num_stages=4, norm=norm, width=WIDTH),
        neck=RetinaNeck(8),
        head=lambda num_classes, num_anchors: RetinaHead(num_classes, num_anchors, 8, num_convs=2, init_std=init_std),
        anchors=AnchorGenerator(strides=(8, 16, 32, 64, 128), scales=(2, 3)),
        targets=RetinaTargetAssigner(),
        postprocess=DensePostProcess(max_detections=10, pre_nms_top_n=50),
    )
    detector.create_weights()
    return detector


def small_detector(trunk: str, num_classes: int = 3, norm: str = "local", depth: int = 18) -> Detector:
    """A detector of a few thousand parameters; `trunk` is "c4" or "fpn" for two stages, or "retina"."""
    if trunk == "retina":
        return small_retina(num_classes, norm, depth)
    width = WIDTH
    common = {
        "rpn_targets": RpnTargetAssigner(batch_per_image=32),
        "roi_targets": RoiTargetSampler(num_rois=16),
        "postprocess": PostProcess(max_detections=10),
    }
    if trunk == "c4":
        detector = TwoStageDetector(
            num_classes,
            ResNetV1(depth, num_stages=3, norm=norm, width=width),
            rpn_head=lambda num_anchors: RpnHead(num_anchors, 8),
            bbox_head=lambda num_classes: C5BboxHead(num_classes, depth, norm=norm, width=width),
            anchors=AnchorGenerator(scales=(1, 2, 4)),
            proposals=ProposalGenerator(pre_nms_top_n=(60, 40), post_nms_top_n=(30, 20)),
            roi_extractor=RoiExtractor(),
            **common,
        )
    else:
        detector = TwoStageDetector(
            num_classes,
            ResNetV1(depth, num_stages=4, norm=norm, width=width),
            neck=FPN(8),
            rpn_head=lambda num_anchors: RpnHead(num_anchors, 8),
            bbox_head=lambda num_classes: MlpBboxHead(num_classes, 16),
            anchors=AnchorGenerator(strides=(4, 8, 16, 32, 64), scales=(4,)),
            proposals=ProposalGenerator("v3", pre_nms_top_n=(60, 40), post_nms_top_n=(30, 20)),
            roi_extractor=RoiExtractor(strides=(4, 8, 16, 32)),
            **common,
        )
    detector.create_weights()
    return detector


def random_batch(boxes_per_image: list[int], slots: int, seed: int = 0, size=(96, 128), num_classes: int = 3) -> Batch:
    """Noise pictures with random boxes, `boxes_per_image[i]` of them on image i."""
    rng = np.random.default_rng(seed)
    count = len(boxes_per_image)
    boxes, classes = np.full((count, slots, 4), -1.0, "f"), np.full((count, slots), -1, "i4")
    for i, n in enumerate(boxes_per_image):
        x1, y1 = rng.uniform(0, size[1] - 20, n), rng.uniform(0, size[0] - 20, n)
        w, h = rng.uniform(8, 60, n), rng.uniform(8, 60, n)
        boxes[i, :n] = np.stack([x1, y1, np.minimum(x1 + w, size[1] - 1), np.minimum(y1 + h, size[0] - 1)], 1)
        classes[i, :n] = rng.integers(0, num_classes, n)
    return Batch(
        images=tf.constant(rng.integers(0, 256, (count, *size, 3)), tf.uint8),
        image_info=tf.constant([[size[0], size[1], 1.0]] * count, tf.float32),
        boxes=tf.constant(boxes),
        classes=tf.constant(classes),
        image_ids=tf.range(count, dtype=tf.int64),
    )
