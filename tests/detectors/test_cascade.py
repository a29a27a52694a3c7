"""Cascade R-CNN against a plain transcription of SimpleDet's flow (models/cascade_rcnn/builder.py)."""

import numpy as np
import pytest
import tensorflow as tf

from tests.detectors.small import STAGE_STD, random_batch, small_v2_detector
from tfdet.detectors import PostProcess
from tfdet.ops.box_coding import encode
from tfdet.ops.iou import pairwise_iou
from tfdet.targets.assigners import RoiTargetSampler

SEED = tf.constant([7, 3], tf.int32)


@pytest.fixture(scope="module")
def detector():
    built = small_v2_detector("cascade", norm="frozen")
    rng = np.random.default_rng(0)
    for head in built.bbox_heads:  # as built, boxes hardly move
        head.predictor.box.kernel.assign(rng.normal(0, 0.3, head.predictor.box.kernel.shape))
    return built


def decoded(rois, deltas, std, height, width):
    """decodebbox.cc: centre form with +1, the last four of eight channels, clipped to the image."""
    d = deltas[..., -4:] * np.array(std)
    w, h = rois[..., 2] - rois[..., 0] + 1, rois[..., 3] - rois[..., 1] + 1
    x, y = rois[..., 0] + 0.5 * (w - 1) + d[..., 0] * w, rois[..., 1] + 0.5 * (h - 1) + d[..., 1] * h
    pw, ph = np.exp(d[..., 2]) * w, np.exp(d[..., 3]) * h
    boxes = np.stack([x - 0.5 * (pw - 1), y - 0.5 * (ph - 1), x + 0.5 * (pw - 1), y + 0.5 * (ph - 1)], axis=-1)
    return np.clip(boxes, 0, np.array([width, height, width, height]) - 1)


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def smooth_l1(x):
    return np.where(np.abs(x) < 1, 0.5 * x**2, np.abs(x) - 0.5)


def outputs(detector, first, rois, k):
    features = detector.roi_extractor(first.roi_features, tf.constant(rois, tf.float32))
    logits, deltas = detector.bbox_heads[k](features)
    return (t.numpy().reshape(*rois.shape[:2], -1) for t in (logits, deltas))


def test_rpn_reads_c4_and_rois_the_reduced_c5(detector):
    batch = random_batch([1], 1)
    first = detector.first_stage(batch.images, batch.image_info, training=False)
    c4, c5 = detector.backbone(tf.cast(batch.images, tf.float32))[2:]
    assert c4.shape[1:3] == c5.shape[1:3]
    np.testing.assert_allclose(first.features[0], c4, atol=1e-4)
    np.testing.assert_allclose(first.roi_features[0], tf.nn.relu(detector.neck.conv(c5)), atol=1e-4)


def test_scores_are_averaged_on_the_rois_of_the_last_stage(detector):
    batch = random_batch([0, 0], 1)
    first = detector.first_stage(batch.images, batch.image_info, training=False)
    proposals = detector.propose(first, batch.image_info, training=False).boxes
    boxes, scores = detector.predict_boxes(first, proposals, batch.image_info)

    rois = proposals.numpy()
    for k in range(2):
        _, deltas = outputs(detector, first, rois, k)
        rois = decoded(rois, deltas, STAGE_STD[k], 96, 128)
    assert np.abs(rois - proposals.numpy()).max() > 1
    expected = np.mean([softmax(next(outputs(detector, first, rois, k))) for k in range(3)], axis=0)
    _, deltas = outputs(detector, first, rois, 2)
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    np.testing.assert_allclose(boxes[:, :, 0], decoded(rois, deltas, STAGE_STD[2], 96, 128), atol=0.05)


def test_losses_are_the_transcribed_ones(detector):
    """The first release: stage 1 draws, stages 2 and 3 label its boxes anew by .6 and .7; losses weigh 1, .5, .25."""
    batch = random_batch([6, 9], 9)
    losses = detector.losses(batch, SEED)
    first = detector.first_stage(batch.images, batch.image_info, training=True)
    proposals = detector.propose(first, batch.image_info, training=True).boxes
    draw = tf.random.experimental.stateless_split(SEED, 2)[1]
    samples = detector.stages[0].targets(proposals, batch.boxes, batch.classes, draw)
    rois, gt, gt_classes = samples.boxes.numpy(), batch.boxes.numpy(), batch.classes.numpy()
    for k, (suffix, threshold, weight) in enumerate((("1st", 0.5, 1.0), ("2nd", 0.6, 0.5), ("3rd", 0.7, 0.25))):
        logits, deltas = outputs(detector, first, rois, k)
        iou = np.where(gt_classes[:, None] >= 0, pairwise_iou(rois, gt).numpy(), -1)
        best = iou.argmax(axis=2)
        label = np.where(iou.max(axis=2) >= threshold, np.take_along_axis(gt_classes, best, 1) + 1, 0)
        own = np.take_along_axis(gt, best[..., None], 1)
        target = encode(rois, own, std=STAGE_STD[k]).numpy()
        count = label.size
        cross_entropy = -np.log(np.take_along_axis(softmax(logits), label[..., None], 2)).sum() / count
        distance = (smooth_l1(deltas[..., -4:] - target) * (label > 0)[..., None]).sum() / count
        np.testing.assert_allclose(losses[f"bbox_cls_{suffix}"], weight * cross_entropy, rtol=1e-3)
        np.testing.assert_allclose(losses[f"bbox_reg_{suffix}"], weight * distance, rtol=1e-3, atol=1e-6)
        rois = decoded(rois, deltas, STAGE_STD[k], 96, 128)


def test_no_gradient_flows_through_the_boxes(detector):
    """What stage 2 loses by must not reach stage 1 through its boxes."""
    batch = random_batch([6, 9], 9)
    first_box = detector.bbox_heads[0].predictor.box.kernel.value
    with tf.GradientTape() as tape:
        losses = detector.losses(batch, SEED)
        later = losses["bbox_cls_2nd"] + losses["bbox_reg_2nd"] + losses["bbox_reg_3rd"]
    assert tape.gradient(later, first_box) is None


def test_refuses_parts_that_do_not_fit():
    samplers = [RoiTargetSampler(box_std=std) for std in STAGE_STD]
    with pytest.raises(ValueError, match="2 weights, 3 samplers"):
        small_v2_detector("cascade", stage_loss_weights=(1.0, 0.5))
    with pytest.raises(ValueError, match="box_std"):
        small_v2_detector("cascade", roi_targets=samplers, postprocess=PostProcess())
    with pytest.raises(ValueError, match="class-agnostic"):
        from tfdet.heads import MlpBboxHead

        small_v2_detector(
            "cascade", bbox_head=lambda num_classes, name: MlpBboxHead(num_classes, 8, class_agnostic=False, name=name)
        )
