"""Small detectors and batches that the tests of this folder share."""

import functools

import numpy as np
import tensorflow as tf

from tfdet.backbones import ResNetV1, ResNetV2
from tfdet.detectors import DensePostProcess, Detector, MaskBranch, PostProcess, RetinaDetector, TwoStageDetector
from tfdet.detectors.branches import ScaleBranches
from tfdet.heads import C5BboxHead, C5V2BboxHead, MaskHead, MlpBboxHead, RetinaHead, RoiExtractor, RpnHead
from tfdet.heads.proposals import AnchorGenerator, ProposalGenerator
from tfdet.necks import FPN, ReduceNeck, RetinaNeck
from tfdet.predict.predictors import detect_function
from tfdet.structures import Batch
from tfdet.targets.assigners import RoiTargetSampler, RpnTargetAssigner
from tfdet.targets.retina import RetinaTargetAssigner

WIDTH = 1 / 16


def _small_parts() -> dict:
    return {
        "rpn_targets": RpnTargetAssigner(batch_per_image=32),
        "roi_targets": RoiTargetSampler(num_rois=16),
        "postprocess": PostProcess(max_detections=10),
    }


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


def small_detector(trunk: str, num_classes: int = 3, norm: str = "local", depth: int = 18, masks=None) -> Detector:
    """A detector of a few thousand parameters; `trunk` is "c4" or "fpn" for two stages, or "retina".

    `masks` is an argument of `TwoStageDetector`.
    """
    if trunk == "retina":
        return small_retina(num_classes, norm, depth)
    if trunk == "fpn":
        return small_heads(ResNetV1(depth, num_stages=4, norm=norm, width=WIDTH), "fpn", num_classes, masks)
    detector = TwoStageDetector(
        num_classes,
        ResNetV1(depth, num_stages=3, norm=norm, width=WIDTH),
        rpn_head=lambda num_anchors: RpnHead(num_anchors, 8),
        bbox_head=lambda num_classes: C5BboxHead(num_classes, depth, norm=norm, width=WIDTH),
        anchors=AnchorGenerator(scales=(1, 2, 4)),
        proposals=ProposalGenerator(pre_nms_top_n=(60, 40), post_nms_top_n=(30, 20)),
        roi_extractor=RoiExtractor(),
        **_small_parts(),
        masks=masks,
    )
    detector.create_weights()
    return detector


def small_heads(backbone, kind: str = "fpn", num_classes: int = 3, masks=None) -> Detector:
    """A detector of few parameters beside those of the backbone; `kind` is "fpn" or "retina"."""
    if kind == "retina":
        detector = RetinaDetector(
            num_classes,
            backbone,
            neck=RetinaNeck(8),
            head=lambda num_classes, num_anchors: RetinaHead(num_classes, num_anchors, 8, num_convs=1),
            anchors=AnchorGenerator(strides=(8, 16, 32, 64, 128), scales=(2, 3)),
            targets=RetinaTargetAssigner(),
            postprocess=DensePostProcess(max_detections=10, pre_nms_top_n=50),
        )
    else:
        detector = TwoStageDetector(
            num_classes,
            backbone,
            neck=FPN(8),
            rpn_head=lambda num_anchors: RpnHead(num_anchors, 8),
            bbox_head=lambda num_classes: MlpBboxHead(num_classes, 16),
            anchors=AnchorGenerator(strides=(4, 8, 16, 32, 64), scales=(4,)),
            proposals=ProposalGenerator("v3", pre_nms_top_n=(60, 40), post_nms_top_n=(30, 20)),
            roi_extractor=RoiExtractor(strides=(4, 8, 16, 32)),
            **_small_parts(),
            masks=masks,
        )
    detector.create_weights(64)
    return detector


def small_masks(pool_size: int | None = 14, num_convs: int = 1, **options):
    """`TwoStageDetector.masks` of a few thousand parameters; pool_size None reads the box head's stage 4."""
    return functools.partial(
        MaskBranch,
        head=functools.partial(MaskHead, channels=8, num_convs=num_convs, **options),
        pool_size=pool_size,
    )


def with_diamonds(batch: Batch) -> Batch:
    """The batch with a mask for every box: a diamond that touches its sides."""
    x1, y1, x2, y2 = np.split(np.asarray(batch.boxes), 4, axis=-1)
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    corners = [(x, y1), (x2, y), (x, y2), (x1, y)]
    edges = [np.concatenate([*corners[i], *corners[(i + 1) % 4]], axis=-1) for i in range(4)]
    images, slots = batch.classes.shape
    exists = np.repeat(np.asarray(batch.classes) >= 0, 4, axis=1)  # objects come first, so padding is last
    objects = np.where(exists, np.repeat(np.arange(slots), 4), -1)
    owners = np.stack([objects, np.where(exists, 0, -1)], axis=-1)
    edges = np.stack(edges, axis=2).reshape(images, 4 * slots, 4)
    return batch._replace(edges=tf.constant(edges, tf.float32), edge_owners=tf.constant(owners, tf.int32))


