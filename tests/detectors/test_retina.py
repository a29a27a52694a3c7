"""RetinaNet whole: losses, gradients, training, detections. The export's part is in tests/export."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.detectors.small import assert_batch_changes_nothing, random_batch, small_retina
from tfdet.detectors import RetinaDetector
from tfdet.errors import UserError
from tfdet.training.optimizer import MomentumSGD
from tfdet.training.precision import LossScale
from tfdet.training.step import StepState, TrainStep

SEED = tf.constant([7, 3], tf.int32)


def test_losses_are_finite_for_any_number_of_boxes():
    detector = small_retina()
    for boxes in ([3, 5], [0, 0], [0, 4], [300, 1]):
        losses = detector.losses(random_batch(boxes, slots=max(*boxes, 1)), SEED)
        assert set(losses) == {"cls", "box"}
        assert all(v.dtype == tf.float32 and np.isfinite(v) and v >= 0 for v in losses.values()), boxes
        assert (float(losses["box"]) == 0) == (sum(boxes) == 0), boxes
    losses = detector.losses(random_batch([0, 0], slots=0), SEED)
    assert float(losses["box"]) == 0 and float(losses["cls"]) > 0


def test_initial_class_loss_is_that_of_the_prior():
    """With scores of .01 everywhere the loss can be counted from the labels."""
    detector, batch = small_retina(init_std=1e-6), random_batch([3, 5], 5)
    maps = detector.predict_maps(batch.images, batch.image_info, training=True)
    anchors = tf.concat(detector.anchors.grid([cls for cls, _ in maps]), axis=0)
    labels = detector.targets(anchors, batch.boxes, batch.classes).labels.numpy()
    own, counted = (labels >= 0).sum(), (labels >= -1).sum()
    expected = own * 0.25 * 0.99**2 * -np.log(0.01) + (3 * counted - own) * 0.75 * 0.01**2 * -np.log(0.99)
    assert own > 5
    np.testing.assert_allclose(detector.losses(batch, SEED)["cls"], expected / (own + 1), rtol=1e-3)


def test_every_trainable_variable_gets_a_gradient():
    detector, batch = small_retina(), random_batch([6, 9], 9)
    with tf.GradientTape() as tape:
        total = tf.add_n(list(detector.losses(batch, SEED).values()))
    gradients = tape.gradient(total, detector.trainable_variables)
    assert [v.path for v, g in zip(detector.trainable_variables, gradients, strict=True) if g is None] == []
    assert all(np.isfinite(g).all() and np.any(g) for g in gradients)


@pytest.mark.parametrize("policy", [pytest.param("float32", marks=pytest.mark.slow), "mixed_float16"])
def test_trains(mirrored, policy):
    keras.mixed_precision.set_global_policy(policy)
    strategy = mirrored(1)
    with strategy.scope():
        detector = small_retina()
        optimizer = MomentumSGD(
            detector.trainable_variables, LossScale(None if policy == "float32" else "dynamic"), clip=1.0
        )
        state = StepState()
    step = TrainStep(strategy, detector, optimizer, lambda n: tf.constant(0.01), state, 0)
    run = tf.function(step._all_replicas, autograph=False)
    batch = random_batch([4, 3], 4)
    history = [run(batch) for _ in range(25)]
    assert all(v.dtype == "float32" for v in detector.weights)
    good = [m for m in history if m["finite"]]
    assert len(good) >= 20
    for name in ("cls", "box"):
        assert good[-1][name] < 0.8 * good[0][name], name


def test_detections_are_inside_the_original_image_and_sorted():
    detector, batch = small_retina(), random_batch([0, 0], 1)
    info = tf.constant([[96.0, 128.0, 1.0], [48.0, 64.0, 0.5]])
    detections = detector.detect(batch.images, info)
    assert detections.boxes.shape == (2, 10, 4) and detections.classes.dtype == tf.int32
    for i in range(2):
        n = int(detections.num_valid[i])
        assert n > 0  # the coarsest level has no threshold
        boxes, scores = detections.boxes[i, :n].numpy(), detections.scores[i, :n].numpy()
        assert (boxes >= 0).all() and (boxes[:, 2] <= 127.01).all() and (boxes[:, 3] <= 95.01).all()
        assert (np.diff(scores) <= 0).all() and (scores > 0).all()
        assert set(detections.classes[i, :n].numpy()) <= {0, 1, 2}
        assert (detections.classes[i, n:].numpy() == -1).all()


def test_one_graph_serves_every_canvas():
    detector = small_retina()
    detect = tf.function(
        detector.detect,
        input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8), tf.TensorSpec([None, 3], tf.float32)],
        autograph=False,
    )
    for size in [(96, 128), (128, 96), (70, 101)]:
        batch = random_batch([1], 1, size=size)
        traced, eager = detect(batch.images, batch.image_info), detector.detect(batch.images, batch.image_info)
        np.testing.assert_allclose(traced.scores, eager.scores, atol=1e-5)
    assert_batch_changes_nothing(detector, detect)


def test_mixed_precision_keeps_the_float32_islands():
    keras.mixed_precision.set_global_policy("mixed_float16")
    detector, batch = small_retina(), random_batch([3, 5], 5)
    inputs = detector.normalize(batch.images, batch.image_info)
    assert detector.feature_maps(inputs, training=False)[0].dtype == tf.float16
    maps = detector.predict_maps(batch.images, batch.image_info, training=False)
    assert all(t.dtype == tf.float32 for level in maps for t in level)
    assert detector.detect(batch.images, batch.image_info).boxes.dtype == tf.float32


def test_a_stride_without_a_map_is_named():
    detector = small_retina()
    detector.anchors.strides = (4, 8)
    with pytest.raises(UserError, match=r"stride 4; there are \[8, 16"):
        detector.predict_maps(tf.zeros([1, 64, 64, 3], tf.uint8), tf.constant([[64.0, 64, 1]]), training=False)


def test_refuses_no_classes():
    with pytest.raises(ValueError, match="num_classes = 0"):
        small_retina(num_classes=0)
    assert issubclass(RetinaDetector, keras.Model)
