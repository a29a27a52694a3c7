"""What every family on ResNet-v2 must do: C4, TridentNet, TridentNet-Fast, Cascade, and two free compositions."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.detectors.small import (
    assert_batch_changes_nothing,
    cascade_targets,
    random_batch,
    small_detector,
    small_v2_detector,
)
from tfdet.training.optimizer import MomentumSGD
from tfdet.training.precision import LossScale
from tfdet.training.step import StepState, TrainStep

SEED = tf.constant([7, 3], tf.int32)
PLAIN = {"rpn_cls", "rpn_box", "bbox_cls", "bbox_reg"}
CASCADE = {"rpn_cls", "rpn_box"} | {f"bbox_{kind}_{s}" for kind in ("cls", "reg") for s in ("1st", "2nd", "3rd")}
LOSSES = {"c4": PLAIN, "trident": PLAIN, "trident_fast": PLAIN, "cascade": CASCADE, "trident_cascade": CASCADE}


@pytest.fixture(scope="module", params=list(LOSSES))
def family(request):
    return request.param


@pytest.fixture(scope="module")
def detector(family):
    keras.utils.set_random_seed(0)
    return small_v2_detector(family, norm="frozen")


def test_losses_are_finite_for_any_number_of_boxes(detector, family):
    for boxes in ([3, 5], [0, 4], [0, 0]):
        losses = detector.losses(random_batch(boxes, slots=max(*boxes, 1)), SEED)
        assert set(losses) == LOSSES[family]
        for name, value in losses.items():
            assert value.dtype == tf.float32 and np.isfinite(value), (boxes, name)
    assert losses["rpn_box"] == 0 and losses["rpn_cls"] > 0


def test_every_trainable_variable_gets_a_gradient(detector):
    batch = random_batch([6, 9], 9)
    with tf.GradientTape() as tape:
        total = tf.add_n(list(detector.losses(batch, SEED).values()))
    gradients = tape.gradient(total, detector.trainable_variables)
    assert [v.path for v, g in zip(detector.trainable_variables, gradients, strict=True) if g is None] == []
    assert all(np.isfinite(g).all() for g in gradients)


def test_detections_are_inside_the_original_image_and_sorted_and_one_graph_serves_every_canvas(detector):
    detector.postprocess.score_threshold = 0.0
    detect = tf.function(
        detector.detect,
        input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8), tf.TensorSpec([None, 3], tf.float32)],
        autograph=False,
    )
    for size in [(96, 128), (70, 101)]:
        batch = random_batch([0, 0], 1, size=size)
        info = tf.constant([[*size, 1.0], [size[0] / 2, size[1] / 2, 0.5]], tf.float32)
        found = detect(batch.images, info)
        assert found.boxes.shape == (2, 10, 4) and found.classes.dtype == tf.int32
        for i in range(2):
            n = int(found.num_valid[i])
            assert n > 0
            boxes, scores = found.boxes[i, :n].numpy(), found.scores[i, :n].numpy()
            assert (boxes >= 0).all()
            assert (boxes[:, 2] <= size[1] - 0.99).all() and (boxes[:, 3] <= size[0] - 0.99).all()
            assert (np.diff(scores) <= 0).all()
            assert set(found.classes[i, :n].numpy()) <= {0, 1, 2}


def test_an_image_is_detected_alike_alone_and_in_a_batch(detector):
    """Branches are image-major throughout: a slip would mix images."""
    detector.postprocess.score_threshold = 0.0
    assert_batch_changes_nothing(detector, detector.detect)


@pytest.mark.parametrize(
    "name,precision",
    [
        ("trident", "float32"),
        ("cascade", "mixed_float16"),
        # The same parts and steps as the two above.
        pytest.param("c4", "float32", marks=pytest.mark.slow),
        pytest.param("cascade", "float32", marks=pytest.mark.slow),
        # A CPU has no kernels for float16: a minute each.
        pytest.param("c4", "mixed_float16", marks=pytest.mark.slow),
        pytest.param("trident", "mixed_float16", marks=pytest.mark.slow),
    ],
)
def test_a_few_steps_lower_the_loss(name, precision):
    keras.mixed_precision.set_global_policy(precision)
    keras.utils.set_random_seed(2)
    strategy = tf.distribute.get_strategy()
    detector = small_v2_detector(name)
    scale = LossScale(None if precision == "float32" else 128.0)
    optimizer = MomentumSGD(detector.trainable_variables, scale, clip=1.0)
    step = TrainStep(strategy, detector, optimizer, lambda n: tf.constant(0.02), StepState(), 3)
    batch = random_batch([4, 5], 5, size=(64, 96))
    run = step.compile(tf.nest.map_structure(tf.TensorSpec.from_tensor, batch))
    metrics = [run(batch) for _ in range(16)]
    totals = [float(m["total"]) for m in metrics]
    assert np.isfinite(totals).all() and all(bool(m["finite"]) for m in metrics)
    assert np.mean(totals[-4:]) < 0.85 * np.mean(totals[:2])
    assert all(v.dtype == "float32" for v in detector.weights)


def test_a_cascade_composes_with_fpn():
    from tests.detectors.small import STAGE_STD
    from tfdet.detectors import PostProcess, TwoStageDetector
    from tfdet.heads import MlpBboxHead

    plain = small_detector("fpn")
    detector = TwoStageDetector(
        3,
        plain.backbone,
        neck=plain.neck,
        rpn_head=lambda num_anchors: plain.rpn_head,
        bbox_head=lambda num_classes, name: MlpBboxHead(num_classes, 16, class_agnostic=True, name=name),
        anchors=plain.anchors,
        proposals=plain.proposals,
        roi_extractor=plain.roi_extractor,
        rpn_targets=plain.rpn_targets,
        roi_targets=cascade_targets(),
        stage_loss_weights=(1.0, 0.5, 0.25),
        postprocess=PostProcess(0.0, max_detections=10, box_std=STAGE_STD[-1]),
    )
    detector.create_weights()
    batch = random_batch([2, 3], 3)
    losses = detector.losses(batch, SEED)
    assert set(losses) == CASCADE and all(np.isfinite(v) for v in losses.values())
    assert (detector.detect(batch.images, batch.image_info).num_valid.numpy() > 0).all()