STAGE_STD = ((0.1, 0.1, 0.2, 0.2), (0.05, 0.05, 0.1, 0.1), (0.033, 0.033, 0.067, 0.067))


def cascade_targets(num_rois: int = 16) -> list[RoiTargetSampler]:
    """Of three stages, as the first release has them: the later ones keep every RoI."""
    return [
        RoiTargetSampler(rois, fg_threshold=iou, bg_high=iou, append_gt=False, box_std=std)
        for rois, iou, std in zip((num_rois, None, None), (0.5, 0.6, 0.7), STAGE_STD, strict=True)
    ]


def small_v2_detector(family: str, num_classes: int = 3, norm: str = "local", **parts) -> TwoStageDetector:
    """A detector on ResNet-v2; `family` is "c4", "trident", "trident_fast", "cascade" or "trident_cascade".

    `parts` replaces arguments of the detector.
    """
    width, depth = 1 / 16, 26
    is_cascade = family == "cascade"
    branches = (1, 2, 3) if family.startswith("trident") else ()
    arguments = {
        "backbone": ResNetV2(
            depth,
            num_stages=4 if is_cascade else 3,
            norm=norm,
            width=width,
            dilate_c5=is_cascade,
            branches=branches,
            test_branches=(2,) if family == "trident_fast" else branches,
        ),
        "rpn_head": lambda num_anchors: RpnHead(num_anchors, 8),
        "bbox_head": lambda num_classes: C5V2BboxHead(num_classes, depth, norm=norm, width=width),
        "anchors": AnchorGenerator(scales=(1, 2, 4)),
        "proposals": ProposalGenerator(
            "v2" if family.startswith("trident") and family != "trident_fast" else "v1",
            pre_nms_top_n=(60, 40),
            post_nms_top_n=(30, 20),
        ),
        "roi_extractor": RoiExtractor(),
        "rpn_targets": RpnTargetAssigner(batch_per_image=32),
        "roi_targets": RoiTargetSampler(num_rois=16, append_gt=False, keep_missing=family == "trident"),
        "postprocess": PostProcess(max_detections=10),
        "pixel_mean": (0.0, 0.0, 0.0),
    }
    if branches:
        ranges = None if family == "trident_fast" else ((0, 30), (15, 50), (30, -1))
        arguments["branches"] = ScaleBranches(ranges)
    if "cascade" in family:
        arguments |= {
            "neck": ReduceNeck(8) if is_cascade else None,
            "bbox_head": lambda num_classes, name: MlpBboxHead(num_classes, 16, class_agnostic=True, name=name),
            "roi_targets": cascade_targets(),
            "stage_loss_weights": (1.0, 0.5, 0.25),
            "postprocess": PostProcess(max_detections=10, box_std=STAGE_STD[-1]),
        }
    detector = TwoStageDetector(num_classes, **arguments | parts)
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
        edges=tf.zeros([count, 0, 4]),
        edge_owners=tf.zeros([count, 0, 2], tf.int32),
    )


MIXED_SIZES = [(96, 128), (128, 96), (101, 70), (96, 128)]  # lying, upright, and two of one size


def assert_batch_changes_nothing(detector: Detector, detect=None) -> None:
    """Detections of noise pictures of several sizes in one batch are those of each picture alone."""
    rng = np.random.default_rng(3)
    for variable in detector.variables:  # the offsets make a padded canvas differ from what lies beyond a border
        if variable.path.endswith(("bias", "beta", "moving_mean")):
            variable.assign(variable.numpy() + rng.normal(0, 0.2, variable.shape))
    images = [rng.integers(0, 256, (*size, 3)).astype(np.uint8) for size in MIXED_SIZES]
    info = np.array([[*size, 1.0] for size in MIXED_SIZES], np.float32)
    canvas = np.zeros([len(images), *np.max(MIXED_SIZES, axis=0), 3], np.uint8)
    for slot, image in zip(canvas, images, strict=True):
        slot[: image.shape[0], : image.shape[1]] = image
    detect = detect or detect_function(detector)
    together = detect(tf.constant(canvas), tf.constant(info))
    assert together.num_valid.numpy().max() > 0
    for i, image in enumerate(images):
        alone = detect(tf.constant(image[None]), tf.constant(info[i : i + 1]))
        assert alone.num_valid[0] == together.num_valid[i]
        np.testing.assert_array_equal(alone.classes[0], together.classes[i])
        np.testing.assert_allclose(alone.boxes[0], together.boxes[i], atol=1e-2)
        np.testing.assert_allclose(alone.scores[0], together.scores[i], atol=1e-5)
        if alone.masks is not None:
            np.testing.assert_allclose(alone.masks[0], together.masks[i], atol=1e-4)
